"""Waiting out a cloud: calls that fail for the moment are tried again, for longer than an outage lasts.

SDKs retry for seconds; this retries for the better part of an hour, asks whether the user wants to stop, and says what it waits
for. Who calls decides which failures are passing ones, and maps every other one to an error of ours.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from v2c.clock import CLOCK, Clock
from v2c.errors import Paused, V2cError
from v2c.events import Meter

T = TypeVar("T")

OUTAGE_S = 45 * 60.0  # outlasts the regional outages of half an hour that clouds report every year
FIRST_S, MOST_S = 0.5, 30.0
TELL_AFTER_S = 10.0

_working: dict[str, Meter] = {}  # job -> the meter of the step that it is at, in this process


@contextmanager
def working(job: str, meter: Meter) -> Iterator[None]:
    """The job's step is told by this meter while the body runs: `meter_of` finds it where none is handed down."""
    _working[job] = meter
    try:
        yield
    finally:
        _working.pop(job, None)


def meter_of(job: str) -> Meter:
    """The meter of the step that the job is at; outside of the engine a silent one that is never cancelled."""
    return _working.get(job) or Meter(job)


@dataclass
class Patience:
    """`patience(call, passing)`: calls until it answers. `passing(error)` says why an error will pass, None: it will not.

    Between tries it sleeps `first_s`, doubled each time up to `most_s`, half of it by chance. Raises the error itself when it
    will not pass or `limit_s` is over, Paused when the meter is cancelled. Usable from several threads.
    """

    meter: Meter = field(default_factory=Meter)
    limit_s: float = OUTAGE_S
    first_s: float = FIRST_S
    most_s: float = MOST_S
    clock: Clock = CLOCK

    def __call__(self, call: Callable[[], T], passing: Callable[[Exception], str | None]) -> T:
        began, pause, told = self.clock.now(), self.first_s, False
        while True:
            try:
                return call()
            except V2cError:
                raise
            except Exception as error:
                why = passing(error)
                waited = self.clock.now() - began
                if why is None or waited > self.limit_s:
                    raise
            if waited > TELL_AFTER_S and not told:
                told = True
                self.meter.note(f"waiting, and trying again: {why}")
            self._rest(pause * (0.5 + random.random() / 2))  # noqa: S311 - so that many clients do not come back at once
            pause = min(pause * 2, self.most_s)

    def _rest(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        while (left := until - self.clock.now()) > 0:
            if self.meter.cancelled():
                raise Paused("stopped while waiting for the cloud", remedy="the same command goes on")
            self.clock.sleep(min(left, 0.5))
