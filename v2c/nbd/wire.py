"""The NBD protocol on the wire: its numbers, and a socket that reads and writes whole messages.

https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from v2c.errors import ToolError

ALLOCATION = "base:allocation"
DEPTH = "qemu:allocation-depth"  # 0: nowhere, 1: in the top layer, more: below it; served by `qemu-nbd -A`

SILENCE = 180  # seconds; longer than the reconnect-delay of an overlay whose source restarts (v2c.qemu.RECONNECT)

NBDMAGIC = 0x4E42444D41474943
IHAVEOPT = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
REQUEST = struct.Struct(">IHHQQI")  # magic, flags, type, cookie, offset, length
REQUEST_MAGIC = 0x25609513
SIMPLE_MAGIC = 0x67446698
STRUCTURED_MAGIC = 0x668E33EF

FIXED_NEWSTYLE, NO_ZEROES = 1, 2
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED = 1, 2, 3, 6, 7, 8
OPT_LIST_META, OPT_SET_META = 9, 10
REP_ACK, REP_SERVER, REP_INFO, REP_META = 1, 2, 3, 4
REP_ERROR = 1 << 31
REP_ERR_UNSUP, REP_ERR_INVALID, REP_ERR_UNKNOWN = REP_ERROR + 1, REP_ERROR + 3, REP_ERROR + 6
INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3
FLAG_HAS, FLAG_READ_ONLY, FLAG_FLUSH, FLAG_FUA, FLAG_TRIM = 1, 2, 4, 8, 32
FLAG_ZEROES, FLAG_DF, FLAG_MULTI_CONN = 64, 128, 256
CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_ZEROES, CMD_STATUS = 0, 1, 2, 3, 4, 6, 7
CMD_FLAG_DF = 4
CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS = 0, 1, 2, 5
CHUNK_ERROR = 1 << 15
CHUNK_DONE = 1
STATE_HOLE, STATE_ZERO = 1, 2
EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW = 1, 5, 12, 22, 28, 75

ERRORS = {  # what they mean to a reader
    EPERM: "it is read-only",
    EIO: "input/output error",
    ENOMEM: "out of memory",
    EINVAL: "invalid request",
    ENOSPC: "no space left",
    EOVERFLOW: "the reply would be too long",
    95: "not supported",
    108: "it is shutting down",
}


@dataclass(frozen=True, slots=True)
class Export:
    """An NBD export on a UNIX socket: `size` in bytes. A value: it says where, it holds nothing open. `raw`: the file whose bytes
    are the export's, one by one, where there is such a file."""

    socket: str
    name: str
    size: int
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes: `data` False means that it reads as zeros."""

    offset: int
    length: int
    data: bool


def cut(views: Sequence[memoryview], start: int, length: int | None = None) -> Iterator[memoryview]:
    """The bytes `start` to `start + length` of buffers that lie one after the other, or all from `start` on."""
    left = sum(map(len, views)) - start if length is None else length
    for view in views:
        part = view[start : start + left]
        start = max(0, start - len(view))
        left -= len(part)
        if part:
            yield part


class Stream:
    """A connection to an export's server. Every failure of it is a ToolError; a broken connection is a transient one."""

    def __init__(self, export: Export) -> None:
        self.export = export
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A kernel timeout, not Python's: the latter makes the socket non-blocking, and MSG_WAITALL then waits for nothing.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", SILENCE, 0))
        try:
            self._socket.connect(export.socket)
        except OSError as error:
            self._socket.close()
            raise self._lost(error) from error

    @property
    def name(self) -> str:
        """The export, for an error."""
        return f"the NBD export {self.export.name!r} at {self.export.socket}"

    def close(self) -> None:
        """At once; harmless twice."""
        self._socket.close()

    def goodbye(self, message: bytes) -> None:
        """Sends a last message if that needs no waiting, and closes."""
        with suppress(OSError):
            self._socket.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self.close()

    def wrong(self, what: str) -> ToolError:
        """The error for a server that breaks the protocol; the connection is of no more use."""
        self.close()
        return ToolError(f"{self.name} does not keep to the NBD protocol: {what}")

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """All of it."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost(error) from error

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes; in one piece, and then without a copy, whenever the kernel has them so."""
        if not count:
            return b""
        try:
            data = self._socket.recv(count, socket.MSG_WAITALL)
        except OSError as error:
            raise self._lost(error) from error
        if len(data) == count:
            return data
        if not data:
            raise self._lost("it was closed")
        whole = bytearray(count)
        whole[: len(data)] = data
        self.read_into([memoryview(whole)[len(data) :]])
        return bytes(whole)

    def read_into(self, views: Sequence[memoryview]) -> None:
        """Fills the views, one after the other; in one call of the kernel whenever it has all of it."""
        while views:
            try:
                got = self._socket.recvmsg_into(views, 0, socket.MSG_WAITALL)[0]
            except OSError as error:
                raise self._lost(error) from error
            if not got:
                raise self._lost("it was closed")
            views = list(cut(views, got))

    def _lost(self, error: object) -> ToolError:
        silent = isinstance(error, BlockingIOError)
        why = f"it said nothing for {SILENCE} s" if silent else str(error)
        return ToolError(f"the connection to {self.name} broke ({why})", transient=True)
