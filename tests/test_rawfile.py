"""RawFile: the bytes that the export's server would give, without the server."""

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from test_transfer import Disk, Shelf, fingerprint, make

from v2c import nbd, nbdserver, qemu, rawfile
from v2c.errors import SourceError
from v2c.model import KIB, MIB, DiskFormat
from v2c.nbd import Export, Scattered
from v2c.rawfile import RawFile
from v2c.transfer import BlockMap, transfer


def taken(file: RawFile, wanted: list[tuple[int, int]]) -> list[bytes]:
    """The pieces, in the order asked, each read into two buffers."""
    buffers: list[bytearray] = []
    got: list[bytes] = []

    def requests() -> Iterator[Scattered]:
        for offset, length in wanted:
            buffers.append(bytearray(b"\xff" * length))
            view = memoryview(buffers[-1])
            yield offset, [view[: length // 3], view[length // 3 :]]

    for number, end in enumerate(file.read_into(requests())):
        assert end == sum(wanted[number])
        got.append(bytes(buffers[number]))
    return got


@pytest.mark.tool
def test_the_file_gives_what_its_server_gives(tmp_path: Path) -> None:
    content = make(7, tail=1000)  # the server rounds its size up to whole sectors
    disk = tmp_path / "disk.raw"
    disk.write_bytes(content)
    chance = random.Random(7)
    with qemu.serve(disk, DiskFormat.RAW, socket=tmp_path / "s", name="d") as export, nbd.connect(export) as client:
        assert export.raw == str(disk)
        starts = [chance.randrange(export.size - 512) for _ in range(50)]
        wanted = [(at, chance.randrange(1, min(64 * KIB, export.size - at))) for at in starts]
        wanted.append((export.size - 5000, 5000))
        with RawFile(export) as file:
            assert taken(file, wanted) == [client.pread(*one) for one in wanted]
            assert taken(file, []) == []


@pytest.mark.tool
def test_only_a_raw_image_that_nobody_writes_is_read_past_its_server(tmp_path: Path) -> None:
    raw, layered = tmp_path / "d.raw", tmp_path / "d.qcow2"
    qemu.create(raw, DiskFormat.RAW, MIB)
    qemu.create(layered, DiskFormat.QCOW2, MIB)
    with qemu.serve(raw, DiskFormat.RAW, socket=tmp_path / "a", read_only=False) as export:
        assert export.raw == ""
    with qemu.serve(layered, DiskFormat.QCOW2, socket=tmp_path / "b") as export:
        assert export.raw == ""


def test_a_file_behind_a_network_is_left_to_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    here = "22 1 0:21 / /sys rw shared:7 - sysfs sysfs rw\n36 1 {} / / rw,noatime master:1 shared:2 - {} erp:/disks rw\n"
    for type, at_its_server in (("ext4", False), ("xfs", False), ("nfs4", True), ("cifs", True), ("fuse.sshfs", True)):
        assert rawfile._type(device, here.format(number, type)) == type
        monkeypatch.setattr(rawfile, "_type", lambda device, mounts, type=type: type)
        assert rawfile.at_hand(tmp_path) == ("" if at_its_server else str(tmp_path))
        monkeypatch.undo()
    assert rawfile._type(device, here.format("999:9", "ext4")) == ""


def test_a_transfer_reads_the_file(tmp_path: Path) -> None:
    content = make(8, tail=512)
    disk, shelf = Disk(content), Shelf()
    (tmp_path / "disk.raw").write_bytes(content)
    with ExitStack() as stack:
        export = stack.enter_context(nbdserver.serve(disk, tmp_path / "s", "d"))
        blocks = stack.enter_context(BlockMap.open(tmp_path / "map", "boot"))
        told = replace(export, raw=str(tmp_path / "disk.raw"))
        result = transfer(told, shelf, blocks, generation="g", capture="c", parallel=3)
    assert shelf.content(len(content)) == content
    assert result.digest == fingerprint(content)
    assert sum(disk.reads[: len(content) // 512 - 40]) == 0  # the server was asked for the partition table's sectors only


@pytest.mark.tool
def test_an_overlay_above_it_is_asked_of_its_server(tmp_path: Path) -> None:
    """Blocks of both: some bytes of a block from the overlay, the others from the file."""
    content = bytearray(make(9, chunks=600))
    raw, overlay = tmp_path / "disk.raw", tmp_path / "o.qcow2"
    raw.write_bytes(content)
    qemu.create(overlay, DiskFormat.QCOW2, len(content))
    chance = random.Random(9)
    with qemu.serve(raw, DiskFormat.RAW, socket=tmp_path / "below", name="b") as below:
        writing = qemu.serve(overlay, DiskFormat.QCOW2, socket=tmp_path / "w", read_only=False, backing=below)
        with writing as top, nbd.connect(top) as client:
            for _ in range(12):
                at, data = chance.randrange(len(content) - 80 * KIB), chance.randbytes(chance.randrange(1, 80 * KIB))
                client.pwrite(at, data)
                content[at : at + len(data)] = data
            client.flush()
        with (
            qemu.serve(overlay, DiskFormat.QCOW2, socket=tmp_path / "r", backing=below, depth=True, name="o") as top,
            BlockMap.open(tmp_path / "map") as blocks,
        ):
            shelf = Shelf(64 * KIB * 3)
            result = transfer(top, shelf, blocks, generation="g", capture="c", parallel=4, below=below)
    assert shelf.content(len(content)) == content
    assert result.digest == fingerprint(bytes(content), shelf.chunk)
    assert raw.read_bytes() != content, "the source is what it was"


def test_a_file_that_became_shorter_is_an_error_and_no_zeros(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(os.urandom(MIB))
    with RawFile(Export("", "d", MIB, str(disk))) as file:
        os.truncate(disk, MIB // 2)
        with pytest.raises(SourceError, match=f"{disk} cannot be read at byte {MIB // 2}: the file ends before"):
            taken(file, [(MIB // 4, MIB // 2)])


def test_a_file_that_cannot_be_opened_or_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be opened: No such file"), RawFile(Export("", "d", 1, str(tmp_path / "x"))):
        pass
    with RawFile(Export("", "d", 1, str(tmp_path))) as folder, pytest.raises(SourceError, match="at byte 0: Is a directory"):
        taken(folder, [(0, 512)])


def test_small_blocks_are_not_more_than_the_kernel_takes_at_once(tmp_path: Path) -> None:
    content = os.urandom(2 * MIB)
    disk, shelf = Disk(content), Shelf(512)
    (tmp_path / "disk.raw").write_bytes(content)
    with nbdserver.serve(disk, tmp_path / "s", "d") as export:
        for number, raw in enumerate(("", str(tmp_path / "disk.raw"))):
            with BlockMap.open(tmp_path / f"map{number}") as blocks:
                transfer(replace(export, raw=raw), shelf, blocks, generation="g", capture="c", parallel=2)
            assert shelf.content(len(content)) == content
