"""What format a disk file has, and whether QEMU may open it.

The format is what the user says, or what the file's name says and its magic numbers confirm; it is never guessed from bytes
that a guest can write: a `.raw` or `.img` file is raw whatever it begins with. Then, before QEMU opens anything, `examine`
follows every name in the image (backing files, extents, parents) and checks that the file is as long as its tables say.
"""

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from v2c import gpt
from v2c.errors import SourceError, UsageError
from v2c.model import KIB, MIB, DiskFormat
from v2c.sources import vmdk
from v2c.sources.safety import ended_early, inside, numbers, read_at

SUFFIXES = {
    ".raw": DiskFormat.RAW,
    ".img": DiskFormat.RAW,
    ".dd": DiskFormat.RAW,
    ".qcow2": DiskFormat.QCOW2,
    ".vmdk": DiskFormat.VMDK,
    ".vhd": DiskFormat.VHD,
    ".vhdx": DiskFormat.VHDX,
    ".vdi": DiskFormat.VDI,
}
_SECTOR = 512
_SAY = "say which with --format"


@dataclass(frozen=True, slots=True)
class Image:
    """A disk file that was examined: all files it consists of, its sector size, and what is worth saying of it."""

    path: Path
    format: DiskFormat
    files: tuple[Path, ...]
    sector_size: int = 512
    snapshots: int = 0
    looks_like: DiskFormat | None = None  # a raw file that begins like another format


def sniff(path: Path) -> DiskFormat | None:
    """The format by magic numbers alone; None: none that we know, so raw or something else."""
    head = read_at(path, 0, 512)
    if head.startswith(b"QFI\xfb"):
        return DiskFormat.QCOW2
    if head.startswith((vmdk.SPARSE, vmdk.ESX_SPARSE, vmdk.TEXT)):
        return DiskFormat.VMDK
    if head.startswith(b"vhdxfile"):
        return DiskFormat.VHDX
    if head[0x40:0x44] == b"\x7f\x10\xda\xbe":
        return DiskFormat.VDI
    if head.startswith(b"conectix") or read_at(path, path.stat().st_size - _SECTOR, 8) == b"conectix":
        return DiskFormat.VHD
    return None


def decide(path: Path, said: DiskFormat | None = None) -> DiskFormat:
    """The format to read the file in. UsageError when it is neither said nor clear, or when the magic contradicts."""
    if path.is_block_device() and said is None:
        return DiskFormat.RAW
    wanted = said or SUFFIXES.get(path.suffix.lower())
    found = sniff(path)
    if wanted is None:
        like = f"; its first bytes look like {found}" if found else ""
        raise UsageError(f"the name of {path} does not say what format it has{like}", remedy=_SAY)
    if wanted is DiskFormat.RAW or wanted is found:
        return wanted
    grounds = "--format" if said else "its name"
    if wanted is DiskFormat.VHD and read_at(path, 0, 4) and not found:
        raise SourceError(f"{path} is a VHD by {grounds}, and its footer is missing: it is truncated", remedy="copy it again")
    content = f"its content is {found}" if found else "its content is none of that"
    raise UsageError(f"{path} is {wanted} by {grounds}, and {content}", remedy=_SAY if found else "name a disk image")


def examine(path: Path, format: DiskFormat) -> Image:
    """Looks the image over. UsageError for what leads away from its folder, SourceError for what is broken or cut short."""
    if format is DiskFormat.RAW:
        return _raw(path)
    if format is DiskFormat.VMDK:
        return Image(path, format, vmdk.examine(path))
    if format is DiskFormat.QCOW2:
        files = tuple(_qcow2(path, ()))
        return Image(path, format, files, snapshots=struct.unpack_from(">I", read_at(path, 60, 4))[0])
    if format is DiskFormat.VHDX:
        return Image(path, format, (path,), sector_size=_vhdx(path))
    (_vhd if format is DiskFormat.VHD else _vdi)(path)
    return Image(path, format, (path,))


def _raw(path: Path) -> Image:
    if path.is_block_device():
        return Image(path, DiskFormat.RAW, (path,))
    size = path.stat().st_size
    if not size:
        raise UsageError(f"{path} is empty", remedy="name a disk image")
    if size % _SECTOR:
        raise UsageError(f"{path} has {size} bytes, which is no multiple of 512: no disk is that long", remedy="copy it again")
    head = read_at(path, 0, 64 * KIB)
    coarse = gpt.read_gpt(head, 512) is None and gpt.read_gpt(head, 4096) is not None
    return Image(path, DiskFormat.RAW, (path,), sector_size=4096 if coarse else 512, looks_like=sniff(path))


# ---- qcow2: docs/interop/qcow2.txt of QEMU --------------------------------------------------------------------------------

_QCOW2 = struct.Struct(">4sIQIIQIIQQIIQ")
_CORRUPT, _EXTERNAL = 2, 4
_EXT_FORMAT = 0xE2792ACA


def _qcow2(path: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """The image and the files it lies on, each beside it and of a format that the image itself names."""
    if path in above or len(above) > 64:
        raise UsageError(f"{path} lies on itself", remedy="name the right disk")
    yield path
    head = read_at(path, 0, 64 * KIB)
    if len(head) < 104:
        raise ended_early(path, "it ends within its header")
    magic, version, at, length, bits, _, crypt, l1, l1_at, refs_at, refs, _, _ = _QCOW2.unpack_from(head)
    features = struct.unpack_from(">Q", head, 72)[0] if version >= 3 else 0
    if magic != b"QFI\xfb" or version not in (2, 3) or not 9 <= bits <= 21:
        raise SourceError(f"{path} has a broken qcow2 header", remedy="copy it again")
    if features & _EXTERNAL:
        raise UsageError(f"{path} keeps its data in another file", remedy="flatten it with qemu-img convert where you trust it")
    if features & _CORRUPT:
        raise SourceError(f"{path} is marked as corrupt", remedy="repair it with qemu-img check -r all, on a copy")
    if crypt:
        raise SourceError(f"{path} is an encrypted qcow2", remedy="decrypt it with qemu-img convert first")
    _qcow2_length(path, bits, refs_at, refs, l1_at + 8 * l1)
    if at:
        name = read_at(path, at, min(length, 1023)).decode("utf-8", "replace")
        below = inside(path, name, "lies on")
        yield from _below(path, below, _backing_format(path, head, version), (*above, path))


def _qcow2_length(path: Path, bits: int, refs_at: int, refs: int, l1_end: int) -> None:
    """The highest cluster that is counted as in use must begin within the file."""
    size, cluster = path.stat().st_size, 1 << bits
    order = struct.unpack(">I", read_at(path, 96, 4))[0] if read_at(path, 4, 4) == b"\0\0\0\3" else 4
    table_end = refs_at + refs * cluster
    if refs * cluster > 8 * MIB or order > 6:
        raise SourceError(f"{path} has a broken qcow2 header", remedy="copy it again")
    if max(table_end, l1_end) > size + cluster:
        raise ended_early(path, f"its tables end at byte {max(table_end, l1_end)}, it has {size}")
    table = numbers(path, refs_at, refs * cluster // 8, ">Q")
    number = max((i for i, block in enumerate(table) if block), default=-1)
    if number < 0:
        return
    block = read_at(path, table[number] & ~0x1FF, cluster)
    used = len(block.rstrip(b"\0")) * 8  # bits up to the last count that is not zero
    last = number * (cluster * 8 >> order) + max(0, -(-used >> order) - 1)
    if not block or last * cluster >= size:
        raise ended_early(path, f"it uses {(last + 1) * cluster} bytes, it has {size}")


def _backing_format(path: Path, head: bytes, version: int) -> DiskFormat:
    """From the header extension: without it QEMU would look at the bytes of the backing file."""
    at = struct.unpack_from(">I", head, 100)[0] if version >= 3 else 72
    while at + 8 <= len(head):
        kind, length = struct.unpack_from(">II", head, at)
        if kind == _EXT_FORMAT:
            name = head[at + 8 : at + 8 + length].decode("utf-8", "replace")
            for format in DiskFormat:
                if format.qemu == name:
                    return format
            break
        if not kind:
            break
        at += 8 + -(-length // 8) * 8
    raise UsageError(f"{path} does not say what format its backing file has", remedy="say it with qemu-img rebase -u -F FORMAT")


def _below(path: Path, below: Path, format: DiskFormat, above: tuple[Path, ...]) -> Iterator[Path]:
    if format is DiskFormat.QCOW2:
        yield from _qcow2(below, above)
    else:
        if format is not DiskFormat.RAW and sniff(below) is not format:
            raise UsageError(f"{path} lies on {below.name}, which is not {format} as it says", remedy="name the right files")
        yield from examine(below, format).files


# ---- VHD: Virtual Hard Disk Image Format Specification 1.0 ----------------------------------------------------------------


def _vhd(path: Path) -> None:
    size = path.stat().st_size
    footer = read_at(path, size - _SECTOR, _SECTOR)
    if footer[:8] != b"conectix":
        raise ended_early(path, "its footer is missing")
    (header_at,) = struct.unpack_from(">Q", footer, 16)
    current, kind = struct.unpack_from(">Q", footer, 48)[0], struct.unpack_from(">I", footer, 60)[0]
    if kind == 4:
        raise UsageError(f"{path} is a differencing VHD: it lies on another file", remedy="merge it with its parent first")
    if kind == 2 and current + _SECTOR > size:
        raise ended_early(path, f"its footer says {current} bytes, it has {size - _SECTOR}")
    if kind == 3:
        header = read_at(path, header_at, 1024)
        if header[:8] != b"cxsparse":
            raise SourceError(f"{path} has no dynamic disk header", remedy="copy it again")
        (table_at,) = struct.unpack_from(">Q", header, 16)
        entries, block = struct.unpack_from(">II", header, 28)
        table = numbers(path, table_at, min(entries, 1 << 24), ">I")
        last = max((sector for sector in table if sector != 0xFFFFFFFF), default=-1)
        end = last * _SECTOR + block if last >= 0 else 0  # its bitmap stands before it, the footer behind it
        if len(table) < entries or end > size:
            raise ended_early(path, f"its table points to byte {end}, it has {size}")


# ---- VHDX: MS-VHDX ----------------------------------------------------------------------------------------------------------

_BAT = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
_METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_LOGICAL_SECTOR = uuid.UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
_PARENT = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")


def _vhdx(path: Path) -> int:
    """Its logical sector size."""
    size = path.stat().st_size
    headers = [h for at in (64, 128) if (h := read_at(path, at * KIB, 4 * KIB))[:4] == b"head"]
    regions = _entries(read_at(path, 192 * KIB, 64 * KIB), b"regi", 16, "<16sQII")
    if not headers or not {_BAT, _METADATA} <= set(regions):
        raise ended_early(path, "its headers are missing")
    newest = max(headers, key=lambda header: int(struct.unpack_from("<Q", header, 8)[0]))
    if any(newest[48:64]):
        raise SourceError(
            f"{path} was not closed: its log must be replayed", remedy="mount and dismount it in Windows, on a copy"
        )
    at, length = regions[_METADATA]
    if at + length > size:
        raise ended_early(path, f"its metadata end at byte {at + length}, it has {size}")
    items = _entries(read_at(path, at, 64 * KIB), b"meta", 32, "<16sIIII")
    if _PARENT in items:
        raise UsageError(f"{path} is a differencing VHDX: it lies on another file", remedy="merge it with its parent first")
    if _PARAMETERS not in items or _LOGICAL_SECTOR not in items:
        raise SourceError(f"{path} has broken metadata", remedy="copy it again")
    parameters = read_at(path, at + items[_PARAMETERS][0], 8)
    sector = read_at(path, at + items[_LOGICAL_SECTOR][0], 4)
    if len(parameters) < 8 or len(sector) < 4:
        raise SourceError(f"{path} has broken metadata", remedy="copy it again")
    block, flags = struct.unpack("<II", parameters)
    if flags & 2:
        raise UsageError(f"{path} is a differencing VHDX: it lies on another file", remedy="merge it with its parent first")
    table_at, table_length = regions[_BAT]
    table = numbers(path, table_at, min(table_length, 64 * MIB) // 8, "<Q")
    last = max((entry >> 20 for entry in table if entry & 7 in (6, 7)), default=0)
    if last * MIB + (block if last else 0) > size or table_at + table_length > size:
        raise ended_early(path, f"its table points to byte {last * MIB + block}, it has {size}")
    return int.from_bytes(sector, "little")


def _entries(table: bytes, magic: bytes, first: int, layout: str) -> dict[uuid.UUID, tuple[int, int]]:
    """A table of the format: GUID -> (offset, length)."""
    if not table.startswith(magic) or len(table) < 32:
        return {}
    count = struct.unpack_from("<I" if magic == b"regi" else "<H", table, 8 if magic == b"regi" else 10)[0]
    found = {}
    for number in range(min(count, 2047)):
        if first + 32 * (number + 1) > len(table):
            break
        guid, offset, length, *_ = struct.unpack_from(layout, table, first + 32 * number)
        found[uuid.UUID(bytes_le=guid)] = (offset, length)
    return found


# ---- VDI: VDICore.h of VirtualBox ---------------------------------------------------------------------------------------------


def _vdi(path: Path) -> None:
    size = path.stat().st_size
    head = read_at(path, 0, 512)
    if len(head) < 0x1C8:
        raise ended_early(path, "it ends within its header")
    (kind,) = struct.unpack_from("<I", head, 0x4C)
    data_at = struct.unpack_from("<I", head, 0x158)[0]
    block, extra, blocks, used = struct.unpack_from("<IIII", head, 0x178)
    if kind in (3, 4) or any(head[0x1A8:0x1B8]):
        raise UsageError(f"{path} is a differencing VDI: it lies on another file", remedy="clone it with VBoxManage first")
    if kind not in (1, 2) or used > blocks:
        raise SourceError(f"{path} has a broken VDI header", remedy="copy it again")
    end = data_at + (used if kind == 1 else blocks) * (block + extra)
    if end > size:
        raise ended_early(path, f"its header says {end} bytes, it has {size}")
