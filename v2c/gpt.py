"""Partition tables as bytes: what an MBR or a GPT says, and how a GPT follows its disk to a new end.

Everything here is pure: it takes the first bytes of a disk (`HEAD` is plenty) and gives values or patches back. A patch is
`(offset, bytes)`, to be laid over the disk's blocks while they stream, so no disk is opened or written here.
Layout: UEFI specification 2.10, section 5 (GPT disk layout); fields are little-endian.
"""

import struct
import uuid
import zlib
from dataclasses import dataclass

from v2c.model import MIB, Firmware

HEAD = MIB  # tables lie in the first 34 sectors; partitions begin at 1 MiB on anything from this century

ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")  # its bytes read "Hah!IdontNeedEFI"

_SIGNATURE = b"EFI PART"
_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")  # 92 bytes, the rest of the sector is zero
_ENTRY = struct.Struct("<16s16sQQQ72s")
_MBR_ENTRY = struct.Struct("<B3sB3sII")
_PROTECTIVE = 0xEE
_MBR_ESP = 0xEF
_MBR_CODE = 440  # bytes of boot code; the disk signature and the table follow
_MAX_ENTRIES = 4096  # more than any tool makes; a bound on what a hostile header can ask for
_END_CHS = b"\xff\xff\xff"

Patch = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: `type` is a GUID in lower case, or "0x83" in an MBR; `first` and `last` sectors are both inside it."""

    number: int
    type: str
    first: int
    last: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Mbr:
    """The table in sector 0. `protective`: one of its entries (type 0xEE) stands for a GPT; `boots`: it holds boot code."""

    partitions: tuple[Partition, ...]
    protective: bool
    boots: bool

    @property
    def hybrid(self) -> bool:
        """A protective table that lists real partitions too, for a BIOS to boot from."""
        return self.protective and any(p.type != f"0x{_PROTECTIVE:02x}" for p in self.partitions)


@dataclass(frozen=True, slots=True)
class Gpt:
    """The primary GPT, its two checksums correct. Sectors are counted in `sector_size` bytes; `table` is the entry array."""

    header: bytes
    table: bytes
    sector_size: int
    backup: int
    first_usable: int
    last_usable: int
    table_sector: int
    partitions: tuple[Partition, ...]

    @property
    def table_sectors(self) -> int:
        """Sectors that the entry array fills."""
        return -(-len(self.table) // self.sector_size)

    def holds(self, type: uuid.UUID) -> bool:
        """Whether a partition of that type is listed."""
        return any(p.type == str(type) for p in self.partitions)


def read_mbr(head: bytes) -> Mbr | None:
    """The MBR in the first 512 bytes, or None: no signature, no partition, or a boot sector of a file system."""
    if len(head) < 512 or head[510:512] != b"\x55\xaa":
        return None
    partitions = []
    for number in range(4):
        status, _, kind, _, first, count = _MBR_ENTRY.unpack_from(head, 446 + 16 * number)
        if status not in (0x00, 0x80):
            return None
        if kind and count:
            partitions.append(Partition(number + 1, f"0x{kind:02x}", first, first + count - 1))
    if not partitions:
        return None
    protective = any(p.type == f"0x{_PROTECTIVE:02x}" for p in partitions)
    return Mbr(tuple(partitions), protective, any(head[:_MBR_CODE]))


def read_gpt(head: bytes, sector_size: int = 512) -> Gpt | None:
    """The primary GPT, or None when there is none, it is damaged, or `head` is too short to hold its entries."""
    header = head[sector_size : 2 * sector_size]
    if len(header) < sector_size or not header.startswith(_SIGNATURE):
        return None
    (_, _, length, crc, _, own, backup, first, last, _, where, count, each, table_crc) = _HEADER.unpack_from(header)
    if not _HEADER.size <= length <= sector_size or own != 1:
        return None
    if zlib.crc32(header[:16] + bytes(4) + header[20:length]) != crc:
        return None
    if each < _ENTRY.size or each % 8 or not 0 < count <= _MAX_ENTRIES or where < 2:
        return None
    table = head[where * sector_size : where * sector_size + count * each]
    if len(table) < count * each or zlib.crc32(table) != table_crc:
        return None
    return Gpt(header, table, sector_size, backup, first, last, where, tuple(_entries(table, each)))


def _entries(table: bytes, each: int) -> list[Partition]:
    found = []
    for number in range(len(table) // each):
        kind, _, first, last, _, name = _ENTRY.unpack_from(table, number * each)
        if any(kind):
            title = name.decode("utf-16-le", "replace").split("\0", 1)[0]
            found.append(Partition(number + 1, str(uuid.UUID(bytes_le=kind)), first, last, title))
    return found


def firmware(head: bytes, sector_size: int = 512) -> Firmware | None:
    """What the disk was made to be started by, as far as its partition table tells; None when it tells nothing.

    A BIOS-boot partition or a hybrid MBR means BIOS, whatever else is there (cloud images carry both: they boot by either,
    and a machine that comes from a BIOS has its boot loader configured for it). An EFI system partition alone means UEFI.
    Else boot code in the MBR means BIOS, and without any the disk is not booted from.
    """
    mbr = read_mbr(head)
    if mbr is None:
        return None
    table = read_gpt(head, sector_size) if mbr.protective else None
    if table is not None:
        if table.holds(BIOS_BOOT) or mbr.hybrid:
            return Firmware.BIOS
        if table.holds(ESP):
            return Firmware.UEFI
    elif not mbr.boots and any(p.type == f"0x{_MBR_ESP:02x}" for p in mbr.partitions):
        return Firmware.UEFI
    return Firmware.BIOS if mbr.boots else None


def moved_backup(head: bytes, size: int, new_size: int, sector_size: int = 512) -> tuple[Patch, ...]:
    """What makes the GPT of a disk of `size` bytes valid on one of `new_size`: patches in ascending order, none overlaps.

    They rewrite the protective MBR's size, the primary header, and the backup entries and header at the new end, and wipe the
    old backup. Empty when there is no valid GPT or its backup is at the new end already: a disk without a GPT needs nothing.
    `new_size` is a multiple of the sector size and not below `size`. The result depends on the arguments alone, so laying the
    patches twice is harmless. The backup is made from the primary: an edit that only the backup holds is not kept.
    """
    if new_size < size or new_size % sector_size:
        raise ValueError(f"a disk of {size} bytes cannot move its partition table to {new_size}")
    table = read_gpt(head, sector_size)
    end = new_size // sector_size - 1
    if table is None or table.backup == end:
        return ()
    entries = end - table.table_sectors  # first sector of the backup entry array
    padded = table.table.ljust(table.table_sectors * sector_size, b"\0")
    patches = [
        *_protective(head, end),
        (sector_size, _header(table, own=1, other=end, last_usable=entries - 1, entries=table.table_sector)),
        *_wiped(table, size, entries),
        (entries * sector_size, padded),
        (end * sector_size, _header(table, own=end, other=1, last_usable=entries - 1, entries=entries)),
    ]
    return tuple(patches)


def _header(table: Gpt, *, own: int, other: int, last_usable: int, entries: int) -> bytes:
    fields = list(_HEADER.unpack_from(table.header))
    fields[3], fields[5], fields[6], fields[8], fields[10] = 0, own, other, last_usable, entries
    length = fields[2]
    header = bytearray(_HEADER.pack(*fields) + table.header[_HEADER.size :])
    struct.pack_into("<I", header, 16, zlib.crc32(header[:length]))
    return bytes(header)


def _protective(head: bytes, end: int) -> list[Patch]:
    """The MBR with its 0xEE entry stretched to the end; a hybrid one is left alone, its sizes are somebody's choice."""
    mbr = read_mbr(head)
    if mbr is None or not mbr.protective or mbr.hybrid:
        return []
    sector = bytearray(head[:512])
    for at in range(446, 510, 16):
        status, start, kind, _, first, _ = _MBR_ENTRY.unpack_from(sector, at)
        if kind == _PROTECTIVE:
            _MBR_ENTRY.pack_into(sector, at, status, start, kind, _END_CHS, first, min(end - first + 1, 0xFFFFFFFF))
    return [(0, bytes(sector))]


def _wiped(table: Gpt, size: int, new_entries: int) -> list[Patch]:
    """Zeros over the old backup, short of any partition and of the new one."""
    first = max(table.backup - table.table_sectors, table.last_usable + 1)
    last = min(table.backup, size // table.sector_size - 1, new_entries - 1)
    if first > last or first <= table.table_sector:
        return []
    return [(first * table.sector_size, bytes((last - first + 1) * table.sector_size))]
