"""gcp: the contract, over the double."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from gcp_places import Places, target_at, things
from target_contract import CAPS, JOB, Died, MortalJournal, TargetContract

from v2c.emulators.gcp import open_emulator
from v2c.emulators.gcp.archive import unpack
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import Caps, Firmware, Placement, Ref
from v2c.targets import Target
from v2c.targets.gcp import GcpTarget
from v2c.targets.writers import CHUNK


@pytest.mark.tool
class TestGcp(TargetContract):
    lasting = ("image", "instance")  # disks are staged, and an image keeps nothing of it
    intents = 2  # the disk's name, the image
    places: ClassVar[Places]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def doubles(cls) -> Iterator[None]:
        cls.places = Places()
        yield
        cls.places.close()

    def make(self, folder: Path) -> Target:
        return target_at(self.places.at(folder))

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        """By what the double makes an image with, which is Python's own tarfile."""
        bucket, _, name = disk.id.removeprefix("gs://").partition("/")
        assert isinstance(target, GcpTarget)
        here = target.place.session.endpoints.storage
        double = next(d for d in self.places.doubles.values() if d.environment["STORAGE_EMULATOR_HOST"] == here)
        unpack(double.storage.path(double.storage.object(bucket, name)), raw := folder / "read.raw")
        return raw

    def inventory(self, place: Path) -> Mapping[str, object]:
        return things(self.places.at(place))

    def bulky(self, place: Path) -> set[str]:
        return {key for key, thing in things(self.places.at(place)).items() if int(thing.get("size", 0)) > 0}

    def kept(self, place: Path, name: str) -> bool:
        return False


@pytest.mark.full
class TestGcpOwnBucket(TestGcp):
    """Without a bucket of the user's."""

    intents = 3

    def make(self, folder: Path) -> Target:
        return target_at(self.places.at(folder), locator="gcp:rehearsal-1/europe-west1-b")


@pytest.mark.full
class TestGcpHeld(TestGcp):
    """With an address that is reserved for the real instance."""

    intents = 3  # the address, too

    def make(self, folder: Path) -> Target:
        return target_at(self.places.at(folder), "&private-ip=10.132.0.9")


@pytest.mark.tool
@pytest.mark.parametrize("at", [pytest.param(at, marks=[pytest.mark.full] * (at in (2, 4, 5, 7))) for at in range(1, 10)])
def test_a_launch_that_was_cut_off_is_adopted(tmp_path: Path, at: int) -> None:
    """Every effect from the reservation to the real instance is cut off once; nothing is made twice, and nothing is left."""
    suite = TestGcp()
    journal = MortalJournal(JOB, at=at)
    (tmp_path / "maps").mkdir()
    with open_emulator(tmp_path / "cloud") as double:
        maps = [suite.known(tmp_path / "maps", target_at(double), {}) for _ in range(2)]
        for attempt in range(2):
            target = target_at(double, "&reserve=1&type=n2-highcpu-2")
            mine = suite.plan(target, 2)
            try:
                list(target.reserve(mine, journal))
                disks = [suite.disk(target, mine, journal, number, told=maps[number]) for number in range(2)]
                image = target.register(mine, disks, CAPS, journal)
                test = target.launch(mine, image, Placement(), journal, Meter())
                target.stop(test, journal)
                break
            except Died:
                assert attempt == 0
        assert journal.pending() == [] and set(journal.refs()) == set(target.find(JOB))
        for operation in ("images", "networks", "firewalls", "subnetworks", "instances", "reservations"):
            made = double.requests.done(f"{operation}.insert")
            assert made and set(made.values()) == {1}, (operation, made)
        for ref in reversed(journal.refs()):
            target.destroy(ref)
        assert double.left() == []


# A boot sector that says its words on the first serial port and halts: xor ax,ax; mov ds,ax; mov si,words; mov dx,3f8h;
# lodsb; test al,al; jz halt; out dx,al; jmp lodsb; halt: hlt; jmp halt; words.
SECTOR = bytes.fromhex("31c08ed8be157cbaf803ac84c07403eeebf8f4ebfd") + b"booted from what was uploaded\r\n\0"


@pytest.mark.tool
def test_what_was_uploaded_boots_and_is_heard(tmp_path: Path) -> None:
    """From blocks to the console: the archive, the image, the instance's disk, QEMU, the serial port, all of them real."""
    journal = MemoryJournal(JOB)
    with open_emulator(tmp_path / "cloud") as double:
        target = target_at(double)
        mine = TestGcp().plan(target, 2)
        list(target.reserve(mine, journal))
        refs = []
        for disk, head in zip(mine.machine.disks, (b"data", SECTOR.ljust(510, b"\0") + b"\x55\xaa"), strict=True):
            with target.writer(mine, disk, None, journal) as writer:
                data = head.ljust(CHUNK, b"\0")
                writer.expect([0])
                writer.put(0, data, hashlib.sha256(data).digest())
                refs.append(writer.commit())
        caps = Caps(Firmware.BIOS, boot_disk="d1")  # not the first of the machine's disks
        instance = target.launch(mine, target.register(mine, refs, caps, journal), Placement(), journal, Meter())
        deadline = time.monotonic() + 120
        while "uploaded" not in (seen := target.observe(instance)).console and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "booted from what was uploaded" in seen.console and seen.alive and Path(seen.screenshot).exists()
        target.stop(instance, journal)
        for ref in reversed(journal.refs()):
            target.destroy(ref)
        assert double.left() == []
