"""/etc/fstab: names that follow the controller become UUIDs; entries of disks that stay behind no longer stop the boot."""

from collections.abc import Iterable, Iterator

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.devices import bound, here, resolve, stable
from v2c.guest import Guest, devices
from v2c.guest.formats.fstab import Entry, Fstab
from v2c.model import Facts, Filesystem, Finding, Level, Needs

PATH = "/etc/fstab"
NEEDED = ("/", "/usr")  # the boot waits for these whatever fstab says, so "nofail" would only hide what is wrong


def _meant(entry: Entry, facts: Facts) -> Filesystem | None:
    """The filesystem that an entry means; None where its type says that the name means another disk by now."""
    found = resolve(facts, entry.spec) if bound(entry.spec) else None
    return found if found and devices.fits(found, entry.type) else None


def _missing(entry: Entry, facts: Facts, need: Needs) -> bool:
    """Whether the disk of an entry does not come along."""
    if {"nofail", "noauto"} & set(entry.options) or entry.where in NEEDED:
        return False
    found = _meant(entry, facts)
    if bound(entry.spec) and found is None:
        return True
    names = {entry.spec, entry.spec.partition("=")[2]} | ({found.uuid, found.label} if found else set())
    return bool((names - {""}) & set(need.staying)) or here(facts, entry.spec) is False


class FstabNames(Edits):
    """UUIDs instead of names; "nofail" where the disk is not there."""

    id = "fstab"
    title = "fstab names its disks by UUID"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        old = text(guest, PATH)
        if old is None:
            return
        table, reasons = Fstab(old), []
        for entry in table.entries:
            name = entry.spec
            if _missing(entry, guest.facts, need):
                entry.options = (*(entry.options or ("defaults",)), "nofail")
                reasons.append(f"{PATH} would wait for {name} ({entry.where}), which does not come along")
                continue
            found = _meant(entry, guest.facts)
            name_now = stable(found) if found else ""
            if entry.where == "/" and bound(name) and guest.facts.root_uuid:
                name_now = f"UUID={guest.facts.root_uuid}"  # what the inspection mounted as root is the root
            if name_now:
                entry.spec = name_now
                reasons.append(f"{PATH} calls {entry.where if entry.type != 'swap' else 'swap'} {name}, and that name changes")
        if reasons:
            yield Edit(PATH, "; ".join(reasons), text=str(table))

    def findings(self, guest: Guest, need: Needs) -> Iterable[Finding]:
        for entry in Fstab(text(guest, PATH) or "").entries:
            if _missing(entry, guest.facts, need):
                yield Finding(
                    "fstab.missing-disk",
                    Level.WARNING,
                    entry.where,
                    f"{entry.spec} of {PATH} is on no disk that is migrated: the machine starts without {entry.where}",
                    "migrate the disk as well, or remove the line",
                )
