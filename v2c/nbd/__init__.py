"""A small NBD client: structured replies, block status, many requests in flight.

Speaks fixed newstyle over a UNIX socket to qemu-nbd, nbdkit and `v2c.nbdserver`; no TLS, for sockets of ours only. Every length
a server sends is checked against what was asked before a byte is allocated for it. The protocol:
https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md. libnbd only judges this file, in the tests.

A `Client` is one connection and belongs to one thread at a time; open another for another thread. A request that the server
refuses raises SourceError (reads), NoSpaceError or ToolError; a connection that breaks, or stays silent for `SILENCE` seconds,
raises a transient ToolError: connect again.
"""

import itertools
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from v2c.errors import NoSpaceError, SourceError, ToolError, V2cError
from v2c.nbd import wire
from v2c.nbd.handshake import shake
from v2c.nbd.wire import (
    ALLOCATION,
    CHUNK_DATA,
    CHUNK_DONE,
    CHUNK_ERROR,
    CHUNK_HOLE,
    CHUNK_NONE,
    CHUNK_STATUS,
    CMD_DISC,
    CMD_FLAG_DF,
    CMD_FLUSH,
    CMD_READ,
    CMD_STATUS,
    CMD_TRIM,
    CMD_WRITE,
    CMD_ZEROES,
    DEPTH,
    EIO,
    ENOSPC,
    ERRORS,
    FLAG_DF,
    FLAG_FLUSH,
    FLAG_READ_ONLY,
    FLAG_TRIM,
    FLAG_ZEROES,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE_MAGIC,
    STATE_ZERO,
    STRUCTURED_MAGIC,
    Export,
    Extent,
    Stream,
)

__all__ = ["ALLOCATION", "DEPTH", "Client", "Export", "Extent", "Scattered", "connect"]

_ERROR_TEXT = 1 << 13  # the protocol limits strings to 4096 bytes
_STATUS = 8 << 20  # a million extents in one reply is more than any server sends
_QUESTION = (1 << 32) - (1 << 16)  # bytes that one block status request may ask about
_AHEAD = 32 << 20  # bytes of reads on the way

Scattered = tuple[int, Sequence[memoryview]]  # where a read begins, and the buffers (at most 1024) it fills one after the other


@dataclass(slots=True)
class _Pending:
    """A request that was sent: what came back of it so far."""

    command: int
    offset: int
    length: int
    data: bytes = b""  # the whole answer, received in one piece
    into: Sequence[memoryview] = ()  # or put together here: the caller's buffers, or one of ours
    got: int = 0
    status: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    error: int = 0
    text: str = ""
    done: bool = False


class Client:
    """One connection to an export. Made by `connect`; a context manager that says goodbye at its end."""

    def __init__(self, export: Export, contexts: Sequence[str] = (ALLOCATION,)) -> None:
        self.export = export
        self._cookies = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._stream = Stream(export)
        try:
            agreed = shake(self._stream, contexts)
        except BaseException:
            self._stream.close()
            raise
        self.size, self._flags, self._structured = agreed.size, agreed.flags, agreed.structured
        self._block, self._payload = agreed.block, agreed.payload
        self.contexts = agreed.contexts  # those of the wanted ones that the server has, by number
        self.read_only = bool(self._flags & FLAG_READ_ONLY)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Says goodbye and closes; harmless twice."""
        self._stream.goodbye(REQUEST.pack(REQUEST_MAGIC, 0, CMD_DISC, 0, 0, 0))

    # ---- what callers ask -------------------------------------------------------------------------------------------------

    def pread(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; both free of alignment. SourceError when the export cannot be read there."""
        return b"".join(data for _, data in self.read_many(self._parts(offset, length)))

    def read_many(self, requests: Iterable[tuple[int, int]], in_flight: int = 8) -> Iterator[tuple[int, bytes]]:
        """(offset, data) for each (offset, length), in the order asked, with up to `in_flight` requests on the way.

        A request may be at most 32 MiB (or the server's own maximum); 1 MiB is the fastest. Do not use the client otherwise
        before the iterator ends.
        """
        for offset, _, data in self._pipeline(((offset, length, ()) for offset, length in requests), in_flight, _AHEAD):
            yield offset, data

    def read_into(self, requests: Iterable[Scattered], in_flight: int = 8, ahead: int = _AHEAD) -> Iterator[int]:
        """Like `read_many`, into buffers of the caller's, which spares a third of the processor time: a request (offset,
        buffers) fills the buffers one after the other, and yields the offset where it ended.

        The iterable is asked for a request as soon as there is room for one more on the way: up to `in_flight` are, and none more
        once they are of `ahead` bytes.
        """
        sized = ((offset, sum(map(len, into)), into) for offset, into in requests)
        for offset, length, _ in self._pipeline(sized, in_flight, ahead):
            yield offset + length

    def _pipeline(
        self, requests: Iterator[tuple[int, int, Sequence[memoryview]]], in_flight: int, ahead: int
    ) -> Iterator[tuple[int, int, bytes]]:
        """(offset, length, data) of each request; the data is empty where it went into the caller's buffers."""
        waiting: deque[tuple[int, int, int, Sequence[memoryview]]] = deque()

        def ask() -> None:
            packets = bytearray()
            way = sum(length for _, _, length, _ in waiting)
            while not waiting or (len(waiting) < in_flight and way < ahead):
                request = next(requests, None)
                if request is None:
                    break
                way += request[1]
                packet, cookie = self._read_request(*request)
                packets += packet
                waiting.append((cookie, *request))
            if packets:
                self._stream.send(packets)

        try:
            ask()
            while waiting:
                cookie, offset, length, into = waiting.popleft()
                reply = self._wait(cookie)
                data = reply.data or b"".join(reply.into if reply.length != length or not into else ())
                if reply.length != length:  # it was widened to the server's block size
                    data = data[offset - reply.offset : offset - reply.offset + length]
                    for view in into:
                        view[:] = data[: len(view)]
                        data = data[len(view) :]
                ask()
                yield offset, length, data
        finally:
            if waiting:  # the caller gave up, or an error ended it: what still arrives belongs to nobody
                self._stream.close()
                self._pending.clear()

    def _read_request(self, offset: int, length: int, into: Sequence[memoryview]) -> tuple[bytes, int]:
        """(packet, cookie) of a read, widened to the server's block size."""
        self._bounds(offset, length)
        start = offset - offset % self._block
        end = max(offset + length, min(offset + length + -(offset + length) % self._block, self.size))
        if end - start > self._payload:
            raise ToolError(f"a read of {length} bytes is longer than {self._stream.name} allows ({self._payload} bytes)")
        if not length:  # the protocol leaves empty requests undefined
            self._pending[cookie := next(self._cookies)] = _Pending(CMD_READ, offset, 0, done=True)
            return b"", cookie
        flags = CMD_FLAG_DF if self._flags & FLAG_DF and self._structured else 0
        packet, cookie = self._request(CMD_READ, start, end - start, flags)
        if end - start == length:
            self._pending[cookie].into = into
        return packet, cookie

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Writes `data` at `offset`. Harmless twice. NoSpaceError when there is no room for it."""
        self._bounds(offset, len(data))
        head, tail = offset % self._block, -(offset + len(data)) % self._block
        if head or tail:
            end = min(offset + len(data) + tail, self.size)
            before = self.pread(offset - head, head)
            after = self.pread(offset + len(data), end - offset - len(data))
            offset, data = offset - head, before + bytes(data) + after
        view = memoryview(data)
        for start, length in self._parts(offset, len(view)):
            packet, cookie = self._request(CMD_WRITE, start, length)
            self._stream.send(packet)
            self._stream.send(view[start - offset : start - offset + length])
            self._wait(cookie)

    def zero(self, offset: int, length: int) -> None:
        """Makes the range read as zeros, without sending them where the server can do that."""
        if self._flags & FLAG_ZEROES and not offset % self._block and not length % self._block:
            self._ranges(CMD_ZEROES, offset, length)
        else:
            for start, count in self._parts(offset, length):
                self.pwrite(start, bytes(count))

    def trim(self, offset: int, length: int) -> None:
        """Says that the range is not needed; it may then read as anything. A hint: ignored where the server cannot."""
        if self._flags & FLAG_TRIM:
            start = offset + -offset % self._block
            end = (offset + length) - (offset + length) % self._block
            if end > start:
                self._ranges(CMD_TRIM, start, end - start)

    def flush(self) -> None:
        """Returns when all that was written survives a power loss."""
        if self._flags & FLAG_FLUSH:
            self._do(CMD_FLUSH, 0, 0)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """The range as data and zeros, without gaps, neighbours merged. One extent of data when the server cannot say."""
        for start, count, flags in self.status(ALLOCATION, offset, length, mask=STATE_ZERO):
            yield Extent(start, count, not flags)

    def status(
        self, context: str, offset: int = 0, length: int | None = None, *, mask: int = 0xFFFFFFFF
    ) -> Iterator[tuple[int, int, int]]:
        """(offset, length, flags & mask) of a context over the range, neighbours merged; flags 0 when the server lacks it."""
        end = self.size if length is None else offset + length
        self._bounds(offset, end - offset)
        if end == offset:
            return
        if context not in self.contexts:
            yield offset, end - offset, 0
            return
        run_start, run_flags, position = offset, -1, offset
        while position < end:
            ask = min(end - position, _QUESTION)
            ask += -(position + ask) % self._block
            ask = min(ask, self.size - position)
            reply = self._do(CMD_STATUS, position, ask)
            runs = reply.status.get(self.contexts[context])
            if not runs:
                raise self._stream.wrong(f"no block status for {context} at byte {position}")
            for count, raw in runs:
                if position >= end:
                    break
                flags = raw & mask
                if flags != run_flags:
                    if run_flags >= 0 and position > run_start:
                        yield run_start, position - run_start, run_flags
                    run_start, run_flags = position, flags
                position = min(position + count, end)
        yield run_start, end - run_start, run_flags

    # ---- requests and replies ---------------------------------------------------------------------------------------------

    def _bounds(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ToolError(f"bytes {offset} to {offset + length} lie outside of {self._stream.name}, which has {self.size}")

    def _parts(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        self._bounds(offset, length)
        step = max(self._block, min(self._payload, 4 << 20) - self._block * 2)
        step -= step % self._block
        for start in range(offset, offset + length, step):
            yield start, min(step, offset + length - start)

    def _ranges(self, command: int, offset: int, length: int) -> None:
        self._bounds(offset, length)
        step = 1 << 30  # without payload a request may be as long as 32 bits say; 1 GiB keeps it cancellable
        for start in range(offset, offset + length, step):
            self._do(command, start, min(step, offset + length - start))

    def _request(self, command: int, offset: int, length: int, flags: int = 0) -> tuple[bytes, int]:
        cookie = next(self._cookies)
        self._pending[cookie] = _Pending(command, offset, length)
        return REQUEST.pack(REQUEST_MAGIC, flags, command, cookie, offset, length), cookie

    def _do(self, command: int, offset: int, length: int) -> _Pending:
        packet, cookie = self._request(command, offset, length)
        self._stream.send(packet)
        return self._wait(cookie)

    def _wait(self, cookie: int) -> _Pending:
        reply = self._pending[cookie]
        while not reply.done:
            self._receive()
        del self._pending[cookie]
        if reply.error:
            raise self._refused(reply)
        if reply.command == CMD_READ and reply.got != reply.length:
            raise self._stream.wrong(f"{reply.got} of {reply.length} bytes came for a read at {reply.offset}")
        return reply

    def _refused(self, reply: _Pending) -> V2cError:
        why = reply.text or ERRORS.get(reply.error, f"error {reply.error}")
        where = f"{self._stream.name} at byte {reply.offset}"
        if reply.command in (CMD_READ, CMD_STATUS):
            return SourceError(f"{where} cannot be read: {why}", remedy="look at the source's disk and its storage")
        if reply.error == ENOSPC:
            return NoSpaceError(f"{where} cannot be written: {why}", remedy="make room on the file system that holds it")
        return ToolError(f"{where} cannot be written: {why}")

    def _receive(self) -> None:
        """Reads one reply (or one chunk of a structured one) and files it with its request."""
        (magic,) = struct.unpack(">I", self._stream.read(4))
        if magic == SIMPLE_MAGIC:
            error, cookie = struct.unpack(">IQ", self._stream.read(12))
            reply = self._find(cookie)
            if self._structured and reply.command == CMD_READ and not error:
                raise self._stream.wrong("a simple reply with data where structured ones were agreed on")
            reply.error, reply.done = error, True
            if reply.command == CMD_READ and not error:
                self._place(reply, reply.offset, reply.length)
        elif magic == STRUCTURED_MAGIC and self._structured:
            flags, kind, cookie, length = struct.unpack(">HHQI", self._stream.read(16))
            self._chunk(self._find(cookie), kind, length)
            if flags & CHUNK_DONE:
                self._pending[cookie].done = True
        else:
            raise self._stream.wrong(f"a reply begins with {magic:#x}")

    def _find(self, cookie: int) -> _Pending:
        reply = self._pending.get(cookie)
        if reply is None or reply.done:
            raise self._stream.wrong("a reply to nothing that was asked")
        return reply

    def _chunk(self, reply: _Pending, kind: int, length: int) -> None:
        if kind & CHUNK_ERROR:
            if not 6 <= length <= _ERROR_TEXT:
                raise self._stream.wrong(f"an error of {length} bytes")
            body = self._stream.read(length)
            error, size = struct.unpack_from(">IH", body)
            reply.error = reply.error or error or EIO
            reply.text = reply.text or body[6 : 6 + size].decode("utf-8", "replace")
        elif kind == CHUNK_NONE:
            if length:
                raise self._stream.wrong("an empty chunk that is not empty")
        elif kind == CHUNK_DATA and reply.command == CMD_READ:
            if not 8 < length <= reply.length + 8:
                raise self._stream.wrong(f"{length} bytes for a read of {reply.length}")
            (offset,) = struct.unpack(">Q", self._stream.read(8))
            self._place(reply, offset, length - 8)
        elif kind == CHUNK_HOLE and reply.command == CMD_READ:
            if length != 12:
                raise self._stream.wrong(f"a hole described in {length} bytes")
            offset, hole = struct.unpack(">QI", self._stream.read(12))
            self._place(reply, offset, hole, hole=True)
        elif kind == CHUNK_STATUS and reply.command == CMD_STATUS:
            if length < 12 or (length - 4) % 8 or length > _STATUS:
                raise self._stream.wrong(f"block status of {length} bytes")
            body = self._stream.read(length)
            (context,) = struct.unpack_from(">I", body)
            runs = list(struct.iter_unpack(">II", memoryview(body)[4:]))
            if any(count == 0 for count, _ in runs):
                raise self._stream.wrong("an extent of no length")
            reply.status[context] = runs
        else:
            raise self._stream.wrong(f"a chunk of kind {kind} for command {reply.command}")

    def _place(self, reply: _Pending, offset: int, length: int, *, hole: bool = False) -> None:
        """Receives (or, for a hole, makes) bytes of an answer, when they lie inside what was asked and are not too many."""
        reply.got += length
        outside = offset < reply.offset or offset + length > reply.offset + reply.length
        if outside or reply.got > reply.length or (not length and reply.length):
            raise self._stream.wrong(f"bytes {offset} to {offset + length} for a read of {reply.length} at {reply.offset}")
        if not reply.into and length == reply.length:
            reply.data = bytes(length) if hole else self._stream.read(length)
            return
        if not reply.into:
            reply.into = [memoryview(bytearray(reply.length))]
        views = list(wire.cut(reply.into, offset - reply.offset, length))
        if not hole:
            self._stream.read_into(views)
        for view in views if hole else ():
            view[:] = bytes(len(view))


def connect(export: Export, *, contexts: Sequence[str] = (ALLOCATION,)) -> Client:
    """A connection to the export. ToolError (transient) when nobody listens there."""
    return Client(export, contexts)
