"""Grown disks: patches laid over blocks of any size give the disk that patching it in place gives."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2c import gpt, qemu, tails
from v2c.blocks import BlockMap
from v2c.model import GIB, MIB, DiskFormat, Ref
from v2c.targets.writers import FORMATS, Format
from v2c.transfer import transfer

some_patches = st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=20)), max_size=4)


@given(some_patches, st.integers(1, 30), st.binary(min_size=90, max_size=90))
def test_laying_over_blocks_is_laying_over_the_whole(patches: list[gpt.Patch], chunk: int, disk: bytes) -> None:
    whole = bytearray(disk)
    tails.lay(patches, 0, whole)
    blocks = [bytearray(disk[at : at + chunk]) for at in range(0, len(disk), chunk)]
    touched = tails.indexes(patches, chunk)
    for index, data in enumerate(blocks):
        before = bytes(data)
        tails.lay(patches, index * chunk, data)
        assert index in touched or bytes(data) == before or not any(data[n] for n in range(len(data)) if data[n] != before[n])
    assert b"".join(blocks) == bytes(whole)


def gpt_disk(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    layout = ["-n", "1:2048:+8M", "-t", "1:ef00", "-n", "2:0:0", "-c", "2:root"]
    subprocess.run(["sgdisk", *layout, path], check=True, capture_output=True)
    with path.open("r+b") as file:
        file.seek(20 * MIB)
        file.write(b"data" * MIB)
    return path


def send(source: Path, out: Path, format: Format, blocks: Path, size: int) -> tuple[int, str]:
    """One disk through export, transfer and writer, as an upload does it; blocks sent, and the fingerprint."""
    with (
        qemu.serve(source, DiskFormat.RAW, socket=source.with_suffix(".sock")) as export,
        BlockMap.open(blocks) as known,
        format.open(out, size, Ref.of("disk", "d0")) as writer,
    ):
        result = transfer(
            export, writer, known, generation="g", capture="c", size=size, sequential=format.sequential, parallel=format.parallel
        )
        writer.commit()
    return result.sent_blocks, result.digest


@pytest.mark.tool
@pytest.mark.parametrize("size", [100 * MIB, 101 * MIB + 512, 100 * MIB + 33 * 512])
@pytest.mark.parametrize("name", ["raw", "qcow2", "tar.gz", "vmdk"])
def test_a_disk_rounded_up_has_a_valid_table(tmp_path: Path, name: str, size: int) -> None:
    format = next(f for f in FORMATS if f.name == name)
    source = gpt_disk(tmp_path / "source", size)
    before = hashlib.sha256(source.read_bytes()).digest()
    out, disk = tmp_path / "out", tmp_path / "disk.raw"
    _, digest = send(source, out, format, tmp_path / "blocks", GIB)
    if name == "tar.gz":
        subprocess.run(["tar", "-xzf", out, "-C", tmp_path], check=True)
    else:
        kind = DiskFormat(name)
        qemu.convert(out, kind, disk, DiskFormat.RAW)
    assert disk.stat().st_size == GIB
    judged = subprocess.run(["sgdisk", "-v", disk], check=True, capture_output=True, text=True).stdout
    assert "No problems found" in judged
    with disk.open("rb") as file, source.open("rb") as origin:
        file.seek(MIB)
        origin.seek(MIB)
        inside = size - MIB - 33 * 512
        assert file.read(inside) == origin.read(inside)
    assert hashlib.sha256(source.read_bytes()).digest() == before
    again = send(source, out, format, tmp_path / "blocks", GIB)
    assert again == (0, digest), "a block was put twice, or the digest is not of what was put"


@pytest.mark.tool
def test_a_disk_of_the_same_size_is_left_alone(tmp_path: Path) -> None:
    source = gpt_disk(tmp_path / "source", 64 * MIB)
    send(source, tmp_path / "out", FORMATS[1], tmp_path / "blocks", 64 * MIB)
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
