"""What a name of a block device, as the guest writes it, means on the disks that we have.

Names that follow the controller (/dev/sda1, /dev/vda1, /dev/nvme0n1p1) are taken by the order of disks, as the source showed
them: the first disk is sda, vda, hda, xvda, nvme0n1 and mmcblk0. Disks do swap names under AHCI, so whoever mounts by such a
name compares the filesystem's type too.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import unquote

from v2c.model import Facts, Filesystem

_LETTERS = re.compile(r"/dev/(?:s|h|v|xv)d([a-z]{1,3})([0-9]*)$")
_NUMBERED = re.compile(r"/dev/(?:nvme([0-9]+)n1|mmcblk([0-9]+)|cciss/c0d([0-9]+))(?:p([0-9]+))?$")
_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")
_TAGS = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "partuuid", "PARTLABEL": "partlabel"}
_EXT = {"ext2", "ext3", "ext4"}


def letters(index: int) -> str:
    """0: "a", 25: "z", 26: "aa": the kernel's way to number sd devices."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def ordinal(text: str) -> int:
    """The inverse of `letters`."""
    number = 0
    for letter in text:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


def luks_name(uuid: str) -> str:
    """The mapping that an encrypted device is opened as, until the guest's own crypttab names it."""
    return f"luks-{uuid}"


def position(spec: str) -> tuple[int, int] | None:
    """(disk, partition) that a name bound to a controller means, counted from 0; partition 0 is the whole disk."""
    if match := _LETTERS.match(spec):
        return ordinal(match[1]), int(match[2] or 0)
    if match := _NUMBERED.match(spec):
        return int(match[1] or match[2] or match[3]), int(match[4] or 0)
    return None


def mapped(volume_group: str, volume: str) -> str:
    """The device mapper's name of a logical volume: hyphens inside the names are doubled."""
    return f"/dev/mapper/{volume_group.replace('-', '--')}-{volume.replace('-', '--')}"


def find(spec: str, filesystems: Iterable[Filesystem], names: Mapping[str, str] | None = None) -> Filesystem | None:
    """The filesystem that a source device name means, or None: not here, or it cannot be told (by-path, by-id of a serial).

    Takes /dev/sdXN, hdX, vdX, xvdX, nvmeXn1pZ, mmcblkXpZ, /dev/mapper/X, /dev/VG/LV, /dev/disk/by-{uuid,label,partuuid,
    partlabel}/X, and UUID=, LABEL=, PARTUUID=, PARTLABEL= with or without quotes. `names` are the guest's own mapping names:
    crypttab's volume -> the device below it.
    """
    filesystems = tuple(filesystems)
    spec = spec.replace('"', "").replace("'", "")
    kind, _, value = spec.partition("=")
    if by := re.match(r"/dev/disk/by-(uuid|label|partuuid|partlabel)/(.+)", spec):
        kind, value = by[1].upper(), _ESCAPED.sub(lambda m: chr(int(m[1], 16)), unquote(by[2]))
    if kind in _TAGS and value:
        field = _TAGS[kind]
        return _only(filesystems, lambda fs: _same(field, str(getattr(fs, field)), value))
    if place := position(spec):
        disk, partition = place
        wanted = f"/dev/sd{letters(disk)}{partition or ''}"
        return _only(filesystems, lambda fs: fs.device == wanted)
    if names and spec.startswith("/dev/mapper/") and (below := names.get(spec.removeprefix("/dev/mapper/"))):
        under = find(below, filesystems)
        if under is not None and under.uuid:
            opened = f"/dev/mapper/{luks_name(under.uuid)}"
            found = _only(filesystems, lambda fs: fs.device in (opened, spec))
            return found or under
    if match := re.match(r"/dev/(?!mapper/|disk/)([^/]+)/([^/]+)$", spec):
        spec = mapped(match[1], match[2])
    return _only(filesystems, lambda fs: fs.device == spec)


def resolve(spec: str, facts: Facts, names: Mapping[str, str] | None = None) -> Filesystem | None:
    """`find` among the filesystems of an inspected guest; a line of fstab that inspection resolved goes first."""
    for mount in facts.mounts:
        if mount.spec == spec and mount.device:
            return next((fs for fs in facts.filesystems if fs.device == mount.device), None)
    return find(spec, facts.filesystems, names)


def fits(filesystem: Filesystem, type: str) -> bool:
    """Whether fstab's type can be this filesystem: a name bound to a controller may mean another disk by now."""
    kinds = set(type.split(","))
    if not filesystem.type or kinds & {"auto", "none", "", filesystem.type}:
        return True
    if filesystem.type in _EXT:
        return bool(kinds & _EXT)
    families = ({"vfat", "msdos", "fat"}, {"ntfs", "ntfs3", "ntfs-3g"}, {"iso9660", "udf"})
    if any(filesystem.type in family and kinds & family for family in families):
        return True
    return filesystem.type in ("swap", "swsuspend") and "swap" in kinds


def _same(field: str, left: str, right: str) -> bool:
    return bool(left) and (left == right if field.endswith("label") else left.lower() == right.lower())


def _only(filesystems: Iterable[Filesystem], fits: Callable[[Filesystem], bool]) -> Filesystem | None:
    """The one that fits; None when none does. Of several (copies of a disk share their UUIDs) the first disk's."""
    return next((fs for fs in filesystems if fits(fs)), None)
