"""Disks for the tests of file writers, and how independent readers judge the files."""

import hashlib
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from v2c import qemu
from v2c.blocks import BlockMap
from v2c.model import MIB, DiskFormat, Ref
from v2c.targets.writers import CHUNK, FORMATS, Format
from v2c.targets.writers.part import GRAIN

READERS = {"raw": DiskFormat.RAW, "qcow2": DiskFormat.QCOW2, "vmdk": DiskFormat.VMDK, "vhd": DiskFormat.VHD}
READERS |= {"vhd-dynamic": DiskFormat.VHD, "vhdx": DiskFormat.VHDX, "vdi": DiskFormat.VDI}
STREAMS = [f for f in FORMATS if f.sequential]
REF = Ref.of("disk", "d0")

every = pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
every_stream = pytest.mark.parametrize("format", STREAMS, ids=lambda f: f.name)


def known(folder: Path, blocks: dict[int, bytes]) -> BlockMap:
    """A block map that says these were written."""
    told = BlockMap.open(folder / f"{len(list(folder.glob('*.blocks')))}.blocks")
    told.begin("capture", "generation", CHUNK)
    for index, data in blocks.items():
        told.wrote(index, hashlib.sha256(data).digest())
    return told


def block(seed: int, *, holes: bool = True) -> bytes:
    """4 MiB, part noise, part text, part zeros."""
    dice = random.Random(seed)
    pieces = [
        dice.randbytes(GRAIN) if n % 3 else bytes(GRAIN) if holes else b"v2c!" * (GRAIN // 4) for n in range(CHUNK // GRAIN)
    ]
    return b"".join(pieces)


def content(seed: int = 0) -> dict[int, bytes]:
    """Blocks of a disk of 1 GiB, far apart and side by side, the last one included."""
    return {index: block(seed + index) for index in (0, 1, 9, 10, 11, 60, 255)}


def put(writer: object, blocks: dict[int, bytes], only: Sequence[int] | None = None) -> None:
    for index in sorted(blocks) if only is None else only:
        writer.put(index, blocks[index], hashlib.sha256(blocks[index]).digest())  # type: ignore[attr-defined]


def reference(path: Path, blocks: dict[int, bytes], size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for index, data in blocks.items():
            file.seek(index * CHUNK)
            file.write(data)
    return path


def same(out: Path, format: Format, expected: Path, size: int) -> None:
    """What independent readers find in the file."""
    if format.name == "tar.gz":
        folder = out.with_name("extracted")
        folder.mkdir(exist_ok=True)
        assert subprocess.run(["gzip", "-t", out], check=False).returncode == 0
        listed = subprocess.run(["tar", "-tvzf", out], capture_output=True, text=True, check=True).stdout
        assert listed.split()[-1] == "disk.raw" and str(size) in listed
        done = subprocess.run(["tar", "-xzf", out, "-C", folder], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        disk = folder / "disk.raw"
        assert subprocess.run(["cmp", disk, expected], check=False).returncode == 0
        assert disk.stat().st_blocks * 512 <= expected.stat().st_blocks * 512 + MIB, "the holes are gone"
    else:
        kind = READERS[format.name]
        assert qemu.info(out, kind).size == size
        assert qemu.compare(out, kind, expected, DiskFormat.RAW)
        qemu.check(out, kind)
