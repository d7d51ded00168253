"""/etc/crypttab: devices by UUID, and kept in the initramfs that is built away from the machine."""

from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.devices import bound, resolve, stable
from v2c.guest import Guest
from v2c.guest.formats.crypttab import Crypttab
from v2c.model import Needs

PATH = "/etc/crypttab"
HOOK = "/usr/share/initramfs-tools/hooks/cryptroot"


class CrypttabNames(Edits):
    """UUIDs instead of names."""

    id = "crypttab"
    title = "crypttab names its disks by UUID"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        old = text(guest, PATH)
        if old is None:
            return
        table, reasons = Crypttab(old), []
        hook = guest.exists(HOOK)
        for volume in table.volumes:
            found = resolve(guest.facts, volume.device) if bound(volume.device) else None
            if found and stable(found):
                reasons.append(f"{PATH} opens {volume.name} on {volume.device}, and that name changes")
                volume.device = stable(found)
            # the hook finds the root's volume by looking at the running machine, and the appliance opens it under another
            # name: this option makes it take the volume all the same (crypttab(5) of cryptsetup-initramfs)
            asked = volume.key in ("none", "-") and not {"noauto", "initramfs"} & set(volume.options)
            if hook and asked:
                volume.options = (*volume.options, "initramfs")
                reasons.append(f"{volume.name} of {PATH} must be opened by the initramfs")
        if reasons:
            yield Edit(PATH, "; ".join(reasons), text=str(table))
