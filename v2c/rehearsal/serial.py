"""A guest's serial console, kept within bounds: a hostile guest may print for ever."""

import threading
from collections import deque
from pathlib import Path

from v2c.model import MIB

HEAD = 8 * MIB
TAIL = 8 * MIB


class Console:
    """The first `head` and the last `tail` bytes of what a guest printed; thread-safe.

    With a path, the head is written there as it comes and the rest by `close`, so the file never exceeds the bounds either.
    """

    def __init__(self, path: Path | None = None, *, head: int = HEAD, tail: int = TAIL) -> None:
        self._room = head
        self._tail_room = tail
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._lost = 0
        self._lock = threading.Lock()
        self._file = path.open("wb", buffering=0) if path else None

    def feed(self, data: bytes) -> None:
        """More was printed."""
        with self._lock:
            early, late = data[: self._room], data[self._room :]
            self._room -= len(early)
            self._head += early
            if self._file and early:
                self._file.write(early)
            if late:
                self._tail.append(late)
                self._tail_size += len(late)
            while self._tail_size > self._tail_room:
                gone = self._tail.popleft()
                keep = gone[len(gone) - max(0, len(gone) - (self._tail_size - self._tail_room)) :]
                if keep:
                    self._tail.appendleft(keep)
                self._tail_size -= len(gone) - len(keep)
                self._lost += len(gone) - len(keep)

    def text(self) -> str:
        """What is kept, as text; undecodable bytes are replaced."""
        with self._lock:
            return (bytes(self._head) + self._rest()).decode("utf-8", "replace")

    def close(self) -> None:
        """Writes the rest to the file. Twice is harmless."""
        with self._lock:
            if self._file:
                self._file.write(self._rest())
                self._file.close()
                self._file = None

    def _rest(self) -> bytes:
        gap = f"\n[v2c: {self._lost} bytes were left out here]\n".encode() if self._lost else b""
        return gap + b"".join(self._tail)
