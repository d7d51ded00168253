"""The price list of a run: the one that whoever began it had, kept in the state, so that every machine is sized by the same list,
whenever it moves and on whichever worker. A run that was begun without one goes on without."""

from functools import cache
from typing import TYPE_CHECKING, Any

from v2c import prices
from v2c.prices import Prices
from v2c.state import State, private_folder

if TYPE_CHECKING:
    import sqlalchemy


def fix(connection: Any, run: str, known: Prices | None) -> None:
    """The list of a run that begins, in the transaction that begins it."""
    connection.execute(table().delete().where(table().c.run == run))
    connection.execute(table().insert().values(run=run, list=known.model_dump_json() if known else ""))


def of(state: State, run: str) -> Prices | None:
    """The run's list; None: it has none."""
    text = _read(state, run)
    return prices.parsed(text.encode(), f"of the run {run}") if text else None


def fixed(state: State, run: str) -> bool:
    """Whether the run was begun, with a list or without one."""
    return _read(state, run) is not None


def folder(state: State, run: str) -> str:
    """A folder of this worker's own with the run's list in it, as a conversion takes it; empty: the run has none."""
    known = of(state, run)
    if known is None:
        return ""
    place = private_folder(state.folder / "prices" / run)
    prices.keep(known, place)
    return str(place)


def _read(state: State, run: str) -> str | None:
    import sqlalchemy

    with state.database.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table(table().name):  # who only looks makes none
            return None
        text = connection.execute(sqlalchemy.select(table().c.list).where(table().c.run == run)).scalar()
        return None if text is None else str(text)


@cache
def table() -> "sqlalchemy.Table":
    """Where they are kept."""
    from sqlalchemy import Column, MetaData, Table, Text

    return Table("v2c_run_prices", MetaData(), Column("run", Text, primary_key=True), Column("list", Text, nullable=False))
