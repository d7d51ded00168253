"""A run at one moment, for whoever looks: a handful of queries, whatever its size."""

from collections.abc import Mapping, Sequence

from v2c.jobs import JobRecord, Jobs
from v2c.journal import SqlJournal
from v2c.model.wave import MachineView, Moving, Snapshot, Standing, WorkerView
from v2c.state import State
from v2c.waves.begin import act_key
from v2c.waves.claims import alive
from v2c.waves.decide import Decided, decide, moment
from v2c.waves.nouns import Machine, Result, Run
from v2c.waves.store import Bar, Heart, Store


def runs(state: State) -> list[Run]:
    """Every run of the state, oldest first."""
    return Store(state).runs()


def snapshot(state: State, run: str, now: float | None = None) -> Snapshot:
    """The run as it stands (at `now`: default the state's clock). UsageError when there is none of that name. Reads only."""
    store = Store(state)
    found = store.run(run)
    at = store.now() if now is None else now
    machines = store.machines(run)
    results, bars, hearts = store.results(run), store.bars(run), store.hearts()
    records = {record.id: record for record in Jobs(state, state.folder).all()}
    decided = decide(found, machines, at)
    live = {id: alive(heart, state, at) for id, heart in hearts.items()}
    drawn: dict[str, list[Bar]] = {}
    for bar in bars:
        drawn.setdefault(bar.machine, []).append(bar)
    views = tuple(
        _view(one, decided[one.id], results[one.id], drawn.get(one.id, ()), records.get(one.order.request.job), live, hearts)
        for one in machines
    )
    over = all(one.standing.over for one in views)
    return Snapshot(
        run=run,
        manifest=found.manifest,
        digest=found.digest,
        at=at,
        began=found.began,
        ended=max((one.ended for one in machines), default=0.0) if over else 0.0,
        paused=found.paused,
        waves=tuple(dict.fromkeys((*found.waves, *(one.order.wave for one in machines)))),
        machines=views,
        workers=_workers(hearts, live, machines),
        acts=tuple(SqlJournal(state, act_key(run)).acts()),
    )


def _view(
    one: Machine,
    decided: Decided,
    result: Result,
    bars: Sequence[Bar],
    record: JobRecord | None,
    live: Mapping[str, bool],
    hearts: Mapping[str, Heart],
) -> MachineView:
    order, running = one.order, one.standing is Standing.RUNNING
    why = decided.why
    if running and not live.get(one.worker, False):
        why = f"its worker {one.worker} is not heard any more: another one takes over"
    moving = next((bar for bar in reversed(bars) if not bar.span.ended), None) if running else None
    heart = hearts.get(one.worker)
    place = order.stages.index(one.stage)
    left = () if decided.standing.over else order.stages[place:]
    expected = dict(order.expected)
    return MachineView(
        id=one.id,
        wave=order.wave,
        order=order.order,
        job=order.request.job,
        name=order.name,
        source=order.source,
        target=order.request.target,
        mode=order.mode,
        stage=decided.stage,
        standing=decided.standing,
        why=why,
        remedy=decided.remedy,
        gate=decided.gate,
        approvals=_approvals(one),
        application=order.application,
        owner=order.owner,
        depends_on=order.depends_on,
        window=order.window,
        budget_s=order.budget_s,
        downtime_s=one.downtime_s,
        expected_s=sum(expected.get(stage, 0.0) for stage in left),
        worker=one.worker if running else "",
        host=heart.host if running and heart else record.host if record else "",
        began=one.began,
        ended=one.ended if decided.standing.over else 0.0,
        data_bytes=order.data_bytes,
        sent_bytes=result.sent_bytes or sum(bar.span.bytes for bar in bars if bar.span.step == "upload"),
        spans=tuple(bar.span for bar in bars),
        moving=Moving(moving.span.step, moving.phase, moving.done, moving.total, moving.rate, moving.at) if moving else None,
        findings=(*(result.findings or order.findings), *result.said),
        verdict=result.verdict,
        folder=record.folder if record else "",
        cut_over=result.cut_over,
        finalized=result.finalized,
        rolled_back=result.rolled_back,
    )


def _approvals(one: Machine) -> tuple[tuple[str, str], ...]:
    said = [(str(gate), "the manifest") for gate in one.order.open if gate not in one.agreed]
    for gate, agreed in one.agreed.items():
        words = f"{agreed.who}, {moment(agreed.at, one.order.zone)}"
        said.append((str(gate), words if agreed.yes else f"no: {words}"))
    return tuple(said)


def _workers(hearts: Mapping[str, Heart], live: Mapping[str, bool], machines: Sequence[Machine]) -> tuple[WorkerView, ...]:
    """Those that live, and those that died with machines of this run in their hands."""
    holding: dict[str, list[str]] = {}
    for one in machines:
        if one.standing is Standing.RUNNING:
            holding.setdefault(one.worker, []).append(one.id)
    return tuple(
        WorkerView(id, heart.host, heart.pid, heart.began, heart.heard, live[id], heart.slots, tuple(holding.get(id, ())))
        for id, heart in hearts.items()
        if live[id] or id in holding
    )
