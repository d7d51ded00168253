"""What every reader of disk formats needs: bytes of a file, names that must not lead away, and how a short file is told."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

from v2c.errors import SourceError, UsageError


def read_at(path: Path, offset: int, length: int) -> bytes:
    """Up to `length` bytes; fewer at the end of the file, none before its beginning."""
    if offset < 0:
        return b""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def numbers(path: Path, offset: int, count: int, kind: str) -> array[int]:
    """Up to `count` unsigned numbers: "<I" and "<Q" little-endian, ">I" and ">Q" big-endian; fewer at the end of the file."""
    found: array[int] = array(kind[1])
    raw = read_at(path, offset, count * found.itemsize)
    found.frombytes(raw[: len(raw) - len(raw) % found.itemsize])
    if (kind[0] == ">") == (sys.byteorder == "little"):
        found.byteswap()
    return found


def ended_early(path: Path, why: str) -> SourceError:
    """The error for a file that is shorter than its own tables say."""
    return SourceError(f"{path} is truncated: {why}", remedy="copy it again, and compare the sizes")


def inside(path: Path, name: str, what: str) -> Path:
    """The file that `path` names, which must be a plain file in the same folder. UsageError tells which rule was broken.

    Also refused: whatever QEMU would read as a protocol ("nbd:...", "json:..."). A link is followed, and judged by its end.
    """
    folder = path.resolve().parent
    remedy = f"copy {path.name} to a folder with all its files, or flatten it with qemu-img convert where you trust it"
    if not name or len(name) > 255 or "\0" in name or "\n" in name or ":" in name:
        raise UsageError(f"{path} {what} {name!r}, which is not the name of another file", remedy=remedy)
    named = folder / name
    found = named.resolve()
    if found.parent != folder or ".." in Path(name).parts:
        raise UsageError(f"{path} {what} {name}, outside of its own folder", remedy=remedy)
    if not found.exists():
        raise UsageError(f"{path} {what} {name}, which is not there", remedy="put the missing file beside it")
    if not found.is_file():
        raise UsageError(f"{path} {what} {name}, which is not a plain file", remedy=remedy)
    return found
