"""Questions that many machines have in common: while a wave is planned, an account is asked each of them once.

    with together.asking(meter):
        ...                       # what a session asks by `once` is asked for all

Outside of it everybody asks for himself: whoever moves a machine wants to know how things are now.
"""

from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

from v2c.errors import Paused
from v2c.events import Meter

T = TypeVar("T")

LIMIT_S = 60.0  # how long a question is asked again: many machines wait for its answer, and nothing was changed yet
POLL_S = 0.2  # how soon who waits for another's answer notices that it is to stop


class _Round:
    """Answers by question; a failure is an answer, too."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self._answers: dict[Hashable, Future[Any]] = {}
        self._lock = Lock()

    def once(self, key: Hashable, ask: Callable[[], T]) -> T:
        self._go_on()
        with self._lock:
            known = self._answers.get(key)
            answer: Future[T] = known or self._answers.setdefault(key, Future())
        if known is None:
            try:
                answer.set_result(ask())
            except BaseException as error:
                answer.set_exception(error)
        while not answer.done():
            try:
                answer.exception(POLL_S)
            except NotYet:
                self._go_on()
        if failure := answer.exception():
            raise failure.with_traceback(None)  # or it would grow with everybody who hears it
        return answer.result()

    def _go_on(self) -> None:
        if self.meter.cancelled():
            raise Paused("stopped while clouds were asked", remedy="the same command asks them again")


_round: _Round | None = None


@contextmanager
def asking(meter: Meter) -> Iterator[None]:
    """While the body runs, `once` asks each question once, in all threads; the meter hears what is waited for, and stops it."""
    global _round
    before, _round = _round, _Round(meter)
    try:
        yield
    finally:
        _round = before


def once(key: Hashable, ask: Callable[[], T]) -> T:
    """The answer to the question `key`, as whoever asked it first got it; raises what that one's `ask` raised. The answer is
    shared: it is read only."""
    return _round.once(key, ask) if _round else ask()


def meter() -> Meter | None:
    """The meter of who asks for many; None: nobody does."""
    return _round.meter if _round else None


def limit(seconds: float) -> float:
    """How long something is asked again: so long, or less where many wait for it."""
    return min(seconds, LIMIT_S) if _round else seconds
