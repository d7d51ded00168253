"""What was put into a snapshot, beside the block map: EBS direct cannot list a snapshot that is not complete, and to complete it
one must say how many blocks were written and the digest of all their digests.

A line of JSON (who writes, into which snapshot), then one record a block. Records reach the page cache before `put` is told to
have happened, so the log never knows less than the block map. The name ends like the block maps', with which it is removed.
"""

import hashlib
import json
import os
import secrets
import struct
import tempfile
import threading
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

from v2c.errors import NoSpaceError

_BODY = struct.Struct(">Q32s")
_SIZE = _BODY.size + 4


class PutLog:
    """The blocks of one snapshot that were acknowledged. `path` None: a nameless file, forgotten at the end. Thread-safe."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.worker, self.snapshot = secrets.token_hex(16), ""
        self._start = 0
        self._held = bytearray()
        if path is None:
            self._file, name = tempfile.mkstemp(prefix="v2c-")
            Path(name).unlink()
            return
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._load(path.read_bytes())

    def _load(self, raw: bytes) -> None:
        head, newline, _ = raw.partition(b"\n")
        try:
            told = json.loads(head) if newline else {}
        except ValueError:
            told = {}
        if not told:
            self.restart("")
            return
        self.worker, self.snapshot = told["worker"], told["snapshot"]
        self._start = len(head) + 1
        whole = self._start
        for at in range(self._start, len(raw) - _SIZE + 1, _SIZE):
            body = raw[at : at + _BODY.size]
            if zlib.crc32(body).to_bytes(4, "big") != raw[at + _BODY.size : at + _SIZE]:
                break
            self._mark(_BODY.unpack(body)[0])
            whole = at + _SIZE
        os.ftruncate(self._file, whole)

    def restart(self, snapshot: str) -> None:
        """Begins anew, for another snapshot."""
        with self._lock:
            head = json.dumps({"worker": self.worker, "snapshot": snapshot}).encode() + b"\n"
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            self._write(head)
            os.fsync(self._file)
            self.snapshot, self._start, self._held = snapshot, len(head), bytearray()

    def add(self, index: int, digest: bytes) -> None:
        """The snapshot holds the block."""
        body = _BODY.pack(index, digest)
        self._write(body + zlib.crc32(body).to_bytes(4, "big"))  # without the lock, as in blocks.py
        with self._lock:
            self._mark(index)

    def __contains__(self, index: int) -> bool:
        return index < len(self._held) and bool(self._held[index])

    def flush(self) -> None:
        """It survives a power loss."""
        os.fsync(self._file)

    def items(self) -> Iterator[tuple[int, bytes]]:
        """(index, digest) of every record, in the order they were put."""
        size = os.fstat(self._file).st_size
        for start in range(self._start, size - _SIZE + 1, _SIZE * 4096):
            raw = os.pread(self._file, min(_SIZE * 4096, size - start), start)
            for at in range(0, len(raw) - _SIZE + 1, _SIZE):
                yield _BODY.unpack_from(raw, at)

    def whole(self) -> tuple[int, bytes]:
        """How many blocks were put, and SHA-256 over their digests in ascending order of index (LINEAR)."""
        size = os.fstat(self._file).st_size
        raw = os.pread(self._file, size - self._start, self._start)
        # the last record of an index counts: they are sorted by (index, place), eight bytes each
        places = array("Q", sorted(_BODY.unpack_from(raw, at)[0] << 32 | at // _SIZE for at in range(0, len(raw), _SIZE)))
        count, digests = 0, hashlib.sha256()
        for number, place in enumerate(places):
            if number + 1 < len(places) and places[number + 1] >> 32 == place >> 32:
                continue
            at = (place & 0xFFFFFFFF) * _SIZE
            digests.update(_BODY.unpack_from(raw, at)[1])
            count += 1
        return count, digests.digest()

    def close(self) -> None:
        """Closes the file; harmless twice."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _mark(self, index: int) -> None:
        if index >= len(self._held):
            self._held += bytes(max(index + 1, 2 * len(self._held)) - len(self._held))
        self._held[index] = 1

    def _write(self, data: bytes) -> None:
        try:
            if os.write(self._file, data) != len(data):
                raise OSError("short write")
        except OSError as error:
            remedy = "make room there; the same command goes on"
            raise NoSpaceError(f"{self.path or 'a temporary file'} cannot be written ({error})", remedy=remedy) from error
