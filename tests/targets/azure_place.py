"""A double of Azure for one test, and a machine's disks to put there."""

import hashlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from v2c.blocks import BlockMap
from v2c.emulators.azure import AzureEmulator
from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import MIB, Caps, Disk, DiskPlan, Firmware, KernelCaps, Machine, Needs, Plan, Ref
from v2c.targets import open_target
from v2c.targets.azure import AzureTarget
from v2c.transfer import DiskWriter

JOB = "0f3a9c"
CHUNK = 4 * MIB
CAPS = Caps(Firmware.BIOS, boot_disk="d0")
ABLE = KernelCaps("6.1.0", initramfs=("hv_storvsc", "nvme", "mlx5_core"))


@contextmanager
def azure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    """A fresh double; the SDK's own variables point there."""
    with AzureEmulator(folder) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator


def at(emulator: AzureEmulator, more: str = "") -> AzureTarget:
    """The target of the double's own place, with more options."""
    target = open_target(emulator.locator + more)
    assert isinstance(target, AzureTarget)
    return target


def planned(*mib: int, firmware: Firmware = Firmware.BIOS, job: str = JOB, vcpus: int = 2, nics: int = 0) -> Plan:
    """A machine whose disks have so many MiB."""
    from v2c.model import Nic

    sizes = [n * MIB for n in mib]
    disks = tuple(Disk(f"d{n}", size, allocated=size) for n, size in enumerate(sizes))
    machine = Machine("erp", disks, nics=(Nic(),) * nics, memory_mib=4096, vcpus=vcpus, firmware=firmware)
    plans = tuple(DiskPlan(f"d{n}", f"erp-{n}", size, size) for n, size in enumerate(sizes))
    return Plan(job, machine, "azure", "azure", plans, Needs(firmware), data_bytes=sum(sizes))


def content(plan: Plan, number: int = 0, seed: int = 0) -> dict[int, bytes]:
    """Noise for every third block of a disk, and for the last."""
    size = plan.disks[number].target_size
    last = (size - 1) // CHUNK
    dice = random.Random(f"{seed}/{number}")
    return {i: dice.randbytes(min(CHUNK, size - i * CHUNK)) for i in sorted({*range(0, last, 3), last})}


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Sender:
    """What the transfer does, in short: what the map says is there and the target holds is not put again; in parallel."""

    def __init__(self, folder: Path, plan: Plan, number: int = 0, generation: str = "g1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.plan, self.number = plan, number
        self.map = BlockMap.open(folder / f"d{number}.blocks")
        self.generation = generation
        self.put = 0

    def send(self, writer: DiskWriter, blocks: dict[int, bytes], only: int | None = None) -> None:
        self.map.begin("capture", self.generation, CHUNK)
        writer.expect(sorted(blocks))
        missing = set(writer.missing(self.map))
        todo = [index for index in sorted(blocks) if index in missing or not self.map.ours(index)][:only]
        self.map.intend(todo)

        def one(index: int) -> None:
            writer.put(index, blocks[index], digest(blocks[index]))
            self.map.wrote(index, digest(blocks[index]))
            self.put += 1

        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(one, index) for index in todo]:
                future.result()


def uploaded(target: AzureTarget, plan: Plan, journal: Journal, folder: Path, blocks: dict[int, bytes], number: int = 0) -> Ref:
    """One disk, tried as often as the step is."""
    sender = Sender(folder, plan, number)
    for attempt in range(4):
        try:
            with target.writer(plan, plan.machine.disks[number], None, journal) as writer:
                sender.send(writer, blocks)
                return writer.commit()
        except TargetError as error:
            if not error.transient or attempt == 3:
                raise
    raise AssertionError("unreachable")


def overtaken(
    first: AzureTarget, second: AzureTarget, plan: Plan, journal: Journal, folder: Path, blocks: dict[int, bytes]
) -> Ref:
    """The disk that a second worker made of these blocks while the first, which has put others, slept: the first is refused when
    it wakes up in between, and at the end."""
    stale = {**content(plan), 1: b"\x55" * CHUNK}  # block 1 is zero now
    with first.writer(plan, plan.machine.disks[0], None, journal) as frozen:
        Sender(folder / "one", plan).send(frozen, stale, only=4)
        with second.writer(plan, plan.machine.disks[0], None, journal) as writer:
            sender = Sender(folder / "two", plan)
            sender.send(writer, blocks, only=2)
            with pytest.raises(TargetError, match="taken over by another run"):
                frozen.put(4, b"\xaa" * CHUNK, b"")
            with pytest.raises(TargetError, match="taken over by another run"):
                frozen.commit()
            sender.send(writer, blocks)
            ref = writer.commit()
        with pytest.raises(TargetError, match="taken over by another run"):
            frozen.put(4, b"\xaa" * CHUNK, b"")
    return ref


def holds(file: Path, size: int, blocks: dict[int, bytes]) -> None:
    """The raw file holds these blocks, and zeros elsewhere."""
    assert file.stat().st_size == size
    with file.open("rb") as raw:
        for index in range(-(-size // CHUNK)):
            length = min(CHUNK, size - index * CHUNK)
            assert raw.read(length) == blocks.get(index, b"").ljust(length, b"\0"), f"block {index} differs"


def secret_words(emulator: AzureEmulator) -> list[str]:
    """Strings that may be in no file of ours: the password, and whatever signs a SAS."""
    found = [emulator.environment["AZURE_CLIENT_SECRET"]]
    found += [r.hidden["grant"]["policy"] for r in emulator.cloud.store.all() if "grant" in r.hidden]
    return [word for word in found if word] or [os.urandom(8).hex()]
