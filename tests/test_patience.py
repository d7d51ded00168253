"""Waiting out a cloud: what passes is tried again, what does not is raised, and somebody who wants to stop is heard at once."""

import threading
import time

import pytest

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
    call, waited = Flaky(3), list[float]()
    assert Patience(sleep=waited.append, clock=lambda: sum(waited))(call, lambda error: str(error)) == "there"
    assert call.calls == 4 and 0.5 / 2 <= waited[0] <= 0.5 and sum(waited) <= 0.5 + 1 + 2


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
    stop = threading.Event()
    meter = Meter("job", cancelled=stop.is_set)
    assert meter_of("job") is not meter and not meter_of("job").cancelled()
    with working("job", meter):
        assert meter_of("job") is meter
        threading.Timer(0.2, stop.set).start()
        began = time.monotonic()
        with pytest.raises(Paused):
            Patience(meter_of("job"), first_s=60.0)(Flaky(9), lambda error: str(error))
        assert time.monotonic() - began < 2.0
    assert not meter_of("job").cancelled()
