"""Jobs: what makes two commands the same one, who works on it, where its files lie, and what is known of it afterwards.

    with Jobs(state, workbase).claim(job_id(sources, target, repair)) as job:
        job.began(sources, target, fingerprint, again=False)
        report = job.engine(listener).run(...)

A job's id is a digest of what is moved, where to, and how it is repaired: the same command finds its job again, in any
terminal, after any crash. The claim is a lock that dies with its process.
"""

import getpass
import hashlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from v2c.engine import Engine, attempts, forget
from v2c.errors import SourceError, UsageError
from v2c.events import Listener, silent
from v2c.journal import SqlJournal
from v2c.model import Repair
from v2c.state import State, hold, open_state, private_folder

if TYPE_CHECKING:
    import sqlalchemy

ID_DIGITS = 16  # 64 bits of a SHA-256: enough for every machine of an estate, short enough to type
LATER = ("test", "cutover")  # stories that are told of a job once it was converted, under its id and this word
_ID = re.compile(r"[0-9a-z][0-9a-z-]{0,62}")


def job_id(sources: Sequence[str], target: str, repair: Repair = Repair()) -> str:  # noqa: B008 - frozen
    """The job's id: 16 hex digits. `sources` are locators; those that are files are told by their real path, so that the
    same file named from another folder is the same job."""
    real = [str(Path(source).resolve()) if Path(source).exists() else source for source in sources]
    identity = [real, target, TypeAdapter(Repair).dump_python(repair, mode="json")]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:ID_DIGITS]


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is known of a job. `folder` holds its overlays, block maps, console and reports; times in seconds."""

    id: str
    sources: tuple[str, ...]
    target: str
    folder: str
    fingerprint: str
    began: float
    who: str
    host: str


class Jobs:
    """The jobs of a state; their folders are made below `workbase`."""

    def __init__(self, state: State | Path | str, workbase: Path) -> None:
        self.state = open_state(state)
        self.workbase = workbase

    @contextmanager
    def claim(self, id: str) -> "Iterator[Job]":
        """The job, ours alone while the body runs. BusyError "job X is being worked on by pid N since ..."."""
        if not _ID.fullmatch(id):
            raise UsageError(f'"{id}" is not a job', remedy="see `v2c status`")
        with hold(private_folder(self.state.folder / "locks") / f"{id}.job", f"job {id}"):
            yield Job(self, id)

    def find(self, id: str) -> JobRecord:
        """The job with this id, or the only one whose id begins so. UsageError otherwise."""
        found = [record for record in self.all() if record.id.startswith(id)] if id else []
        exact = [record for record in found if record.id == id]
        if len(exact or found) == 1:
            return (exact or found)[0]
        wrong = "matches several jobs" if found else "is not a job"
        raise UsageError(f'"{id}" {wrong}', remedy="see `v2c status`")

    def told(self, id: str) -> str:
        """The report of a job as JSON, by whichever worker it was told; empty when there is none."""
        table = _reports()
        _create(self.state)
        with self.state.database.connect() as connection:
            row = connection.execute(table.select().where(table.c.job == id)).first()
        return str(row.report) if row else ""

    def all(self) -> list[JobRecord]:
        """Every job, oldest first."""
        table = _table()
        _create(self.state)
        with self.state.database.connect() as connection:
            rows = connection.execute(table.select().order_by(table.c.began)).mappings().all()
        return [_record(row) for row in rows]


class Job:
    """A claimed job."""

    def __init__(self, jobs: Jobs, id: str) -> None:
        self._jobs = jobs
        self.id = id
        self.state = jobs.state

    @property
    def folder(self) -> Path:
        """Its own folder (0700), made if need be; the one it began in, though --workdir names another one by now. Where several
        workers share a PostgreSQL state it is ours below `workbase`, since another one's folder may lie on another host."""
        record = self.record()
        if record and self.state.sqlite:
            return private_folder(Path(record.folder))
        private_folder(self._jobs.workbase)
        return private_folder(self._jobs.workbase / self.id)

    def record(self) -> JobRecord | None:
        """What is known of it, None before `began`."""
        table = _table()
        _create(self.state)
        with self.state.database.connect() as connection:
            row = connection.execute(table.select().where(table.c.id == self.id)).mappings().first()
        return _record(row) if row else None

    def began(self, sources: Sequence[str], target: str, fingerprint: str, *, again: bool = False) -> JobRecord:
        """Remembers the job; the second time, checks that its source is what it was.

        SourceError when `fingerprint` differs from the one it began with; `again` begins anew with the new one.
        """
        known = self.record()
        if known and not again:
            if known.fingerprint != fingerprint:
                raise SourceError(
                    f"{' '.join(sources)} changed since job {self.id} began", remedy="start it anew with --again if that is right"
                )
            here = replace(known, folder=str(self.folder.resolve()), host=socket.gethostname())
            if here.folder != known.folder:  # another worker goes on with it
                table = _table()
                with self.state.durable.begin() as connection:
                    connection.execute(table.update().where(table.c.id == self.id).values(folder=here.folder, host=here.host))
                return here
            return known
        made = JobRecord(
            id=self.id,
            sources=tuple(sources),
            target=target,
            folder=str(self.folder.resolve()),
            fingerprint=fingerprint,
            began=known.began if known else time.time(),
            who=_user(),
            host=socket.gethostname(),
        )
        table = _table()
        row = {name: getattr(made, name) for name in made.__dataclass_fields__} | {"sources": json.dumps(made.sources)}
        with self.state.durable.begin() as connection:
            connection.execute(table.delete().where(table.c.id == self.id))
            connection.execute(table.insert().values(row))
        return made

    def journal(self) -> SqlJournal:
        """Its journal: one for all its attempts, so that clean-up finds what any of them made."""
        return SqlJournal(self.state, self.id)

    def engine(self, listener: Listener = silent, farewell: Callable[[], None] = lambda: None) -> Engine:
        """An engine that runs this job only."""
        return Engine(self.state, self.id, journal=lambda _: self.journal(), listener=listener, farewell=farewell)

    def attempts(self) -> tuple[str, ...]:
        """The ids of every try of it, as the engine counts them: JOB, JOB.2 after --again, ..."""
        return attempts(self.state, self.id)

    def restart(self) -> None:
        """Strikes its memos out: the same command does every step again. What is known of the job stays."""
        for story in (self.id, *(f"{self.id}-{later}" for later in LATER)):
            forget(self.state, story)

    def forget(self) -> None:
        """Strikes the job and its memos out: the same command begins from nothing. Its folder and its journal stay, as the
        record of who made and removed what; the caller has seen to the rest."""
        self.restart()
        table = _table()
        with self.state.durable.begin() as connection:
            connection.execute(table.delete().where(table.c.id == self.id))
        self.tell("")

    def tell(self, report: str) -> None:
        """Remembers the report (JSON) where every worker finds it; an empty one strikes it out."""
        table = _reports()
        with self.state.durable.begin() as connection:
            connection.execute(table.delete().where(table.c.job == self.id))
            if report:
                connection.execute(table.insert().values(job=self.id, report=report))

    def told(self) -> str:
        """The report that was told last, by whichever worker; empty when there is none."""
        return self._jobs.told(self.id)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _record(row: Any) -> JobRecord:
    fields = {name: row[name] for name in JobRecord.__dataclass_fields__}
    return JobRecord(**{**fields, "sources": tuple(json.loads(row["sources"]))})


@cache
def _table() -> "sqlalchemy.Table":
    from sqlalchemy import Column, Float, MetaData, Table, Text

    texts = [Column(name, Text, nullable=False) for name in ("sources", "target", "folder", "fingerprint", "who", "host")]
    return Table("v2c_jobs", MetaData(), Column("id", Text, primary_key=True), *texts, Column("began", Float, nullable=False))


@cache
def _reports() -> "sqlalchemy.Table":
    from sqlalchemy import Column, MetaData, Table, Text

    return Table("v2c_reports", MetaData(), Column("job", Text, primary_key=True), Column("report", Text, nullable=False))


def _create(state: State) -> None:
    for table in (_table(), _reports()):
        state.table(table)
