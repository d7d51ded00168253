"""Google Cloud and kill -9: at every boundary of the journal a process dies, and the next one goes on from there."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_walker import JOB, disks
from forks import KILLED, Forks, forks
from gcp_places import target_at
from kept_machines import KeptMachines

from v2c.emulators.gcp import GcpEmulator, open_emulator
from v2c.model import GIB, MIB
from v2c.targets.writers import CHUNK

pytestmark = pytest.mark.tool

BLOCKS, DISKS = 4, 2
SOME = ("ref address", "ref disk", "made image", "made instance", "undone disk")  # all of them are walked with --full
MORE = "&reserve=1&private-ip=10.132.0.9"
ONCE = ("images", "networks", "firewalls", "subnetworks", "instances", "reservations", "addresses")


@pytest.fixture
def walker(tmp_path: Path) -> Iterator[Forks]:
    with forks("cloud_walker", tmp_path / "forks", "v2c.targets.gcp", "google.cloud.compute_v1", "google.auth") as found:
        yield found


def arrived(cloud: GcpEmulator, folder: Path, name: str, sent: int) -> int:
    """What must be so however often it was killed; the bytes that the bucket took, which are `sent` when that is not 0."""
    told = json.loads((folder / "result").read_text())
    kinds = Counter(key.split("/")[-2] for key in cloud.left())
    assert kinds == {"images": DISKS, "instances": 1, "disks": DISKS, "addresses": 1}, (name, cloud.left())
    assert [id for kind, id in told["made"] if kind == "instance"] == [k.split("/")[-1] for k in cloud.left() if "instances" in k]
    for operation in ONCE:
        made = cloud.requests.done(f"{operation}.insert")
        assert made and max(made.values()) == 1, (name, operation, made)
    images = sorted(key.split("/")[-1] for key in cloud.left() if "images" in key)
    for number, image in enumerate(images):
        held = cloud.disk(image)
        with (folder / f"disk-{number}.raw").open("rb") as one, held.open("rb") as other:
            assert held.stat().st_size == GIB and all(other.read(len(part)) == part for part in iter(lambda: one.read(MIB), b""))
    taken = sum(r.bytes for r in cloud.requests if r.operation == "upload" and r.status in (200, 308))
    assert sent in (0, taken), f"{name}: {taken - sent} bytes went twice"
    target = target_at(cloud, MORE)
    for ref in reversed(list(target.find(JOB))):
        target.destroy(ref)
    assert cloud.left() == [], name
    return taken


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.full)], ids=["some", "every"])
def test_kills(walker: Forks, tmp_path: Path, every: bool) -> None:
    log, sent = tmp_path / "boundaries", 0

    def killed(at: int, name: str) -> int:
        folder, place = tmp_path / str(at), tmp_path / f"cloud-{at}"
        disks(folder, DISKS, BLOCKS, CHUNK)
        with open_emulator(place) as cloud:
            cloud.instances.machines = KeptMachines(tmp_path)  # what boots is not what is asked here
            asked = [folder, f"{cloud.locator}{MORE}"], {**cloud.environment, "XDG_STATE_HOME": str(folder / "home")}
            if at:
                assert walker(*asked, at=at) == KILLED, f"{name}: {walker.said}"
            assert walker(*asked, log=None if at else log) == 0, f"{name}: {walker.said}"
            taken = arrived(cloud, folder, name, sent)
        shutil.rmtree(folder)
        shutil.rmtree(place)
        return taken

    sent = killed(0, "whole")
    assert sent >= DISKS * BLOCKS * CHUNK
    names = log.read_text().splitlines()
    assert set(SOME) <= set(names)
    for at in range(1, len(names) + 1) if every else [names.index(name) + 1 for name in SOME]:
        killed(at, names[at - 1])
