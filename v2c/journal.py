"""What v2c did outside itself: intents before, refs after, marks in between.

Every remote effect runs inside `with journal.intent(kind, name, tags) as intent:` and calls `intent.done(ref)` when the thing
exists. After a crash an intent without a ref means "tried, outcome unknown": the backend looks for it by tag and adopts it.

`SqlJournal` keeps it in the database of the state, one commit per line, each of which outlives the power; `MemoryJournal`
forgets. Both pass the same tests.
"""

import getpass
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from v2c import crashpoints
from v2c.model import Act, Ref
from v2c.state import State, open_state

if TYPE_CHECKING:
    import sqlalchemy


@dataclass
class Intent:
    """Something about to be made: its kind, its name, the tags it will carry, and the ref once it exists."""

    kind: str
    name: str
    tags: Mapping[str, str]
    ref: Ref | None = None

    def done(self, ref: Ref) -> Ref:
        """It exists, as `ref` (remembered at once); returns it."""
        self.ref = ref
        return ref


class Journal(Protocol):
    """The record of one job."""

    @property
    def job(self) -> str:
        """The job's id; also the value of the tag "v2c-job" on everything it makes."""
        ...

    def intent(self, kind: str, name: str, tags: Mapping[str, str] | None = None) -> AbstractContextManager[Intent]:
        """Written before the body runs; `done` writes the ref. A body that ends without it leaves the intent open.

        An open intent of the same kind and name is taken up again instead of written twice; a ref that is there already is
        not listed twice."""
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

    def act(self, what: str, detail: str = "") -> None:
        """Writes down that somebody did something: who, when and from where is added."""
        ...

    def acts(self) -> list[Act]:
        """Everything that was done, oldest first, intents and undoings among it."""
        ...


def _who() -> tuple[str, str, int]:
    """The user, the host, and the process. A user without a name is told by number."""
    try:
        return getpass.getuser(), socket.gethostname(), os.getpid()
    except (KeyError, OSError):
        return str(os.geteuid()), socket.gethostname(), os.getpid()


@dataclass
class MemoryJournal:
    """A journal that forgets: for tests, dry runs and `plan --repair`."""

    job: str = "memory"
    intents: list[Intent] = field(default_factory=list)
    gone: list[Ref] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    told: list[Act] = field(default_factory=list)

    @contextmanager
    def intent(self, kind: str, name: str, tags: Mapping[str, str] | None = None) -> Iterator[Intent]:
        for intent in self.pending():
            if (intent.kind, intent.name) == (kind, name):
                intent.tags = dict(tags or {})
                break
        else:
            intent = Intent(kind, name, dict(tags or {}))
            self.intents.append(intent)
            self.act(f"make {kind}", name)
        yield intent
        if intent.ref in self.gone:
            self.gone.remove(intent.ref)

    def refs(self, kind: str | None = None) -> list[Ref]:
        made = dict.fromkeys(i.ref for i in self.intents if i.ref is not None and i.ref not in self.gone)
        return [r for r in made if kind is None or r.kind == kind]

    def pending(self) -> list[Intent]:
        return [i for i in self.intents if i.ref is None]

    def undone(self, ref: Ref) -> None:
        self.gone.append(ref)
        self.act(f"remove {ref.kind}", ref.id)

    def note(self, key: str, value: str) -> None:
        self.notes[key] = value

    def noted(self, key: str) -> str | None:
        return self.notes.get(key)

    def act(self, what: str, detail: str = "") -> None:
        self.told.append(Act(time.time(), *_who(), what, detail))

    def acts(self) -> list[Act]:
        return list(self.told)


_fences: dict[str, Callable[[], None]] = {}


@contextmanager
def fenced(job: str, check: Callable[[], None]) -> Iterator[None]:
    """While the body runs, `check` is asked before the job's journal announces anything; it raises when the job is somebody
    else's by now, so that who was taken for dead makes nothing more."""
    _fences[job] = check
    try:
        yield
    finally:
        _fences.pop(job, None)


class SqlJournal:
    """The journal of one job (or of one attempt of it) in the state's database. Usable from several threads."""

    def __init__(self, state: State | Path | str, job: str) -> None:
        self._state = open_state(state)
        self._job = job
        self._lock = threading.Lock()  # so that threads of one job do not race for the same open intent
        _create_tables(self._state)

    @property
    def job(self) -> str:
        return self._job

    @contextmanager
    def intent(self, kind: str, name: str, tags: Mapping[str, str] | None = None) -> Iterator[Intent]:
        crashpoints.point(f"before intent {kind}")
        if check := _fences.get(self.job):
            check()
        intent = _SqlIntent(kind, name, dict(tags or {}), journal=self, row=self._open(kind, name, tags or {}))
        crashpoints.point(f"intent {kind}")
        yield intent

    def refs(self, kind: str | None = None) -> list[Ref]:
        table = _tables().intents
        rows = self._read(table.select().where(table.c.job == self.job, table.c.ref.is_not(None), table.c.undone_at.is_(None)))
        made = dict.fromkeys(_ref_in(row["ref"]) for row in rows)
        return [ref for ref in made if kind is None or ref.kind == kind]

    def pending(self) -> list[Intent]:
        table = _tables().intents
        rows = self._read(table.select().where(table.c.job == self.job, table.c.ref.is_(None)))
        return [Intent(row["kind"], row["name"], json.loads(row["tags"])) for row in rows]

    def undone(self, ref: Ref) -> None:
        table = _tables().intents
        same = (table.c.job == self.job, table.c.ref == _ref_out(ref), table.c.undone_at.is_(None))
        self._write(table.update().where(*same).values(undone_at=time.time()), self._act_row(f"remove {ref.kind}", ref.id))
        crashpoints.point(f"undone {ref.kind}")

    def note(self, key: str, value: str) -> None:
        table = _tables().notes
        self._write(
            table.delete().where(table.c.job == self.job, table.c.key == key),
            table.insert().values(job=self.job, key=key, value=value, at=time.time()),
        )
        crashpoints.point(f"noted {key}")

    def noted(self, key: str) -> str | None:
        table = _tables().notes
        rows = self._read(table.select().where(table.c.job == self.job, table.c.key == key))
        return str(rows[0]["value"]) if rows else None

    def act(self, what: str, detail: str = "") -> None:
        self._write(self._act_row(what, detail))
        crashpoints.point(f"acted {what}")

    def acts(self) -> list[Act]:
        table = _tables().acts
        rows = self._read(table.select().where(table.c.job == self.job))
        return [Act(row["at"], row["who"], row["host"], row["pid"], row["what"], row["detail"]) for row in rows]

    def _open(self, kind: str, name: str, tags: Mapping[str, str]) -> int:
        """The row of a new intent, or of the one that an earlier try left open."""
        table = _tables().intents
        same = (table.c.job == self.job, table.c.kind == kind, table.c.name == name, table.c.ref.is_(None))
        carried = json.dumps(dict(tags))
        with self._lock, self._state.durable.begin() as connection:
            found = connection.execute(table.select().where(*same)).first()
            if found:
                connection.execute(table.update().where(table.c.id == found.id).values(tags=carried))
                return int(found.id)
            connection.execute(self._act_row(f"make {kind}", name))
            values = {"job": self.job, "kind": kind, "name": name, "tags": carried, "at": time.time()}
            row = connection.execute(table.insert().values(values)).inserted_primary_key
            assert row
            return int(row[0])

    def _done(self, row: int, ref: Ref) -> None:
        table = _tables().intents
        crashpoints.point(f"made {ref.kind}")
        self._write(table.update().where(table.c.id == row).values(ref=_ref_out(ref), done_at=time.time(), undone_at=None))
        crashpoints.point(f"ref {ref.kind}")

    def _act_row(self, what: str, detail: str) -> Any:
        who, host, pid = _who()
        values = {"job": self.job, "at": time.time(), "who": who, "host": host, "pid": pid, "what": what, "detail": detail}
        return _tables().acts.insert().values(values)

    def _read(self, statement: Any) -> list[Any]:
        with self._state.durable.connect() as connection:
            return list(connection.execute(statement.order_by(*statement.get_final_froms()[0].primary_key.columns)).mappings())

    def _write(self, *statements: Any) -> None:
        with self._state.durable.begin() as connection:
            for statement in statements:
                connection.execute(statement)


@dataclass
class _SqlIntent(Intent):
    """An intent that writes its ref down the moment it is told."""

    journal: SqlJournal | None = None
    row: int = 0

    def done(self, ref: Ref) -> Ref:
        assert self.journal
        self.journal._done(self.row, ref)
        return super().done(ref)


def _ref_out(ref: Ref) -> str:
    return json.dumps([ref.kind, ref.id, ref.attributes])


def _ref_in(text: str) -> Ref:
    kind, id, attributes = json.loads(text)
    return Ref(kind, id, tuple((key, value) for key, value in attributes))


@dataclass(frozen=True)
class _Tables:
    intents: "sqlalchemy.Table"
    notes: "sqlalchemy.Table"
    acts: "sqlalchemy.Table"


@cache
def _tables() -> _Tables:
    from sqlalchemy import Column, Float, Integer, MetaData, Table, Text

    meta = MetaData()

    def required(name: str, kind: Any = Text) -> "Column[Any]":
        return Column(name, kind, nullable=False)

    intents = Table(
        "v2c_intents",
        meta,
        Column("id", Integer, primary_key=True),
        Column("job", Text, nullable=False, index=True),
        *(required("kind"), required("name"), required("tags"), required("at", Float)),
        *(Column("ref", Text), Column("done_at", Float), Column("undone_at", Float)),
    )
    notes = Table(
        "v2c_notes",
        meta,
        *(Column("job", Text, primary_key=True), Column("key", Text, primary_key=True)),
        *(required("value"), required("at", Float)),
    )
    acts = Table(
        "v2c_acts",
        meta,
        Column("id", Integer, primary_key=True),
        Column("job", Text, nullable=False, index=True),
        *(required("at", Float), required("who"), required("host"), required("pid", Integer)),
        *(required("what"), required("detail")),
    )
    return _Tables(intents, notes, acts)


def _create_tables(state: State) -> None:
    """Makes the tables; harmless twice and from two processes."""
    tables = _tables()
    for table in (tables.intents, tables.notes, tables.acts):
        state.table(table)
