"""The client against qemu-nbd, judged by libnbd's own tools."""

import itertools
import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from v2c import nbd, qemu
from v2c.errors import SourceError, ToolError
from v2c.model import GIB, KIB, MIB, DiskFormat
from v2c.nbd import Export, Extent, Scattered, wire
from v2c.processes import run


def merged(extents: Iterator[Extent]) -> list[tuple[int, int]]:
    """The data runs as (start, end)."""
    return [(e.offset, e.offset + e.length) for e in extents if e.data]


@pytest.fixture
def sparse(tmp_path: Path) -> tuple[Path, dict[int, bytes]]:
    """A qcow2 of 3 GiB with a few islands of data, and what they hold."""
    image = tmp_path / "sparse.qcow2"
    qemu.create(image, DiskFormat.QCOW2, 3 * GIB)
    chance = random.Random(7)
    islands = {at: chance.randbytes(64 * KIB) for at in (0, 5 * MIB, GIB, 3 * GIB - 64 * KIB)}
    with (
        qemu.serve(image, DiskFormat.QCOW2, socket=tmp_path / "w.sock", read_only=False) as export,
        nbd.connect(export) as client,
    ):
        assert not client.read_only
        for at, data in islands.items():
            client.pwrite(at, data)
        client.flush()
    return image, islands


@pytest.mark.tool
def test_reads_what_was_written_and_sees_the_holes(sparse: tuple[Path, dict[int, bytes]], tmp_path: Path) -> None:
    image, islands = sparse
    with qemu.serve(image, DiskFormat.QCOW2, socket=tmp_path / "r.sock", name="erp") as export:
        assert export.size == 3 * GIB
        with nbd.connect(export) as client:
            assert client.read_only
            assert client.size == 3 * GIB
            for at, data in islands.items():
                assert client.pread(at, len(data)) == data
            assert client.pread(5 * MIB - 1000, 2000) == bytes(1000) + islands[5 * MIB][:1000]
            assert client.pread(2 * GIB + 1, 12345) == bytes(12345)
            assert client.pread(7, 0) == b""
            assert merged(client.extents()) == [(at, at + 64 * KIB) for at in islands]
            told = list(client.extents())
            assert told[0].offset == 0
            assert sum(e.length for e in told) == 3 * GIB
            assert all(a.data != b.data and a.offset + a.length == b.offset for a, b in itertools.pairwise(told))
            assert list(client.extents(5 * MIB + KIB, 2 * KIB)) == [Extent(5 * MIB + KIB, 2 * KIB, True)]
            assert list(client.extents(GIB, 0)) == []
            with pytest.raises(ToolError, match="outside"):
                client.pread(3 * GIB - 1, 2)


@pytest.mark.tool
def test_libnbd_sees_the_same(sparse: tuple[Path, dict[int, bytes]], tmp_path: Path) -> None:
    """nbdinfo maps the export as our extents do, and nbdcopy copies what our reads return."""
    image, _ = sparse
    with qemu.serve(image, DiskFormat.QCOW2, socket=tmp_path / "r.sock", name="erp") as export:
        uri = f"nbd+unix:///erp?socket={export.socket}"
        told = json.loads(run(["nbdinfo", "--json", "--map", uri]))
        theirs = [(e["offset"], e["offset"] + e["length"]) for e in told if not e["type"] & wire.STATE_ZERO]
        with nbd.connect(export) as client:
            assert merged(client.extents()) == theirs
            run(["nbdcopy", uri, str(tmp_path / "copy.raw")])
            with (tmp_path / "copy.raw").open("rb") as copy:
                for start, end in theirs:
                    copy.seek(start)
                    assert copy.read(end - start) == client.pread(start, end - start)


@pytest.mark.tool
def test_pipelined_reads_come_in_the_order_asked(sparse: tuple[Path, dict[int, bytes]], tmp_path: Path) -> None:
    image, islands = sparse
    with qemu.serve(image, DiskFormat.QCOW2, socket=tmp_path / "r.sock") as export, nbd.connect(export) as client:
        asked = [(at, 64 * KIB) for at in sorted(islands, reverse=True)] * 7
        came = list(client.read_many(iter(asked), in_flight=5))
        assert [(at, len(data)) for at, data in came] == asked
        assert all(data == islands[at] for at, data in came)
        buffers = {at: memoryview(bytearray(b"x" * 64 * KIB)) for at in islands}
        apart = ((at, [view[:5], view[5:]]) for at, view in buffers.items())
        assert list(client.read_into(apart, in_flight=2)) == [at + 64 * KIB for at in islands]
        assert all(bytes(buffers[at]) == islands[at] for at in islands)
        mixed = memoryview(bytearray(b"x" * 128 * KIB))  # half data, half hole: the hole must be wiped too
        assert list(client.read_into([(0, [mixed[: 100 * KIB], mixed[100 * KIB :]])])) == [128 * KIB]
        assert bytes(mixed) == islands[0] + bytes(64 * KIB)


@pytest.mark.tool
def test_no_more_is_asked_for_than_may_be_on_the_way(sparse: tuple[Path, dict[int, bytes]], tmp_path: Path) -> None:
    image, _ = sparse
    asked = come = most = 0

    def requests() -> Iterator[Scattered]:
        nonlocal asked
        for at in range(0, 20 * 64 * KIB, 64 * KIB):
            assert asked - come < most
            asked += 1
            yield at, [memoryview(bytearray(64 * KIB))]

    with qemu.serve(image, DiskFormat.QCOW2, socket=tmp_path / "r.sock") as export, nbd.connect(export) as client:
        for in_flight, ahead, allowed in ((3, GIB, 4), (20, 100 * KIB, 3), (5, 0, 2)):
            asked, come, most = 0, 0, allowed
            for _ in client.read_into(requests(), in_flight, ahead):
                come += 1
            assert come == 20


@pytest.mark.tool
def test_writes_zeroes_and_trims(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    qemu.create(image, DiskFormat.QCOW2, 8 * MIB)
    data = os.urandom(3 * MIB + 17)
    with qemu.serve(image, DiskFormat.QCOW2, socket=tmp_path / "w.sock", read_only=False) as export:
        with nbd.connect(export) as client:
            client.pwrite(MIB + 3, data)
            assert client.pread(MIB + 3, len(data)) == data
            client.zero(2 * MIB, MIB)
            assert client.pread(2 * MIB, MIB) == bytes(MIB)
            client.trim(3 * MIB, 2 * MIB)
            client.flush()
        with nbd.connect(export) as other:
            assert other.pread(MIB + 3, 100) == data[:100]
            assert list(other.extents(2 * MIB, MIB)) == [Extent(2 * MIB, MIB, False)]
        with pytest.raises(ToolError, match="cannot be written"), nbd.connect(export) as client:
            client.size *= 2  # make the client believe that there is more
            client.pwrite(8 * MIB, b"beyond")


@pytest.mark.tool
def test_blocks_of_4096_are_read_and_written_at_any_byte(tmp_path: Path) -> None:
    """nbdkit's block-size policy refuses what is not aligned: the client widens reads and reads before it writes."""
    (tmp_path / "disk.raw").write_bytes(content := os.urandom(MIB))
    argv = ["nbdkit", "-U", str(tmp_path / "k.sock"), "-f", "--filter=blocksize-policy", "file", str(tmp_path / "disk.raw")]
    argv += ["blocksize-minimum=4096", "blocksize-preferred=4096", "blocksize-maximum=64K", "blocksize-error-policy=error"]
    from v2c.processes import Process

    process = Process(argv)
    try:
        export = Export(str(tmp_path / "k.sock"), "", MIB)
        client = retry(lambda: nbd.connect(export))
        with client:
            assert client.pread(5, 10) == content[5:15]
            assert client.pread(100, 300 * KIB) == content[100 : 100 + 300 * KIB]
            assert list(client.read_many([(4095, 2), (0, 64 * KIB)])) == [(4095, content[4095:4097]), (0, content[: 64 * KIB])]
            view = memoryview(bytearray(9))
            assert list(client.read_into([(4090, [view[:2], view[2:]])])) == [4099]
            assert bytes(view) == content[4090:4099]
            client.pwrite(4000, b"y" * 200)
            assert client.pread(3999, 202) == content[3999:4000] + b"y" * 200 + content[4200:4201]
            with pytest.raises(ToolError, match="longer than"):
                list(client.read_many([(0, 128 * KIB)]))
    finally:
        process.kill()


def retry(what: Callable[[], nbd.Client]) -> nbd.Client:
    for _ in range(200):
        try:
            return what()
        except ToolError:
            threading.Event().wait(0.02)
    return what()


@pytest.mark.tool
def test_an_input_output_error_is_the_sources_fault(tmp_path: Path) -> None:
    """nbdkit's error filter fails every read: one sentence, no hang, and the place of it."""
    from v2c.processes import Process

    argv = ["nbdkit", "-U", str(tmp_path / "k.sock"), "-f", "--filter=error", "memory", "1M", "error-pread-rate=100%"]
    process = Process(argv)
    try:
        client = retry(lambda: nbd.connect(Export(str(tmp_path / "k.sock"), "", MIB)))
        with client, pytest.raises(SourceError, match="at byte 4096 cannot be read"):
            client.pread(4096, 512)
    finally:
        process.kill()


@pytest.mark.tool
def test_a_server_that_dies_is_a_transient_error(sparse: tuple[Path, dict[int, bytes]], tmp_path: Path) -> None:
    image, _ = sparse
    with pytest.raises(ToolError) as ended, qemu.serve(image, DiskFormat.QCOW2, socket=tmp_path / "r.sock") as export:
        with nbd.connect(export) as client:
            os.kill(server_of(export), 9)
            with pytest.raises(ToolError) as broke:
                client.pread(0, MIB)
        assert broke.value.transient
    assert ended.value.transient


def server_of(export: Export) -> int:
    """The pid of the qemu-nbd that listens there."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"qemu-nbd") and export.socket.encode() in words:
                return int(entry.name)
    raise AssertionError("no qemu-nbd")


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ToolError) as error:
        nbd.connect(Export(str(tmp_path / "nothing.sock"), "", 0))
    assert error.value.transient
