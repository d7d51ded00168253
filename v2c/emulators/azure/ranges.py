"""Which bytes of a page blob were written: disjoint ranges in order, kept in an append-only log beside the blob."""

import os
import struct
import threading
from bisect import bisect_left, bisect_right
from pathlib import Path

_RECORD = struct.Struct(">cQQ")  # "W"ritten or "C"leared, from, to


class Ranges:
    """Half-open ranges of bytes. Thread-safe; what was said survives a kill."""

    def __init__(self, log: Path) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._lock = threading.Lock()
        if log.exists():
            raw = log.read_bytes()
            for kind, start, end in _RECORD.iter_unpack(raw[: len(raw) - len(raw) % _RECORD.size]):
                self._replace(start, end, kind == b"W")
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Lets go of the log."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def wrote(self, start: int, end: int) -> None:
        """These bytes hold something now."""
        self._tell(b"W", start, end)

    def cleared(self, start: int, end: int) -> None:
        """These bytes are zero again."""
        self._tell(b"C", start, end)

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        """The written ranges that touch [start, end), cut to it."""
        with self._lock:
            first = bisect_right(self._ends, start)
            last = bisect_left(self._starts, end)
            return [(max(a, start), min(b, end)) for a, b in zip(self._starts[first:last], self._ends[first:last], strict=True)]

    def _tell(self, kind: bytes, start: int, end: int) -> None:
        with self._lock:
            self._replace(start, end, kind == b"W")
            os.write(self._log, _RECORD.pack(kind, start, end))

    def _replace(self, start: int, end: int, written: bool) -> None:
        """Cuts [start, end) out, then lays it in, joined with its neighbours."""
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        pieces = []
        for a, b in zip(self._starts[first:last], self._ends[first:last], strict=True):
            if a < start:
                pieces.append((a, start))
            if b > end:
                pieces.append((end, b))
        if written:
            pieces = sorted([*pieces, (start, end)])
            joined = [pieces[0]]
            for a, b in pieces[1:]:
                if a <= joined[-1][1]:
                    joined[-1] = (joined[-1][0], max(b, joined[-1][1]))
                else:
                    joined.append((a, b))
            pieces = joined
        self._starts[first:last] = [a for a, _ in pieces]
        self._ends[first:last] = [b for _, b in pieces]
