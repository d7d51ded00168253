"""Patience: what passes is waited out, what does not is raised at once, and Ctrl-C is heard."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from v2c.errors import Paused, TargetError
from v2c.events import Event, Meter, Noted
from v2c.patience import OUTAGE_S, Patience


class Throttled(Exception):
    """What an SDK raises."""


def passing(error: Exception) -> str | None:
    return "the cloud is busy" if isinstance(error, Throttled) else None


@dataclass
class Clock:
    """Time that passes only when somebody sleeps."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def failing(until: Callable[[], bool], error: Exception | None = None) -> Callable[[], str]:
    def call() -> str:
        if not until():
            raise error or Throttled("slow down")
        return "done"

    return call


def test_what_answers_is_called_once() -> None:
    calls: list[int] = []
    assert Patience(sleep=lambda _: pytest.fail("it slept"))(lambda: calls.append(1) or "x", passing) == "x"  # type: ignore[func-returns-value]
    assert calls == [1]


def test_an_outage_of_half_an_hour_is_waited_out_and_told_once() -> None:
    clock, told = Clock(), list[Event]()
    patience = Patience(Meter(listener=told.append), clock=clock, sleep=clock.sleep)
    assert patience(failing(lambda: clock.now > 30 * 60), passing) == "done"
    assert 30 * 60 < clock.now < 31 * 60
    assert [event.text for event in told if isinstance(event, Noted)] == ["waiting, and trying again: the cloud is busy"]
    assert max(clock.slept) <= 0.5, "Ctrl-C has to be heard between two sleeps"


def test_pauses_grow_to_a_bound() -> None:
    clock, at = Clock(), list[float]()

    def call() -> str:
        at.append(clock.now)
        raise Throttled

    with pytest.raises(Throttled):
        Patience(limit_s=300, first_s=1, most_s=8, clock=clock, sleep=clock.sleep)(call, passing)
    pauses = [b - a for a, b in pairwise(at)]
    bounds = [1, 2, 4, *[8] * len(pauses)][: len(pauses)]
    assert all(bound / 2 <= pause <= bound + 1e-6 for bound, pause in zip(bounds, pauses, strict=True))
    assert len(set(pauses)) > 3, "many clients must not come back at once"


def test_it_gives_up_with_the_error_itself() -> None:
    clock = Clock()
    with pytest.raises(Throttled, match="slow down"):
        Patience(clock=clock, sleep=clock.sleep)(failing(lambda: False), passing)
    assert OUTAGE_S < clock.now < OUTAGE_S + 60


@pytest.mark.parametrize("error", [ValueError("no such parameter"), TargetError("refused", transient=True)])
def test_what_does_not_pass_is_raised_at_once(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        Patience(sleep=lambda _: pytest.fail("it slept"))(failing(lambda: False, error), passing)


def test_a_cancelled_meter_ends_the_wait() -> None:
    cancelled = time.monotonic() + 0.3
    patience = Patience(Meter(cancelled=lambda: time.monotonic() > cancelled), first_s=60)
    with pytest.raises(Paused):
        patience(failing(lambda: False), passing)
    assert time.monotonic() - cancelled < 1.5
