"""The archive that Google Cloud imports: a gzip tarball with one member `disk.raw`, sparse, in the old GNU format.

"The tar file must be in the oldgnu format and hold disk.raw of whole GiB" (Compute Engine, "Import a disk image manually").
The gzip stream is one member made of raw deflate blocks that do not refer to each other: each put ends on a byte boundary
(Z_SYNC_FLUSH), so a stream that was cut can be continued after any block.
"""

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from isal import isal_zlib  # level 1 runs at 800 MB/s a core, six times zlib's speed at the same ratio

from v2c.blocks import Block
from v2c.errors import TargetError
from v2c.model import GIB, Ref
from v2c.targets.writers.stream import StreamWriter

MEMBER = "disk.raw"
_BLOCK = 512
_RECORD = 20 * _BLOCK  # GNU tar's record: archives are padded to it
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # RFC 1952: deflate, no name, no time, fastest, unknown system
_OCTAL_MOST = 8**11 - 1  # larger numbers are written in base 256, the GNU way


class Archive:
    """The archive's bytes, piece by piece: a head, a piece for each block in ascending order, a tail.

    No piece refers to another, so each can be made again, or read, alone. Who keeps `checksum` (of the plain bytes so far) and
    gives it back continues after any piece.
    """

    def __init__(self, size: int, chunk: int) -> None:
        self.size, self.chunk = size, chunk
        self._extents: list[tuple[int, int]] = []
        self._starts: list[int] = []

    def announce(self, indexes: Sequence[int]) -> None:
        """The blocks that it will hold, ascending; the others are its holes."""
        self._extents = list(merged(indexes))
        self._starts = [first for first, _ in self._extents]

    def identity(self) -> bytes:
        """What all its bytes depend on besides the blocks, as a digest."""
        return hashlib.sha256(repr(self._extents).encode()).digest()

    def announced(self, index: int) -> bool:
        """Whether the block has a place in it."""
        at = bisect_left(self._starts, index + 1) - 1
        return at >= 0 and index <= self._extents[at][1]

    def gaps(self, last: int, before: int) -> Iterator[int]:
        """Announced blocks behind `last` and before the index `before`."""
        for first, end in self._extents:
            yield from range(max(first, last + 1), min(end + 1, before))

    def head(self) -> tuple[bytes, int]:
        """What stands before the first block, and the checksum behind it."""
        head = sparse_header(MEMBER, self.size, self._ranges())
        return _GZIP_HEAD + packed(head), isal_zlib.crc32(head, 0)

    def piece(self, index: int, data: Block, checksum: int) -> tuple[bytes, int]:
        """A block, padded to its whole length, and the checksum behind it."""
        whole = self.whole(index, data)
        return packed(whole), summed(whole, checksum)

    def whole(self, index: int, data: Block) -> bytes:
        """A copy of a block, padded to its whole length: what `packed` and `summed` make a piece of, in any thread."""
        return bytes(data).ljust(min(self.chunk, self.size - index * self.chunk), b"\0")

    def tail(self, checksum: int) -> bytes:
        """What stands behind the last block."""
        length = self._plain_length()
        end = -(-(length + 2 * _BLOCK) // _RECORD) * _RECORD
        zeros = bytes(end - length)
        behind = struct.pack("<II", summed(zeros, checksum), end & 0xFFFFFFFF)
        return packed(zeros) + b"\x03\x00" + behind  # an empty last block, CRC-32, length

    def _ranges(self) -> list[tuple[int, int]]:
        return [(first * self.chunk, min((last + 1) * self.chunk, self.size)) for first, last in self._extents]

    def _plain_length(self) -> int:
        """Bytes of the tar before its end: the head and the data of all extents (whole chunks, so padded already)."""
        ranges = self._ranges()
        return len(sparse_header(MEMBER, self.size, ranges)) + sum(end - start for start, end in ranges)


def packed(data: bytes) -> bytes:
    """As deflate blocks that end on a byte boundary and refer to nothing before; other threads run meanwhile."""
    packer: Any = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
    return bytes(packer.compress(data) + packer.flush(isal_zlib.Z_SYNC_FLUSH))


def summed(data: bytes, checksum: int) -> int:
    """The CRC-32 of what was before, and the data behind it: a fiftieth of the time that packing takes."""
    return int(isal_zlib.crc32(data, checksum))


class TarWriter(StreamWriter):
    """`disk.raw` in a tar.gz. Its holes are the blocks that `expect` did not name; the size is a whole GiB."""

    def __init__(self, path: Path, size: int, ref: Ref) -> None:
        if size % GIB:
            raise TargetError(f"Google Cloud imports disks of whole GiB, and {path.name} would hold {size} bytes")
        super().__init__(path, size, ref)
        self._archive = Archive(size, self.chunk)

    def identity(self) -> bytes:
        return self._archive.identity()

    def expect(self, indexes: Sequence[int]) -> None:
        self._archive.announce(indexes)
        super().expect(indexes)

    def begin(self) -> bytes:
        packed, self._checksum = self._archive.head()
        return packed

    def encode(self, index: int, data: Block) -> bytes:
        if not self._archive.announced(index):
            raise TargetError(
                f"block {index} of {self.path} was not announced", remedy="report this: a stream's head lists its blocks"
            )
        packed, self._checksum = self._archive.piece(index, data, self._checksum)
        return packed

    def finish(self) -> Iterable[bytes]:
        yield self._archive.tail(self._checksum)

    def gaps(self, before: int) -> Iterator[int]:
        return self._archive.gaps(self._last, before)


def merged(indexes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending indexes as runs (first, last)."""
    first = last = -1
    for index in indexes:
        if index != last + 1 or first < 0:
            if first >= 0:
                yield first, last
            first = index
        last = index
    if first >= 0:
        yield first, last


def sparse_header(name: str, size: int, ranges: Sequence[tuple[int, int]]) -> bytes:
    """The head of a sparse member (type "S") with data in the ranges (start, end), in the old GNU format.

    Four extents fit into the header, 21 into each block after it; a file that ends in a hole has a last extent of length 0
    (GNU tar, "Storing Sparse Files", and src/tar.h `struct oldgnu_header`).
    """
    extents = [(start, end - start) for start, end in ranges]
    if not extents or ranges[-1][1] < size:
        extents.append((size, 0))
    stored = sum(length for _, length in extents)
    head, rest = extents[:4], extents[4:]
    header = bytearray(_BLOCK)

    def field(at: int, data: bytes) -> None:
        header[at : at + len(data)] = data

    field(0, name.encode())
    field(100, b"0000600\0" + b"0000000\0" * 2)
    field(124, _number(stored) + _number(0))
    field(148, b" " * 8)
    field(156, b"S")
    field(257, b"ustar  \0" + b"root".ljust(32, b"\0") * 2)
    field(386, b"".join(_number(start) + _number(length) for start, length in head))
    field(482, bytes([bool(rest)]) + _number(size))
    field(148, b"%06o\0 " % sum(header))
    blocks = [bytes(header)]
    for at in range(0, len(rest), 21):
        body = b"".join(_number(start) + _number(length) for start, length in rest[at : at + 21])
        blocks.append(body.ljust(504, b"\0") + bytes([at + 21 < len(rest)]) + bytes(7))
    return b"".join(blocks)


def _number(value: int) -> bytes:
    """Twelve bytes: octal, or base 256 with the top bit set."""
    return b"%011o\0" % value if value <= _OCTAL_MOST else b"\x80" + value.to_bytes(11, "big")
