"""What lies on the disks, from the helper's survey: block devices by libguestfs' names, tied to the disks they lie on.

The kernel of an appliance may number its sd devices as they answer, so a device belongs to the drive whose SCSI target it is
(QEMU numbers the targets as the drives were added), never to the one its letter suggests.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from v2c.guest import devices
from v2c.model import Disk, Filesystem

_SCSI = re.compile(r"/[0-9]+:[0-9]+:([0-9]+):[0-9]+/block/")
_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})|\\(.)")
_EXT_ERRORS, _EXT_RECOVER = 0x2, 0x4  # s_state and s_feature_incompat, kernel documentation filesystems/ext4/super.rst
_EXTENDED = {"0x5", "0xf", "0x85"}


@dataclass(frozen=True, slots=True)
class Block:
    """A block device: `name` is the kernel's in the appliance ("dm-0"), `device` libguestfs' ("/dev/mapper/vg-root").

    `grub`: GRUB is in the boot sector. `errors` and `unclean`: what an ext filesystem says of itself."""

    name: str
    device: str
    drives: tuple[int, ...]
    partition: int = 0
    size: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    grub: bool = False
    errors: bool = False
    unclean: bool = False

    @property
    def type(self) -> str:
        """What blkid calls the content, "" for none."""
        return self.tags.get("TYPE", "")

    def filesystem(self, disks: Sequence[Disk]) -> Filesystem:
        """As facts tell it."""
        return Filesystem(
            device=self.device,
            type=self.type,
            uuid=self.tags.get("UUID", ""),
            label=self.tags.get("LABEL", ""),
            partuuid=self.tags.get("PART_ENTRY_UUID", ""),
            disk=disks[self.drives[0]].id if len(self.drives) == 1 else "",
            partition=self.partition,
            partlabel=self.tags.get("PART_ENTRY_NAME", ""),
            parttype=self.tags.get("PART_ENTRY_TYPE", "").lower(),
            size=self.size,
        )


def sections(text: str) -> list[tuple[str, dict[str, str]]]:
    """ "[name]" lines, each with the key=value lines below it; a name may come again."""
    found: list[tuple[str, dict[str, str]]] = []
    for line in text.split("\n"):
        if line.startswith("[") and line.endswith("]"):
            found.append((line[1:-1], {}))
        elif "=" in line and found:
            key, _, value = line.partition("=")
            found[-1][1][key] = value
    return found


def plain(encoded: str) -> str:
    """A value that the helper sent as base64."""
    return base64.b64decode(encoded).decode("utf-8", "surrogateescape")


def blocks(text: str, drives: int) -> list[Block]:
    """The devices that lie on our drives, in a fixed order; the appliance's own root disk is left out."""
    raw = dict(sections(text))
    places = {name: _drive(values.get("V2C_PATH", "")) for name, values in raw.items()}

    def under(name: str, seen: frozenset[str]) -> set[int]:
        place = places.get(name)
        if place is not None:
            return {place}
        below = raw.get(name, {}).get("V2C_SLAVES", "").split()
        return {drive for slave in below if slave not in seen for drive in under(slave, seen | {name})}

    found = []
    for name, values in raw.items():
        on = under(name, frozenset())
        if not on or max(on) >= drives:
            continue
        tags = {key: _unescape(value) for key, value in values.items() if not key.startswith("V2C_")}
        partition = int(values.get("V2C_PARTITION") or 0)
        device = f"/dev/{name}"
        if places[name] is not None:
            device = f"/dev/sd{devices.letters(next(iter(on)))}{partition or ''}"
        elif values.get("V2C_DM_NAME"):
            device = f"/dev/mapper/{values['V2C_DM_NAME']}"
        size = int(values.get("V2C_SECTORS") or 0) * 512  # sysfs counts in 512 bytes, whatever the sector
        ext = [int(values.get(key) or 0) for key in ("V2C_EXT_STATE", "V2C_EXT_INCOMPAT")]
        found.append(
            Block(
                name,
                device,
                tuple(sorted(on)),
                partition,
                size,
                tags,
                grub="V2C_GRUB" in values,
                errors=bool(ext[0] & _EXT_ERRORS),
                unclean=bool(ext[1] & _EXT_RECOVER),
            )
        )
    return sorted(found, key=lambda b: (places[b.name] is None, b.drives, b.partition, b.device))


def filesystems(found: Sequence[Block], disks: Sequence[Disk]) -> tuple[Filesystem, ...]:
    """What is worth telling: content, and partitions that have a meaning by their type alone (BIOS boot, ESP)."""
    told = [b for b in found if b.type or (b.partition and b.tags.get("PART_ENTRY_TYPE", "0x5") not in _EXTENDED)]
    return tuple(block.filesystem(disks) for block in told)


def _drive(path: str) -> int | None:
    match = _SCSI.search(path)
    return int(match[1]) if match else None


def _unescape(value: str) -> str:
    return _ESCAPED.sub(lambda m: chr(int(m[1], 16)) if m[1] else m[2], value)
