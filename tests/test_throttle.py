"""So much per second: over all that share it, by a rate that changes meanwhile. By clocks that are made up, to the last unit."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from clocks import HandClock, Running, SimulatedClock

from v2c.clock import CLOCK
from v2c.throttle import Line, Throttle, line, sharing

RATE = 100_000
UNIT = 1_000
BURST = RATE // 5
AFTER = 0.005  # so long after a second no unit is due, and none is lost on the edge


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


def sent(clock: SimulatedClock, throttle: Throttle | Line, seconds: float, threads: int = 4, count: int = UNIT) -> list[int]:
    """What each of so many threads gets through in that time."""
    until = clock.now() + seconds
    through = [0] * threads

    def send(number: int) -> Callable[[], None]:
        def sending() -> None:
            while clock.now() < until:
                throttle.take(count, lambda: clock.now() >= until)
                through[number] += count * (clock.now() < until)

        return sending

    for running in [clock.start(send(number)) for number in range(threads)]:
        running.join()
    return through


def test_all_that_share_it_get_the_rate_together(clock: SimulatedClock) -> None:
    got = sent(clock, Throttle(RATE, clock), 2 + AFTER)
    assert sum(got) == 2 * RATE + BURST + UNIT
    assert got == [BURST + UNIT + RATE // 2, *[RATE // 2] * 3]  # the burst is the first one's; then in turns


def test_one_gets_what_the_others_do_not_use(clock: SimulatedClock) -> None:
    assert sent(clock, Throttle(RATE, clock), 2 + AFTER, threads=1) == [2 * RATE + BURST + UNIT]


def test_who_waits_follows_another_rate(clock: SimulatedClock) -> None:
    """A block of ten seconds is in front; at the new rate what is left of it is over in a tenth."""
    rate = [1_000.0]
    throttle = Throttle(lambda: rate[0], clock)
    throttle.take(10_200)
    waiting = clock.start(lambda: throttle.take(10_000))
    clock.sleep(0.3)
    assert not waiting.over.is_set()
    rate[0] = 100_000.0
    assert waiting.join(1.0)
    # it looks again after its fifth of a second, at 0.4 s, of which only the time at the old rate is behind it
    assert clock.now() == pytest.approx(0.4 + 9_600 / 100_000, abs=1e-6)
    rate[0] = 50_000.0
    assert sum(sent(clock, throttle, 0.2 + 1 + AFTER)) == 50_000 + UNIT


def test_what_passes_at_the_lower_rate_is_not_made_up_for_at_the_higher(clock: SimulatedClock) -> None:
    rate, got = [0.0], list[int]()
    throttle = Throttle(lambda: rate[0], clock)
    sending = clock.start(lambda: got.extend(sent(clock, throttle, 11 + AFTER, threads=1)))
    clock.sleep(9.9)
    rate[0] = RATE  # noticed at 10 s
    assert sending.join() and got == [RATE + UNIT]


def test_no_limit_and_nothing_at_all(clock: SimulatedClock) -> None:
    rate: list[float | None] = [None]
    throttle = Throttle(lambda: rate[0], clock)
    for _ in range(1000):
        throttle.take(1 << 30)
    assert clock.now() == 0
    rate[0] = 0.0
    waiting = clock.start(lambda: throttle.take(1))
    assert not waiting.join(3600)
    rate[0] = None
    assert waiting.join(0.2)


def test_who_gives_up_leaves_its_turn(clock: SimulatedClock) -> None:
    throttle = Throttle(1_000, clock)
    throttle.take(1_200)  # a second
    giving_up: list[bool] = []
    first = clock.start(lambda: throttle.take(1_000_000, lambda: bool(giving_up)))
    clock.sleep(0.05)
    second = clock.start(lambda: throttle.take(10))
    clock.sleep(0.05)
    giving_up.append(True)
    assert first.join(0.2) and not second.over.is_set()
    assert second.join() and clock.now() == pytest.approx(1.0, abs=1e-6)


def test_what_was_not_used_is_made_up_for_a_fifth_of_a_second() -> None:
    clock = HandClock()
    throttle = Throttle(1_000, clock)
    clock.on(3600)
    assert throttle._left() == 0
    throttle.take(200)
    assert throttle._left() == 0
    throttle.take(100)
    assert throttle._left() == 0.1
    clock.on(0.11)
    assert throttle._left() == 0


def test_the_narrower_of_two_holds_and_leaves_the_rest_of_the_other(clock: SimulatedClock) -> None:
    shared = Throttle(200_000, clock)
    slow, fast = Line([Throttle(20_000, clock), shared]), Line([shared])
    got: dict[str, int] = {}

    def send(name: str, one: Line) -> Running:
        return clock.start(lambda: got.update({name: sum(sent(clock, one, 1.5325))}))

    for running in [send("slow", slow), send("fast", fast)]:
        running.join()
    # the slow one's unit of 1.5 s waits for its turn behind the fast one's four: 20 ms
    assert got["slow"] == 20_000 * 1.5 + 4_000 + UNIT
    assert got["fast"] + got["slow"] == 200_000 * 1.53 + 40_000 + UNIT


def test_a_jobs_line_is_its_own_rate_and_what_it_shares() -> None:
    with line("j") as alone:
        assert alone is None
    shared = Throttle(1)
    with sharing("j", lambda: nullcontext([shared])), line("j", 5) as both, line("other") as other:
        assert both is not None and both._throttles[1] is shared and other is None
    with line("j") as after:
        assert after is None


def test_without_another_clock_it_is_the_machines() -> None:
    throttle, began = Throttle(100), time.monotonic()
    for _ in range(31):
        throttle.take(1)
    assert time.monotonic() - began >= 0.1 - 0.001  # a burst of twenty and one, then ten at a hundred a second
    assert abs(CLOCK.time() - time.time()) < 60 and CLOCK.now() <= time.monotonic()
    assert not CLOCK.wait(threading.Event(), 0.01)
