"""What waits to be sent, in two buffers by turns: one is under way while the other is filled.

They are made once and never grow, since a buffer that grows is copied, and its old places stay with the process.
"""


class Buffers:
    """Bytes that are added behind, and taken from the front. `size`: how many wait at most; more are taken too, at that cost."""

    def __init__(self, size: int) -> None:
        self._filling, self._other = bytearray(size), bytearray(size)
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def add(self, data: bytes | memoryview) -> None:
        """Behind what is there."""
        end = self._held + len(data)
        if end > len(self._filling):  # into a new place: somebody may still look at the old one
            self._filling = self._filling[: self._held].ljust(end, b"\0")
        self._filling[self._held : end] = data
        self._held = end

    def view(self) -> memoryview:
        """All that waits, as long as nothing is added or taken."""
        return memoryview(self._filling)[: self._held]

    def take(self, count: int) -> memoryview:
        """The first `count` bytes, until the next are taken; what is behind them waits on."""
        full, rest = memoryview(self._filling), self._held - count
        if rest > len(self._other):
            self._other = bytearray(rest)
        self._other[:rest] = full[count : self._held]
        self._filling, self._other, self._held = self._other, self._filling, rest
        return full[:count]
