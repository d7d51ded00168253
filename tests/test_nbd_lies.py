"""The client against servers that lie."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from v2c import nbd
from v2c.errors import SourceError, ToolError
from v2c.model import GIB, MIB
from v2c.nbd import Export, Extent, wire


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
        assert list(client.read_into([(7, [view])])) == [10]
        assert bytes(view) == b"\7\7\7"
        assert list(client.extents()) == [Extent(0, MIB, True)]
        with pytest.raises(SourceError, match="input/output error"):
            client.pread(666, 1)


def test_a_size_that_cannot_be(tmp_path: Path) -> None:
    with liar(tmp_path / "s", lambda c, k, o, n: b"", size=1 << 63) as export, pytest.raises(ToolError, match="no size"):
        nbd.connect(export)


# ---- the server of ours -------------------------------------------------------------------------------------------------------
