"""Killed at every boundary of the journal and gone on with: nothing is made twice, no block sent twice but those on the way."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_places import address, places, pointed
from cloud_walker import JOB, disks
from forks import KILLED, Forks, forks
from kept_machines import KeptMachines

from v2c.emulators.aws import AwsEmulator
from v2c.model import GIB, KIB, MIB
from v2c.targets import open_target
from v2c.targets.aws.upload import PARALLEL

pytestmark = pytest.mark.tool

CHUNK, BLOCKS, DISKS = 512 * KIB, 12, 2
# one of each kind of boundary and of thing; all of them are walked with --full
SOME = ("ref nic", "made disk", "ref image", "made instance")


@pytest.fixture
def walker(tmp_path: Path) -> Iterator[Forks]:
    with forks("cloud_walker", tmp_path / "forks", "v2c.targets.aws") as found:
        yield found


def walk(walker: Forks, cloud: AwsEmulator, folder: Path, at: int = 0, log: Path | None = None) -> int:
    code = walker([folder, cloud.locator + more(cloud)], cloud.environment, at, log)
    assert code in (0, KILLED), walker.said
    return code


def more(cloud: AwsEmulator) -> str:
    return f"&reserve=1&private-ip={address(cloud, 77)}"


def arrived(cloud: AwsEmulator, folder: Path, name: str) -> None:
    """What must be so however often it was killed."""
    told = json.loads((folder / "result").read_text())
    made = [id for _, id in told["made"]]
    kinds = Counter(line.split(" ")[0] for line in cloud.left())
    assert kinds == {"snapshot": DISKS, "image": 1, "instance": 1, "volume": DISKS}, (name, cloud.left())
    assert {line.split(" ")[1] for line in cloud.left() if not line.startswith("volume")} == set(made), name
    (card,) = (card for _, card in cloud.cloud.store.all("cards"))
    assert card["PrivateIpAddress"] == address(cloud, 77) and card["Attachment"]["DeleteOnTermination"], (name, card)
    assert card["Attachment"]["InstanceId"] == made[-1], name
    assert told["refs"] == sorted([*map(list, told["made"]), ["nic", card["NetworkInterfaceId"]]]), name
    for number, id in enumerate(made[:DISKS]):
        held = cloud.disk(id)
        with (folder / f"disk-{number}.raw").open("rb") as one, held.open("rb") as other:
            assert held.stat().st_size == GIB and all(other.read(len(part)) == part for part in iter(lambda: one.read(MIB), b""))
    puts = cloud.requests.done("PutSnapshotBlock")
    twice = sum(puts.values()) - len(puts)
    assert len(puts) == DISKS * BLOCKS and twice <= (PARALLEL if "disk" in name else 0), (name, twice)


def nothing_is_left(cloud: AwsEmulator, name: str) -> None:
    """All that carries the job's tag is removed: by the emulator's own list."""
    with pointed(cloud):
        target = open_target(cloud.locator + more(cloud))
        for ref in reversed(list(target.find(JOB))):
            target.destroy(ref)
    assert cloud.left() == [] and not [*cloud.cloud.store.all("cards")], name


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.full)], ids=["some", "every"])
def test_kills(walker: Forks, tmp_path: Path, every: bool) -> None:
    log = tmp_path / "boundaries"

    def killed(at: int, name: str) -> None:
        folder = tmp_path / str(at)
        disks(folder, DISKS, BLOCKS, CHUNK)
        with places() as known:
            cloud = known[tmp_path / f"cloud-{at}"]
            cloud.cloud.machines = KeptMachines(tmp_path)  # what boots is not what is asked here
            if at:
                assert walk(walker, cloud, folder, at=at) == KILLED, name
            assert walk(walker, cloud, folder, log=None if at else log) == 0, name
            arrived(cloud, folder, name)
            nothing_is_left(cloud, name)
        shutil.rmtree(tmp_path / f"cloud-{at}")
        shutil.rmtree(folder)

    killed(0, "whole")
    names = log.read_text().splitlines()
    assert set(SOME) <= set(names)
    for at in range(1, len(names) + 1) if every else [names.index(name) + 1 for name in SOME]:
        killed(at, names[at - 1])
