"""What operators do to a run: agree, pause, cancel, try again, ask for a stage. Each is a transaction, and an act in the journal.

Two operators at once come one after the other: the second sees what the first did, and is told so where it matters.
"""

import getpass
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from v2c import afterwards, engine
from v2c.engine import Phase
from v2c.errors import UsageError
from v2c.jobs import LATER
from v2c.journal import SqlJournal
from v2c.model.wave import GATES, Gate, Stage, Standing
from v2c.state import State
from v2c.waves.begin import act_key
from v2c.waves.decide import decide, moment
from v2c.waves.nouns import Agreed, Machine
from v2c.waves.store import Store

ORDER = (Stage.REPLICATE, Stage.TEST, Stage.CUTOVER, Stage.FINALIZE)
UNDOING = (Stage.ROLLBACK, Stage.CLEANUP)


def chosen(state: State, run: str, machines: Sequence[str] = (), wave: str | None = None) -> list[Machine]:
    """The machines that are meant: those named, those of a wave, or all. UsageError for names that the run does not have."""
    store = Store(state)
    store.run(run)
    return _chosen(store.machines(run), run, machines, wave)


def _chosen(known: Sequence[Machine], run: str, machines: Sequence[str], wave: str | None) -> list[Machine]:
    names = {one.id for one in known}
    wrong = [name for name in machines if name not in names]
    if wrong:
        raise UsageError(f'the run {run} has no machine "{wrong[0]}"', remedy=f"see v2c status --run {run}")
    if wave is not None and all(one.order.wave != wave for one in known):
        waves = ", ".join(dict.fromkeys(one.order.wave for one in known))
        raise UsageError(f'the run {run} has no wave "{wave}"', remedy=f"it has {waves}")
    return [one for one in known if (not machines or one.id in machines) and wave in (None, one.order.wave)]


def approve(
    state: State, run: str, gate: Gate, machines: Sequence[str] = (), wave: str | None = None, *, yes: bool = True
) -> list[str]:
    """Somebody says yes or no at a gate, before the machine comes to it or while it waits there. Returns the machines' ids.

    UsageError when a machine that is named is past it, or its target has no such stage; without names those are left out.
    """
    stage = next(stage for stage, of in GATES.items() if of is gate)

    def agree(one: Machine, now: float) -> Machine | str:
        if stage not in one.order.stages:
            return f"{one.id} has no {stage}"
        if one.standing is Standing.DONE or one.order.stages.index(one.stage) > one.order.stages.index(stage):
            return f"{one.id} is past {gate}"
        if one.standing is Standing.RUNNING and one.doing is stage:
            return f"{one.id} is past {gate}: its {stage} runs"
        return replace(one, agreed={**one.agreed, gate: Agreed(yes, who(), now)})

    return _all(state, run, machines, wave, agree, f"{'approve' if yes else 'refuse'} {gate}")


def pause(state: State, run: str, machines: Sequence[str] = (), wave: str | None = None) -> list[str]:
    """No stage is begun until `resume`; what runs goes on to its stage's end. Without names the whole run, and who joins it."""
    if not machines and wave is None:
        return _whole(state, run, True)
    return _all(state, run, machines, wave, lambda one, _: replace(one, paused=True), "pause")


def resume(state: State, run: str, machines: Sequence[str] = (), wave: str | None = None) -> list[str]:
    """Ends a pause: of the whole run and every machine in it, or of those that are named."""
    if not machines and wave is None:
        _whole(state, run, False)
    return _all(state, run, machines, wave, lambda one, _: replace(one, paused=False), "resume")


def cancel(state: State, run: str, machines: Sequence[str] = (), wave: str | None = None) -> list[str]:
    """Gives machines up: what runs stops within seconds. What they made stays until `rollback` or `cleanup`."""
    stopped: list[str] = []

    def give_up(one: Machine, now: float) -> Machine | str:
        if one.standing in (Standing.DONE, Standing.CANCELLED, Standing.ROLLED_BACK):
            return f"{one.id} is {one.standing} already"
        if one.standing is Standing.RUNNING:
            stopped.append(one.order.request.job)
        why = f"{who()} gave it up"
        remedy = f"v2c rollback --run {run} --machine {one.id} removes what it made" if one.began else ""
        return replace(
            one, standing=Standing.CANCELLED, asked=None, worker="", epoch=one.epoch + 1, why=why, remedy=remedy, ended=now
        )

    done = _all(state, run, machines, wave, give_up, "cancel")
    for job in stopped:
        for story in (job, *(f"{job}-{later}" for later in LATER)):
            engine.cancel(state, story)
    return done


def retry(state: State, run: str, machines: Sequence[str] = (), wave: str | None = None) -> list[str]:
    """Machines that failed, were blocked, given up or rolled back try again, where they stood; who missed a window needs another
    one first (`retry --edit`)."""
    store = Store(state)
    found = store.run(run)
    missed = decide(found, store.machines(run), time.time())

    def again(one: Machine, now: float) -> Machine | str:
        if missed[one.id].standing is Standing.MISSED:
            return f"{one.id}: {missed[one.id].why}: give it another window in the manifest, and say --edit"
        fresh = replace(one, standing=Standing.WAITING, asked=None, why="", remedy="", not_before=0.0)
        if one.standing is Standing.ROLLED_BACK:
            return replace(fresh, stage=one.order.stages[0], again=True, agreed={}, cut_over_at=0.0, downtime_s=None)
        if one.standing in (Standing.FAILED, Standing.CANCELLED):
            return replace(fresh, again=one.stage is Stage.REPLICATE and _anew(state, one.order.request.job))
        if one.standing is Standing.BLOCKED:
            return fresh
        gate = GATES.get(one.stage)
        if gate is not None and gate in one.agreed and not one.agreed[gate].yes:
            return replace(fresh, agreed={of: said for of, said in one.agreed.items() if of is not gate})
        return f"{one.id} is {one.standing}"

    return _all(state, run, machines, wave, again, "retry")


def retry_what_can(state: State, run: str, machines: Sequence[str] = (), wave: str | None = None) -> list[str]:
    """As `retry`, of those that can; none is no mistake."""
    try:
        return retry(state, run, machines, wave)
    except UsageError:
        if machines:
            raise
        return []


def ask(
    state: State,
    run: str,
    stage: Stage,
    machines: Sequence[str] = (),
    wave: str | None = None,
    *,
    anyway: bool = False,
    discard: bool = False,
) -> list[str]:
    """Somebody wants this stage now: it is begun before others, and counts as agreed to. `anyway`: outside of its window, or
    though its test failed. `discard`: though the target took writes since its cut-over. UsageError when it cannot be."""
    now = time.time()

    def wants(one: Machine, _: float) -> Machine | str:
        refused = _refused(state, one, stage, now, anyway=anyway, discard=discard)
        if refused:
            return refused
        gate = GATES.get(stage)
        agreed = {**one.agreed, gate: Agreed(True, who(), now)} if gate and stage is one.stage else one.agreed
        if stage is one.stage and one.standing is not Standing.WAITING:  # it failed there
            one = replace(one, standing=Standing.WAITING)
        again = stage is Stage.REPLICATE and _anew(state, one.order.request.job)
        return replace(one, asked=stage, agreed=agreed, anyway=anyway, discard=discard, again=again, not_before=0.0, why="")

    return _all(state, run, machines, wave, wants, str(stage))


def _refused(state: State, one: Machine, stage: Stage, now: float, *, anyway: bool, discard: bool) -> str:
    """Why this stage cannot be begun for the machine; empty when it can."""
    if one.standing is Standing.RUNNING:
        return f"{one.id} is being worked on: {one.doing}"
    if stage in UNDOING:
        marks = afterwards.marks(SqlJournal(state, one.order.request.job))
        if not one.began:
            return f"{one.id} did not begin, so there is nothing to undo"
        if "finalized" in marks:
            return f"{one.id} was finalized on {marks['finalized']}, and what it moved is in use"
        if "cut over" in marks and "rolled back" not in marks and not discard:
            since = marks["cut over"]
            return f"{one.id} was cut over, and since {since} the target takes writes: --discard-target-writes gives them up"
        return ""
    if stage not in one.order.stages:
        return f"{one.id} has no {stage}: its target {one.order.request.target} has none"
    place, at = ORDER.index(stage), ORDER.index(one.stage)
    if one.standing in (Standing.BLOCKED, Standing.CANCELLED, Standing.ROLLED_BACK):
        return f"{one.id} is {one.standing}: v2c retry first"
    if place > at and not (anyway and stage is Stage.CUTOVER and one.stage is Stage.TEST):
        return f"{one.id} is not there yet: {one.stage} comes first"
    if (place < at and stage is not Stage.TEST) or one.standing is Standing.DONE:
        return f"{one.id} is past {stage}"
    window = one.order.window
    if stage is Stage.CUTOVER and window and not anyway and not any(start <= now < end for start, end in window.free):
        when = f"{moment(window.start, window.zone)} to {moment(window.end, window.zone)}"
        return f"{one.id} is not in its window ({when}): --anyway does it now"
    return ""


def _anew(state: State, job: str) -> bool:
    """Whether the engine has to begin the job anew: it was cancelled there, or rolled back."""
    known = engine.status(state, job)
    return (known is not None and known.phase is Phase.CANCELLED) or "rolled back" in afterwards.marks(SqlJournal(state, job))


def _whole(state: State, run: str, paused: bool) -> list[str]:
    store = Store(state)
    store.run(run)
    with store.change(run) as change:
        found = change.run()
        assert found
        change.put_run(replace(found, paused=paused))
        ids = [one.id for one in change.machines()]
    if found.paused != paused:
        SqlJournal(state, act_key(run)).act("pause" if paused else "resume", "the run")
    return ids


def _all(
    state: State,
    run: str,
    machines: Sequence[str],
    wave: str | None,
    act: Callable[[Machine, float], "Machine | str"],
    what: str,
) -> list[str]:
    """Applies an act to the machines that are meant. A sentence instead of a machine says why not: it is raised when the machine
    was named, or when nothing is left to do."""
    store = Store(state)
    store.run(run)
    with store.change(run) as change:
        meant = _chosen(change.machines(), run, machines, wave)
        outcomes = [(one, act(one, change.now)) for one in meant]
        why = [outcome for _, outcome in outcomes if isinstance(outcome, str)]
        if why and (machines or len(why) == len(outcomes)):
            raise UsageError(
                why[0] + (f" (and {len(why) - 1} more)" if len(why) > 1 else ""), remedy=f"see v2c status --run {run}"
            )
        done = []
        for _, outcome in outcomes:
            if isinstance(outcome, Machine):
                change.put(outcome)
                done.append(outcome)
    journal = SqlJournal(state, act_key(run))
    for one in done:
        journal.act(what, one.id)
        SqlJournal(state, one.order.request.job).act(what, f"in run {run}")
    return [one.id for one in done]


def who() -> str:
    """The user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
