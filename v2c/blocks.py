"""The block map: which blocks of a disk were written, so that no copied byte is copied twice.

An append-only file of fixed-size records, each with its own checksum; a torn tail is cut off. Who wrote what is told by
(capture, generation): an entry of another pair is only a hint. Records reach the page cache before `wrote` returns, so a killed
process loses none; after a power loss (another boot id) those behind the last checkpoint are not trusted: the block may hold
anything. What was about to be written is recorded before it is, so that a block which is zero now but may have been written
earlier is known.
"""

import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from v2c.errors import NoSpaceError, ToolError

Block = bytes | bytearray  # the bytes of a block, maybe in a buffer that is used again

UNKNOWN = bytes(32)  # the digest of a block that may hold anything: a write was begun, its outcome is not known

_BODY = struct.Struct(">4sQI32s")  # kind, index, count, digest
_SIZE = _BODY.size + 4  # and their CRC-32
_HEAD, _BOOT, _CONTEXT, _PLAN, _DATA, _ZERO, _SYNC = b"V2CB", b"BOOT", b"CTXT", b"PLAN", b"DATA", b"ZERO", b"SYNC"

_FREE, _DIRTY, _HINT, _OURS, _EMPTY = range(5)  # states of a block


class BlockMap:
    """One disk's map. Thread-safe between `begin` and `close`; one process at a time, which the job's lock sees to."""

    def __init__(self, path: Path, boot: str = "") -> None:
        self.path = path
        self._boot = hashlib.sha256((boot or Path("/proc/sys/kernel/random/boot_id").read_text()).encode()).digest()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self._states = bytearray()
        self._digests = bytearray()
        self._records = 0

    @classmethod
    def open(cls, path: Path, boot: str = "") -> Self:
        """Opens the map at `path`, or begins one. `boot` names this boot of the machine (default: the kernel's boot id)."""
        return cls(path, boot)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; harmless twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def begin(self, capture: str, generation: str, chunk: int) -> None:
        """Reads what is known, for a transfer of this capture and generation in blocks of `chunk` bytes.

        ToolError when the map was kept in blocks of another size: its indexes mean other bytes.
        """
        self._states, self._digests = bytearray(), bytearray()
        records, torn = self._read()
        if torn:
            os.ftruncate(self._file, len(records) * _SIZE)
        self._records = len(records)
        if not records:
            self._append([(_HEAD, chunk, 0, UNKNOWN)])
        elif records[0][0] != _HEAD or records[0][1] != chunk:
            raise ToolError(f"{self.path} was kept in blocks of another size", remedy="begin anew with --again")
        context = hashlib.sha256(f"{capture}\0{generation}".encode()).digest()
        doubted = self._replay(records, context)
        self._append([(_BOOT, 0, 0, self._boot), *((_PLAN, i, 1, UNKNOWN) for i in doubted), (_CONTEXT, 0, 0, context)])

    def digest(self, index: int) -> bytes | None:
        """The digest of what was last written there (UNKNOWN: anything), None when it still reads as zeros."""
        state = self._state(index)
        if state in (_HINT, _OURS):
            return bytes(self._digests[index * 32 : index * 32 + 32])
        return UNKNOWN if state == _DIRTY else None

    def ours(self, index: int) -> bool:
        """Whether the block was written whole by this capture and generation."""
        return self._state(index) == _OURS

    def written(self) -> Iterator[int]:
        """The indexes whose digest is not None, ascending."""
        return (i for i, state in enumerate(self._states) if state in (_DIRTY, _HINT, _OURS))

    def fingerprint(self) -> str:
        """SHA-256 over (index, digest) of all blocks that this capture and generation wrote, in hex."""
        whole = hashlib.sha256()
        for index, state in enumerate(self._states):
            if state == _OURS:
                whole.update(struct.pack(">Q", index) + self._digests[index * 32 : index * 32 + 32])
        return whole.hexdigest()

    def intend(self, indexes: Iterable[int]) -> None:
        """These blocks (ascending) are about to be written; returns when that is on the disk."""
        runs: list[tuple[bytes, int, int, bytes]] = []
        for index in indexes:
            if runs and index == runs[-1][1] + runs[-1][2] and runs[-1][2] < 1 << 20:
                runs[-1] = (_PLAN, runs[-1][1], runs[-1][2] + 1, UNKNOWN)
            else:
                runs.append((_PLAN, index, 1, UNKNOWN))
        with self._lock:
            for _, start, count, _ in runs:
                for index in range(start, start + count):
                    self._set(index, _DIRTY, UNKNOWN)
        self._append(runs)
        os.fsync(self._file)

    def wrote(self, index: int, digest: bytes) -> None:
        """The target holds the block."""
        with self._lock:
            self._set(index, _OURS, digest)
        self._append([(_DATA, index, 1, digest)])

    def zeroed(self, index: int) -> None:
        """The block reads as zeros at the target."""
        with self._lock:
            self._set(index, _EMPTY, UNKNOWN)
        self._append([(_ZERO, index, 1, UNKNOWN)])

    @property
    def position(self) -> int:
        """How much is recorded, at the least: for `checkpoint`, taken before the target is flushed."""
        return self._records

    def checkpoint(self, position: int) -> None:
        """What was recorded up to `position` is on the target's stable storage: trusted from now on, also after a power loss."""
        self._append([(_SYNC, position, 0, UNKNOWN)])
        os.fsync(self._file)

    # ---- the file ---------------------------------------------------------------------------------------------------------

    def _state(self, index: int) -> int:
        return self._states[index] if index < len(self._states) else _FREE

    def _set(self, index: int, state: int, digest: bytes) -> None:
        if index >= len(self._states):
            more = max(index + 1, 2 * len(self._states)) - len(self._states)
            self._states += bytes(more)
            self._digests += bytes(32 * more)
        self._states[index] = state
        self._digests[index * 32 : index * 32 + 32] = digest

    def _append(self, records: Iterable[tuple[bytes, int, int, bytes]]) -> None:
        packed = bytearray()
        count = 0
        for record in records:
            body = _BODY.pack(*record)
            packed += body + zlib.crc32(body).to_bytes(4, "big")
            count += 1
        # The kernel puts each append behind the last one. A lock around it would be held until this thread gets the interpreter
        # back, and all the others would queue for it: a quarter of the time of thirty threads.
        try:
            if packed and os.write(self._file, packed) != len(packed):
                raise NoSpaceError(f"no room to write {self.path}", remedy="make room there; the same command goes on")
        except OSError as error:
            raise NoSpaceError(
                f"{self.path} cannot be written ({error.strerror})", remedy="make room there; the same command goes on"
            ) from error
        with self._lock:
            self._records += count

    def _read(self) -> tuple[list[tuple[bytes, int, int, bytes]], bool]:
        """The records up to the first broken one, and whether there is anything behind them."""
        raw = memoryview(self.path.read_bytes())
        records = []
        for at in range(0, len(raw) - _SIZE + 1, _SIZE):
            body = raw[at : at + _BODY.size]
            if zlib.crc32(body) != int.from_bytes(raw[at + _BODY.size : at + _SIZE], "big"):
                break
            records.append(_BODY.unpack(body))
        return records, len(records) * _SIZE != len(raw)

    def _replay(self, records: list[tuple[bytes, int, int, bytes]], context: bytes) -> list[int]:
        """Brings the states up to date; returns the indexes whose last record is not to be trusted, now dirty."""
        safe = max((record[1] for record in records if record[0] == _SYNC), default=0)
        same_boot = ours = False
        doubted: set[int] = set()
        for number, (kind, index, count, digest) in enumerate(records):
            if kind == _BOOT:
                same_boot = digest == self._boot
            elif kind == _CONTEXT:
                ours = digest == context
            elif kind == _PLAN:
                for planned in range(index, index + count):
                    self._set(planned, _DIRTY, UNKNOWN)
            elif kind in (_DATA, _ZERO):
                if number >= safe and not same_boot:
                    self._set(index, _DIRTY, UNKNOWN)
                    doubted.add(index)
                else:
                    state = _EMPTY if kind == _ZERO else _OURS if ours else _HINT
                    self._set(index, state, digest)
                    doubted.discard(index)
        return sorted(doubted)
