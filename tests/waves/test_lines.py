"""The lines that machines share: in one worker, between workers, by the time of day, and by an edit meanwhile.

Workers without a process share by a clock that is made up, to the last unit; real ones by what they sent, and how long it took.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from clocks import SimulatedClock
from servers import Server
from test_workers import Fleet, over
from waving import World, machine, manifest

from v2c import throttle
from v2c.manifest.rates import Rates, Slot
from v2c.model import MIB
from v2c.model.wave import Standing
from v2c.targets.writers import CHUNK
from v2c.throttle import Line, Throttle
from v2c.waves.lines import NOTICE_S, Lines
from v2c.waves.nouns import Limits, Machine
from v2c.waves.shares import _table
from v2c.waves.store import Heart, Store
from v2c.waves.worker import BEAT_S, Worker

RATE = 100_000
UNIT = 1_000
BLOCK = CHUNK  # of a target in memory
BURST = RATE // 5
FOLLOWS_S = 0.8  # how soon a rate that was read holds: it is asked for twice a second, and a unit may be waited for


@dataclass
class Sent:
    """What went through, and when."""

    pieces: list[tuple[float, int]] = field(default_factory=list)

    def between(self, start: float, end: float) -> int:
        return sum(count for at, count in self.pieces if start <= at < end)

    def most_in_a_second(self) -> int:
        return max((self.between(at, at + 1) for at, _ in self.pieces), default=0)

    def since(self, start: float) -> "Sent":
        return Sent([piece for piece in self.pieces if piece[0] >= start])

    def __add__(self, other: "Sent") -> "Sent":
        return Sent([*self.pieces, *other.pieces])


@dataclass
class Beating:
    """Workers of one state without a process: hearts that are heard, lines that are exchanged, in the clock's time."""

    world: World
    clock: SimulatedClock
    ending: threading.Event = field(default_factory=threading.Event)

    def worker(self, name: str) -> Lines:
        store = Store(self.world.state)
        store.beat(Heart(name, "elsewhere", 1, time.time(), 0.0, 4, "another machine's"))
        made = Lines(store, name, self.clock)

        def live() -> None:
            while not self.clock.wait(self.ending, BEAT_S):
                made.limit("trial", store.run("trial").limits)
                made.exchange()

        self.clock.start(live)
        return made

    @contextmanager
    def sending(self, known: Lines, one: Machine, sent: Sent, threads: int = 2) -> Iterator[None]:
        """The machine sends as fast as it may while the body runs."""
        ending = threading.Event()
        with known.sending("trial", one) as shared:
            line = Line(shared)

            def send() -> None:
                while not ending.is_set():
                    line.take(UNIT, ending.is_set)
                    if not ending.is_set():
                        sent.pieces.append((self.clock.now(), UNIT))

            running = [self.clock.start(send) for _ in range(threads)]
            try:
                yield
            finally:
                ending.set()
                for thread in running:
                    thread.join()


@pytest.fixture
def beating(world: World) -> Iterator[Beating]:
    made = Beating(world, SimulatedClock())
    yield made
    made.ending.set()
    made.clock.sleep(BEAT_S)


def begun(world: World, limits: str, *machines: str, wave: str = "", source: str = "") -> list[Machine]:
    text = manifest([machine(id) for id in machines], more=f"limits: {{ {limits} }}")
    text = text.replace("  - name: pilot\n", f"  - name: pilot\n    limits: {{ {wave} }}\n")
    world.begin(text.replace("made: { type: memory }", f"made: {{ type: memory{', ' + source if source else ''} }}"))
    return Store(world.state).machines("trial")


def test_machines_of_one_worker_share_and_use_what_others_leave(beating: Beating) -> None:
    one, two = begun(beating.world, "bandwidth: 100KB/s", "a1", "a2")
    known, sent, other, clock = beating.worker("w1"), Sent(), Sent(), beating.clock
    with beating.sending(known, one, sent):
        clock.sleep(2.005)
        with beating.sending(known, two, other):
            clock.sleep(2)
        clock.sleep(2)
    both = sent + other
    assert both.between(0, 1.005) == BURST + RATE + UNIT and both.most_in_a_second() == BURST + RATE
    for start in (1.005, 2.005, 3.005, 4.005, 5.005):
        assert both.between(start, start + 1) == RATE, "alone, together, and alone again: the whole rate"
    assert sent.between(3.005, 4.005) == other.between(3.005, 4.005) == RATE // 2


def test_workers_share_by_how_many_machines_they_send(beating: Beating) -> None:
    """One, then one more beside it, then two more there: never more than the rate in any second, and each gets its part."""
    a1, a2, a3 = begun(beating.world, "bandwidth: 100KB/s", "a1", "a2", "a3")
    clock, here, there = beating.clock, Sent(), Sent()
    first = beating.worker("w1")
    clock.sleep(1.3)  # their hearts do not beat at one time
    second = beating.worker("w2")
    with beating.sending(first, a1, here):
        clock.sleep(3.005)
        alone = clock.now()
        with beating.sending(second, a2, there):
            clock.sleep(10)
            both = clock.now()
            with beating.sending(second, a3, there):
                clock.sleep(10)
                three = clock.now()
            clock.sleep(10)
            two = clock.now()
        clock.sleep(2 * BEAT_S + FOLLOWS_S + 1)  # w2 tells with its beat, w1 reads with its own
        again = clock.now()
    assert here.between(alone - 1, alone) == RATE
    assert there.pieces[0][0] >= alone + NOTICE_S > alone + BEAT_S + FOLLOWS_S  # not until the other one surely knows
    assert here.between(alone + NOTICE_S - 1, alone + NOTICE_S) == RATE // 2
    assert here.between(both - 1, both) == there.between(both - 1, both) == RATE // 2
    assert here.between(three - 3, three) == RATE and there.between(three - 3, three) == 2 * RATE
    assert here.between(two - 1, two) == there.between(two - 1, two) == RATE // 2
    assert here.between(again - 1, again) == RATE
    assert (here + there).since(alone - 1).most_in_a_second() <= RATE + UNIT


def test_a_wave_and_a_source_have_lines_of_their_own(beating: Beating) -> None:
    clock = beating.clock
    (one,) = begun(beating.world, "bandwidth: 100KB/s", "a1", wave="bandwidth: 40KB/s")
    sent = Sent()
    with beating.sending(beating.worker("w1"), one, sent):
        clock.sleep(2.005)
    assert sent.between(0, 1.005) == 8_000 + 40_000 + UNIT and sent.between(1.005, 2.005) == 40_000
    (one,) = begun(beating.world, "bandwidth: 100KB/s", "a1", source="bandwidth: 20KB/s")
    sent, began = Sent(), clock.now()
    with beating.sending(beating.worker("w2"), one, sent):
        clock.sleep(8.005)
    assert not sent.between(began, began + NOTICE_S), "w1 has not said yet that it sends no more"
    assert sent.between(began + 7, began + 8) == 20_000


def test_a_worker_that_is_dead_takes_no_share(beating: Beating) -> None:
    one, two = begun(beating.world, "bandwidth: 100KB/s", "a1", "a2")
    store = Store(beating.world.state)
    dead = beating.worker("w1")
    sent = Sent()
    with dead.sending("trial", two):
        store.beat(Heart("w1", "elsewhere", 1, time.time(), 0.0, 4, "another machine's", left=True))
        with beating.sending(beating.worker("w2"), one, sent):
            beating.clock.sleep(4.005)
    assert sent.between(0, 4.005) == 4 * RATE + BURST + UNIT


def test_an_hour_begins_while_a_machine_sends(world: World) -> None:
    """At noon the rate falls to a tenth, and whoever sends follows."""
    (one,) = begun(world, "machines: 4", "a1")
    clock = SimulatedClock(datetime(2026, 12, 4, 11, 59, 57, tzinfo=UTC).timestamp())
    known = Lines(Store(world.state), "w1", clock)
    slot = Slot(("fri",), "12:00", "13:00", "UTC", RATE // 10)
    known.limit("trial", Limits(line=Rates((slot,), RATE)))
    sent = Sent()
    with Beating(world, clock).sending(known, one, sent):
        clock.sleep(6.005)
    assert sent.between(0.995, 1.995) == sent.between(1.995, 2.995) == RATE
    assert sent.between(3 + FOLLOWS_S, 5 + FOLLOWS_S) == 2 * RATE // 10


def test_what_nobody_limits_writes_nothing_down(world: World) -> None:
    (one,) = begun(world, "machines: 4", "a1")
    clock = SimulatedClock()
    known = Lines(Store(world.state), "w1", clock)
    with known.sending("trial", one) as shared:
        for _ in range(1000):
            Line(shared).take(UNIT)
        known.exchange()
        assert clock.now() == 0 and not told(world)
    known.limit("trial", Limits(line=Rates((), RATE)))
    with known.sending("trial", one):
        assert told(world)


def told(world: World) -> int:
    """How many shares are written down."""
    with world.state.database.connect() as connection:
        return len(connection.execute(_table().select()).all())


def test_workers_share_an_accounts_calls_by_the_machines_that_they_work_on(beating: Beating) -> None:
    """Two machines here, one there, of one account, at 30 calls a second: two thirds and one third, and never more."""
    text = manifest([machine(id) for id in ("a1", "a2", "a3")])
    beating.world.begin(text)
    known, clock = Store(beating.world.state).machines("trial"), beating.clock
    a1, a2, a3 = (replace(one, order=replace(one.order, account="cloud:x")) for one in known)
    first, second = beating.worker("w1"), beating.worker("w2")
    calls = {"w1": Sent(), "w2": Sent()}
    with Store(beating.world.state).change("trial") as change:
        run = change.run()
        assert run
        change.put_run(replace(run, limits=Limits(requests={"cloud:x": 30.0})))

    def call(name: str, bucket: Throttle, until: float) -> None:
        while clock.now() < until:
            bucket.take(1)
            calls[name].pieces.append((clock.now(), 1))

    with first.working("trial", a1), first.working("trial", a2):
        here = throttle._accounts["cloud:x"]
        with second.working("trial", a3):
            there = throttle._accounts["cloud:x"]  # one process has one bucket for an account; these are two workers in one
            assert here is not there
            until = clock.now() + 10.005
            for running in [clock.start(lambda: call("w1", here, until)), clock.start(lambda: call("w2", there, until))]:
                running.join()
    assert calls["w1"].between(1, 2) == 30 and not calls["w2"].between(0, NOTICE_S)
    assert calls["w1"].between(until - 3, until) == 60 and calls["w2"].between(until - 3, until) == 30
    assert (calls["w1"] + calls["w2"]).since(1).most_in_a_second() <= 30 + 1
    assert "cloud:x" not in throttle._accounts


def test_a_targets_limit_is_its_accounts(world: World) -> None:
    """Two targets of one account have one limit, the narrower; other regions count for themselves."""
    text = manifest([machine(id, f"target: {id}, nics: [{{ subnet: s }}]") for id in ("far", "near", "east")])
    to = "aws:eu-west-1?profile=move"
    targets = f'far: {{ to: "{to}", limits: {{ requests: 8 }} }}, near: {{ to: "{to}", subnet: s, limits: {{ requests: 2.5 }} }},'
    targets += 'east: { to: "aws:us-east-1", limits: { requests: 4 } }'
    world.begin(text.replace("targets: {", f"targets: {{ {targets},"))
    store = Store(world.state)
    assert store.run("trial").limits.requests == {"aws:move/eu-west-1": 2.5, "aws:/us-east-1": 4}
    assert {one.order.account for one in store.machines("trial")} == {"aws:move/eu-west-1", "aws:/us-east-1"}


# ---- by real workers ---------------------------------------------------------------------------------------------------------


def data(world: World) -> int:
    return sum(one.sent_bytes for one in world.seen().machines)


def test_a_run_keeps_to_its_rate_and_follows_an_edit(world: World) -> None:
    """Two machines at a trickle that would take minutes; the manifest is edited while they send, and they end soon."""
    slow = manifest([machine("a1"), machine("a2")], more="limits: { bandwidth: 50KiB/s }")
    world.begin(slow)
    with Worker(world.state, world.folder / "work", slots=2, run="trial") as worker:
        working = threading.Thread(target=worker.work)
        working.start()
        until = time.monotonic() + 60
        while sum(bool(one.moving and one.moving.phase == "copy") for one in world.seen().machines) < 2:
            assert time.monotonic() < until
            time.sleep(0.2)
        time.sleep(3)
        puts = sum(event["what"] == "put" for event in world.events())
        world.begin(slow.replace("50KiB/s", "100MiB/s"))
        working.join(60)
        assert not working.is_alive()
    assert [one.standing for one in world.seen().machines] == [Standing.DONE] * 2
    assert sum(event["what"] == "put" for event in world.events()) > puts + 2


def test_a_run_lasts_as_long_as_its_bytes_take(world: World) -> None:
    rate = 4 * MIB
    world.begin(manifest([machine(f"a{n}") for n in range(3)], more=f"limits: {{ bandwidth: {rate}B/s }}"))
    seen = world.work(slots=3)
    spans = [span for one in seen.machines for span in one.spans if span.step == "upload"]
    lasted = max(span.ended for span in spans) - min(span.began for span in spans)
    total = sum(one.sent_bytes for one in seen.machines)
    assert total >= 16 * MIB
    assert lasted >= (total - 3 * BLOCK) / rate - 0.2  # each one's last block need not be waited for


@pytest.mark.tool
def test_workers_as_processes_share_the_line(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> None:
    """Two workers on PostgreSQL with four machines: what both sent, over the time in which anything was sent."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), postgres.database())
    rate = 2 * MIB
    file = fleet.folder / "wave.yaml"
    file.write_text(manifest([machine(f"a{n}") for n in range(4)], more=f"limits: {{ bandwidth: {rate}B/s }}"))
    try:
        fleet.start("begin", "run", str(file), "--detach")
        assert fleet.running.pop("begin").wait(120) == 0, fleet.said("begin")
        for name in ("w1", "w2"):
            fleet.start(name, "worker", "--slots", "2")
        fleet.until(lambda: over(fleet))
        seen = fleet.seen()
        assert [one.standing for one in seen.machines] == [Standing.DONE] * 4
        spans = [span for one in seen.machines for span in one.spans if span.step == "upload"]
        assert len({span.worker for span in spans}) == 2
        total = sum(one.sent_bytes for one in seen.machines)
        lasted = max(span.ended for span in spans) - min(span.began for span in spans)
        assert lasted >= (total - 4 * BLOCK) / rate - 0.5
    finally:
        fleet.end()
