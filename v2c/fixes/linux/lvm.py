"""LVM: filters and a devices file that name the old disks hide the volumes on the new ones."""

from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits, aside, present, text
from v2c.guest import Guest
from v2c.guest.formats.lvmconf import LvmConf, accepts
from v2c.model import Needs

CONFIGS = ("/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf")
DEVICES = "/etc/lvm/devices/system.devices"
CACHES = ("/etc/lvm/cache/.cache", "/etc/lvm/.cache")
# one name per way that a target may show a disk; a filter must let all of them through
SAMPLES = ("/dev/nvme0n1p2", "/dev/nvme3n1", "/dev/sda2", "/dev/sdq", "/dev/vda2", "/dev/vdq", "/dev/xvda2")


def hides(conf: LvmConf) -> list[str]:
    """The filters that would hide a volume on some target."""
    return [name for name, patterns in conf.filters if not all(accepts(patterns, device) for device in SAMPLES)]


class Lvm(Edits):
    """Filters that hide become comments, the devices file is set aside (LVM then looks at every disk)."""

    id = "lvm"
    title = "LVM sees the disks under their new names"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        for path in CONFIGS:
            conf = LvmConf(text(guest, path) or "")
            names = hides(conf)
            if names:
                conf.comment(set(names))
                yield Edit(path, f"the {' and the '.join(names)} of {path} hides the disks under their new names", text=str(conf))
        if present(guest, DEVICES):
            yield Edit(DEVICES, f"{DEVICES} lists the old disks only", move=aside(guest, DEVICES))
        for path in CACHES:
            if present(guest, path):
                yield Edit(path, f"{path} remembers the old disks")
