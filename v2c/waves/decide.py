"""What may begin now, and why the rest may not. Pure: the machines of a run and a moment in, decisions out.

In this order: what happened to it (done, failed, ...), a pause, how far the run is to go, what it depends on, its window, its
gate, the machine that it waits for, the time that it is kept; then the limits, of which the stages nearest to the end come first,
and among those the manifest's order.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from v2c.manifest.times import Span, dark
from v2c.model.wave import GATES, Gate, Stage, Standing
from v2c.waves.nouns import Limits, Machine, Run

# What is begun first when not all can be: what undoes, what has a window, what is over soon.
FIRST = (Stage.ROLLBACK, Stage.CLEANUP, Stage.CUTOVER, Stage.TEST, Stage.FINALIZE, Stage.REPLICATE)
AHEAD = timedelta(days=8)  # a weekly blackout is over by then
KEPT = (Standing.RUNNING, Standing.BLOCKED, Standing.FAILED, Standing.CANCELLED, Standing.ROLLED_BACK, Standing.DONE)
SPOILT = (Standing.BLOCKED, Standing.FAILED, Standing.CANCELLED, Standing.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Decided:
    """How a machine stands. `may`: its stage may begin now; `until`: nothing changes before then, unless somebody comes."""

    id: str
    stage: Stage
    standing: Standing
    why: str = ""
    remedy: str = ""
    gate: Gate | None = None
    may: bool = False
    until: float | None = None


def decide(run: Run, machines: Sequence[Machine], now: float) -> dict[str, Decided]:
    """Every machine of the run by id, in their order. Of those that may begin, as many as the limits let."""
    known = {one.id: one for one in machines}
    skipped = _skipped(machines, known)
    found = {one.id: _one(run, one, known, skipped, now) for one in machines}
    return _limited(run.limits, machines, found)


def ready(decided: Mapping[str, Decided], machines: Iterable[Machine]) -> list[Machine]:
    """Those that may begin, first things first."""
    may = [one for one in machines if decided[one.id].may]
    return sorted(may, key=lambda one: (FIRST.index(one.doing), one.order.order))


def idle(decided: Mapping[str, Decided]) -> bool:
    """Whether nothing moves any more unless somebody comes."""
    return not any(one.may or one.standing is Standing.RUNNING or one.until is not None for one in decided.values())


def _one(run: Run, one: Machine, known: Mapping[str, Machine], skipped: Mapping[str, str], now: float) -> Decided:
    stage = one.doing
    if one.standing is Standing.RUNNING:
        return Decided(one.id, stage, Standing.RUNNING)
    if run.paused or one.paused:
        if one.standing not in KEPT or one.asked:
            what = "the run" if run.paused else one.id
            return Decided(one.id, stage, Standing.PAUSED, f"{what} is paused", f"v2c resume --run {run.id}")
    elif one.asked:
        return _begin(one, now)
    if one.standing in KEPT:
        return Decided(one.id, stage, one.standing, one.why, one.remedy)
    if run.until and _beyond(one, run.until):
        text = f"the run goes as far as {run.until}"
        return Decided(one.id, stage, Standing.WAITING, text, f"v2c run without --until, or v2c {stage} --run {run.id}")
    if one.id in skipped:
        return Decided(one.id, stage, Standing.SKIPPED, skipped[one.id], f"v2c retry --run {run.id}")
    return (
        _window(one, run.id, now)
        or _gated(one, run.id)
        or _closed(one, now)
        or _depending(one, known)
        or _kept(one, now)
        or _begin(one, now)
    )


def _begin(one: Machine, now: float) -> Decided:
    if one.not_before > now:
        return Decided(one.id, one.doing, Standing.WAITING, one.why or "it is tried again soon", until=one.not_before)
    return Decided(one.id, one.doing, Standing.WAITING, one.why or "waits for a worker", may=True)


def _beyond(one: Machine, until: Stage) -> bool:
    """Whether its stage comes after the one that the run is to go to (which its target may lack)."""
    order = (Stage.REPLICATE, Stage.TEST, Stage.CUTOVER, Stage.FINALIZE)
    return order.index(one.stage) > order.index(until)


# ---- policies --------------------------------------------------------------------------------------------------------------


def _skipped(machines: Sequence[Machine], known: Mapping[str, Machine]) -> dict[str, str]:
    """Machines that are left out, each with why. Those that depend on them are left out, too."""
    found: dict[str, str] = {}
    stopped: dict[str, str] = {}
    for one in machines:
        if one.standing is Standing.FAILED and one.order.on_failure == "stop":
            stopped.setdefault(one.order.wave, one.id)
    for one in machines:
        by = stopped.get(one.order.wave)
        if by and by != one.id and not one.began and one.standing is Standing.WAITING:
            found[one.id] = f"{by} failed, and with it wave {one.order.wave} stops"
    followers: dict[str, list[str]] = {}
    for one in machines:
        for need in one.order.depends_on:
            followers.setdefault(need, []).append(one.id)
    spoilt = [one.id for one in machines if one.id in found or _spoilt(one)]
    while spoilt:
        cause = spoilt.pop()
        if known[cause].order.on_failure == "continue" and cause not in found:
            continue
        for id in followers.get(cause, ()):
            one = known[id]
            if id in found or one.committed or one.standing is not Standing.WAITING:
                continue
            how = "is left out" if cause in found else "was refused" if _refused(known[cause]) else str(known[cause].standing)
            how = f"is {how}" if how in ("blocked", "cancelled") else "was rolled back" if how == "rolled back" else how
            found[id] = f"{cause}, which it depends on, {how}"
            spoilt.append(id)
    return found


def _spoilt(one: Machine) -> bool:
    return not one.committed and (one.standing in SPOILT or _refused(one))


def _refused(one: Machine) -> bool:
    gate = GATES.get(one.stage)
    said = one.agreed.get(gate) if gate else None
    return one.standing is Standing.WAITING and said is not None and not said.yes


# ---- windows, gates, others, time ------------------------------------------------------------------------------------------


def _window(one: Machine, run: str, now: float) -> Decided | None:
    """MISSED, when there is no time left in its window for the cut-over that it still has before it."""
    window = one.order.window
    if window is None or Stage.CUTOVER not in one.order.stages or one.committed:
        return None
    last = max((end for _, end in window.free), default=0.0)
    if now + one.order.commit_s <= last:
        return None
    end = moment(last, window.zone) if last else ""
    remedy = f"give it another window, and v2c retry --run {run} --edit"
    if not last:
        text = "its window lies wholly in blackouts"
    elif now >= last:
        text = f"its window ended at {end}"
    else:
        text = f"its window ends at {end}, which is too soon for a cut-over of about {one.order.commit_s / 60:.0f} min"
    return Decided(one.id, one.stage, Standing.MISSED, text, remedy)


def _gated(one: Machine, run: str) -> Decided | None:
    gate = GATES.get(one.stage)
    if gate is None:
        return None
    said = one.agreed.get(gate)
    if said is None and gate not in one.order.open:
        return Decided(
            one.id, one.stage, Standing.GATED, f"waits for {gate}", f"v2c approve {gate} --run {run} --machine {one.id}", gate
        )
    if said is not None and not said.yes:
        text = f"{said.who} said no to {gate}"
        return Decided(one.id, one.stage, Standing.REFUSED, text, f"v2c approve {gate} --run {run} --machine {one.id}", gate)
    return None


def _closed(one: Machine, now: float) -> Decided | None:
    """WAITING until the next free span of its window (without one: until the blackout is over)."""
    if one.stage is not Stage.CUTOVER:
        return None
    window = one.order.window
    if window is None:
        dark_until = _dark(one, now)
        if dark_until is None:
            return None
        text = f"a blackout lasts until {moment(dark_until, one.order.zone)}"
        return Decided(one.id, one.stage, Standing.WAITING, text, until=dark_until)
    need = one.order.commit_s
    begin = next(max(start, now) for start, end in window.free if max(start, now) + need <= end)  # _window saw that there is one
    if begin <= now:
        return None
    what = "its window begins at" if now < window.start else "a blackout, or too little time before one; goes on at"
    return Decided(one.id, one.stage, Standing.WAITING, f"{what} {moment(begin, window.zone)}", until=begin)


def _dark(one: Machine, now: float) -> float | None:
    """When the blackout that it is in now ends; None: it is in none."""
    if not one.order.blackout:
        return None
    here = datetime.fromtimestamp(now, UTC)
    spans = sorted(dark(one.order.blackout, one.order.zone or "UTC", Span(here, here + AHEAD)))
    until = here
    for span in spans:
        if span.start <= until < span.end:
            until = span.end
    return until.timestamp() if until > here else None


def _depending(one: Machine, known: Mapping[str, Machine]) -> Decided | None:
    if one.stage is not one.order.commit:
        return None
    for need in one.order.depends_on:
        other = known.get(need)
        if other is None:
            text = f"waits for {need}, which is in no wave that was begun"
            return Decided(one.id, one.stage, Standing.WAITING, text, "v2c run the wave that it is in")
        if other.committed or _given_up(other):
            continue
        verb = "cut over" if other.order.commit is Stage.CUTOVER else "moved"
        return Decided(one.id, one.stage, Standing.WAITING, f"waits for {need} to be {verb}")
    return None


def _given_up(other: Machine) -> bool:
    """It will not come, and its policy says that others go on."""
    return other.order.on_failure == "continue" and _spoilt(other)


def _kept(one: Machine, now: float) -> Decided | None:
    until = one.since + one.order.finalize_after_s
    if one.stage is not Stage.FINALIZE or until <= now:
        return None
    text = f"the way back is kept until {moment(until, one.order.zone)}"
    return Decided(one.id, one.stage, Standing.WAITING, text, until=until)


# ---- limits ----------------------------------------------------------------------------------------------------------------


def _limited(limits: Limits, machines: Sequence[Machine], found: dict[str, Decided]) -> dict[str, Decided]:
    running = [one for one in machines if one.standing is Standing.RUNNING]
    total = len(running)
    waves = Counter(one.order.wave for one in running)
    copies = Counter(one.order.source for one in running if one.doing is Stage.REPLICATE)
    stores = Counter(name for one in running if one.doing is Stage.REPLICATE for name in one.order.stores)
    for one in ready(found, machines):
        wave, source, copying = one.order.wave, one.order.source, one.doing is Stage.REPLICATE
        full = ""
        if limits.machines is not None and total >= limits.machines:
            full = f"waits, since {total} machines are worked on at once"
        elif waves[wave] >= limits.waves.get(wave, 1 << 30):
            full = f"waits, since {waves[wave]} machines of wave {wave} are worked on at once"
        elif copying and copies[source] >= limits.copies.get(source, 1 << 30):
            full = f"waits, since {copies[source]} copies from {source} run at once"
        elif copying and (name := next((s for s in one.order.stores if stores[s] >= limits.stores.get(s, 1 << 30)), "")):
            full = f"waits, since {stores[name]} copies from {name} run at once"
        if full:
            found[one.id] = replace(found[one.id], why=full, may=False)
            continue
        total += 1
        waves[wave] += 1
        copies[source] += copying
        stores.update(one.order.stores if copying else ())
    return found


def moment(seconds: float, zone: str) -> str:
    """A moment as people there write it: "2026-12-05 20:00 Europe/Berlin"."""
    place = ZoneInfo(zone or "UTC")
    return f"{datetime.fromtimestamp(seconds, place):%Y-%m-%d %H:%M} {zone or 'UTC'}"
