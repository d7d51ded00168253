"""systemd units on disk: what enables one, and how it is silenced for good."""

from collections.abc import Iterator

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


def enabled(guest: Guest, unit: str) -> bool:
    """Whether something wants it at boot."""
    return any(
        path.rpartition("/")[2] == unit for pattern in ("wants", "requires") for path in guest.glob(f"{ETC}/*.{pattern}/*")
    )


def masked(guest: Guest, unit: str) -> bool:
    """Whether it can never run."""
    return link(guest, f"{ETC}/{unit}") == NOWHERE


def mask(guest: Guest, unit: str, why: str) -> Iterator[Edit]:
    """The edits that silence a unit: nothing wants it any more, its aliases are gone, and its name leads to /dev/null."""
    for pattern in ("wants", "requires"):
        for path in guest.glob(f"{ETC}/*.{pattern}/*"):
            if path.rpartition("/")[2] == unit:
                yield Edit(path, why)
    for name in guest.names(ETC):
        target = link(guest, f"{ETC}/{name}")
        if target is not None and name != unit and target.rpartition("/")[2] == unit:
            yield Edit(f"{ETC}/{name}", why)
    if not installed(guest, unit):
        if link(guest, f"{ETC}/{unit}") not in (None, NOWHERE):
            yield Edit(f"{ETC}/{unit}", why)  # an alias of this name, of a unit that is silenced or gone
        return
    path = f"{ETC}/{unit}"
    if present(guest, path) and link(guest, path) is None:
        yield Edit(path, why, move=aside(guest, path))
    if not masked(guest, unit):
        yield Edit(path, why, link=NOWHERE)
