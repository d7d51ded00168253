"""What a worker remembers of an upload: the session, which is a secret, and where in the stream each block ended.

One file of mode 0600 per upload, in v2c's own state, as gsutil keeps its tracker files. A worker that has none begins a session
of its own. Every record is written before its bytes are sent, so the server never holds what no record tells.
"""

import json
import os
import struct
import zlib
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

_RECORD = struct.Struct("<QQII32s16sI")  # index, end, CRC-32, CRC32C, digest of the block, digest of the piece, check
NOBODY = bytes(32)  # the digest of a block that nobody put
BEGIN = 0xFFFFFFFFFFFFFFFF  # the index of the archive's head


@dataclass(frozen=True, slots=True)
class Entry:
    """A block in the stream: where it ended, the checksums so far (CRC-32 of the plain bytes, CRC32C of the object's), the
    SHA-256 of the block, and the first half of that of its piece as it was sent."""

    index: int
    end: int
    checksum: int
    crc32c: int
    block: bytes
    piece: bytes


class Tracker:
    """The session's URI, the object's generation that it may replace, and the entries, in the order of the stream."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.session = self.generation = self.identity = ""
        self._file = -1
        self._forget()
        self._read()

    def _forget(self) -> None:
        self.indexes, self.ends = array("Q"), array("Q")
        self._sums, self._digests = array("I"), bytearray()

    def __len__(self) -> int:
        return len(self.indexes)

    def entry(self, at: int) -> Entry:
        """The entry at a place of the stream."""
        digests = bytes(self._digests[at * 48 : at * 48 + 48])
        sums = self._sums[at * 2], self._sums[at * 2 + 1]
        return Entry(self.indexes[at], self.ends[at], *sums, digests[:32], digests[32:])

    def begin(self, session: str, generation: str, identity: str) -> None:
        """A new session: everything before is forgotten. Another worker's descriptor keeps its own file."""
        self.close()
        self._forget()
        self.session, self.generation, self.identity = session, generation, identity
        head = json.dumps({"session": session, "generation": generation, "identity": identity}).encode() + b"\n"
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        self._file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(self._file, head)
        os.fsync(self._file)
        self._tail.unlink(missing_ok=True)
        new.rename(self.path)
        self._end = len(head)

    def append(self, entry: Entry) -> None:
        """Before the piece is sent."""
        self._keep(entry)
        body = _RECORD.pack(entry.index, entry.end, entry.checksum, entry.crc32c, entry.block, entry.piece, 0)[:-4]
        os.pwrite(self._file, body + zlib.crc32(body).to_bytes(4, "little"), self._end)
        self._end += _RECORD.size

    def cut(self, count: int) -> tuple[list[int], Entry | None]:
        """Keeps the first `count` entries; returns the indexes of the others' blocks that were put, and the first of them, whose
        record stays in the file until it is written again: the server may hold a part of that piece."""
        dropped = [self.indexes[at] for at in range(count, len(self)) if self._digests[at * 48 : at * 48 + 32] != NOBODY]
        first = self.entry(count) if count < len(self) else None
        self._end -= (len(self) - count) * _RECORD.size
        os.ftruncate(self._file, self._end + (_RECORD.size if first else 0))
        del self.indexes[count:], self.ends[count:], self._sums[count * 2 :], self._digests[count * 48 :]
        return dropped, first

    def digest(self, index: int) -> bytes | None:
        """The digest of a block that the stream holds; NOBODY: zeros that were announced as data."""
        at = bisect_left(self.indexes, index, lo=1) if len(self) else 0
        return bytes(self._digests[at * 48 : at * 48 + 32]) if 0 < at < len(self) and self.indexes[at] == index else None

    def keep(self, start: int, data: bytes) -> None:
        """The bytes behind `start` that no request could carry yet: less than 256 KiB."""
        new = self._tail.with_name(f"{self._tail.name}.{os.getpid()}.new")
        new.touch(mode=0o600)
        new.write_bytes(start.to_bytes(8, "little") + data)
        new.rename(self._tail)

    def kept(self, start: int) -> bytes:
        """What was kept behind `start`; nothing when the server holds more by now."""
        data = self._tail.read_bytes() if self._tail.exists() else b""
        return data[8:] if int.from_bytes(data[:8], "little") == start else b""

    @property
    def _tail(self) -> Path:
        return self.path.with_name(f"{self.path.name}.tail")

    def sync(self) -> None:
        """All entries are on the disk."""
        if self._file >= 0:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """The upload is over."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._tail.unlink(missing_ok=True)
        self.session = ""
        self._forget()

    def _keep(self, entry: Entry) -> None:
        self.indexes.append(entry.index)
        self.ends.append(entry.end)
        self._sums.extend((entry.checksum, entry.crc32c))
        self._digests += entry.block + entry.piece

    def _read(self) -> None:
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        data = self.path.read_bytes()
        head, newline, _ = data.partition(b"\n")
        try:
            told = json.loads(head)
            self.session, self.generation, self.identity = told["session"], told["generation"], told["identity"]
        except (ValueError, KeyError, TypeError):
            self.close()
            return
        self._end = len(head) + len(newline)
        while self._end + _RECORD.size <= len(data):
            record = data[self._end : self._end + _RECORD.size]
            *values, check = _RECORD.unpack(record)
            if zlib.crc32(record[:-4]) != check:
                break
            self._keep(Entry(*values))
            self._end += _RECORD.size
        os.ftruncate(self._file, self._end)
