"""Which systemd units are enabled, read offline: what `systemctl list-unit-files --state=enabled` prints after the boot.

systemd's rule (src/shared/install.c, unit_file_lookup_state): a unit file of the search path is enabled when a symlink of its
name lies in a .wants, .requires or .upholds directory of /etc/systemd/system (wherever it points), or when a symlink there
with another name points at it and that name is in its [Install] Alias=. A template is enabled by any of its instances. A unit
file that is itself a symlink to another name is an alias, one that leads to /dev/null (or is empty) is masked.
"""

import posixpath
from collections.abc import Iterator

from v2c.guest import FileKind, Guest
from v2c.guest.formats.ini import Ini

CONFIG = "/etc/systemd/system"
SEARCH = (
    "/etc/systemd/system.control",
    CONFIG,
    "/etc/systemd/system.attached",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_DIRECTORIES = (".wants", ".requires", ".upholds")
_SUFFIXES = (".service", ".socket", ".target", ".timer", ".path", ".mount", ".automount", ".swap", ".slice", ".scope", ".device")


def enabled(guest: Guest) -> tuple[str, ...]:
    """The enabled units, sorted as `sort` does in the C locale."""
    return tuple(sorted(set(_found(guest))))


def _found(guest: Guest) -> Iterator[str]:
    for name in guest.names(CONFIG):
        where = f"{CONFIG}/{name}"
        if name.endswith(_DIRECTORIES):
            for wanted in guest.names(where):
                yield from _wanted(guest, wanted)
        elif name.endswith(_SUFFIXES) and _kind(guest, where) is FileKind.SYMLINK:
            yield from _aliased(guest, name, posixpath.basename(guest.readlink(where)))


def _wanted(guest: Guest, name: str) -> Iterator[str]:
    if not name.endswith(_SUFFIXES):
        return
    for unit in dict.fromkeys((name, _template(name))):
        if unit and _is_unit(guest, unit):
            yield unit


def _aliased(guest: Guest, alias: str, unit: str) -> Iterator[str]:
    """Symlinks in /etc/systemd/system itself: display-manager.service -> gdm.service enables gdm, if gdm says so."""
    if unit == alias or not unit.endswith(_SUFFIXES) or not _is_unit(guest, unit):
        return
    path = _path(guest, unit)
    text = guest.text(path) if path else ""
    if alias in " ".join(Ini(text).all("Install", "Alias")).split():
        yield unit


def _template(name: str) -> str:
    """getty@tty1.service: getty@.service; "" for what is no instance."""
    stem, at, rest = name.partition("@")
    instance, _, suffix = rest.rpartition(".")
    return f"{stem}@.{suffix}" if at and instance else ""


def _path(guest: Guest, unit: str) -> str:
    """The first file of that name, as systemd takes it."""
    return next((f"{folder}/{unit}" for folder in SEARCH if _kind(guest, f"{folder}/{unit}")), "")


def _is_unit(guest: Guest, unit: str) -> bool:
    """Whether a unit file of that name is there, neither masked nor only another's alias."""
    path = _path(guest, unit)
    if not path:
        return False
    stat = guest.stat(path)
    if stat.kind is FileKind.SYMLINK:
        target = guest.readlink(path)
        return target != "/dev/null" and posixpath.basename(target) == unit and guest.exists(path)
    return stat.kind is FileKind.FILE and stat.size > 0


def _kind(guest: Guest, path: str) -> FileKind | None:
    try:
        return guest.stat(path).kind
    except OSError:
        return None
