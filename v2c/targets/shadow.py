"""Dry runs of targets that lie in files: the real code runs over a throw-away copy, and what it does to the copy is told.

The copy has the tags as they are and empty files in place of disks. Whatever a verb makes, writes or removes there is told with
the name it would have had; so the list is what the code does, and no second description of it.
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from v2c.events import Meter
from v2c.journal import Journal, MemoryJournal
from v2c.model import KIB, Caps, Disk, Finding, Observation, Placement, Plan, Ref
from v2c.targets import Call, Target, Tell
from v2c.transfer import DiskWriter

_SMALL = 256 * KIB  # a tag, a script, UEFI variables; what is larger is a disk


class Scratch:
    """A throw-away folder that stands for `real`, and holds copies of some of what lies there. Gone with this object."""

    def __init__(self, real: Path, files: Iterable[Path]) -> None:
        self.real = real
        self._folder = TemporaryDirectory(prefix="v2c-dry-")
        self.path = Path(self._folder.name)
        for file in files:
            with contextlib.suppress(FileNotFoundError):  # another machine's, removed just now
                self._take(file)

    def _take(self, file: Path) -> None:
        if not file.is_file():
            return
        copy = self.path / file.relative_to(self.real)
        copy.parent.mkdir(parents=True, exist_ok=True)
        size = file.stat().st_size
        if size <= _SMALL:
            shutil.copy2(file, copy)
        else:
            with copy.open("wb") as empty:
                empty.truncate(size)

    def into(self, ref: Ref) -> Ref:
        """A ref whose paths lie here instead of there."""
        return _moved(ref, str(self.real), str(self.path))

    def out(self, ref: Ref) -> Ref:
        """And back."""
        return _moved(ref, str(self.path), str(self.real))

    def tree(self) -> dict[Path, tuple[bool, int, int]]:
        """Every path below: whether it is a folder, its size, its time of change."""
        found = ((path, path.lstat()) for path in self.path.rglob("*"))
        return {path: (True, 0, 0) if path.is_dir() else (False, s.st_size, s.st_mtime_ns) for path, s in found}

    @contextmanager
    def watched(self, tell: Tell, job: str) -> Iterator[None]:
        """Tells what the body changed, in order: what is made before what lies in it, what is removed the other way round."""
        before = self.tree()
        yield
        after = self.tree()
        for path in sorted(set(before) - set(after), reverse=True):
            tell(Call("rmdir" if before[path][0] else "unlink", str(self.real / path.relative_to(self.path))))
        new = [path for path, what in after.items() if before.get(path) != what]
        for path in sorted(new, key=lambda path: (not after[path][0], after[path][2], str(path))):
            folder, size, _ = after[path]
            name = "mkdir" if folder else "write"
            tell(Call(name, str(self.real / path.relative_to(self.path)), (("v2c-job", job),), "" if folder else f"{size} bytes"))


def _moved(ref: Ref, before: str, after: str) -> Ref:
    def moved(text: str) -> str:
        return after + text.removeprefix(before) if text == before or text.startswith(f"{before}/") else text

    return replace(ref, id=moved(ref.id), attributes=tuple((key, moved(value)) for key, value in ref.attributes))


class Shadow:
    """The target `inner`, which works in `scratch`, with the names of the `real` one outside."""

    def __init__(self, real: Target, inner: Target, scratch: Scratch, tell: Tell) -> None:
        self._real, self._inner, self._scratch, self._tell = real, inner, scratch, tell
        self.features, self.platform = inner.features, inner.platform

    @contextmanager
    def _within(self, journal: Journal) -> Iterator[MemoryJournal]:
        """A journal with the names of the copy; what was written into it is in `journal` afterwards."""
        inside = MemoryJournal(journal.job)
        for ref in journal.refs():
            with inside.intent(ref.kind, ref.id) as intent:
                intent.done(self._scratch.into(ref))
        known = set(inside.refs())
        with self._scratch.watched(self._tell, journal.job):
            yield inside
        for ref in set(inside.refs()) - known:
            with journal.intent(ref.kind, self._scratch.out(ref).id) as intent:
                intent.done(self._scratch.out(ref))
        for ref in known - set(inside.refs()):
            journal.undone(self._scratch.out(ref))

    def size(self, plan: Plan) -> Plan:
        return self._real.size(plan)

    def check(self, plan: Plan) -> Iterator[Finding]:
        yield from self._real.check(plan)

    def reserve(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        with self._within(journal) as inside:
            made = list(self._inner.reserve(plan, inside))
        yield from map(self._scratch.out, made)

    @contextmanager
    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> Iterator[DiskWriter]:
        with self._within(journal) as inside, self._inner.writer(plan, disk, base, inside) as writer:
            yield writer

    def read(self, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        yield from ()

    def register(self, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
        with self._within(journal) as inside:
            image = self._inner.register(plan, [self._scratch.into(disk) for disk in disks], caps, inside)
        return self._scratch.out(image)

    def launch(self, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Ref:
        with self._within(journal) as inside:
            instance = self._inner.launch(plan, self._scratch.into(image), placement, inside, meter)
        return self._scratch.out(instance)

    def observe(self, instance: Ref) -> Observation:
        return self._inner.observe(self._scratch.into(instance))

    def stop(self, instance: Ref, journal: Journal) -> None:
        with self._within(journal) as inside:
            self._inner.stop(self._scratch.into(instance), inside)

    def finalize(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        with self._within(journal) as inside:
            gone = list(self._inner.finalize(plan, inside))
        yield from map(self._scratch.out, gone)

    def find(self, job: str) -> Iterator[Ref]:
        yield from map(self._scratch.out, self._inner.find(job))

    def destroy(self, ref: Ref) -> None:
        with self._scratch.watched(self._tell, ref.get("job")):
            self._inner.destroy(self._scratch.into(ref))

    def dry(self, tell: Tell) -> "Shadow":
        return Shadow(self._real, self._inner, self._scratch, tell)
