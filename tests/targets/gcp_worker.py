"""A converter that uploads to the double of Google Cloud, for tests of what goes wrong on the way; a pytest plugin."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from gcp_places import Places, target_at

from v2c.blocks import BlockMap
from v2c.emulators.gcp import GcpEmulator
from v2c.emulators.gcp.archive import unpack
from v2c.errors import TargetError
from v2c.journal import MemoryJournal
from v2c.model import GIB, MIB, Disk, DiskPlan, Firmware, Machine, Needs, Plan, Ref
from v2c.targets.gcp import GcpTarget, upload
from v2c.targets.writers import CHUNK
from v2c.transfer import DiskWriter

JOB = "5f0c1e"
SIZE = 65 * MIB + 512
REQUEST, PACKERS = 1 * MIB, 2
KINDS = ("throttle", "unavailable", "internal", "reset", "lost-answer", "short")


def content(index: int, salt: int = 0) -> bytes:
    """A block: a third of it noise, so that it shrinks by compression as real ones do."""
    length = min(CHUNK, SIZE - index * CHUNK)
    noise = random.Random(index * 1000 + salt).randbytes(length // 3)
    data = (noise + b"text " * (length // 5)).ljust(length, b"\0")[:length]
    return data + bytes(-len(data) % 512)


BLOCKS = {index: content(index) for index in (0, 1, 2, 3, 5, 8, 9, 12, 16)}


def plan(disks: int = 1) -> Plan:
    machine = Machine("erp", tuple(Disk(f"d{n}", SIZE, allocated=MIB) for n in range(disks)), firmware=Firmware.BIOS)
    planned = tuple(DiskPlan(f"d{n}", f"erp-{n}", SIZE, GIB) for n in range(disks))
    return Plan(JOB, machine, "gcp:", "gcp", planned, Needs(Firmware.BIOS), data_bytes=MIB)


@dataclass
class Worker:
    """A converter with a work folder and a state of its own."""

    double: GcpEmulator
    folder: Path
    journal: MemoryJournal = field(default_factory=lambda: MemoryJournal(JOB))
    number: int = 0

    def target(self) -> GcpTarget:
        return target_at(self.double)

    def map(self) -> BlockMap:
        self.folder.mkdir(exist_ok=True)
        told = BlockMap.open(self.folder / "d0.blocks")
        told.begin("capture", "generation", CHUNK)
        return told

    def state(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on this worker is the one that works in this process."""
        monkeypatch.setenv("V2C_STATE", str(self.folder / "state"))

    def send(self, writer: DiskWriter, told: BlockMap, blocks: dict[int, bytes], *, most: int = 99) -> list[int]:
        """What a transfer does; answers with what it put."""
        writer.expect(sorted(blocks))
        missing = set(writer.missing(told))
        put = [index for index in sorted(blocks) if index in missing or not told.ours(index)][:most]
        told.intend(put)
        for index in put:
            digest = hashlib.sha256(blocks[index]).digest()
            writer.put(index, blocks[index], digest)
            told.wrote(index, digest)
        return put

    def upload(self, blocks: dict[int, bytes] = BLOCKS) -> Ref:
        """To the end, as often as it takes: what the engine's retries do."""
        mine, target = plan(), self.target()
        for _ in range(20):
            with self.map() as told:
                try:
                    with target.writer(mine, mine.machine.disks[0], None, self.journal) as writer:
                        self.send(writer, told, blocks)
                        return writer.commit()
                except TargetError as error:
                    if not error.transient:
                        raise
        raise AssertionError("never came to an end")


@pytest.fixture
def places() -> Iterator[Places]:
    places = Places()
    yield places
    places.close()


@pytest.fixture
def double(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GcpEmulator:
    monkeypatch.setattr(upload, "REQUEST", REQUEST)
    monkeypatch.setattr(upload, "PACKERS", PACKERS)
    folder = tmp_path / "cloud"
    folder.mkdir()
    return places.at(folder)


@pytest.fixture
def worker(double: GcpEmulator, tmp_path: Path) -> Worker:
    return Worker(double, tmp_path / "first")


def held(double: GcpEmulator, ref: Ref, tmp_path: Path) -> dict[int, bytes]:
    """The disk's blocks that are not zero, as the double's image would hold them."""
    bucket, _, name = ref.id.removeprefix("gs://").partition("/")
    raw = tmp_path / "held.raw"
    assert unpack(double.storage.path(double.storage.object(bucket, name)), raw) == GIB
    with raw.open("rb") as file:
        found = {index: file.read(CHUNK) for index in range(-(-SIZE // CHUNK))}
        assert not any(file.read(CHUNK).strip(b"\0") for _ in range(8))
    return {index: data for index, data in found.items() if data.strip(b"\0")}


def wanted(blocks: dict[int, bytes] = BLOCKS) -> dict[int, bytes]:
    return {index: data.ljust(CHUNK, b"\0") for index, data in blocks.items()}


def sent(double: GcpEmulator) -> int:
    return double.requests.bytes("upload")
