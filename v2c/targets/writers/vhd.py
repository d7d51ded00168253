"""A dynamic VHD whose every byte has its place before the first is sent: for uploads in parts, in any order, twice if need be.

Virtual Hard Disk Image Format Specification 1.0: a copy of the footer, the header, the table of blocks (BAT), then blocks of
2 MiB, each behind a bitmap of its sectors, and the footer. Blocks that were not announced are holes: they are not in the file.
"""

import struct
import uuid
from collections.abc import Iterator, Sequence

from v2c.model import GIB, MIB
from v2c.targets.writers.raw import vhd_footer

BLOCK = 2 * MIB  # the specification's default, and what every reader takes
STORED = BLOCK + 512  # a block behind its bitmap of 4096 sectors
MOST = 2040 * GIB  # of a VHD's disk (specification, "Maximum size")
_HEADERS = 512 + 1024
_HOLE = 0xFFFFFFFF
_BITMAP = b"\xff" * 512


class SparseVhd:
    """The file of a disk of `size` bytes that holds the announced chunks (`chunk`: bytes, whole blocks), ascending."""

    def __init__(self, size: int, chunk: int, indexes: Sequence[int], id: uuid.UUID) -> None:
        self.size, self.chunk, self.indexes = size, chunk, indexes
        self.footer = vhd_footer(size, id, 0, dynamic=True)

    @property
    def length(self) -> int:
        """Bytes of the whole file."""
        return self._data() + len(self.indexes) * (self.chunk // BLOCK) * STORED + len(self.footer)

    def head(self) -> bytes:
        """What stands before the first block."""
        count = -(-self.size // BLOCK)
        fields = (b"cxsparse", 0xFFFFFFFFFFFFFFFF, _HEADERS, 0x00010000, count, BLOCK)
        header = struct.pack(">8sQQIII", *fields).ljust(1024, b"\0")
        header = header[:36] + struct.pack(">I", ~sum(header) & 0xFFFFFFFF) + header[40:]
        table = bytearray(b"\xff" * (self._data() - _HEADERS))
        at = self._data()
        for index in self.indexes:
            for block in range(index * self.chunk // BLOCK, (index + 1) * self.chunk // BLOCK):
                if block < count:
                    struct.pack_into(">I", table, block * 4, at // 512)
                at += STORED
        return self.footer + header + bytes(table)

    def stored(self, data: bytes) -> bytes:
        """A chunk as it lies in the file; a short one, the disk's last, is padded."""
        whole = data.ljust(self.chunk, b"\0")
        return b"".join(_BITMAP + whole[at : at + BLOCK] for at in range(0, self.chunk, BLOCK))

    def _data(self) -> int:
        return data_at(self.size)


def data_at(size: int) -> int:
    """Where the blocks begin in the file of a disk of so many bytes."""
    table = -(-size // BLOCK) * 4
    return _HEADERS + table + -table % 512


def places(head: bytes, size: int, chunk: int, indexes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(index, where its first block's data begins in the file, 0: a hole), by the `data_at(size)` bytes that it begins with."""
    for index in indexes:
        (sector,) = struct.unpack_from(">I", head, _HEADERS + index * chunk // BLOCK * 4)
        yield index, 0 if sector == _HOLE else sector * 512 + 512
