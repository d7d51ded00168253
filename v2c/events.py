"""What can be told while work goes on, and the meter that every leaf gets to tell it.

Leaves never print: they call a `Meter`. `v2c.ui` draws the events, the engine stores them, tests collect them.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from v2c.model import Finding


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `at` (seconds since the epoch) in `step` of `job`."""

    job: str
    step: str
    at: float


@dataclass(frozen=True, slots=True)
class Began(Event):
    """A step (or, with `phase`, a part of it) began. `total` bytes will be moved, 0: unknown or none."""

    phase: str = ""
    total: int = 0


@dataclass(frozen=True, slots=True)
class Moved(Event):
    """`done` of `total` bytes of the phase so far; published at most twice a second."""

    phase: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Noted(Event):
    """A sentence worth a line of log."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Found(Event):
    """A readiness finding, or a failure that was tolerated."""

    finding: Finding | None = None


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The step (or phase) ended after `seconds` of work; `error` is empty when it went well."""

    phase: str = ""
    seconds: float = 0.0
    bytes: int = 0
    error: str = ""


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that hears nothing."""


@dataclass
class Meter:
    """What a leaf tells its progress to. Thread-safe; `moved` may be called per block, it publishes at most every 0.5 s.

    `cancelled` is asked by long loops; when it answers True they raise `Paused` at a point they can go on from.
    """

    job: str = ""
    step: str = ""
    listener: Listener = silent
    cancelled: Callable[[], bool] = lambda: False
    phases: dict[str, float] = field(default_factory=dict)
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _phase: str = ""
    _total: int = 0
    _before: int = 0
    _told: float = 0.0

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator["Meter"]:
        """Times a part of the step under `name`; `total` in bytes when it moves data."""
        began = time.monotonic()
        before = self.bytes
        self._phase, self._total, self._before, self._told = name, total, before, 0.0
        self.listener(Began(self.job, self.step, time.time(), name, total))
        error = ""
        try:
            yield self
        except BaseException as failure:
            error = str(failure) or type(failure).__name__
            raise
        finally:
            seconds = time.monotonic() - began
            self.phases[name] = self.phases.get(name, 0.0) + seconds
            self.listener(Ended(self.job, self.step, time.time(), name, seconds, self.bytes - before, error))
            self._phase, self._total = "", 0

    def moved(self, count: int) -> None:
        """`count` more bytes were moved."""
        with self._lock:
            self.bytes += count
            now = time.monotonic()
            if now - self._told < 0.5:
                return
            self._told = now
            event = Moved(self.job, self.step, time.time(), self._phase, self.bytes - self._before, self._total)
        self.listener(event)

    def spare(self, count: int) -> None:
        """`count` bytes of the total need not be moved: holes, or there already."""
        with self._lock:
            self._total = max(0, self._total - count)

    def note(self, text: str) -> None:
        """A sentence for the log."""
        self.listener(Noted(self.job, self.step, time.time(), text))

    def found(self, finding: Finding) -> None:
        """A finding, or a failure that was tolerated."""
        self.listener(Found(self.job, self.step, time.time(), finding))
