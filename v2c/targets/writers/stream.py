"""Formats that are one stream: blocks arrive in ascending order, and a kill costs the block in flight, no more.

Beside `PATH.part` lies `PATH.part.log`: one fixed-size record per block, written after the block, that says where the stream
ended, its running checksum and the block's digest. A writer that opens them again cuts both back to the last whole record.
"""

import hashlib
import os
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from v2c.blocks import UNKNOWN, Block, BlockMap
from v2c.errors import TargetError
from v2c.model import Ref
from v2c.targets.writers.part import CHUNK, block_range, discard, part, publish, pwrite, writing

_HEAD = struct.Struct("<8s36s32sI")
_RECORD = struct.Struct("<QQI32sI")
_MAGIC = b"v2cstrm1"
_SYNCED = 0xFFFFFFFFFFFFFFFF  # a record that marks: all before it was on the disk
BEGIN = 0xFFFFFFFFFFFFFFFE  # the record of what stands before the first block
_NOTHING = bytes(32)


@dataclass(frozen=True, slots=True)
class Entry:
    """A block in the stream: its index, where the file ended after it, the stream's checksum so far, its SHA-256."""

    index: int
    end: int
    checksum: int
    digest: bytes


class Log:
    """The records beside a stream. `identity` (32 bytes) says what stream it is: records of another one are dropped.

    Records that were not yet synced when the machine (not the process) went down are dropped: their data may be missing.
    """

    def __init__(self, path: Path, identity: bytes) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._identity = identity
        self.entries: list[Entry] = []
        self._read()
        self._rewrite()

    def _read(self) -> None:
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        if len(data) < _HEAD.size:
            return
        magic, boot, whose, check = _HEAD.unpack_from(data)
        if magic != _MAGIC or whose != self._identity or zlib.crc32(data[: _HEAD.size - 4]) != check:
            return
        synced = 0
        for at in range(_HEAD.size, len(data) - _RECORD.size + 1, _RECORD.size):
            index, end, checksum, digest, check = _RECORD.unpack_from(data, at)
            if zlib.crc32(data[at : at + _RECORD.size - 4]) != check:
                break
            if index == _SYNCED:
                synced = len(self.entries)
            else:
                self.entries.append(Entry(index, end, checksum, digest))
        if boot != _boot():
            del self.entries[synced:]

    def _rewrite(self) -> None:
        head = _HEAD.pack(_MAGIC, _boot(), self._identity, 0)[:-4]
        records = b"".join(_packed(entry) for entry in self.entries)
        pwrite(self._file, head + zlib.crc32(head).to_bytes(4, "little") + records, 0)
        self._end = _HEAD.size + len(records)
        os.ftruncate(self._file, self._end)

    def append(self, entry: Entry) -> None:
        """The block is written; after this returns it survives a kill."""
        self.entries.append(entry)
        self._write(entry)

    def synced(self) -> None:
        """All blocks so far are on the disk."""
        self._write(Entry(_SYNCED, 0, 0, _NOTHING))
        os.fdatasync(self._file)

    def _write(self, entry: Entry) -> None:
        pwrite(self._file, _packed(entry), self._end)
        self._end += _RECORD.size

    def rewind(self, index: int) -> None:
        """Forgets the block `index` and all after it."""
        self.entries = [entry for entry in self.entries if entry.index == BEGIN or entry.index < index]
        self._rewrite()

    def clear(self) -> None:
        """Forgets everything."""
        self.entries = []
        self._rewrite()

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def _packed(entry: Entry) -> bytes:
    body = _RECORD.pack(entry.index, entry.end, entry.checksum, entry.digest, 0)[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def _boot() -> bytes:
    return Path("/proc/sys/kernel/random/boot_id").read_bytes()[:36]


class StreamWriter(ABC):
    """A DiskWriter whose `put` comes from one thread in ascending order.

    The same block twice is harmless; a block that differs from what the stream already holds cuts the stream back to where it
    stood and raises a transient TargetError: at the next try, `missing` names all that has to come again.
    """

    chunk = CHUNK

    def __init__(self, path: Path, size: int, ref: Ref) -> None:
        self.path, self.size, self.ref = path, size, ref
        self._file = -1
        self._log: Log | None = None
        self._digests: dict[int, bytes] = {}
        self._last = -1
        self._end = 0
        self._checksum = 0
        self._complete = False

    # ---- what a format says ------------------------------------------------------------------------------------------------

    @abstractmethod
    def identity(self) -> bytes:
        """What the whole stream depends on besides its blocks; another one means another stream."""

    @abstractmethod
    def begin(self) -> bytes:
        """What stands before the first block."""

    @abstractmethod
    def encode(self, index: int, data: Block) -> bytes:
        """The block as it stands in the file. May use and change `self._checksum`; `self._end` is where it will begin."""

    @abstractmethod
    def finish(self) -> Iterable[bytes]:
        """What stands after the last block."""

    def resume(self) -> None:  # noqa: B027 - most formats need to know nothing
        """The file ends at `self._end` and will be continued: reads back what the format needs to know of it."""

    def gaps(self, before: int) -> Iterator[int]:
        """Announced blocks after the last one and before the index `before` that have to be written though nobody put them."""
        yield from ()

    # ---- DiskWriter --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def expect(self, indexes: Sequence[int]) -> None:
        self._complete = self.path.exists() and not part(self.path).exists()
        if not self._complete:
            self._open()

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        written = list(blocks.written())
        if not written:  # what the file holds is of another life
            self.abandon()
            self._complete = False
        if self._complete:
            return iter(())
        self._open()
        for index in written:
            held = self._digests.get(index)
            if held is not None and blocks.digest(index) not in (held, UNKNOWN):
                self._rewind(index)
                break
        return iter([index for index in written if index not in self._digests])

    def put(self, index: int, data: Block, digest: bytes) -> None:
        block_range(index, len(data), self.size, self.path)
        if self._complete:  # its log is gone, so nobody can tell what it holds
            self._complete = False
            self._open()
            raise self._anew()
        if self._log is None:
            self._open()
        if self._digests.get(index) == digest:
            return
        if index <= self._last:
            self._rewind(index)
            raise self._anew()
        for gap in self.gaps(index):
            self._append(gap, bytes(min(self.chunk, self.size - gap * self.chunk)))
        self._append(index, data, digest)

    def flush(self) -> None:
        if self._log is not None:
            with writing(self.path):
                os.fdatasync(self._file)
                self._log.synced()

    def commit(self) -> Ref:
        if not self._complete:
            if self._log is None:
                self._open()
            for gap in self.gaps(-(-self.size // self.chunk)):
                self._append(gap, bytes(min(self.chunk, self.size - gap * self.chunk)))
            end = self._end
            try:
                with writing(self.path):
                    for piece in self.finish():
                        pwrite(self._file, piece, end)
                        end += len(piece)
                    os.fsync(self._file)
            except BaseException:
                self._continue()
                raise
            found = os.fstat(self._file).st_size
            self._close()
            if found != end:
                raise TargetError(f"{self.path} has {found} bytes where {end} were written", remedy="remove it and use --again")
            with writing(self.path):
                publish(self.path)
            self._complete = True
        return self.ref

    def abandon(self) -> None:
        self._close()
        discard(self.path)

    # ---- the file ----------------------------------------------------------------------------------------------------------

    def _identity(self) -> bytes:
        return hashlib.sha256(f"{type(self).__name__} {self.size} ".encode() + self.identity()).digest()

    def _open(self) -> None:
        if self._log is not None:
            return
        unfinished = part(self.path)
        with writing(self.path):
            self._file = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._log = Log(unfinished.with_name(unfinished.name + ".log"), self._identity())
            if self._log.entries and self._log.entries[-1].end > os.fstat(self._file).st_size:
                self._log.clear()
            self._continue()

    def _continue(self) -> None:
        """From the last record on."""
        assert self._log is not None
        entries = self._log.entries
        self._digests = {entry.index: entry.digest for entry in entries if entry.index != BEGIN}
        self._last = entries[-1].index if self._digests else -1
        self._end, self._checksum = (entries[-1].end, entries[-1].checksum) if entries else (0, 0)
        os.ftruncate(self._file, self._end)
        self.resume()
        if not entries:
            self._write(BEGIN, self.begin(), _NOTHING)

    def _append(self, index: int, data: Block, digest: bytes | None = None) -> None:
        digest = digest or hashlib.sha256(data).digest()
        try:
            self._write(index, self.encode(index, data), digest)
        except BaseException:
            self._continue()  # what the format knows ran ahead of the file
            raise
        self._last = index
        self._digests[index] = digest

    def _write(self, index: int, encoded: bytes, digest: bytes) -> None:
        assert self._log is not None
        with writing(self.path):
            pwrite(self._file, encoded, self._end)
            self._end += len(encoded)
            self._log.append(Entry(index, self._end, self._checksum, digest))

    def _rewind(self, index: int) -> None:
        assert self._log is not None
        with writing(self.path):
            self._log.rewind(index)
            self._continue()

    def _anew(self) -> TargetError:
        return TargetError(
            f"the disk changed under {self.path}, a stream that cannot be rewritten in place",
            remedy="the next try writes it anew from there",
            transient=True,
        )

    def _close(self) -> None:
        if self._log is not None:
            self._log.close()
            os.close(self._file)
            self._log, self._file = None, -1
