"""What v2c did outside itself: intents before, refs after, marks in between.

Every remote effect runs inside `with journal.intent(kind, name, tags) as intent:` and calls `intent.done(ref)` when the thing
exists. After a crash an intent without a ref means "tried, outcome unknown": the backend looks for it by tag and adopts it.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from v2c.model import Ref


@dataclass
class Intent:
    """Something about to be made: its kind, its name, the tags it will carry, and the ref once it exists."""

    kind: str
    name: str
    tags: Mapping[str, str]
    ref: Ref | None = None

    def done(self, ref: Ref) -> Ref:
        """It exists, as `ref`; returns it."""
        self.ref = ref
        return ref


class Journal(Protocol):
    """The record of one job."""

    @property
    def job(self) -> str:
        """The job's id; also the value of the tag "v2c-job" on everything it makes."""
        ...

    def intent(self, kind: str, name: str, tags: Mapping[str, str] | None = None) -> AbstractContextManager[Intent]:
        """Written before the body runs; the ref is written when the body ends. An exception leaves the intent open."""
        ...

    def refs(self, kind: str | None = None) -> list[Ref]:
        """What was made and not undone, oldest first."""
        ...

    def pending(self) -> list[Intent]:
        """Intents without a ref: tried, outcome unknown."""
        ...

    def undone(self, ref: Ref) -> None:
        """It is gone again."""
        ...

    def note(self, key: str, value: str) -> None:
        """Remembers a value (a mark, a path and digest) under a key of this job; overwrites."""
        ...

    def noted(self, key: str) -> str | None:
        """The value, or None."""
        ...


@dataclass
class MemoryJournal:
    """A journal that forgets: for tests, dry runs and `plan --repair`."""

    job: str = "memory"
    intents: list[Intent] = field(default_factory=list)
    gone: list[Ref] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def intent(self, kind: str, name: str, tags: Mapping[str, str] | None = None) -> Iterator[Intent]:
        intent = Intent(kind, name, dict(tags or {}))
        self.intents.append(intent)
        yield intent

    def refs(self, kind: str | None = None) -> list[Ref]:
        made = [i.ref for i in self.intents if i.ref is not None and i.ref not in self.gone]
        return [r for r in made if kind is None or r.kind == kind]

    def pending(self) -> list[Intent]:
        return [i for i in self.intents if i.ref is None]

    def undone(self, ref: Ref) -> None:
        self.gone.append(ref)

    def note(self, key: str, value: str) -> None:
        self.notes[key] = value

    def noted(self, key: str) -> str | None:
        return self.notes.get(key)
