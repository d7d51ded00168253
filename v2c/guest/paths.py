"""Paths of a guest: always absolute, always "/", whatever runs us; and the one glob that every kind of guest uses."""

import fnmatch
import posixpath
from collections.abc import Callable, Iterator

_MAGIC = frozenset("*?[")


def normal(path: str) -> str:
    """The path without doubled slashes, "." and a trailing slash. ".." stays: only the guest knows where symlinks lead.

    Raises ValueError for a relative path: that is a mistake of ours, never the guest's.
    """
    if not path.startswith("/"):
        raise ValueError(f"a guest's path is absolute, {path!r} is not")
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def parent(path: str) -> str:
    """The directory that holds it; "/" for "/"."""
    return posixpath.dirname(normal(path))


def join(*parts: str) -> str:
    """Parts with one slash between them; an absolute part begins anew, as a symlink's target does."""
    return normal(posixpath.join(*parts))


def expand(pattern: str, names: Callable[[str], list[str]], exists: Callable[[str], bool]) -> list[str]:
    """Existing paths that match, sorted: "*", "?" and "[...]" within one component; a leading dot must be spelt out.

    Reads one directory per component with a pattern in it, so "/lib/modules/*/kernel" is cheap on a slow appliance.
    """
    parts = normal(pattern).split("/")[1:]
    return sorted(_walk("/", [part for part in parts if part], names, exists))


def _walk(base: str, parts: list[str], names: Callable[[str], list[str]], exists: Callable[[str], bool]) -> Iterator[str]:
    plain = 0
    while plain < len(parts) and not _MAGIC & set(parts[plain]):
        plain += 1
    base = join(base, *parts[:plain])
    if plain == len(parts):
        if exists(base):
            yield base
        return
    for name in names(base):
        if fnmatch.fnmatchcase(name, parts[plain]) and (not name.startswith(".") or parts[plain].startswith(".")):
            found = join(base, name)
            if plain + 1 == len(parts):
                yield found  # a dangling symlink too, as a shell's glob has it
            else:
                yield from _walk(found, parts[plain + 1 :], names, exists)
