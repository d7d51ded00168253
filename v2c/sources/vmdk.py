"""VMDK before QEMU opens it: the descriptor, which files it names, and whether they are whole.

A descriptor is a text that names files: a hostile one names files of this host. So every name must be relative and stay in
the descriptor's own folder. VMware Virtual Disk Format 5.0 (technical note); block/vmdk.c of QEMU for what it opens.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from v2c.errors import SourceError, UsageError
from v2c.sources.safety import ended_early, inside, numbers, read_at

TEXT = b"# Disk DescriptorFile"
SPARSE = b"KDMV"
ESX_SPARSE = b"COWD"

_HEADER = struct.Struct("<4sIIQQQQIQQQB")  # up to uncleanShutdown, 73 bytes
_AT_END = 0xFFFFFFFFFFFFFFFF
_COMPRESSED = 1 << 16
_DESCRIPTOR = 1 << 20  # QEMU reads at most 64 KiB; a descriptor of 256 split extents has 20 KiB
_TABLES = 1 << 24  # entries of one grain directory: a disk of 512 TiB
_SECTOR = 512

# As wide as the sscanf of block/vmdk.c ('%10s %lld %10s "%511[^\n\r"]" %lld'), whose blanks may be missing and whose name may
# lack its closing quote; lines end in \n and nothing else. What QEMU would open must not escape us by being odd.
_EXTENT = re.compile(r'^\s*(RW|RDONLY|NOACCESS)\s*([+-]?\d+)\s*([A-Za-z]+)\s*(?:"([^"\r]*)"?\s*([+-]?\d+)?)?', re.IGNORECASE)
_HINT = re.compile(r'parentFileNameHint\s*=\s*"([^"\n]*)', re.IGNORECASE)  # QEMU finds it anywhere in the text
_VALUE = re.compile(r'^\s*([\w.]+)\s*=\s*"?([^"]*?)"?\s*$')
_KINDS = {"FLAT", "VMFS", "ZERO", "SPARSE", "VMFSSPARSE", "SESPARSE"}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The text: its extents as (kind, sectors, name, offset in sectors), and the files that it says it lies on."""

    extents: tuple[tuple[str, int, str, int], ...] = ()
    parents: tuple[str, ...] = ()


def parse(text: str) -> Descriptor:
    """Reads a descriptor; lines that say nothing to us are passed over."""
    extents, values = [], {}
    for line in text.split("\n"):
        if found := _EXTENT.match(line):
            _, sectors, kind, name, offset = found.groups()
            extents.append((kind.upper(), int(sectors), name or "", int(offset or 0)))
        elif found := _VALUE.match(line):
            values[found[1].lower()] = found[2]
    parents = tuple(dict.fromkeys(_HINT.findall(text)))
    if not parents and values.get("parentcid", "ffffffff").lower() != "ffffffff":
        parents = ("",)
    return Descriptor(tuple(extents), parents)


def examine(path: Path) -> tuple[Path, ...]:
    """Every file that the disk consists of, parents of snapshots too; all are there, whole, and in the disk's own folder.

    UsageError for names that lead away or to nothing; SourceError for files that are cut short.
    """
    return tuple(dict.fromkeys(_examine(path, ())))


def _examine(path: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    if path in above or len(above) > 64:
        raise UsageError(f"{path} is a snapshot that lies on itself", remedy="name the right disk")
    yield path
    head = read_at(path, 0, _SECTOR)
    if head.startswith(ESX_SPARSE):
        return
    if head.startswith(SPARSE):
        descriptor = _sparse(path, head)
    elif head.startswith(TEXT):
        if path.stat().st_size > _DESCRIPTOR:
            raise UsageError(f"{path} begins like a VMDK descriptor and is too long for one", remedy="name a disk image")
        descriptor = parse(read_at(path, 0, _DESCRIPTOR).decode("utf-8", "replace"))
        if not descriptor.extents:
            raise UsageError(f"the VMDK descriptor {path} names no extent", remedy="copy it again from its datastore")
    else:
        raise UsageError(f"{path} is no VMDK: it has neither the magic nor a descriptor", remedy="name the disk's own file")
    for kind, sectors, name, offset in descriptor.extents:
        if sectors < 0 or offset < 0:
            raise UsageError(f"the VMDK descriptor {path} has a negative number", remedy="copy it again from its datastore")
        if kind not in _KINDS:
            raise UsageError(f"{path} has an extent of kind {kind}, a device of its host", remedy="clone it to a file first")
        if kind != "ZERO":
            extent = inside(path, name, "has an extent")
            yield extent
            if kind in ("FLAT", "VMFS"):
                need, have = (offset + sectors) * _SECTOR, extent.stat().st_size
                if have < need:
                    raise ended_early(extent, f"its descriptor {path.name} says {need} bytes, it has {have}")
            elif kind == "SPARSE":
                start = read_at(extent, 0, _SECTOR)
                if not start.startswith(SPARSE):
                    raise SourceError(f"the extent {extent} has no VMDK header", remedy="copy it again from its datastore")
                if _sparse(extent, start) != Descriptor():
                    raise UsageError(f"the extent {extent} names further files", remedy="copy it again from its datastore")
    for parent in descriptor.parents:
        yield from _examine(inside(path, parent, "is a snapshot that lies on"), (*above, path))


def _sparse(path: Path, head: bytes) -> Descriptor:
    """Checks a sparse extent against its size. Its descriptor, with extents only where QEMU would follow them."""
    size = path.stat().st_size
    if len(head) < _SECTOR:
        raise UsageError(f"{path} is no whole VMDK: it ends within its header", remedy="copy it again")
    fields = _HEADER.unpack_from(head)
    _, _, flags, capacity, grain, described, _, per_table, _, directory, _, _ = fields
    if directory == _AT_END:
        footer = read_at(path, size - 2 * _SECTOR, _SECTOR)
        if not footer.startswith(SPARSE):
            raise ended_early(path, "its footer is missing")
        directory = _HEADER.unpack_from(footer)[9]
    descriptor = Descriptor()
    if described:  # its stated length binds nobody: QEMU reads on until a zero byte
        descriptor = parse(read_at(path, described * _SECTOR, _DESCRIPTOR).split(b"\0")[0].decode("utf-8", "replace"))
    if not capacity:  # block/vmdk.c then opens what the embedded descriptor names
        return descriptor
    if not grain or not per_table or grain > 1 << 16 or per_table > 1 << 16:
        raise SourceError(f"{path} has a broken VMDK header", remedy="copy it again")
    tables = -(-capacity // (grain * per_table))
    if tables * per_table > _TABLES * 4:
        raise SourceError(f"{path} says it holds {capacity * _SECTOR} bytes, more than a VMDK can", remedy="copy it again")
    last = _last_grain(path, directory, tables, per_table, size)
    if last:
        end = last * _SECTOR + (12 if flags & _COMPRESSED else 1)  # QEMU writes a last grain only as far as it has data
        if flags & _COMPRESSED and end <= size:
            end += int.from_bytes(read_at(path, last * _SECTOR + 8, 4), "little")
        if end > size:
            raise ended_early(path, f"its tables point to byte {end}, it has {size}")
    return Descriptor((), descriptor.parents)


def _last_grain(path: Path, directory: int, tables: int, per_table: int, size: int) -> int:
    """The highest sector that a grain table points to."""
    need = directory * _SECTOR + tables * 4
    if need > size:
        raise ended_early(path, f"its grain directory ends at byte {need}, it has {size}")
    last = 0
    for sector in numbers(path, directory * _SECTOR, tables, "<I"):
        if sector:
            need = sector * _SECTOR + per_table * 4
            if need > size:
                raise ended_early(path, f"a grain table ends at byte {need}, it has {size}")
            last = max(last, *numbers(path, sector * _SECTOR, per_table, "<I"))
    return last if last > 1 else 0  # 1 marks a grain of zeros
