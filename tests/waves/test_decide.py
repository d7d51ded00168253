"""What may begin, by tables and by chance: a clock that is made up, machines that are only values."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2c.manifest.parts import DatedBlackout, WeeklyBlackout
from v2c.model.wave import Gate, Stage, Standing, Window
from v2c.pipeline import Request
from v2c.waves.decide import FIRST, decide, idle, ready
from v2c.waves.nouns import Agreed, Limits, Machine, Order, Run

ALL = (Stage.REPLICATE, Stage.TEST, Stage.CUTOVER, Stage.FINALIZE)
OPEN = (Gate.TEST, Gate.CUTOVER, Gate.FINALIZE)
BERLIN = "Europe/Berlin"
NOW = datetime(2026, 12, 5, 20, 0, tzinfo=UTC).timestamp()
HOUR = 3600.0
RUN = Run("trial", "wave.yaml", "", 0.0, ("pilot",), Limits())


def machine(id: str = "a1", **how: Any) -> Machine:
    """A machine that may do all, unless `how` says otherwise (fields of Machine or of its Order)."""
    own = {name: how.pop(name) for name in list(how) if name in Machine.__dataclass_fields__ and name != "order"}
    order: dict[str, Any] = {"wave": "pilot", "order": 1, "source": "made", "target": "cloud", "stages": ALL, "open": OPEN} | how
    request = Request(id, ("memory:" + id,), "memory:cloud", "")
    made = Order(id=id, request=request, digest="", commit_s=300.0, **order)
    return Machine(made, own.pop("stage", made.stages[0]), **own)


def window(start: float, end: float, *dark: tuple[float, float], zone: str = BERLIN) -> Window:
    """From and to so many hours after NOW, without the dark ones."""
    free, cursor = [], start
    for begin, over in dark:
        free.append((cursor, begin))
        cursor = over
    free.append((cursor, end))
    return Window(NOW + start * HOUR, NOW + end * HOUR, zone, tuple((NOW + a * HOUR, NOW + b * HOUR) for a, b in free))


def said(yes: bool) -> Agreed:
    return Agreed(yes, "anna", NOW)


CASES: Mapping[str, tuple[Machine, Standing, bool, str]] = {
    "begins": (machine(), Standing.WAITING, True, "waits for a worker"),
    "runs": (machine(standing=Standing.RUNNING), Standing.RUNNING, False, ""),
    "done": (machine(standing=Standing.DONE), Standing.DONE, False, ""),
    "failed says why": (machine(standing=Standing.FAILED, why="no room"), Standing.FAILED, False, "no room"),
    "paused": (machine(paused=True), Standing.PAUSED, False, "a1 is paused"),
    "failed and paused is failed": (machine(standing=Standing.FAILED, paused=True), Standing.FAILED, False, ""),
    "gate of the test": (machine(stage=Stage.TEST, open=()), Standing.GATED, False, "waits for okToTest"),
    "no gate before the copy": (machine(open=()), Standing.WAITING, True, "waits for a worker"),
    "gate that was opened": (
        machine(stage=Stage.CUTOVER, open=(), agreed={Gate.CUTOVER: said(True)}),
        Standing.WAITING,
        True,
        "waits for a worker",
    ),
    "a no": (
        machine(stage=Stage.CUTOVER, agreed={Gate.CUTOVER: said(False)}),
        Standing.REFUSED,
        False,
        "anna said no to okToCutover",
    ),
    "a no that is still to come": (machine(agreed={Gate.CUTOVER: said(False)}), Standing.WAITING, True, "waits for a worker"),
    "before its window": (
        machine(stage=Stage.CUTOVER, window=window(1, 3)),
        Standing.WAITING,
        False,
        "its window begins at 2026-12-05 22:00 Europe/Berlin",
    ),
    "in its window": (machine(stage=Stage.CUTOVER, window=window(-1, 3)), Standing.WAITING, True, "waits for a worker"),
    "in a blackout of it": (
        machine(stage=Stage.CUTOVER, window=window(-1, 3, (-0.5, 2))),
        Standing.WAITING,
        False,
        "a blackout, or too little time before one; goes on at 2026-12-05 23:00 Europe/Berlin",
    ),
    "too short before a blackout": (
        machine(stage=Stage.CUTOVER, window=window(-1, 3, (0.05, 2))),
        Standing.WAITING,
        False,
        "a blackout, or too little time before one; goes on at 2026-12-05 23:00 Europe/Berlin",
    ),
    "missed": (
        machine(stage=Stage.CUTOVER, window=window(-3, -1)),
        Standing.MISSED,
        False,
        "its window ended at 2026-12-05 20:00 Europe/Berlin",
    ),
    "missed, though nobody agreed": (
        machine(stage=Stage.CUTOVER, open=(), window=window(-3, -1)),
        Standing.MISSED,
        False,
        "its window ended at 2026-12-05 20:00 Europe/Berlin",
    ),
    "too late in its window": (
        machine(stage=Stage.CUTOVER, window=window(-3, 0.05)),
        Standing.MISSED,
        False,
        "its window ends at 2026-12-05 21:03 Europe/Berlin, which is too soon for a cut-over of about 5 min",
    ),
    "not copied for a window that is over": (
        machine(window=window(-3, -1)),
        Standing.MISSED,
        False,
        "its window ended at 2026-12-05 20:00 Europe/Berlin",
    ),
    "a window is for the cut-over": (machine(window=window(1, 3)), Standing.WAITING, True, "waits for a worker"),
    "finalized after its window": (
        machine(stage=Stage.FINALIZE, window=window(-3, -1)),
        Standing.WAITING,
        True,
        "waits for a worker",
    ),
    "no cut-over, no window": (
        machine(stages=(Stage.REPLICATE, Stage.TEST, Stage.FINALIZE), stage=Stage.TEST, window=window(-3, -1)),
        Standing.WAITING,
        True,
        "waits for a worker",
    ),
    "the way back is kept": (
        machine(stage=Stage.FINALIZE, finalize_after_s=7200, since=NOW - HOUR, zone=BERLIN),
        Standing.WAITING,
        False,
        "the way back is kept until 2026-12-05 22:00 Europe/Berlin",
    ),
    "the way back was kept": (
        machine(stage=Stage.FINALIZE, finalize_after_s=3600, since=NOW - HOUR),
        Standing.WAITING,
        True,
        "waits for a worker",
    ),
    "asked for, over gate and window": (
        machine(stage=Stage.CUTOVER, asked=Stage.CUTOVER, open=(), window=window(1, 3)),
        Standing.WAITING,
        True,
        "waits for a worker",
    ),
    "undone, though done": (machine(standing=Standing.DONE, asked=Stage.ROLLBACK), Standing.WAITING, True, "waits for a worker"),
    "asked for in a pause": (machine(asked=Stage.REPLICATE, paused=True), Standing.PAUSED, False, "a1 is paused"),
    "tried again later": (machine(not_before=NOW + 10, why="it is held"), Standing.WAITING, False, "it is held"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_machine(case: tuple[Machine, Standing, bool, str]) -> None:
    one, standing, may, why = case
    found = decide(RUN, [one], NOW)["a1"]
    assert (found.standing, found.may, found.why) == (standing, may, why)


def test_what_waits_for_time_is_not_idle_and_what_waits_for_people_is() -> None:
    timed = [machine(stage=Stage.CUTOVER, window=window(1, 3))]
    assert not idle(decide(RUN, timed, NOW))
    assert not idle(decide(RUN, [machine(standing=Standing.RUNNING)], NOW))
    for still in (machine(paused=True), machine(stage=Stage.TEST, open=()), machine(standing=Standing.FAILED)):
        assert idle(decide(RUN, [still], NOW))
    assert idle(decide(replace(RUN, until=Stage.REPLICATE), [machine(stage=Stage.TEST)], NOW))


@pytest.mark.parametrize(
    ("policy", "standing", "others"),
    [
        ("stop", Standing.FAILED, {"b": "skipped", "c": "skipped", "d": "skipped", "e": "skipped", "f": "waiting"}),
        ("skip", Standing.FAILED, {"b": "skipped", "c": "skipped", "d": "waiting", "e": "waiting", "f": "waiting"}),
        ("continue", Standing.FAILED, {"b": "waiting", "c": "waiting", "d": "waiting", "e": "waiting", "f": "waiting"}),
        ("stop", Standing.BLOCKED, {"b": "skipped", "c": "skipped", "d": "waiting", "e": "waiting", "f": "waiting"}),
        ("skip", Standing.ROLLED_BACK, {"b": "skipped", "c": "skipped", "d": "waiting", "e": "waiting", "f": "waiting"}),
    ],
)
def test_policies(policy: str, standing: Standing, others: dict[str, str]) -> None:
    """a is spoilt; b depends on it, c on b; d and e are of its wave, e was begun already... and f of another one."""
    machines = [
        machine("a", standing=standing, on_failure=policy, began=NOW),
        machine("b", depends_on=("a",)),
        machine("c", depends_on=("b",)),
        machine("d"),
        machine("e"),
        machine("f", wave="later"),
    ]
    found = decide(RUN, machines, NOW)
    assert {id: str(one.standing) for id, one in found.items() if id != "a"} == others


def test_a_wave_that_stops_lets_those_go_on_that_began() -> None:
    machines = [
        machine("a", standing=Standing.FAILED, on_failure="stop", began=NOW),
        machine("b", stage=Stage.CUTOVER, began=NOW),
        machine("c", standing=Standing.RUNNING, began=NOW),
        machine("d"),
    ]
    found = decide(RUN, machines, NOW)
    assert [str(found[id].standing) for id in "bcd"] == ["waiting", "running", "skipped"]
    assert found["d"].why == "a failed, and with it wave pilot stops"


def test_who_was_cut_over_spoils_nobody() -> None:
    machines = [
        machine("a", stage=Stage.FINALIZE, standing=Standing.FAILED),
        machine("b", stage=Stage.CUTOVER, depends_on=("a",)),
    ]
    assert decide(RUN, machines, NOW)["b"].may


def test_who_depends_on_a_wave_that_was_not_begun_waits() -> None:
    found = decide(RUN, [machine("b", stage=Stage.CUTOVER, depends_on=("a",))], NOW)
    assert (found["b"].may, found["b"].why) == (False, "waits for a, which is in no wave that was begun")
    assert idle(found)


def test_limits() -> None:
    limits = Limits(machines=4, waves={"pilot": 2}, copies={"made": 3})
    run = replace(RUN, limits=limits)
    running = machine("r", standing=Standing.RUNNING)
    pilot = [machine(f"p{n}", order=n) for n in range(4)]
    later = [machine(f"l{n}", order=10 + n, wave="later") for n in range(4)]
    cut = machine("cut", stage=Stage.CUTOVER, order=99, wave="last")
    found = decide(run, [running, *pilot, *later, cut], NOW)
    assert [one.id for one in ready(found, [running, *pilot, *later, cut])] == ["cut", "p0", "l0"]
    assert found["p1"].why == "waits, since 2 machines of wave pilot are worked on at once"
    assert found["l1"].why == "waits, since 4 machines are worked on at once"
    wide = decide(replace(RUN, limits=Limits(copies={"made": 2})), [running, *pilot, cut], NOW)
    assert [id for id, one in wide.items() if one.may] == ["p0", "cut"]
    assert wide["p1"].why == "waits, since 2 copies from made run at once"


def test_copies_from_a_datastore() -> None:
    """A machine counts once on each datastore that it lies on, and only while it is copied."""
    limits = Limits(stores={"vc [gold]": 2, "vc [iron]": 1})
    running = machine("r", standing=Standing.RUNNING, stores=("vc [gold]",))
    cut = machine("cut", standing=Standing.RUNNING, stage=Stage.CUTOVER, stores=("vc [iron]",))
    both = machine("both", order=2, stores=("vc [iron]", "vc [gold]"))
    more = [machine("gold", order=3, stores=("vc [gold]",)), machine("iron", order=4, stores=("vc [iron]",))]
    free = machine("free", order=5, stores=("vc [tin]",))
    found = decide(replace(RUN, limits=limits), [running, cut, both, *more, free], NOW)
    assert [id for id, one in found.items() if one.may] == ["both", "free"]
    assert found["gold"].why == "waits, since 2 copies from vc [gold] run at once"
    assert found["iron"].why == "waits, since 1 copies from vc [iron] run at once"
    late = replace(both, stage=Stage.CUTOVER)
    assert decide(replace(RUN, limits=limits), [running, late, *more], NOW)["iron"].may, "what is copied is over"


# ---- clocks that change --------------------------------------------------------------------------------------------------------


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (at("2026-10-25T01:30"), at("2026-10-25T03:30")),  # the night that is an hour longer: until the later 03:30 of two
        (at("2026-10-25T02:30", fold=0), at("2026-10-25T03:30")),
        (at("2026-10-25T02:30", fold=1), at("2026-10-25T03:30")),
        (at("2026-10-25T03:30"), None),
        (at("2026-03-29T01:30"), at("2026-03-29T03:30")),  # the night that is an hour shorter
        (at("2026-03-29T00:30"), None),
    ],
)
def test_a_weekly_blackout_when_the_clocks_change(now: float, until: float | None) -> None:
    night = WeeklyBlackout.model_validate({"days": ["sun"], "start": "01:00", "end": "03:30"})
    one = machine(stage=Stage.CUTOVER, blackout=(night,), zone=BERLIN)
    found = decide(RUN, [one], now)["a1"]
    assert (found.may, found.until) == (until is None, until)


def test_blackouts_that_touch_are_one() -> None:
    days = WeeklyBlackout.model_validate({"days": ["sat"], "start": "18:00", "end": "24:00"})
    freeze = DatedBlackout.model_validate({"start": "2026-12-06T00:00", "end": "2026-12-07T00:00"})
    found = decide(RUN, [machine(stage=Stage.CUTOVER, blackout=(freeze, days), zone=BERLIN)], NOW)["a1"]
    assert found.why == "a blackout lasts until 2026-12-07 00:00 Europe/Berlin"


# ---- by chance -----------------------------------------------------------------------------------------------------------------


@st.composite
def fleets(draw: st.DrawFn) -> list[Machine]:
    count = draw(st.integers(1, 12))
    made = []
    for n in range(count):
        stages = draw(st.sampled_from([ALL, (Stage.REPLICATE, Stage.FINALIZE), (Stage.REPLICATE, Stage.TEST, Stage.FINALIZE)]))
        start = draw(st.integers(-6, 6))
        made.append(
            machine(
                f"m{n}",
                order=n,
                wave=draw(st.sampled_from(["pilot", "later"])),
                source=draw(st.sampled_from(["made", "other"])),
                stages=stages,
                stage=draw(st.sampled_from(stages)),
                standing=draw(
                    st.sampled_from([s for s in Standing if s not in (Standing.GATED, Standing.PAUSED, Standing.MISSED)])
                ),
                open=tuple(draw(st.sets(st.sampled_from(list(Gate))))),
                agreed=draw(st.dictionaries(st.sampled_from(list(Gate)), st.builds(said, st.booleans()), max_size=3)),
                depends_on=tuple(f"m{d}" for d in draw(st.sets(st.integers(0, n - 1), max_size=2))) if n else (),
                paused=draw(st.booleans()) and draw(st.booleans()),
                window=draw(st.none() | st.just(window(start, start + draw(st.integers(1, 6))))),
                on_failure=draw(st.sampled_from(["stop", "skip", "continue"])),
                began=draw(st.sampled_from([0.0, NOW])),
                finalize_after_s=draw(st.sampled_from([0, 7200])),
                since=draw(st.sampled_from([0.0, NOW - HOUR])),
            )
        )
    return [
        one if one.standing not in (Standing.SKIPPED, Standing.REFUSED) else replace(one, standing=Standing.WAITING)
        for one in made
    ]


@settings(max_examples=200, deadline=None)
@given(fleets(), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.booleans())
def test_nothing_begins_that_may_not(fleet: list[Machine], total: int, wave: int, copies: int, paused: bool) -> None:
    limits = Limits(total, {"pilot": wave}, {"made": copies})
    run = replace(RUN, limits=limits, paused=paused)
    found = decide(run, fleet, NOW)
    known = {one.id: one for one in fleet}
    running = [one for one in fleet if one.standing is Standing.RUNNING]
    begin = [known[id] for id, one in found.items() if one.may]
    assert list(found) == [one.id for one in fleet]
    assert not (paused and begin)
    assert all(one.standing is Standing.WAITING and not one.paused for one in begin)
    if begin:
        assert len(running) + len(begin) <= max(total, len(running))
        assert sum(one.order.wave == "pilot" for one in (*running, *begin)) <= max(
            wave, sum(one.order.wave == "pilot" for one in running)
        )
    for one in begin:
        gate = {Stage.TEST: Gate.TEST, Stage.CUTOVER: Gate.CUTOVER, Stage.FINALIZE: Gate.FINALIZE}.get(one.stage)
        if gate:
            agreed = one.agreed.get(gate)
            assert agreed.yes if agreed else gate in one.order.open
        if one.stage is Stage.CUTOVER and one.order.window:
            assert any(start <= NOW and end >= NOW + 300 for start, end in one.order.window.free)
        if one.stage is one.order.commit:
            assert all(known[need].committed or known[need].order.on_failure == "continue" for need in one.order.depends_on)
    for id, stands in found.items():  # every machine that stands still has a reason that somebody can read
        if not stands.may and stands.standing not in (Standing.RUNNING, Standing.DONE) and known[id].standing is Standing.WAITING:
            assert stands.why


@settings(max_examples=100, deadline=None)
@given(fleets())
def test_what_has_no_limit_all_begins_and_time_alone_never_unmakes_it(fleet: list[Machine]) -> None:
    found = decide(RUN, fleet, NOW)
    order = [one.doing for one in ready(found, fleet)]
    assert order == sorted(order, key=FIRST.index)
    later = decide(RUN, fleet, NOW + timedelta(hours=1).total_seconds())
    for id, one in found.items():
        if one.standing is Standing.MISSED:
            assert later[id].standing is Standing.MISSED
