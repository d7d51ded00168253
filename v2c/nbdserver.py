"""A read-only NBD server inside this process, on a UNIX socket: how machines that lie in memory show their disks.

Threads, one per connection; fixed newstyle, structured replies, `base:allocation`. What it serves is a `Reader`. It is for
sources whose bytes no program can open (memory, archives); files are served by qemu-nbd.
"""

import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from v2c.errors import V2cError
from v2c.nbd import Export, Extent, wire

_LARGEST = 32 << 20
_LINE = 4096  # longest option body: an export name and a few contexts
_EXTENTS = 4096  # per block status reply; the client asks on from where it ends


class Reader(Protocol):
    """Bytes that can be read at random, by several threads at once."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; never asked beyond the size. V2cError or OSError become an I/O error of the client."""
        ...

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        """The range as data and zeros, without gaps, from `offset` on."""
        ...


@contextmanager
def serve(reader: Reader, socket_path: Path, name: str = "") -> Iterator[Export]:
    """Serves the reader under `name` until the context ends; the socket is gone then."""
    socket_path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(socket_path))
    socket_path.chmod(0o600)
    listener.listen(16)
    open_now: set[socket.socket] = set()
    lock = threading.Lock()

    def talk(connection: socket.socket) -> None:
        try:
            _Conversation(connection, reader, name).run()
        except (OSError, EOFError):
            pass  # the client went away or broke the protocol; it gets no further answer
        finally:
            with lock:
                open_now.discard(connection)
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            with lock:
                open_now.add(connection)
            threading.Thread(target=talk, args=(connection,), daemon=True, name=f"nbd {name}").start()

    thread = threading.Thread(target=accept, daemon=True, name=f"nbd {name}")
    thread.start()
    try:
        yield Export(str(socket_path), name, reader.size)
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # close alone does not wake a thread in accept
        listener.close()
        with lock:
            for connection in open_now:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        socket_path.unlink(missing_ok=True)


class _Conversation:
    """One client, from the handshake to its goodbye. EOFError ends it."""

    def __init__(self, connection: socket.socket, reader: Reader, name: str) -> None:
        self.connection, self.reader, self.name = connection, reader, name
        self.structured = False
        self.allocation = False

    def run(self) -> None:
        if self._handshake():
            while self._command():
                pass

    def _read(self, count: int) -> bytes:
        data = self.connection.recv(count, socket.MSG_WAITALL) if count else b""
        if len(data) != count:
            raise EOFError
        return data

    # ---- the handshake ----------------------------------------------------------------------------------------------------

    def _handshake(self) -> bool:
        self.connection.sendall(struct.pack(">QQH", wire.NBDMAGIC, wire.IHAVEOPT, wire.FIXED_NEWSTYLE | wire.NO_ZEROES))
        (flags,) = struct.unpack(">I", self._read(4))
        while True:
            magic, option, length = struct.unpack(">QII", self._read(16))
            if magic != wire.IHAVEOPT or length > _LINE:
                raise EOFError
            body = self._read(length)
            if option == wire.OPT_EXPORT_NAME:
                if body.decode("utf-8", "replace") != self.name:
                    raise EOFError
                self.connection.sendall(self._about()[2:] + (b"" if flags & wire.NO_ZEROES else bytes(124)))
                return True
            if option == wire.OPT_ABORT:
                self._answer(option, wire.REP_ACK)
                return False
            if self._option(option, body):
                return True

    def _about(self) -> bytes:
        flags = wire.FLAG_HAS | wire.FLAG_READ_ONLY | wire.FLAG_FLUSH | wire.FLAG_MULTI_CONN
        flags |= wire.FLAG_DF if self.structured else 0
        return struct.pack(">HQH", wire.INFO_EXPORT, self.reader.size, flags)

    def _answer(self, option: int, kind: int, body: bytes = b"") -> None:
        self.connection.sendall(struct.pack(">QIII", wire.REPLY_MAGIC, option, kind, len(body)) + body)

    def _option(self, option: int, body: bytes) -> bool:
        """Answers it; True when transmission begins."""
        try:
            if option == wire.OPT_STRUCTURED:
                self.structured = True
                self._answer(option, wire.REP_ACK)
            elif option == wire.OPT_LIST:
                self._answer(option, wire.REP_SERVER, _string(self.name.encode()))
                self._answer(option, wire.REP_ACK)
            elif option in (wire.OPT_GO, wire.OPT_INFO):
                name, _ = _take(body, 0)
                if name != self.name.encode():
                    self._answer(option, wire.REP_ERR_UNKNOWN, b"no such export")
                    return False
                self._answer(option, wire.REP_INFO, self._about())
                self._answer(option, wire.REP_INFO, struct.pack(">HIII", wire.INFO_BLOCK_SIZE, 1, 1 << 16, _LARGEST))
                self._answer(option, wire.REP_ACK)
                return option == wire.OPT_GO
            elif option in (wire.OPT_LIST_META, wire.OPT_SET_META):
                self._contexts(option, body)
            else:
                self._answer(option, wire.REP_ERR_UNSUP)
        except struct.error:
            self._answer(option, wire.REP_ERR_INVALID)
        return False

    def _contexts(self, option: int, body: bytes) -> None:
        if not self.structured:
            self._answer(option, wire.REP_ERR_INVALID, b"structured replies come first")
            return
        _, at = _take(body, 0)
        (count,) = struct.unpack_from(">I", body, at)
        at += 4
        wanted = []
        for _ in range(count):  # a count that lies ends in struct.error
            query, at = _take(body, at)
            wanted.append(query.decode("utf-8", "replace"))
        has = wire.ALLOCATION in wanted or (option == wire.OPT_LIST_META and (not wanted or "base:" in wanted))
        if option == wire.OPT_SET_META:
            self.allocation = has
        if has:
            number = 1 if option == wire.OPT_SET_META else 0
            self._answer(option, wire.REP_META, struct.pack(">I", number) + wire.ALLOCATION.encode())
        self._answer(option, wire.REP_ACK)

    # ---- transmission -----------------------------------------------------------------------------------------------------

    def _command(self) -> bool:
        magic, flags, command, cookie, offset, length = wire.REQUEST.unpack(self._read(wire.REQUEST.size))
        if magic != wire.REQUEST_MAGIC or command == wire.CMD_DISC:
            return False
        inside = length and offset + length <= self.reader.size
        if command == wire.CMD_WRITE:
            return False  # its payload follows; a client that writes to a read-only export has lost its way
        if command == wire.CMD_FLUSH:
            self._reply(cookie)
        elif command in (wire.CMD_READ, wire.CMD_STATUS) and (not inside or (command == wire.CMD_READ and length > _LARGEST)):
            self._reply(cookie, wire.EINVAL, command)
        elif command == wire.CMD_READ:
            self._serve_read(cookie, offset, length)
        elif command == wire.CMD_STATUS and self.allocation:
            self._serve_status(cookie, offset, length, one=bool(flags & 8))
        else:
            self._reply(cookie, wire.EPERM if command in (wire.CMD_TRIM, wire.CMD_ZEROES) else wire.EINVAL, command)
        return True

    def _reply(self, cookie: int, error: int = 0, command: int = wire.CMD_FLUSH) -> None:
        if self.structured and error and command in (wire.CMD_READ, wire.CMD_STATUS):
            body = struct.pack(">IH", error, 0)
            self._send_chunk(wire.CHUNK_ERROR + 1, cookie, body)
        else:
            self.connection.sendall(struct.pack(">IIQ", wire.SIMPLE_MAGIC, error, cookie))

    def _send_chunk(self, kind: int, cookie: int, *parts: bytes) -> None:
        head = struct.pack(">IHHQI", wire.STRUCTURED_MAGIC, wire.CHUNK_DONE, kind, cookie, sum(map(len, parts)))
        self.connection.sendall(b"".join((head, *parts[:-1])))
        self.connection.sendall(parts[-1])

    def _serve_read(self, cookie: int, offset: int, length: int) -> None:
        try:
            data = self.reader.read(offset, length)
            if len(data) != length:
                raise OSError("short read")
        except (V2cError, OSError):
            self._reply(cookie, wire.EIO, wire.CMD_READ)
            return
        if self.structured:
            self._send_chunk(wire.CHUNK_DATA, cookie, struct.pack(">Q", offset), data)
        else:
            self.connection.sendall(struct.pack(">IIQ", wire.SIMPLE_MAGIC, 0, cookie))
            self.connection.sendall(data)

    def _serve_status(self, cookie: int, offset: int, length: int, *, one: bool) -> None:
        runs = bytearray()
        try:
            for extent in self.reader.extents(offset, length):
                count = min(extent.length, length)
                length -= count
                if count:
                    runs += struct.pack(">II", count, 0 if extent.data else wire.STATE_HOLE | wire.STATE_ZERO)
                if not length or one or len(runs) >= 8 * _EXTENTS:
                    break
        except (V2cError, OSError):
            runs.clear()
        if runs:
            self._send_chunk(wire.CHUNK_STATUS, cookie, struct.pack(">I", 1), bytes(runs))
        else:
            self._reply(cookie, wire.EIO, wire.CMD_STATUS)


def _string(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def _take(body: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(">I", body, at)
    if at + 4 + length > len(body):
        raise struct.error("a string beyond its message")
    return body[at + 4 : at + 4 + length], at + 4 + length
