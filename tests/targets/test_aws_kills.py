"""Killed at every boundary of the journal and gone on with: nothing is made twice, no block sent twice but those on the way."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_places import Places, places

from v2c.emulators.aws import AwsEmulator
from v2c.model import GIB, KIB, MIB
from v2c.targets.aws.upload import PARALLEL

pytestmark = pytest.mark.tool

WALKER = Path(__file__).with_name("aws_walker.py")
CHUNK, BLOCKS, DISKS = 512 * KIB, 12, 2
# one of each kind of boundary and of thing; all of them are walked with --full
SOME = ("made disk", "ref image", "made instance")


@pytest.fixture
def known() -> Iterator[Places]:
    with places() as found:
        yield found


def disks(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    dice = random.Random(5)
    for number in range(DISKS):
        with (folder / f"disk-{number}.raw").open("wb") as file:
            file.truncate(32 * MIB)
            for index in range(BLOCKS):
                file.seek(index * 2 * CHUNK)
                file.write(dice.randbytes(CHUNK))


def walk(cloud: AwsEmulator, folder: Path, at: int = 0, log: Path | None = None) -> int:
    environment = {**os.environ, **cloud.environment, "V2C_CRASH_AT": str(at), "V2C_CRASH_LOG": str(log or "")}
    argv = [sys.executable, str(WALKER), str(folder), cloud.locator + "&reserve=1"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def arrived(cloud: AwsEmulator, folder: Path, name: str) -> None:
    """What must be so however often it was killed."""
    told = json.loads((folder / "result").read_text())
    made = [id for _, id in told["made"]]
    kinds = Counter(line.split(" ")[0] for line in cloud.left())
    assert kinds == {"snapshot": DISKS, "image": 1, "instance": 1, "volume": DISKS}, (name, cloud.left())
    assert {line.split(" ")[1] for line in cloud.left() if not line.startswith("volume")} == set(made), name
    assert [list(ref) for ref in told["refs"]] == sorted(map(list, told["made"])), name
    for number, id in enumerate(made[:DISKS]):
        held = cloud.disk(id)
        with (folder / f"disk-{number}.raw").open("rb") as one, held.open("rb") as other:
            assert held.stat().st_size == GIB and all(other.read(len(part)) == part for part in iter(lambda: one.read(MIB), b""))
    puts = cloud.requests.done("PutSnapshotBlock")
    twice = sum(puts.values()) - len(puts)
    assert len(puts) == DISKS * BLOCKS and twice <= (PARALLEL if "disk" in name else 0), (name, twice)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.full)], ids=["some", "every"])
def test_kills(known: Places, tmp_path: Path, every: bool) -> None:
    log = tmp_path / "boundaries"
    disks(tmp_path / "whole")
    cloud = known[tmp_path / "cloud-0"]
    assert walk(cloud, tmp_path / "whole", log=log) == 0
    arrived(cloud, tmp_path / "whole", "whole")
    cloud.cloud.machines.close()
    names = log.read_text().splitlines()
    assert set(SOME) <= set(names)
    chosen = range(1, len(names) + 1) if every else [names.index(name) + 1 for name in SOME]
    for at in chosen:
        folder, cloud = tmp_path / str(at), known[tmp_path / f"cloud-{at}"]
        disks(folder)
        assert walk(cloud, folder, at=at) == -9, names[at - 1]
        assert walk(cloud, folder) == 0, names[at - 1]
        arrived(cloud, folder, names[at - 1])
        cloud.cloud.machines.close()
