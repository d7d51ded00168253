"""What workers take of things that they share, in the state's database: who takes how much, by the thing's name."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from v2c.waves.claims import alive
from v2c.waves.store import Store

if TYPE_CHECKING:
    import sqlalchemy


class Shares:
    """One worker's view of one kind of them. Usable from several threads."""

    def __init__(self, store: Store, worker: str, kind: str) -> None:
        self._store, self._worker, self._kind, self._told = store, worker, f"{kind}:", dict[str, float]()
        store.state.table(_table())

    def exchange(self, ours: Mapping[str, float]) -> dict[str, float]:
        """Tells what this worker takes (a thing that it does not name any more, it takes nothing of), and answers with what the
        others that live take of the same things, added up."""
        if dict(ours) != self._told:
            self._tell(ours)
            self._told = dict(ours)
        return self._others() if ours else {}

    def _tell(self, ours: Mapping[str, float]) -> None:
        table = _table()
        rows = [{"worker": self._worker, "thing": self._kind + thing, "count": count} for thing, count in ours.items()]
        known = [*self._store.hearts(), self._worker]
        own = (table.c.worker == self._worker) & table.c.thing.startswith(self._kind, autoescape=True)
        gone = table.c.worker.not_in(known)  # what workers left that nobody remembers
        with self._store.state.database.begin() as connection:
            connection.execute(table.delete().where(own | gone))
            if rows:
                connection.execute(table.insert(), rows)

    def _others(self) -> dict[str, float]:
        table = _table()
        with self._store.state.database.connect() as connection:
            others = (table.c.worker != self._worker) & table.c.thing.startswith(self._kind, autoescape=True)
            rows = connection.execute(table.select().where(others)).all()
        if not rows:
            return {}
        hearts, now = self._store.hearts(), self._store.now()
        found: dict[str, float] = {}
        for worker, thing, count in rows:
            if worker in hearts and alive(hearts[worker], self._store.state, now):
                name = thing.removeprefix(self._kind)
                found[name] = found.get(name, 0.0) + count
        return found


@cache
def _table() -> "sqlalchemy.Table":
    from sqlalchemy import Column, Float, MetaData, Table, Text

    names = [Column(name, Text, primary_key=True) for name in ("worker", "thing")]
    return Table("v2c_shares", MetaData(), *names, Column("count", Float, nullable=False))
