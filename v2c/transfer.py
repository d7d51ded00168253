"""Extents -> chunks -> writer: what is read once, digested, and sent once."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from v2c.model import Ref


class BlockMap(Protocol):
    """What was written: index -> digest, for one disk of one generation."""

    def digest(self, index: int) -> bytes | None: ...


class DiskWriter(Protocol):
    """A disk being built at a target, in blocks of `chunk` bytes (the last one may be shorter in the source; `put` gets it
    padded with zeros to a multiple of 512, never beyond the target's size)."""

    @property
    def chunk(self) -> int:
        """Bytes per block."""
        ...

    def expect(self, indexes: Sequence[int]) -> None:
        """Called once, before `missing` and the first `put`, with every index of the disk that holds data, ascending, those
        written by earlier attempts too. Streams whose head lists their content (tar) need it; for others it does nothing.
        An index that turns out to be zeros need not be put."""
        ...

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        """Of the indexes that the map says were written, those that the target does not hold (after a crash, a new session)."""
        ...

    def put(self, index: int, data: bytes, digest: bytes) -> None:
        """Writes one block; `digest` is its SHA-256. Harmless twice. Called from several threads where the target says so."""
        ...

    def flush(self) -> None:
        """All that was put survives a power loss."""
        ...

    def commit(self) -> Ref:
        """The disk is complete. Raises TargetError when what the target holds is not what was put."""
        ...

    def abandon(self) -> None:
        """Removes what was written."""
        ...
