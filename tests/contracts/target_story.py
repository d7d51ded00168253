"""What the tests of targets stand on: a machine of small disks, its blocks, and a target that a subclass makes."""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from v2c.blocks import BlockMap
from v2c.journal import Intent, MemoryJournal
from v2c.model import MIB, Caps, Disk, DiskPlan, Firmware, Machine, Needs, Plan, Ref
from v2c.targets import Call, Target
from v2c.transfer import DiskWriter

JOB = "job-1"
CAPS = Caps(Firmware.BIOS, boot_disk="d0")


class Died(BaseException):
    """A kill, as near as one process can have it: nothing after it runs."""


@dataclass
class MortalJournal(MemoryJournal):
    """A journal whose process dies at the `at`th intent: when its effect has happened and its ref was not written yet."""

    at: int = -1
    count: int = field(default=0)

    @contextmanager
    def intent(self, kind: str, name: str, tags: Mapping[str, str] | None = None) -> Iterator[Intent]:
        with super().intent(kind, name, tags) as intent:
            yield intent
            self.count += 1
            if self.count == self.at:
                intent.ref = None
                raise Died


def block(index: int, length: int) -> bytes:
    """Noise, text and a hole."""
    dice = random.Random(index)
    whole = dice.randbytes(length // 2 - length // 8) + bytes(length // 4) + b"v2c " * (length // 4)
    return whole[:length].ljust(length, b"\0")


class TargetStory:
    """`size`: bytes of the first source disk; a member whose disks are large may make it so. `intents`: how many effects one
    disk takes from `reserve` to `register`, each of which is cut off once. `caps`: what the guest can; its firmware is the
    machine's. A member whose place is not a folder says what
    exists there by `inventory`, and which of it holds a disk's data (`bulky`) or is kept for ever (`kept`)."""

    size = 17 * MIB
    second = 5 * MIB
    intents = 4
    caps = CAPS
    lasting: tuple[str, ...] = ("disk", "image", "instance")  # what `finalize` leaves; where disks are only staged, not them

    def make(self, folder: Path) -> Target:
        """The target over what `folder` holds: called again, it is the same place, seen by another process."""
        raise NotImplementedError

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        """What a committed disk holds, as a raw file, by a reader that is not the writer's."""
        raise NotImplementedError

    def inventory(self, place: Path) -> Mapping[str, object]:
        """All that exists at the target, by name, each with what tells a change of it. Here: every path below the folder."""
        return {str(p.relative_to(place)): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in place.rglob("*")}

    def bulky(self, place: Path) -> set[str]:
        """The names of the inventory that hold the data of a disk, finished or not. Here: files above a page."""
        return {name for name in self.inventory(place) if (place / name).is_file() and (place / name).stat().st_blocks > 8}

    def kept(self, place: Path, name: str) -> bool:
        """Whether the name stays though all of the job is destroyed: folders, and a history."""
        return (place / name).is_dir() or name.endswith("events")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "at" in metafunc.fixturenames:
            metafunc.parametrize("at", range(1, self.intents + 1))

    # ---- what the tests stand on -------------------------------------------------------------------------------------------

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """A folder for the target alone."""
        folder = tmp_path / "place"
        folder.mkdir()
        return folder

    def plan(self, target: Target, disks: int = 1, job: str = JOB) -> Plan:
        sizes = [self.size, self.second, self.second + 512][:disks]
        unit = target.features.size_unit
        firmware = self.caps.firmware
        made = tuple(Disk(f"d{n}", size, allocated=MIB) for n, size in enumerate(sizes))
        machine = Machine("erp", made, firmware=None if firmware is Firmware.BIOS else firmware)
        planned = tuple(DiskPlan(f"d{n}", f"erp-{n}", size, -(-size // unit) * unit) for n, size in enumerate(sizes))
        return Plan(job, machine, "here", target.platform, planned, Needs(firmware), data_bytes=disks * MIB)

    def blocks(self, target: Target, plan: Plan, number: int = 0) -> dict[int, bytes]:
        """Blocks of a disk's source: the first, the last (a short one), and some between."""
        size, chunk = plan.disks[number].source_size, target.features.chunk
        last = (size - 1) // chunk
        wanted = sorted({0, 1, last // 2, last} & set(range(last + 1)))
        return {index: block(index, min(chunk, size - index * chunk)) for index in wanted}

    def ready(self, place: Path, disks: int = 1) -> tuple[Target, Plan, MemoryJournal]:
        target, journal = self.make(place), MemoryJournal(JOB)
        plan = self.plan(target, disks)
        list(target.reserve(plan, journal))
        return target, plan, journal

    def put(self, writer: DiskWriter, blocks: Mapping[int, bytes], *, only: int | None = None) -> None:
        for index in sorted(blocks)[:only]:
            data = blocks[index] + bytes(-len(blocks[index]) % 512)
            writer.put(index, data, hashlib.sha256(data).digest())

    def known(self, folder: Path, target: Target, blocks: Mapping[int, bytes]) -> BlockMap:
        """The block map that says these were put."""
        told = BlockMap.open(folder / f"{len(list(folder.iterdir()))}.blocks")
        told.begin("capture", "generation", target.features.chunk)
        for index, data in blocks.items():
            told.wrote(index, hashlib.sha256(data + bytes(-len(data) % 512)).digest())
        return told

    def disk(self, target: Target, plan: Plan, journal: MemoryJournal, number: int = 0, told: BlockMap | None = None) -> Ref:
        """One disk, written and committed; with a block map, as a transfer does it: what is there is not put again."""
        with target.writer(plan, plan.machine.disks[number], None, journal) as writer:
            blocks = self.blocks(target, plan, number)
            writer.expect(sorted(blocks))
            missing = set(writer.missing(told)) if told else set(blocks)
            for index, data in blocks.items():
                if told is None or index in missing or not told.ours(index):
                    self.put(writer, {index: data})
                    if told is not None:
                        told.wrote(index, hashlib.sha256(data + bytes(-len(data) % 512)).digest())
            return writer.commit()

    def expected(self, target: Target, plan: Plan, blocks: Mapping[int, bytes], number: int = 0) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of the whole disk at the target, a MiB at a time."""
        size, chunk = plan.disks[number].target_size, target.features.chunk
        for at in range(0, size, MIB):
            length = min(MIB, size - at)
            piece = bytearray(length)
            for index in range(at // chunk, (at + length - 1) // chunk + 1):
                start = max(at, index * chunk)
                data = blocks.get(index, b"")[start - index * chunk : at + length - index * chunk]
                piece[start - at : start - at + len(data)] = data
            yield at, bytes(piece)

    def holds(self, raw: Path, target: Target, plan: Plan, blocks: Mapping[int, bytes], number: int = 0) -> None:
        assert raw.stat().st_size == plan.disks[number].target_size
        with raw.open("rb") as file:
            for at, data in self.expected(target, plan, blocks, number):
                assert file.read(len(data)) == data, f"the MiB at {at} differs"

    def dry(self, place: Path, journal: MemoryJournal, do: Callable[[Target, MemoryJournal], None]) -> list[Call]:
        """What `do` would change, by the target's dry run over a copy of the journal; nothing may be changed by it."""
        calls: list[Call] = []
        before, told = self.inventory(place), [*journal.intents]
        do(self.make(place).dry(calls.append), MemoryJournal(JOB, [*journal.intents]))
        assert self.inventory(place) == before and journal.intents == told, "a dry run changed something"
        return calls
