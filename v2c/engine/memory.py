"""What the engine remembers, and how others read it: DBOS's client, values as JSON, progress, the status of jobs.

Nothing here runs a story. `v2c status` and its like come here and never launch an engine.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from v2c.errors import V2cError
from v2c.model import StepRecord
from v2c.state import State, held, hold, open_state, private_folder

if TYPE_CHECKING:
    import sqlalchemy
    from dbos import DBOSClient

ACTIVE = ("PENDING", "ENQUEUED", "DELAYED")
RECORD: TypeAdapter[StepRecord] = TypeAdapter(StepRecord)


class Redo(V2cError):
    """A story asks for an earlier step again, because what it made is gone (a capture). Raised by `steps.redo`."""

    def __init__(self, text: str, *, remedy: str = "", transient: bool = False, step: str = "") -> None:
        super().__init__(text, remedy=remedy, transient=transient)
        self.step = step


class Phase(StrEnum):
    """How a job stands."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"  # paused, or its process is gone: the same command goes on
    DONE = "done"
    FAILED = "failed"  # the same command redoes the failed step
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a running step is: `done` of `total` bytes (0: unknown), told at `at`; at most two seconds old."""

    step: str
    phase: str
    done: int
    total: int
    at: float


@dataclass(frozen=True, slots=True)
class Status:
    """A job as the database knows it. `steps` are those that ended, in order; times are seconds since the epoch."""

    job: str
    attempt: str
    phase: Phase
    story: str
    began: float
    updated: float
    error: str = ""
    steps: tuple[StepRecord, ...] = ()
    progress: Progress | None = None


def status(where: State | Path | str, job: str) -> Status | None:
    """How a job's newest attempt stands, read without starting anything; None when nobody began it."""
    state = open_state(where)
    with client(state) as known:
        found = latest(known, job) if known else None
        return _status(state, known, found) if known and found else None


def statuses(where: State | Path | str) -> tuple[Status, ...]:
    """Every attempt of every job, oldest first."""
    state = open_state(where)
    with client(state) as known:
        found = sorted(known.list_workflows(), key=lambda w: (w.created_at or 0, number(w.workflow_id))) if known else []
        return tuple(_status(state, known, attempt) for attempt in found) if known else ()


def cancel(where: State | Path | str, job: str) -> bool:
    """Ends a job for good; a running one stops within seconds. False when there was nothing to cancel."""
    state = open_state(where)
    with client(state) as known:
        found = latest(known, job) if known else None
        if not known or not found or found.status not in ACTIVE:
            return False  # what is over is over; `v2c cleanup` removes what it left
        known.cancel_workflow(found.workflow_id)
        return True


def attempts(where: State | Path | str, job: str) -> tuple[str, ...]:
    """The ids of every try of a job, oldest first: JOB, JOB.2, ..."""
    with client(open_state(where)) as known:
        return tuple(found.workflow_id for found in _tries(known, job)) if known else ()


def forget(where: State | Path | str, job: str) -> None:
    """Strikes out every attempt of a job and its memos, so that the same command begins from nothing. Harmless twice.

    For `v2c cleanup`, when nothing of the job is left. BusyError while it runs.
    """
    state = open_state(where)
    with client(state) as known, hold(lockfile(state, job), f"job {job}"):
        if known:
            for found in _tries(known, job):
                known.delete_workflow(found.workflow_id)


def _status(state: State, known: "DBOSClient", found: Any) -> Status:
    phases = {"SUCCESS": Phase.DONE, "CANCELLED": Phase.CANCELLED}
    phase = phases.get(found.status, Phase.FAILED)
    if found.status in ACTIVE:
        executor = (found.executor_id or found.workflow_id.partition(".")[0]).partition("#")[0]
        phase = Phase.RUNNING if held(lockfile(state, executor)) else Phase.INTERRUPTED
    memos = [memo["output"] for memo in known.list_workflow_steps(found.workflow_id)]
    steps = tuple(RECORD.validate_python(m["record"]) for m in memos if isinstance(m, dict) and "record" in m)
    return Status(
        job=found.workflow_id.partition(".")[0],
        attempt=found.workflow_id,
        phase=phase,
        story=str(found.input["args"][0]) if found.input else "",
        began=(found.created_at or 0) / 1000,
        updated=(found.updated_at or 0) / 1000,
        error=str(found.error) if found.error else "",
        steps=steps,
        progress=_progress(state, found.workflow_id) if phase is Phase.RUNNING else None,
    )


def lockfile(state: State, executor: str) -> Path:
    """The lock that the process running as `executor` holds."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in executor)
    return private_folder(state.folder / "locks") / f"{safe}.engine"


# --- DBOS's client and its values ---------------------------------------------------------------------------------------


@contextmanager
def client(state: State) -> "Iterator[DBOSClient | None]":
    """A client of the state's database; None when no engine ever ran there (a client makes no tables)."""
    import sqlalchemy

    schema = None if state.sqlite else "dbos"
    if not sqlalchemy.inspect(state.database).has_table("workflow_status", schema=schema):
        yield None
        return
    from dbos import DBOSClient

    made = DBOSClient(system_database_engine=state.database, serializer=serializer(), application_name="v2c", lazy=True)
    try:
        yield made
    finally:
        made.destroy()


def latest(known: "DBOSClient", job: str) -> Any:
    """The newest attempt of a job: JOB, JOB.2, JOB.3, ...; None when there is none."""
    return next(reversed(_tries(known, job)), None)


def _tries(known: "DBOSClient", job: str) -> list[Any]:
    tries = known.list_workflows(workflow_ids=[job]) + known.list_workflows(workflow_id_prefix=f"{job}.")
    return sorted(tries, key=lambda found: number(found.workflow_id))


def number(attempt: str) -> int:
    """Which try an attempt's id says it is: 1 for "JOB", 2 for "JOB.2"."""
    return int(attempt.partition(".")[2] or 1)


def redo_from(known: "DBOSClient", attempt: str, step: str) -> int:
    """The number of the first step to do again: that of `step`, or the one after the last memo."""
    memos = known.list_workflow_steps(attempt, load_output=False)
    for memo in memos:
        if memo["function_name"] == step:
            return int(memo["function_id"])
    return max((int(memo["function_id"]) for memo in memos), default=0) + 1


@cache
def serializer() -> Any:
    """Values as JSON, errors by the names of our own tree. Only the outermost object says which it is, so a value that
    came from a guest cannot pose as an error; nothing is ever unpickled."""
    from dbos import Serializer

    class Json(Serializer):
        def name(self) -> str:
            return "v2c-json"

        def serialize(self, data: Any) -> str:
            if isinstance(data, BaseException):
                return json.dumps({"error": _error_out(data)})
            return json.dumps({"value": data})

        def deserialize(self, serialized_data: str) -> Any:
            document = json.loads(serialized_data)
            return _error_in(document["error"]) if "error" in document else document["value"]

    return Json()


def _error_out(error: BaseException) -> dict[str, Any]:
    name = type(error).__name__
    if not isinstance(error, V2cError):
        return {"type": name, "text": str(error)}
    return {"type": name, **{k: v for k, v in vars(error).items() if isinstance(v, str | bool | int | float)}}


def _error_in(document: dict[str, Any]) -> V2cError:
    """The error as its own class. What is not ours comes back as a V2cError that names it."""
    fields = dict(document)
    name = str(fields.pop("type"))
    kind = _tree(V2cError).get(name)
    if kind is None:
        return V2cError(f"an internal error ended the job ({name}: {fields.get('text', '')})", remedy="try it with --debug")
    error = kind.__new__(kind)
    V2cError.__init__(error, str(fields.get("text", "")))
    for key, value in fields.items():
        setattr(error, key, value)
    return error


def _tree(root: type[V2cError]) -> dict[str, type[V2cError]]:
    found = {root.__name__: root}
    for kind in root.__subclasses__():
        found |= _tree(kind)
    return found


# --- progress: one row per attempt, overwritten -------------------------------------------------------------------------


@cache
def _table() -> "sqlalchemy.Table":
    from sqlalchemy import BigInteger, Column, Float, MetaData, String, Table

    return Table(
        "v2c_progress",
        MetaData(),
        Column("attempt", String, primary_key=True),
        Column("step", String, nullable=False),
        Column("phase", String, nullable=False),
        Column("done", BigInteger, nullable=False),
        Column("total", BigInteger, nullable=False),
        Column("at", Float, nullable=False),
    )


def create_tables(state: State) -> None:
    """Makes the engine's own table; harmless twice and from two processes."""
    state.table(_table())


def store_progress(state: State, attempt: str, progress: Progress) -> None:
    """Replaces what is known of the attempt's running step."""
    table = _table()
    with state.database.begin() as connection:
        connection.execute(table.delete().where(table.c.attempt == attempt))
        row = {"step": progress.step, "phase": progress.phase, "done": progress.done, "total": progress.total, "at": progress.at}
        connection.execute(table.insert().values(attempt=attempt, **row))


def _progress(state: State, attempt: str) -> Progress | None:
    table = _table()
    with state.database.connect() as connection:
        row = connection.execute(table.select().where(table.c.attempt == attempt)).mappings().first()
    return Progress(row["step"], row["phase"], row["done"], row["total"], row["at"]) if row else None
