"""The client against qemu-nbd, judged by libnbd's own tools, and against servers that lie."""

import itertools
import json
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2c import nbd, nbdserver, qemu
from v2c.errors import SourceError, ToolError
from v2c.model import GIB, KIB, MIB, DiskFormat
from v2c.nbd import Export, Extent, wire
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
        assert list(client.read_into(buffers.items(), in_flight=2)) == list(islands)
        assert all(bytes(buffers[at]) == islands[at] for at in islands)
        mixed = memoryview(bytearray(b"x" * 128 * KIB))  # half data, half hole: the hole must be wiped too
        assert list(client.read_into([(0, mixed)])) == [0]
        assert bytes(mixed) == islands[0] + bytes(64 * KIB)


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
            assert list(client.read_into([(4090, view)])) == [4090]
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


# ---- servers that lie ---------------------------------------------------------------------------------------------------------


@contextmanager
def liar(
    path: Path, reply: Callable[[int, int, int, int], bytes], *, size: int = MIB, structured: bool = True
) -> Iterator[Export]:
    """A server that shakes hands properly and then answers (command, cookie, offset, length) with any bytes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def talk() -> None:
        connection, _ = listener.accept()
        with connection, suppress(ConnectionError):  # the client hangs up on a liar
            connection.sendall(struct.pack(">QQH", wire.NBDMAGIC, wire.IHAVEOPT, 3))
            connection.recv(4, socket.MSG_WAITALL)

            def answer(option: int, kind: int, body: bytes = b"") -> None:
                connection.sendall(struct.pack(">QIII", wire.REPLY_MAGIC, option, kind, len(body)) + body)

            while True:
                head = connection.recv(16, socket.MSG_WAITALL)
                if len(head) < 16:
                    return
                _, option, length = struct.unpack(">QII", head)
                connection.recv(length, socket.MSG_WAITALL)
                if option in (wire.OPT_STRUCTURED, wire.OPT_SET_META) and not structured:
                    answer(option, wire.REP_ERR_UNSUP)
                    continue
                if option == wire.OPT_SET_META:
                    answer(option, wire.REP_META, struct.pack(">I", 5) + b"base:allocation")
                if option == wire.OPT_GO:
                    answer(option, wire.REP_INFO, struct.pack(">HQH", 0, size, wire.FLAG_HAS))
                answer(option, wire.REP_ACK)
                if option == wire.OPT_GO:
                    break
            while len(request := connection.recv(28, socket.MSG_WAITALL)) == 28:
                _, _, command, cookie, offset, length = wire.REQUEST.unpack(request)
                if command == wire.CMD_DISC:
                    return
                connection.sendall(reply(command, cookie, offset, length))

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield Export(str(path), "", size)
    finally:
        thread.join(5)
        listener.close()


def chunk(kind: int, cookie: int, body: bytes, *, length: int | None = None, done: bool = True) -> bytes:
    size = len(body) if length is None else length
    return struct.pack(">IHHQI", wire.STRUCTURED_MAGIC, int(done), kind, cookie, size) + body


LIES: dict[str, Callable[[int, int, int, int], bytes]] = {
    "no magic": lambda c, k, o, n: b"junk" * 10,
    "a reply to nothing": lambda c, k, o, n: chunk(1, k + 99, bytes(8) + b"x"),
    "more than asked": lambda c, k, o, n: chunk(1, k, struct.pack(">Q", o), length=8 + n + 1),
    "4 GiB of data": lambda c, k, o, n: chunk(1, k, struct.pack(">Q", o), length=0xFFFFFFFF),
    "data elsewhere": lambda c, k, o, n: chunk(1, k, struct.pack(">Q", o + 1) + bytes(n)),
    "data before": lambda c, k, o, n: chunk(1, k, struct.pack(">Q", 0) + bytes(n)),
    "less than asked": lambda c, k, o, n: chunk(1, k, struct.pack(">Q", o) + bytes(n - 1)),
    "nothing at all": lambda c, k, o, n: chunk(0, k, b""),
    "the same twice": lambda c, k, o, n: chunk(1, k, struct.pack(">Q", o) + bytes(n), done=False) * 2,
    "a hole too long": lambda c, k, o, n: chunk(2, k, struct.pack(">QI", o, n + 1)),
    "a hole of 4 GiB": lambda c, k, o, n: chunk(2, k, struct.pack(">QI", o, 0xFFFFFFFF)),
    "a hole with a tail": lambda c, k, o, n: chunk(2, k, struct.pack(">QI", o, n) + b"tail"),
    "an error of a GiB": lambda c, k, o, n: chunk(wire.CHUNK_ERROR + 1, k, b"", length=GIB),
    "status for a read": lambda c, k, o, n: chunk(5, k, struct.pack(">III", 5, n, 0)),
    "simple data": lambda c, k, o, n: struct.pack(">IIQ", wire.SIMPLE_MAGIC, 0, k) + bytes(n),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_in_a_read_is_refused(lie: str, tmp_path: Path) -> None:
    with (
        liar(tmp_path / "s", LIES[lie]) as export,
        nbd.connect(export) as client,
        pytest.raises(ToolError, match="does not keep to the NBD protocol"),
    ):
        client.pread(4096, 8192)


@pytest.mark.parametrize(
    "runs",
    [[], [(0, 0)], [(4096, 0), (0, 3)]],
    ids=["none", "empty", "empty one"],
)
def test_a_lie_in_block_status_is_refused(runs: list[tuple[int, int]], tmp_path: Path) -> None:
    body = struct.pack(">I", 5) + b"".join(struct.pack(">II", *r) for r in runs)
    with (
        liar(tmp_path / "s", lambda c, k, o, n: chunk(5, k, body)) as export,
        nbd.connect(export) as client,
        pytest.raises(ToolError, match="does not keep"),
    ):
        list(client.extents())


def test_block_status_beyond_the_end_is_clamped(tmp_path: Path) -> None:
    body = struct.pack(">IIIII", 5, 4096, 0, 0xFFFF0000, 3)
    with liar(tmp_path / "s", lambda c, k, o, n: chunk(5, k, body)) as export, nbd.connect(export) as client:
        assert list(client.extents()) == [Extent(0, 4096, True), Extent(4096, MIB - 4096, False)]


def test_simple_replies(tmp_path: Path) -> None:
    """A server without structured replies: reads work, and everything counts as data."""

    def simple(command: int, cookie: int, offset: int, length: int) -> bytes:
        error = 5 if offset == 666 else 0
        return struct.pack(">IIQ", wire.SIMPLE_MAGIC, error, cookie) + (b"" if error else bytes([offset % 251]) * length)

    with liar(tmp_path / "s", simple, structured=False) as export, nbd.connect(export) as client:
        assert client.pread(4, 1000) == b"\4" * 1000
        view = memoryview(bytearray(3))
        assert list(client.read_into([(7, view)])) == [7]
        assert bytes(view) == b"\7\7\7"
        assert list(client.extents()) == [Extent(0, MIB, True)]
        with pytest.raises(SourceError, match="input/output error"):
            client.pread(666, 1)


def test_a_size_that_cannot_be(tmp_path: Path) -> None:
    with liar(tmp_path / "s", lambda c, k, o, n: b"", size=1 << 63) as export, pytest.raises(ToolError, match="no size"):
        nbd.connect(export)


# ---- the server of ours -------------------------------------------------------------------------------------------------------


class Memory:
    """Bytes with holes of `grain`: what the server tests serve."""

    def __init__(self, content: bytes, grain: int = 512) -> None:
        self.content, self.grain = content, grain
        self.size = len(content)

    def read(self, offset: int, length: int) -> bytes:
        return self.content[offset : offset + length]

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            stop = min(end, offset - offset % self.grain + self.grain)
            yield Extent(offset, stop - offset, any(self.content[offset:stop]))
            offset = stop


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 3000)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 10000), st.integers(0, 5000)), max_size=6),
    st.integers(1, 9),
)
def test_server_and_client_agree(runs: list[tuple[bool, int]], asked: list[tuple[int, int]], in_flight: int) -> None:
    """Any content with any holes reads back, and no data lies where the extents say zero."""
    import tempfile

    content = b"".join(bytes([1 + i % 255]) * n if data else bytes(n) for i, (data, n) in enumerate(runs))
    wanted = [(o % len(content), min(n, len(content) - o % len(content))) for o, n in asked]
    with tempfile.TemporaryDirectory() as folder:
        with nbdserver.serve(Memory(content), Path(folder) / "s", "m") as export, nbd.connect(export) as client:
            assert export.size == client.size == len(content)
            assert client.read_only
            assert client.pread(0, len(content)) == content
            for (offset, length), (at, data) in zip(wanted, client.read_many(wanted, in_flight), strict=True):
                assert at == offset
                assert data == content[offset : offset + length]
            position = 0
            for extent in client.extents():
                assert extent.offset == position
                position += extent.length
                assert extent.data or not any(content[extent.offset : position])
            assert position == len(content)
        assert list(Path(folder).iterdir()) == []


@pytest.mark.tool
def test_libnbd_reads_our_server(tmp_path: Path) -> None:
    content = os.urandom(MIB) + bytes(3 * MIB) + os.urandom(70000)
    with nbdserver.serve(Memory(content, 65536), tmp_path / "s.sock", "mem") as export:
        uri = f"nbd+unix:///mem?socket={export.socket}"
        run(["nbdcopy", uri, str(tmp_path / "copy")])
        assert (tmp_path / "copy").read_bytes() == content
        told = json.loads(run(["nbdinfo", "--json", uri]))["exports"][0]
        assert told["export-size"] == len(content)
        assert told["is_read_only"]
        assert told["contexts"] == ["base:allocation"]
        kinds = [(e["length"], e["type"]) for e in json.loads(run(["nbdinfo", "--json", "--map", uri]))]
        assert kinds == [(MIB, 0), (3 * MIB, 3), (70000, 0)]
        with pytest.raises(ToolError):
            run(["nbdcopy", str(tmp_path / "copy"), uri])
        with pytest.raises(ToolError, match="not served"):
            nbd.connect(Export(export.socket, "other", 0))


@pytest.mark.tool
def test_qemu_reads_our_server_through_an_overlay(tmp_path: Path) -> None:
    content = os.urandom(MIB) + bytes(MIB)
    overlay = tmp_path / "o.qcow2"
    qemu.create(overlay, DiskFormat.QCOW2, len(content))
    with nbdserver.serve(Memory(content, 65536), tmp_path / "s.sock", "mem") as below:
        at = tmp_path / "o.sock"
        with (
            qemu.serve(overlay, DiskFormat.QCOW2, socket=at, read_only=False, backing=below, depth=True) as export,
            nbd.connect(export, contexts=(nbd.ALLOCATION, nbd.DEPTH)) as client,
        ):
            client.pwrite(512 * KIB, b"changed" * 100)
            assert client.pread(0, 512 * KIB) == content[: 512 * KIB]
            assert client.pread(512 * KIB, 700) == b"changed" * 100
            assert list(client.extents()) == [Extent(0, MIB, True), Extent(MIB, MIB, False)]
            own = [(o, n) for o, n, depth in client.status(nbd.DEPTH) if depth == 1]
            assert own == [(512 * KIB, 64 * KIB)]
