"""Waiting out a cloud: what passes is tried again, what does not is raised, and somebody who wants to stop is heard at once."""

import pytest
from clocks import HandClock

from v2c.errors import Paused, TargetError
from v2c.events import Meter
from v2c.patience import Patience, meter_of, working


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, times: int) -> None:
        self.times, self.calls = times, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise OSError("not now")
        return "there"


def test_what_passes_is_tried_again() -> None:
    call, clock, tried = Flaky(3), HandClock(), list[float]()

    def told(error: Exception) -> str:
        tried.append(clock.now())
        return str(error)

    assert Patience(clock=clock)(call, told) == "there"
    assert call.calls == 4 and tried[0] == 0 and 0.25 <= tried[1] <= 0.5 and 0.5 <= tried[2] - tried[1] <= 1
    assert 1 <= clock.now() - tried[2] <= 2


def test_what_does_not_pass_is_raised() -> None:
    call = Flaky(1)
    with pytest.raises(OSError, match="not now"):
        Patience()(call, lambda _: None)
    assert call.calls == 1
    with pytest.raises(OSError, match="not now"):
        Patience(limit_s=-1.0)(Flaky(1), lambda error: str(error))


def test_errors_of_ours_are_not_asked_about() -> None:
    def call() -> None:
        raise TargetError("no", transient=True)

    with pytest.raises(TargetError):
        Patience()(call, lambda _: "it would pass")


def test_a_step_that_is_asked_to_stop_does_not_wait() -> None:
    clock = HandClock()
    meter = Meter("job", cancelled=lambda: clock.now() > 0)
    assert meter_of("job") is not meter and not meter_of("job").cancelled()
    with working("job", meter):
        assert meter_of("job") is meter
        with pytest.raises(Paused):
            Patience(meter_of("job"), first_s=60.0, clock=clock)(Flaky(9), lambda error: str(error))
        assert clock.now() == 0.5  # how soon it looks again
    assert not meter_of("job").cancelled()
