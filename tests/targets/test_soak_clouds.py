"""Random kills of conversions to each cloud's double: killed after random times and gone on with, V2C_SOAK_KILLS times a cloud.

The machines are those of `sources/memory`, by the real command line, from the copy to the cut-over. What was sent twice, made
twice and left is told by the double, not by our journal. The result goes to bench/soak-clouds.json, with its commit.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kept_machines import KeptMachines

from v2c.emulators import Emulator, open_emulator
from v2c.model import MIB
from v2c.targets.aws import upload as ebs
from v2c.targets.azure import upload as pages
from v2c.targets.gcp import upload as objects
from v2c.targets.writers import CHUNK

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("V2C_SOAK_KILLS", "20"))
SEED = int(os.environ.get("V2C_SOAK_SEED", "0")) or random.randrange(1, 1 << 32)
STARTUP_S = 0.5  # a kill sooner than this finds only imports
EACH = 6  # kills of one machine, at most
DISKS, SIZE = 2, 40 * MIB
MEASURED = ["v2c/engine", "v2c/journal.py", "v2c/pipeline.py", "v2c/transfer.py", "v2c/targets/aws", "v2c/targets/azure"]
MEASURED += ["v2c/targets/gcp"]


@dataclass(frozen=True)
class Cloud:
    """`sent(double)`: units that it took, by name, each once if all went well; `flight`: how many may be under way at a kill."""

    furnish: Callable[[Any, KeptMachines], None]
    sent: Callable[[Any], Counter[str]]
    flight: int
    more: str = ""


def _aws(double: Any, machines: KeptMachines) -> None:
    from aws_places import QUICK

    double.pace, double.cloud.machines = QUICK, machines


def _azure(double: Any, machines: KeptMachines) -> None:
    double.cloud.machines = machines


def _gcp(double: Any, machines: KeptMachines) -> None:
    double.instances.machines = machines


def _pages(double: Any) -> Counter[str]:
    """Without footers, which are written again whenever a disk is closed again."""
    return Counter({page: n for page, n in double.requests.done("PutPage").items() if int(page.rpartition("/")[2]) != SIZE})


def _chunks(double: Any) -> Counter[str]:
    """Units of 256 KiB of every upload session, from the ranges that it took."""
    found: Counter[str] = Counter()
    for request in double.requests:
        if request.operation == "upload" and request.status in (200, 308):
            name, _, ranged = request.subject.partition(" bytes ")
            start, _, end = ranged.partition("/")[0].partition("-")
            found.update(f"{name} {at}" for at in range(int(start) // objects.UNIT, (int(end) + 1) // objects.UNIT))
    return found


CLOUDS = {
    "aws": Cloud(_aws, lambda double: double.requests.done("PutSnapshotBlock"), ebs.PARALLEL, "&reserve=1"),
    "azure": Cloud(_azure, _pages, pages.PARALLEL),
    "gcp": Cloud(_gcp, _chunks, (objects.REQUEST + objects.PACKERS * CHUNK) // objects.UNIT, "&reserve=1"),
}


class House:
    """The folder of one machine, and what is run there."""

    def __init__(self, folder: Path, double: Emulator, more: str) -> None:
        self.folder, self.name = folder, folder.name
        self.to = double.locator + more
        self.env = {**os.environ, **double.environment, "XDG_STATE_HOME": str(folder / "home")}
        folder.mkdir(parents=True)

    def words(self, *verb: str) -> list[str]:
        places = ["--state", str(self.folder / "state"), "--workdir", str(self.folder / "work")]
        return [sys.executable, "-m", "v2c", *verb, *places]

    def start(self) -> "subprocess.Popen[bytes]":
        source = f"memory:erp-{self.name}?disks={DISKS}&size={SIZE}&seed={len(self.name)}"
        argv = self.words("convert", source, "--to", self.to, "--cutover", "--quiet", "--no-rehearse", "--bandwidth", "16M")
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(argv, env=self.env, stdout=said, stderr=said)

    def report(self) -> dict[str, Any]:
        (job,) = [path for path in (self.folder / "work").iterdir() if path.is_dir()]
        found: dict[str, Any] = json.loads((job / "report.json").read_text())
        return found

    def essence(self) -> Any:
        """What must be the same however often the way there was cut."""
        told = self.report()
        checks = [(check["id"], check["verdict"]) for check in told["checks"]]
        return told["verdict"], checks, [(change["fix"], change["kind"], change["path"]) for change in told["changes"]]

    def clean(self) -> None:
        done = subprocess.run(
            self.words("cleanup", self.report()["job"], "--yes", "--discard-target-writes"),
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def kinds(double: Emulator) -> Counter[str]:
    """How much of what exists there beyond what a fresh one has."""
    words = [line.split(" ")[0] for line in double.left()]  # "snapshot", "zones/ZONE/disks/NAME", "o/BUCKET/v2c/JOB/NAME"
    return Counter(word[:2] if word.startswith("o/") else word.rpartition("/")[0] or word for word in words)


@pytest.mark.soak
@pytest.mark.tool
@pytest.mark.parametrize("name", sorted(CLOUDS))
@pytest.mark.timeout(600 + 120 * KILLS)
def test_random_kills(tmp_path: Path, name: str) -> None:
    """Every machine arrives whole, exactly once, the same as undisturbed; then it is cleaned up and nothing is left."""
    cloud, chance = CLOUDS[name], random.Random(SEED)
    kills = number = again = 0
    with open_emulator(name, tmp_path / "cloud") as double:
        machines = KeptMachines(tmp_path)
        cloud.furnish(double, machines)
        whole, alone = _undisturbed(House(tmp_path / "whole", double, cloud.more), double, machines)
        while kills < KILLS:
            number, here = number + 1, 0
            double.requests.clear()
            machines.started.clear()
            house = House(tmp_path / str(number), double, cloud.more)
            told = f"{name}, seed {SEED}, machine {number}"
            while True:
                convert = house.start()
                try:
                    limit = chance.uniform(STARTUP_S, alone) if kills < KILLS and here < EACH else None
                    assert convert.wait(limit) == 0, f"{told}: {(house.folder / 'said').read_text()[-2000:]}"
                    break
                except subprocess.TimeoutExpired:
                    convert.kill()
                    convert.wait()
                    kills, here = kills + 1, here + 1
            sent = cloud.sent(double)
            twice = sum(sent.values()) - len(sent)
            assert (house.essence(), kinds(double), len(set(machines.started))) == whole, told
            assert len(machines.started) == len(set(machines.started)), f"{told}: an instance was started twice"
            assert twice <= cloud.flight * DISKS * here, f"{told}: {twice} sent twice"
            again += twice
            house.clean()
            assert double.left() == [], told
    sys.stdout.write(f"{name}: {kills} kills over {number} machines, {again} units sent again, seed {SEED}\n")
    _keep(name, {"kills": kills, "machines": number, "sent_again": again, "seed": SEED})


def _undisturbed(house: House, double: Emulator, machines: KeptMachines) -> tuple[tuple[Any, Counter[str], int], float]:
    began = time.monotonic()
    assert house.start().wait() == 0, (house.folder / "said").read_text()[-3000:]
    alone = time.monotonic() - began
    whole = house.essence(), kinds(double), len(set(machines.started))
    assert whole[0][0] == "pass" and whole[2] == 2, whole  # the test's instance, and the real one
    house.clean()
    assert double.left() == []
    return whole, alone


def _keep(name: str, result: dict[str, object]) -> None:
    """Fewer than 20 kills prove nothing worth keeping."""
    if KILLS < 20:
        return
    path = ROOT / "bench" / "soak-clouds.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    date = time.strftime("%Y-%m-%d")
    clouds = {**known.get("clouds", {}), name: {"commit": commit, "date": date, **result}}
    path.write_text(json.dumps({"commit": commit, "date": date, "paths": MEASURED, "clouds": clouds}, indent=2) + "\n")
