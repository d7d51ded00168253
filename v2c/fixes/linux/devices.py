"""Names of block devices: which are bound to one controller, and what each means in this guest."""

import re

from v2c.guest import devices
from v2c.model import Facts, Filesystem

# sd, hd, vd and xvd are numbered per driver as disks are found; by-path and by-id follow the controller and its serials
_BOUND = re.compile(
    r"/dev/(?:(?:s|h|v|xv)d[a-z]+[0-9]*|nvme[0-9]+n[0-9]+(?:p[0-9]+)?|mmcblk[0-9]+(?:p[0-9]+)?|dm-[0-9]+"
    r"|cciss/c[0-9]+d[0-9]+(?:p[0-9]+)?|disk/by-path/\S+|disk/by-id/(?!dm-|lvm-|md-)\S+)"
)
_PART = re.compile(r"-part([0-9]+)$")


def bound(name: str) -> bool:
    """Whether the name changes with the controller or the order of disks. UUID=, LABEL=, /dev/mapper and /dev/VG stay."""
    return _BOUND.fullmatch(name) is not None


def resolve(facts: Facts, name: str) -> Filesystem | None:
    """The filesystem that a bound name means.

    What the inspection found for a line of fstab comes first. by-path and by-id names say the partition only, so they are
    clear on a machine of one disk.
    """
    for uuid in (s.uuid for s in facts.swaps if s.spec == name and s.uuid):
        return next((f for f in facts.filesystems if f.uuid == uuid), None)
    found = devices.resolve(name, facts)
    if found is None and (match := _PART.search(name)):
        disks = {f.disk for f in facts.filesystems if f.disk}
        fitting = [f for f in facts.filesystems if f.disk and f.partition == int(match[1])]
        return fitting[0] if len(disks) == 1 and len(fitting) == 1 else None
    return found


def stable(filesystem: Filesystem) -> str:
    """The name that any controller leaves alone, "" when the filesystem has none."""
    if filesystem.uuid:
        return f"UUID={filesystem.uuid}"
    if filesystem.partuuid:
        return f"PARTUUID={filesystem.partuuid}"
    return f"LABEL={filesystem.label}" if filesystem.label and not re.search(r"\s", filesystem.label) else ""


def here(facts: Facts, spec: str) -> bool | None:
    """Whether the disk that a spec of fstab names comes along; None: it cannot be told, or is no disk."""
    locked = any(f.type in ("crypto_LUKS", "BitLocker") for f in facts.filesystems)
    if re.match(r"(?:UUID|LABEL|PARTUUID|PARTLABEL)=|/dev/disk/by-(?:uuid|label|partuuid|partlabel)/", spec):
        if devices.resolve(spec, facts) is not None:
            return True
        return None if locked or "PART" in spec or "by-part" in spec else False
    if bound(spec):
        return resolve(facts, spec) is not None
    return None
