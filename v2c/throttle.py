"""So much per second, over all that share it: bytes that are sent, calls to an account.

A `Throttle` is a bucket whose rate may change while somebody waits in it; a `Line` is several of them, one behind the other. What
a job shares with others is looked up by the job's id (`sharing`, `line`), since a step of the engine gets plain values only.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from v2c.clock import CLOCK, Clock

BURST_S = 0.2  # what was not used for so long may be made up for
POLL_S = 0.2  # how soon who waits notices another rate, or that it is to stop

Rate = Callable[[], float | None]


class Taking(Protocol):
    """What is waited for before something goes."""

    def take(self, count: float, cancelled: Callable[[], bool] = ...) -> None:
        """Waits for the turn of `count`; returns early when cancelled."""
        ...


class Throttle:
    """At most `rate` per second; bursts of up to a fifth of a second. A rate that is a function is asked all the time: None is no
    limit, 0 lets nothing through. Who came first goes first. Usable from several threads."""

    def __init__(self, rate: float | Rate, clock: Clock = CLOCK) -> None:
        self._rate: Rate = rate if callable(rate) else lambda: rate
        self._clock = clock
        self._room = 0.0  # what may go now; below 0 while the last one still takes its time
        self._at, self._held = clock.now() - BURST_S, math.inf
        self._queue: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    def take(self, count: float, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Waits for the turn of `count`; returns early when cancelled, and leaves its turn to the others."""
        turn = threading.Event()
        with self._lock:
            if not self._queue and not self._left():
                self._room -= count
                return
            self._queue.append(turn)
        try:
            while not cancelled():
                left = POLL_S
                with self._lock:
                    if self._queue[0] is turn:
                        left = self._left()
                        if not left:
                            self._room -= count
                            return
                self._clock.wait(turn, min(left, POLL_S))
                turn.clear()
        finally:
            with self._lock:
                self._queue.remove(turn)
                if self._queue:
                    self._queue[0].set()

    def _left(self) -> float:
        """Seconds until the next one may go, at the rate that holds now."""
        now, rate = self._clock.now(), self._rate()
        passed, self._at = now - self._at, now
        held, self._held = self._held, math.inf if rate is None else rate
        if rate is None:
            self._room = 0.0
            return 0.0
        if rate <= 0:
            self._room = min(self._room, 0.0)
            return POLL_S
        self._room = min(self._room + min(held, rate) * passed, rate * BURST_S)  # until now the other may have held
        return 0.0 if self._room >= 0 else -self._room / rate


class Line:
    """Throttles one behind the other, the narrowest circle first: what waits for its own circle takes nothing from the others."""

    def __init__(self, throttles: Sequence[Throttle]) -> None:
        self._throttles = tuple(throttles)

    def take(self, count: float, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Waits for the turn of `count` in each; returns early when cancelled."""
        for throttle in self._throttles:
            throttle.take(count, cancelled)


_accounts: dict[str, Throttle] = {}


def pace(account: str, throttle: Throttle | None) -> None:
    """From now on this process's calls to the account take turns in this; None: they need not."""
    if throttle is None:
        _accounts.pop(account, None)
    else:
        _accounts[account] = throttle


def turn(account: str, cancelled: Callable[[], bool] = lambda: False) -> None:
    """Waits until one more call to the account may be made; returns early when cancelled."""
    throttle = _accounts.get(account)
    if throttle is not None:
        throttle.take(1, cancelled)


Opening = Callable[[], AbstractContextManager[Sequence[Throttle]]]

_shared: dict[str, Opening] = {}


@contextmanager
def sharing(job: str, opening: Opening) -> Iterator[None]:
    """While the body runs the job sends through what `opening` gives, for as long as it sends."""
    _shared[job] = opening
    try:
        yield
    finally:
        _shared.pop(job, None)


@contextmanager
def line(job: str, own: float = 0) -> Iterator[Line | None]:
    """The job's line while it sends: its own rate (0: none), and what it shares with others. None: nothing limits it."""
    first = (Throttle(own),) if own else ()
    opening = _shared.get(job)
    if opening is None:
        yield Line(first) if first else None
        return
    with opening() as shared:
        yield Line((*first, *shared)) if first or shared else None
