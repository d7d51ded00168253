"""Records every change that the fixes make to a guest: what was there before, what is there after, and who did it.

It is itself a guest, around another one. Set `fix` before a fix works; `changes` then tells the story, one entry per fix and
path however often the path was written, in the order of the first write. Nothing is told of a path that ends as it began.
"""

import difflib
import stat as bits
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from v2c.errors import GuestError
from v2c.guest import FileKind, Guest, Stat
from v2c.guest.redact import redact, secret_file
from v2c.model import KIB, MIB, Change, ChangeKind, Facts

SHOWN = 1 * MIB  # larger files are told by their size: an initramfs, never a configuration
LINES = 2000  # of one diff
_WORLD = bits.S_IROTH


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A path at one moment. `content` is None for what is no file, or too large; of a symlink it is what it leads to."""

    stat: Stat | None
    content: bytes | None = None
    target: str = ""
    known: bool = True

    @property
    def large(self) -> bool:
        """A file that was not read."""
        return self.stat is not None and self.stat.kind is FileKind.FILE and self.content is None


@dataclass(slots=True)
class _Entry:
    fix: str
    path: str
    before: Snapshot
    after: Snapshot | None = None
    moved_to: str = ""
    moved_from: str = ""
    written: bool = False


class Ledger:
    """See `v2c.guest.Guest`; reads pass through, writes are recorded under `fix`."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.fix = ""
        self._entries: list[_Entry] = []
        self._ran: set[str] = set()

    @contextmanager
    def doing(self, fix: str) -> Iterator["Ledger"]:
        """Changes inside the block are this fix's."""
        before, self.fix = self.fix, fix
        try:
            yield self
        finally:
            self.fix = before

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was changed so far, secrets taken out."""
        return tuple(self._told())

    @property
    def facts(self) -> Facts:
        return self.guest.facts

    def exists(self, path: str) -> bool:
        return self.guest.exists(path)

    def stat(self, path: str) -> Stat:
        return self.guest.stat(path)

    def read(self, path: str) -> bytes:
        return self.guest.read(path)

    def text(self, path: str) -> str:
        return self.guest.text(path)

    def names(self, path: str) -> list[str]:
        return self.guest.names(path)

    def glob(self, pattern: str) -> list[str]:
        return self.guest.glob(pattern)

    def readlink(self, path: str) -> str:
        return self.guest.readlink(path)

    def fetch(self, path: str, local: str) -> None:
        self.guest.fetch(path, local)

    def write(self, path: str, data: bytes | str, *, mode: int | None = None) -> None:
        self._look(path).written = True
        self.guest.write(path, data, mode=mode)

    def remove(self, path: str) -> None:
        self._look(path)
        self.guest.remove(path)

    def rename(self, path: str, to: str) -> None:
        old, new = self._look(path), self._look(to)
        self.guest.rename(path, to)
        old.moved_to, new.moved_from = to, path

    def symlink(self, target: str, path: str) -> None:
        self._look(path)
        self.guest.symlink(target, path)

    def chmod(self, path: str, mode: int) -> None:
        self._look(path)
        self.guest.chmod(path, mode)

    def run(self, argv: Sequence[str], *, timeout: float = 900.0) -> str:
        self._ran.add(self.fix)
        return self.guest.run(argv, timeout=timeout)

    def free(self, path: str) -> int:
        return self.guest.free(path)

    def touched(self, paths: Iterable[str]) -> None:
        """Best said before the program runs: said after it, the content before is not known and the change is told so."""
        for path in paths:
            late = self.fix in self._ran and not any(e.fix == self.fix and e.path == path for e in self._entries)
            entry = self._look(path)
            entry.written = True
            if late:
                entry.before = Snapshot(None, known=False)
            self.guest.touched((path,))

    def _look(self, path: str) -> _Entry:
        """This fix's entry for the path; whatever another fix left there is what this one found."""
        previous = next((e for e in reversed(self._entries) if e.path == path), None)
        if previous is not None and previous.fix == self.fix:
            return previous
        now = self._snapshot(path)
        if previous is not None and previous.after is None:
            previous.after = now
        entry = _Entry(self.fix, path, now)
        self._entries.append(entry)
        return entry

    def _snapshot(self, path: str) -> Snapshot:
        try:
            stat = self.guest.stat(path)
        except OSError:
            return Snapshot(None)
        target = self.guest.readlink(path) if stat.kind is FileKind.SYMLINK else ""
        if stat.kind is FileKind.FILE and stat.size > SHOWN:
            return Snapshot(stat)
        if stat.kind not in (FileKind.FILE, FileKind.SYMLINK):
            return Snapshot(stat)
        try:
            return Snapshot(stat, self.guest.read(path), target)
        except (OSError, GuestError):
            return Snapshot(stat, None, target)

    def _told(self) -> Iterator[Change]:
        for entry in self._entries:
            after = entry.after or self._snapshot(entry.path)
            if entry.moved_to:
                text = f"renamed to {entry.moved_to}" if after.stat is None else f"the file as it was is kept as {entry.moved_to}"
                yield Change(entry.fix, ChangeKind.RENAMED, entry.path, text)
            if entry.moved_from or (entry.moved_to and after.stat is None):
                continue
            change = _compare(entry, after)
            if change is not None:
                yield change


def _compare(entry: _Entry, after: Snapshot) -> Change | None:
    before, path = entry.before, entry.path
    if not before.known:
        text = f"written by a program of the guest{_size(after)}; what it was before is not known"
        return Change(entry.fix, ChangeKind.CHANGED if after.stat else ChangeKind.REMOVED, path, text)
    if before.stat is None and after.stat is None:
        return None
    if after.stat is None:
        return Change(entry.fix, ChangeKind.REMOVED, path, _diff(path, before, after))
    if after.stat.kind is FileKind.SYMLINK and (before.stat is None or before.target != after.target):
        was = f", was a symlink to {before.target}" if before.target else ", replaces what was there" if before.stat else ""
        return Change(entry.fix, ChangeKind.LINKED, path, f"now a symlink to {after.target}{was}")
    if before.stat is None:
        return Change(entry.fix, ChangeKind.CREATED, path, _diff(path, before, after))
    modes = f"mode {before.stat.mode:04o} -> {after.stat.mode:04o}" if before.stat.mode != after.stat.mode else ""
    if before.content != after.content or before.stat.kind is not after.stat.kind or (after.large and entry.written):
        return Change(entry.fix, ChangeKind.CHANGED, path, "\n".join(t for t in (modes, _diff(path, before, after)) if t))
    return Change(entry.fix, ChangeKind.MODE, path, modes) if modes else None


def _diff(path: str, before: Snapshot, after: Snapshot) -> str:
    """A unified diff without secrets, or a sentence where text would say too much or nothing."""
    if before.large or after.large:
        return f"a large file{_size(before, after)}; not shown"
    if any(s.stat is not None and s.stat.kind is FileKind.DIRECTORY for s in (before, after)):
        return "a directory"
    closed = any(s.stat is not None and s.stat.kind is FileKind.FILE and not s.stat.mode & _WORLD for s in (before, after))
    if closed or secret_file(path):
        return f"a file that not everybody may read{_size(before, after)}; its text is not shown"
    try:
        old, new = (_text(snapshot) for snapshot in (before, after))
    except UnicodeDecodeError:
        return f"a binary file{_size(before, after)}; not shown"
    if "\0" in old + new:
        return f"a binary file{_size(before, after)}; not shown"
    names = (f"a{path}" if before.stat else "/dev/null", f"b{path}" if after.stat else "/dev/null")
    lines = list(difflib.unified_diff(_lines(redact(path, old)), _lines(redact(path, new)), *names, lineterm=""))
    if not lines and old != new:
        return "only what is redacted changed"
    if len(lines) > LINES:
        lines = [*lines[:LINES], f"... {len(lines) - LINES} more lines"]
    return "\n".join(lines)


def _text(snapshot: Snapshot) -> str:
    return (snapshot.content or b"").decode("utf-8")


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _size(*snapshots: Snapshot) -> str:
    """ " (10 KiB -> 12 KiB)"; a missing side is left out."""
    sizes = [s.stat.size for s in snapshots if s.stat is not None]
    words = [
        f"{size / MIB:.1f} MiB" if size >= MIB else f"{size / KIB:.1f} KiB" if size >= KIB else f"{size} bytes" for size in sizes
    ]
    return f" ({' -> '.join(words)})" if words else ""
