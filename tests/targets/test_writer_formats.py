"""The formats themselves: a tar's map, a VHD's footer and table, a VMDK's shape."""

import hashlib
import os
import subprocess
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writer_files import REF, block, content, put, reference

from v2c import qemu
from v2c.model import GIB, MIB, DiskFormat
from v2c.targets.writers import CHUNK, FORMATS, TarWriter, VmdkWriter
from v2c.targets.writers.raw import vhd_footer, vhd_geometry
from v2c.targets.writers.tar import merged, sparse_header
from v2c.targets.writers.vhd import SparseVhd, data_at, places


@pytest.mark.tool
def test_a_disk_of_terabytes_in_a_tar(tmp_path: Path) -> None:
    """Offsets above 8 GiB are base 256, and 60 extents need three more blocks of head."""
    size = 3000 * GIB
    blocks = {index: block(index) for index in (0, 2100, 5000, *range(6000, 6057 * 2, 2)[:57], size // CHUNK - 1)}
    with TarWriter(tmp_path / "out", size, REF) as writer:
        writer.expect(sorted(blocks))
        put(writer, blocks)
        writer.commit()
    listed = subprocess.run(["tar", "-tvzf", tmp_path / "out"], capture_output=True, text=True, check=True).stdout
    assert str(size) in listed
    subprocess.run(["tar", "-xzf", tmp_path / "out", "-C", tmp_path], check=True)
    with (tmp_path / "disk.raw").open("rb") as disk:
        assert disk.seek(0, os.SEEK_END) == size
        for index, data in blocks.items():
            disk.seek(index * CHUNK)
            assert disk.read(CHUNK) == data
        assert disk.seek(0, os.SEEK_DATA) == 0
        assert disk.seek(CHUNK, os.SEEK_DATA) == 2100 * CHUNK


@given(st.lists(st.integers(0, 400), unique=True).map(sorted), st.integers(0, 40))
@settings(max_examples=30, deadline=None)
@pytest.mark.tool
def test_gnu_tar_reads_every_map(tmp_path_factory: pytest.TempPathFactory, indexes: list[int], extra: int) -> None:
    """The head alone, with data of 512 bytes a block."""
    folder = tmp_path_factory.mktemp("tar")
    size = (401 + extra) * 512
    ranges = [(first * 512, (last + 1) * 512) for first, last in merged(indexes)]
    data = b"".join(hashlib.sha512(str(index).encode()).digest() * 8 for index in indexes)
    (folder / "a.tar").write_bytes(sparse_header("disk.raw", size, ranges) + data + bytes(1024))
    subprocess.run(["tar", "-xf", folder / "a.tar", "-C", folder], check=True)
    expected = bytearray(size)
    for index in indexes:
        expected[index * 512 : index * 512 + 512] = hashlib.sha512(str(index).encode()).digest() * 8
    assert (folder / "disk.raw").read_bytes() == bytes(expected)


def test_the_footer_is_the_specifications() -> None:
    """Azure's own example: 20 MiB, no id, no time, creator "win "."""
    footer = vhd_footer(20 * MIB, uuid.UUID(int=0), 0)
    assert len(footer) == 512
    assert footer[64:68].hex() == "fffff0e6"
    assert vhd_geometry(20 * MIB) == (602, 4, 17)
    assert vhd_geometry(GIB) == (2080, 16, 63)
    assert vhd_geometry(128 * GIB) == (65535, 16, 255)
    assert vhd_geometry(4096 * GIB) == (65535, 16, 255)


@pytest.mark.tool
def test_a_vhd_that_qemu_refuses_to_write(tmp_path: Path) -> None:
    """Above 2040 GiB: the file is right by the specification, and QEMU still reads it."""
    size = 2500 * GIB
    format = next(f for f in FORMATS if f.name == "vhd")
    with format.open(tmp_path / "out", size, REF) as writer:
        put(writer, {0: block(0), size // CHUNK - 1: block(1)})
        writer.commit()
    assert (tmp_path / "out").stat().st_size == size + 512
    with (tmp_path / "out").open("rb") as file:
        file.seek(size)
        footer = file.read()
    assert footer[:8] == b"conectix" and int.from_bytes(footer[48:56], "big") == size
    total = sum(footer) - sum(footer[64:68])
    assert int.from_bytes(footer[64:68], "big") == ~total & 0xFFFFFFFF


@pytest.mark.tool
def test_the_vmdk_is_shaped_like_qemus_own(tmp_path: Path) -> None:
    """The same header, field by field, as qemu-img's streamOptimized output of the same disk."""
    blocks = content()
    source = reference(tmp_path / "source", blocks, GIB)
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run([*argv, source, tmp_path / "qemu.vmdk"], check=True)
    with VmdkWriter(tmp_path / "own.vmdk", GIB, REF) as writer:
        put(writer, blocks)
        writer.commit()
    own, theirs = (tmp_path / "own.vmdk").read_bytes(), (tmp_path / "qemu.vmdk").read_bytes()
    for name, start, end in (("magic, version", 0, 8), ("capacity to table size", 12, 48), ("newlines, compression", 73, 79)):
        assert own[start:end] == theirs[start:end], name
    assert b'createType="streamOptimized"' in own[512 : 21 * 512]
    assert own[-512:] == bytes(512), "no end mark"
    assert own[-1536:-1024][:16] == bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]), "no footer mark"
    assert own[-1024:-512][:4] == b"KDMV"
    assert len(own) < len(theirs) * 1.1


@pytest.mark.tool
def test_a_sparse_vhd_is_what_qemu_reads(tmp_path: Path) -> None:
    """Made piece by piece, each at its place; holes are not in the file, and the table leads to every block."""
    size = 100 * MIB
    blocks = {index: block(index) for index in (0, 3, 24)}
    whole = SparseVhd(size, CHUNK, sorted(blocks), uuid.UUID(int=1))
    head = whole.head()
    data = head + b"".join(whole.stored(blocks[index]) for index in sorted(blocks)) + whole.footer
    assert len(data) == whole.length < 4 * CHUNK
    (file := tmp_path / "d.vhd").write_bytes(data)
    qemu.check(file, DiskFormat.VHD)
    assert qemu.info(file, DiskFormat.VHD).size == size
    assert qemu.compare(file, DiskFormat.VHD, reference(tmp_path / "raw", blocks, size), DiskFormat.RAW)
    found = dict(places(head[: data_at(size)], size, CHUNK, [0, 1, 3, 24]))
    assert found[1] == 0 and all(data[found[index] :][:4096] == blocks[index][:4096] for index in blocks)
