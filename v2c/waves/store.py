"""The runs of a state, in its database: machines, what was agreed, spans of steps, workers and their hearts.

Whoever changes a machine does so inside `change(run)`, a transaction that nobody else's overlaps (SQLite: IMMEDIATE; PostgreSQL:
an advisory lock of the run). A worker's outcome counts only while the machine's epoch is the one that it claimed.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from v2c.errors import UsageError
from v2c.model.wave import Gate, Span, Stage, Standing
from v2c.prices import Prices
from v2c.state import State
from v2c.waves import pricelist
from v2c.waves.nouns import Agreed, Limits, Machine, Order, Result, Run

if TYPE_CHECKING:
    import sqlalchemy

FORGOTTEN_S = 86_400.0  # a worker that was not heard for so long is told of no more
_ORDER: TypeAdapter[Order] = TypeAdapter(Order)
_RESULT: TypeAdapter[Result] = TypeAdapter(Result)
_AGREED: TypeAdapter[dict[Gate, Agreed]] = TypeAdapter(dict[Gate, Agreed])
_LIMITS: TypeAdapter[Limits] = TypeAdapter(Limits)
_FLAGS = ("paused", "again", "discard", "anyway")
_PLAIN = (
    "why",
    "remedy",
    "tries",
    "worker",
    "epoch",
    "since",
    "not_before",
    "began",
    "ended",
    "claimed",
    "cut_over_at",
    "downtime_s",
)
_WHOLE = ("tries", "epoch")  # of those: numbers without a fraction; `why` to `worker` are text, the rest are seconds
_TEXTS = ("why", "remedy", "worker")


@dataclass(frozen=True, slots=True)
class Heart:
    """A worker as it told of itself. `locks`: where it holds its lock; who has the same sees at once when it is dead. `left`: it
    ended in order, so its machines are free at once."""

    id: str
    host: str
    pid: int
    began: float
    heard: float
    slots: int
    locks: str = ""
    left: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A span of a machine, and what moves in it while it is open."""

    machine: str
    epoch: int
    number: int
    span: Span
    phase: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0
    at: float = 0.0


class Store:
    """Reads and writes runs. Usable from several threads; orders that were read once are kept by their digest."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._orders: dict[tuple[str, str, int, str], Order] = {}
        _create(state)

    # ---- runs --------------------------------------------------------------------------------------------------------------

    def runs(self) -> list[Run]:
        """Every run, oldest first."""
        table = _tables().runs
        with self.state.database.connect() as connection:
            return [_run(row) for row in connection.execute(table.select().order_by(table.c.began)).mappings()]

    def run(self, id: str) -> Run:
        """The run. UsageError when there is none of that name."""
        table = _tables().runs
        with self.state.database.connect() as connection:
            row = connection.execute(table.select().where(table.c.id == id)).mappings().first()
        if row is None:
            known = ", ".join(run.id for run in self.runs()) or "there is none"
            raise UsageError(f'"{id}" is not a run', remedy=f"v2c run WAVE.yaml begins one; known are: {known}")
        return _run(row)

    def machines(self, run: str) -> list[Machine]:
        """Its machines, in their order."""
        with self.state.database.connect() as connection:
            return self._machines(connection, run)

    def results(self, run: str) -> dict[str, Result]:
        """What the reports of its machines say."""
        table = _tables().machines
        query = _sql().select(table.c.id, table.c.result).where(table.c.run == run)
        with self.state.database.connect() as connection:
            return {id: _RESULT.validate_json(text) for id, text in connection.execute(query)}

    def claimed(self, run: str, worker: str) -> dict[str, int]:
        """The machines that a worker holds, each with the epoch of its claim."""
        table = _tables().machines
        query = _sql().select(table.c.id, table.c.epoch)
        query = query.where(table.c.run == run, table.c.worker == worker, table.c.standing == str(Standing.RUNNING))
        with self.state.database.connect() as connection:
            return {row.id: row.epoch for row in connection.execute(query)}

    @contextmanager
    def change(self, run: str) -> "Iterator[Change]":
        """A transaction in which nobody else changes the run."""
        import sqlalchemy

        with self.state.durable.begin() as connection:
            if self.state.sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver would begin at the first write, after what we read
            else:
                lock = int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], "big", signed=True)
                connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            yield Change(self, connection, run)

    def _machines(self, connection: Any, run: str, only: str = "") -> list[Machine]:
        table = _tables().machines
        names = ["id", "digest", "place", "stage", "standing", "asked", "agreed", *_FLAGS, *_PLAIN]
        wanted = _sql().select(*(table.c[n] for n in names)).where(table.c.run == run).order_by(table.c.place)
        rows = connection.execute(wanted.where(table.c.id == only) if only else wanted).all()
        lacking = [(row.id, row.digest) for row in rows if (run, row.id, row.place, row.digest) not in self._orders]
        if lacking:
            query = _sql().select(table.c.id, table.c.place, table.c.digest, table.c.settings).where(table.c.run == run)
            if len(lacking) == 1:
                query = query.where(table.c.id == lacking[0][0])
            for id, place, digest, settings in connection.execute(query):
                self._orders.setdefault((run, id, place, digest), _ORDER.validate_json(settings))
        return [_machine(self._orders[run, row.id, row.place, row.digest], row) for row in rows]

    # ---- spans -------------------------------------------------------------------------------------------------------------

    def draw(self, run: str, bars: Sequence[Bar]) -> None:
        """Writes spans, over what was known of them."""
        if bars:
            with self.state.database.begin() as connection:
                _draw(connection, run, bars)

    def bars(self, run: str) -> list[Bar]:
        """Every span of the run, oldest first."""
        table = _tables().spans
        query = table.select().where(table.c.run == run).order_by(table.c.machine, table.c.epoch, table.c.number)
        with self.state.database.connect() as connection:
            return [_bar(row) for row in connection.execute(query)]

    # ---- workers -----------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The time that hearts are told by: with PostgreSQL its server's, since hosts' clocks differ."""
        if self.state.sqlite:
            return time.time()
        with self.state.database.connect() as connection:
            return _now(connection)

    def beat(self, heart: Heart) -> float:
        """The worker lives; returns when that was."""
        table = _tables().workers
        with self.state.database.begin() as connection:
            at = time.time() if self.state.sqlite else _now(connection)
            row = asdict(replace(heart, heard=at)) | {"left": int(heart.left)}
            connection.execute(table.delete().where((table.c.id == heart.id) | (table.c.heard < at - FORGOTTEN_S)))
            connection.execute(table.insert().values(row))
        return at

    def hearts(self) -> dict[str, Heart]:
        """Every worker that was ever heard, by its name."""
        table = _tables().workers
        with self.state.database.connect() as connection:
            rows = connection.execute(table.select().order_by(table.c.began)).mappings()
            return {row["id"]: Heart(**(dict(row) | {"left": bool(row["left"])})) for row in rows}


class Change:
    """A change of a run that is under way."""

    def __init__(self, store: Store, connection: Any, run: str) -> None:
        self._store, self._connection, self._id = store, connection, run
        self.now = time.time() if store.state.sqlite else _now(connection)

    def run(self) -> Run | None:
        """The run; None when it is not begun."""
        table = _tables().runs
        row = self._connection.execute(table.select().where(table.c.id == self._id)).mappings().first()
        return _run(row) if row else None

    def machines(self) -> list[Machine]:
        """Its machines, in their order."""
        return self._store._machines(self._connection, self._id)

    def machine(self, id: str) -> Machine | None:
        """One of them; None when it is not of this run."""
        found = self._store._machines(self._connection, self._id, id)
        return found[0] if found else None

    def result(self, id: str) -> Result:
        """What its report says."""
        table = _tables().machines
        query = _sql().select(table.c.result).where(table.c.run == self._id, table.c.id == id)
        return _RESULT.validate_json(self._connection.execute(query).scalar() or "{}")

    def fix_prices(self, known: Prices | None) -> None:
        """The price list of a run that begins."""
        pricelist.fix(self._connection, self._id, known)

    def put_run(self, run: Run) -> None:
        """Writes the run, new or not."""
        table = _tables().runs
        row = {
            "id": run.id,
            "manifest": run.manifest,
            "digest": run.digest,
            "began": run.began,
            "waves": json.dumps(run.waves),
            "limits": _LIMITS.dump_json(run.limits).decode(),
            "paused": int(run.paused),
            "until_stage": run.until or "",
        }
        self._connection.execute(table.delete().where(table.c.id == run.id))
        self._connection.execute(table.insert().values(row))

    def add(self, machine: Machine) -> None:
        """A machine joins."""
        self.add_all([machine])

    def add_all(self, machines: Sequence[Machine]) -> None:
        """Machines join."""
        if machines:
            rows = [_row(one) | _settings(one.order) | {"run": self._id, "id": one.id, "result": "{}"} for one in machines]
            self._connection.execute(_tables().machines.insert(), rows)

    def put(self, machine: Machine, result: Result | None = None, *, order: bool = False) -> None:
        """Writes how a machine stands; with `order` also what is to be done with it."""
        table = _tables().machines
        values = _row(machine) | (_settings(machine.order) if order else {})
        if result is not None:
            values["result"] = _RESULT.dump_json(result).decode()
        self._connection.execute(table.update().where(table.c.run == self._id, table.c.id == machine.id).values(values))

    def drop(self, id: str) -> None:
        """A machine is no part of the run any more."""
        table = _tables().machines
        self._connection.execute(table.delete().where(table.c.run == self._id, table.c.id == id))

    def draw(self, bars: Sequence[Bar]) -> None:
        """Writes spans."""
        _draw(self._connection, self._id, bars)

    def close_spans(self, machine: str, at: float, why: str) -> None:
        """Ends what a worker left open."""
        table = _tables().spans
        mine = (table.c.run == self._id, table.c.machine == machine, table.c.ended == 0)
        self._connection.execute(table.update().where(*mine).values(ended=at, error=why))

    def hearts(self) -> dict[str, Heart]:
        """Every worker that was ever heard, by its name."""
        rows = self._connection.execute(_tables().workers.select()).mappings()
        return {row["id"]: Heart(**(dict(row) | {"left": bool(row["left"])})) for row in rows}


# ---- rows ------------------------------------------------------------------------------------------------------------------


def _run(row: Any) -> Run:
    limits, until = _LIMITS.validate_json(row["limits"]), row["until_stage"]
    waves = tuple(json.loads(row["waves"]))
    paused = bool(row["paused"])
    return Run(row["id"], row["manifest"], row["digest"], row["began"], waves, limits, paused, Stage(until) if until else None)


def _machine(order: Order, row: Any) -> Machine:
    known = row._mapping
    plain: dict[str, Any] = {name: known[name] for name in _PLAIN} | {name: bool(known[name]) for name in _FLAGS}
    agreed = _AGREED.validate_json(known["agreed"]) if known["agreed"] != "{}" else {}
    asked = Stage(known["asked"]) if known["asked"] else None
    stage, standing = Stage(known["stage"]), Standing(known["standing"])
    return Machine(order, stage, standing, asked=asked, agreed=agreed, **plain)


def _row(one: Machine) -> dict[str, Any]:
    row = {name: getattr(one, name) for name in _PLAIN} | {name: int(getattr(one, name)) for name in _FLAGS}
    agreed = _AGREED.dump_json(dict(one.agreed)).decode()
    return row | {"stage": str(one.stage), "standing": str(one.standing), "asked": one.asked or "", "agreed": agreed}


def _settings(order: Order) -> dict[str, Any]:
    settings = _ORDER.dump_json(order, by_alias=True).decode()
    return {"place": order.order, "wave": order.wave, "digest": order.digest, "settings": settings}


def _draw(connection: Any, run: str, bars: Sequence[Bar]) -> None:
    table = _tables().spans
    rows = [
        {
            "run": run,
            "machine": bar.machine,
            "epoch": bar.epoch,
            "number": bar.number,
            **asdict(bar.span),
            "stage": str(bar.span.stage),
            "phase": bar.phase,
            "done": bar.done,
            "total": bar.total,
            "rate": bar.rate,
            "at": bar.at,
        }
        for bar in bars
    ]
    if rows:
        keys = ("run", "machine", "epoch", "number")
        same = [table.c[key] == _sql().bindparam(f"b_{key}") for key in keys]
        connection.execute(table.delete().where(*same), [{f"b_{key}": row[key] for key in keys} for row in rows])
        connection.execute(table.insert(), rows)


def _bar(row: Any) -> Bar:
    span = Span(Stage(row.stage), row.step, row.worker, row.began, row.ended, row.bytes, row.error)
    return Bar(row.machine, row.epoch, row.number, span, row.phase, row.done, row.total, row.rate, row.at)


def _now(connection: Any) -> float:
    return float(connection.execute(_sql().text("SELECT extract(epoch FROM clock_timestamp())")).scalar())


def _sql() -> Any:
    import sqlalchemy

    return sqlalchemy


@dataclass(frozen=True)
class _Tables:
    runs: "sqlalchemy.Table"
    machines: "sqlalchemy.Table"
    spans: "sqlalchemy.Table"
    workers: "sqlalchemy.Table"


@cache
def _tables() -> _Tables:
    from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, Table, Text

    meta = MetaData()

    def many(kind: Any, *names: str) -> "list[Column[Any]]":
        return [Column(name, kind, nullable=False) for name in names]

    def keys(*names: str) -> "list[Column[Any]]":
        return [Column(name, Text, primary_key=True) for name in names]

    runs = Table("v2c_runs", meta, *keys("id"), *many(Text, "manifest", "digest", "waves", "limits", "until_stage"),
                 *many(Float, "began"), *many(Integer, "paused"))  # fmt: skip
    seconds = [name for name in _PLAIN if name not in (*_WHOLE, *_TEXTS, "downtime_s")]
    machines = Table("v2c_run_machines", meta, *keys("run", "id"), *many(Integer, "place", *_WHOLE, *_FLAGS),
                     *many(Text, "wave", "digest", "settings", "stage", "standing", "asked", "agreed", "result", *_TEXTS),
                     *many(Float, *seconds), Column("downtime_s", Float))  # fmt: skip
    spans = Table("v2c_run_spans", meta, *keys("run", "machine"), Column("epoch", Integer, primary_key=True),
                  Column("number", Integer, primary_key=True), *many(Text, "stage", "step", "worker", "error", "phase"),
                  *many(Float, "began", "ended", "rate", "at"), *many(BigInteger, "bytes", "done", "total"))  # fmt: skip
    workers = Table("v2c_workers", meta, *keys("id"), *many(Text, "host", "locks"), *many(Integer, "pid", "slots", "left"),
                    *many(Float, "began", "heard"))  # fmt: skip
    return _Tables(runs, machines, spans, workers)


def _create(state: State) -> None:
    """Makes the tables; harmless twice and from two processes."""
    tables = _tables()
    for table in (tables.runs, tables.machines, tables.spans, tables.workers, pricelist.table()):
        state.table(table)
