"""A dynamic VHD whose every byte has its place before the first one is sent: which blocks hold data is known, so the table of
blocks is, and any part of the file can be made of its blocks alone.

Microsoft's "Virtual Hard Disk Image Format Specification" 1.0: a copy of the footer, the dynamic header, the block allocation
table, then blocks of 2 MiB, each behind a bitmap of its sectors, and the footer.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 2 * 1024 * 1024
SECTOR = 512
MOST = 2040 * 1024**3  # bytes: what the format holds
_BITMAP = b"\xff" * SECTOR  # all of a block's 4096 sectors are there
_FOOTER = struct.Struct(">8sIIQI4sI4sQQII")  # the checksum and the identifier follow
_DYNAMIC = 3
_HEADER = struct.Struct(">8sQQIII")


@dataclass(frozen=True)
class Vhd:
    """The file of a disk of `size` bytes that holds data in the blocks `indexes` (ascending)."""

    size: int
    indexes: Sequence[int]

    @property
    def identity(self) -> str:
        """Differs where the file's layout does."""
        whole = hashlib.sha256(struct.pack(">Q", self.size))
        for index in self.indexes:
            whole.update(struct.pack(">I", index))
        return whole.hexdigest()[:16]

    @property
    def _table(self) -> int:
        entries = -(-self.size // BLOCK)
        return -(-entries * 4 // SECTOR) * SECTOR

    def head(self) -> bytes:
        """All that stands before the first block."""
        footer = self.footer()
        entries = -(-self.size // BLOCK)
        header = bytearray(1024)
        _HEADER.pack_into(header, 0, b"cxsparse", 0xFFFFFFFFFFFFFFFF, 1536, 0x00010000, entries, BLOCK)
        struct.pack_into(">I", header, 36, _checksum(header))
        table = bytearray(b"\xff" * self._table)
        first = (len(footer) + len(header) + len(table)) // SECTOR
        for place, index in enumerate(self.indexes):
            struct.pack_into(">I", table, index * 4, first + place * (BLOCK // SECTOR + 1))
        return footer + bytes(header) + bytes(table)

    def block(self, data: bytes) -> bytes:
        """A block as it stands in the file."""
        return _BITMAP + data.ljust(BLOCK, b"\0")

    def footer(self) -> bytes:
        """The last 512 bytes, and the first."""
        tail = bytearray(SECTOR)
        # "win " has readers take the size as it is, not as cylinders, heads and sectors round it (qemu block/vpc.c)
        fields = (b"conectix", 2, 0x00010000, SECTOR, 0, b"win ", 0x00060001, b"Wi2k", self.size, self.size)
        _FOOTER.pack_into(tail, 0, *fields, _geometry(self.size), _DYNAMIC)
        tail[68:84] = hashlib.sha256(self.identity.encode()).digest()[:16]
        struct.pack_into(">I", tail, 64, _checksum(tail))
        return bytes(tail)


def _checksum(block: bytes | bytearray) -> int:
    """One's complement of the sum of all bytes, the checksum's own left out (they are zero)."""
    return ~sum(block) & 0xFFFFFFFF


def _geometry(size: int) -> int:
    """Cylinders, heads and sectors as the specification's appendix computes them."""
    sectors = min(size // SECTOR, 65535 * 16 * 255)
    if sectors >= 65535 * 16 * 63:
        per_track, heads = 255, 16
        tracks = sectors // per_track
    else:
        per_track = 17
        tracks = sectors // per_track
        heads = max(4, (tracks + 1023) // 1024)
        for per_track_next in (31, 63):
            if tracks >= heads * 1024 or heads > 16:
                per_track, heads = per_track_next, 16
                tracks = sectors // per_track
    return tracks // heads << 16 | heads << 8 | per_track
