"""A manifest becomes a run, or joins the run that it began: new machines join, unchanged ones go on, changed ones are judged."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from v2c import waveplan
from v2c.errors import UsageError
from v2c.journal import SqlJournal
from v2c.model import Level
from v2c.model.wave import Stage, Standing
from v2c.prices import Prices
from v2c.state import State
from v2c.waves.nouns import Machine, Order, Run
from v2c.waves.orders import Wanted
from v2c.waves.store import Store


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of a manifest: the run, and the machines that joined it, got new settings, or left it before they began."""

    run: str
    joined: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]


def bound(document: Mapping[str, Any], wanted: Wanted) -> None:
    """UsageError when the plan file is not the plan of these machines."""
    try:
        other = waveplan.changed(document, wanted.plan)
    except (KeyError, TypeError) as error:
        raise UsageError("the plan file is not one that v2c plan wrote", remedy="write it with v2c plan --out") from error
    if other:
        names = ", ".join(other[:5]) + (f" and {len(other) - 5} more" if len(other) > 5 else "")
        raise UsageError(f"since it was planned these changed: {names}", remedy="see v2c plan again, and run by its new file")


def begin(
    state: State,
    wanted: Wanted,
    *,
    until: Stage | None = None,
    edit: bool = False,
    scope: str | None = None,
    book: Prices | None = None,
) -> Begun:
    """Writes the run down. With `edit` machines that began already take new settings, too, as far as they are still the same job;
    without it they are a UsageError that names them. `scope`: the wave that `wanted` is cut to (others are left as they are).
    `book`: what instance types cost, for a run that begins now; one that began keeps what it has."""
    store = Store(state)
    with store.change(wanted.run) as change:
        known = change.run()
        machines = {one.id: one for one in change.machines()}
        joined = [order for order in wanted.orders if order.id not in machines]
        changed = [order for order in wanted.orders if order.id in machines and _differs(machines[order.id], order)]
        here = {order.id for order in wanted.orders}
        gone = [one for one in machines.values() if one.id not in here and scope in (None, one.order.wave)]
        _refuse(wanted.run, machines, changed, gone, edit)
        run = Run(
            wanted.run,
            wanted.file,
            wanted.digest,
            known.began if known else time.time(),
            wanted.waves,
            wanted.limits,
            paused=known.paused if known else False,
            until=until,
        )
        change.put_run(run)
        if known is None:
            change.fix_prices(book)
        change.add_all([_new(order) for order in joined])
        changing = {order.id for order in changed}
        for order in wanted.orders:
            one = machines.get(order.id)
            if one is not None and order.id in changing:
                change.put(_edited(one, order), order=True)
            elif one is not None and one.order.order != order.order:
                change.put(replace(one, order=replace(one.order, order=order.order)), order=True)
        for one in gone:
            change.drop(one.id)
    _tell(state, wanted, known, joined, changed, gone, book)
    return Begun(
        wanted.run,
        tuple(order.id for order in joined),
        tuple(order.id for order in changed),
        tuple(one.id for one in gone),
    )


def _differs(one: Machine, order: Order) -> bool:
    return one.order.digest != order.digest


def _begun(one: Machine) -> bool:
    return bool(one.began) and one.standing is not Standing.ROLLED_BACK


def _refuse(run: str, machines: Mapping[str, Machine], changed: Sequence[Order], gone: Sequence[Machine], edit: bool) -> None:
    left = [one.id for one in gone if _begun(one)]
    if left:
        raise UsageError(
            f"{_names(left)} began, and the manifest does not name {_them(left)} any more",
            remedy=f"v2c rollback --run {run} --machine {left[0]} first, or name {_them(left)} again",
        )
    began = [order.id for order in changed if _begun(machines[order.id])]
    if began and not edit:
        raise UsageError(
            f"{_names(began)} began with other settings than the manifest has now",
            remedy=f"v2c retry --run {run} --edit takes them",
        )
    other = [o.id for o in changed if _begun(machines[o.id]) and machines[o.id].order.request.job != o.request.job]
    if other:
        raise UsageError(
            f"{_names(other)} began from or to another place, or with another repair",
            remedy=f"v2c rollback --run {run} --machine {other[0]} first",
        )
    running = [order.id for order in changed if machines[order.id].standing is Standing.RUNNING]
    if running:
        raise UsageError(f"{_names(running)} is being worked on", remedy="edit it when its stage is over")


def _new(order: Order) -> Machine:
    blocker = next((f for f in order.findings if f.level is Level.BLOCKER), None)
    first = order.stages[0]
    if blocker is None:
        return Machine(order, first)
    why = blocker.text if order.id in blocker.text or blocker.subject == order.id else f"{blocker.subject}: {blocker.text}"
    return Machine(order, first, Standing.BLOCKED, why=why, remedy=blocker.remedy)


def _edited(one: Machine, order: Order) -> Machine:
    if not _begun(one):
        return replace(_new(order), agreed=one.agreed, paused=one.paused, epoch=one.epoch, tries=one.tries)
    stage = one.stage if one.stage in order.stages else order.stages[-1]
    return replace(one, order=order, stage=stage)


def _tell(
    state: State,
    wanted: Wanted,
    known: Run | None,
    joined: Sequence[Order],
    changed: Sequence[Order],
    gone: Sequence[Machine],
    book: Prices | None,
) -> None:
    journal = SqlJournal(state, act_key(wanted.run))
    if known is None:
        sized = f", sized by prices of {book.date}: {book.source}" if book else ""
        journal.act("begin", f"{wanted.file}, {len(joined)} machines{sized}")
    else:
        if joined:
            journal.act("join", _names([order.id for order in joined]))
        if gone:
            journal.act("leave", _names([one.id for one in gone]))
    if changed:
        journal.act("edit", _names([order.id for order in changed]))


def act_key(run: str) -> str:
    """Under what the journal keeps the acts of a run."""
    return f"run/{run}"


def _names(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def _them(ids: Sequence[str]) -> str:
    return "it" if len(ids) == 1 else "them"
