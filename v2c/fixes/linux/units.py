"""systemd units on disk: what enables one, and how it is silenced for good."""

from collections.abc import Iterator, Sequence

from v2c.fixes.fix import Edit, aside, present
from v2c.guest import FileKind, Guest

ETC = "/etc/systemd/system"
VENDOR = ("/usr/lib/systemd/system", "/lib/systemd/system")
NOWHERE = "/dev/null"


def link(guest: Guest, path: str) -> str | None:
    """What a symlink says, None when the path is none."""
    try:
        return guest.readlink(path) if guest.stat(path).kind is FileKind.SYMLINK else None
    except OSError:
        return None


def installed(guest: Guest, unit: str) -> bool:
    """Whether there is such a unit: a file of the vendor or the administrator, or an init script."""
    if any(guest.exists(f"{folder}/{unit}") for folder in VENDOR):
        return True
    if unit.endswith(".service") and guest.exists(f"/etc/init.d/{unit.removesuffix('.service')}"):
        return True
    return present(guest, f"{ETC}/{unit}") and link(guest, f"{ETC}/{unit}") is None


def wanted(guest: Guest) -> dict[str, list[str]]:
    """What enables each unit: the symlinks in the .wants and .requires folders, by unit. A folder is read once."""
    found: dict[str, list[str]] = {}
    for folder in guest.names(ETC):
        if folder.endswith((".wants", ".requires")):
            for unit in guest.names(f"{ETC}/{folder}"):
                found.setdefault(unit, []).append(f"{ETC}/{folder}/{unit}")
    return found


def aliases(guest: Guest) -> dict[str, list[str]]:
    """Other names of units: symlinks beside them, by the unit that they lead to."""
    found: dict[str, list[str]] = {}
    for name in guest.names(ETC):
        target = link(guest, f"{ETC}/{name}") if "." in name and not name.endswith((".wants", ".requires", ".d")) else None
        if target is not None and target.rpartition("/")[2] != name:
            found.setdefault(target.rpartition("/")[2], []).append(f"{ETC}/{name}")
    return found


def enabled(guest: Guest, unit: str) -> bool:
    """Whether something wants it at boot."""
    return unit in wanted(guest)


def masked(guest: Guest, unit: str) -> bool:
    """Whether it can never run."""
    return link(guest, f"{ETC}/{unit}") == NOWHERE


def mask(guest: Guest, units: Sequence[str], why: str) -> Iterator[Edit]:
    """The edits that silence units: nothing wants them any more, their aliases are gone, their names lead to /dev/null."""
    wants, names = wanted(guest), aliases(guest)
    gone: set[str] = set()
    for unit in units:
        for path in (*wants.get(unit, ()), *names.get(unit, ())):
            if path not in gone:
                gone.add(path)
                yield Edit(path, why)
        path = f"{ETC}/{unit}"
        if path in gone or not installed(guest, unit):
            continue
        if present(guest, path) and link(guest, path) is None:
            yield Edit(path, why, move=aside(guest, path))
        if not masked(guest, unit):
            yield Edit(path, why, link=NOWHERE)
