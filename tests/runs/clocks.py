"""Clocks that are made up: one that a test moves on by hand, and one on which threads wait for each other in no time."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

NS = 1_000_000_000
SPIN_S = 0.1


def slowness() -> float:
    """How many times longer than alone work takes just now: what is promised in seconds is promised for an idle machine."""
    wall, own = time.monotonic(), time.thread_time()
    while time.thread_time() - own < SPIN_S:
        pass
    return max(1.0, (time.monotonic() - wall) / SPIN_S)


class HandClock:
    """Stands still but when it is told to go on, and when somebody sleeps."""

    def __init__(self, epoch: float = 0.0) -> None:
        self._now, self._epoch = 0.0, epoch
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return self._epoch + self._now

    def on(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float) -> None:
        self.on(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.on(seconds)
        return event.is_set()


@dataclass(eq=False)
class _Parked:
    """A thread that waits: until a moment, or for an event."""

    until: float  # nanoseconds
    event: threading.Event
    go: threading.Event = field(default_factory=threading.Event)

    def moment(self, now: float) -> float:
        """When it may go on, as things stand."""
        return now if self.event.is_set() else max(now, self.until)


@dataclass(eq=False)
class Running:
    """A thread on a simulated clock."""

    clock: "SimulatedClock"
    over: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    def join(self, seconds: float = math.inf) -> bool:
        """Waits until it is over, at most so long by the clock; says whether it is. Raises what it raised."""
        self.clock.wait(self.over, seconds)
        if self.error is not None:
            raise self.error
        return self.over.is_set()


class SimulatedClock:
    """The time of a few threads, those that it starts and the one that made it: one runs at a time, and while all wait, it is the
    moment at which the first of them goes on, at once. The same program does the same every time, however busy the machine is.

    A whole number of nanoseconds, of which every wait takes at least one. Who waits must hold no lock that another one wants.
    """

    def __init__(self, epoch: float = 0.0) -> None:
        self._ns, self._epoch = 0, epoch
        self._parked: list[_Parked] = []
        self._ours = {threading.get_ident()}
        self._lost = False

    def now(self) -> float:
        return self._ns / NS

    def time(self) -> float:
        return self._epoch + self.now()

    def sleep(self, seconds: float) -> None:
        self.wait(threading.Event(), seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        assert threading.get_ident() in self._ours, "a thread that this clock knows nothing of may not wait by it"
        if not event.is_set():
            me = self._park(event, seconds)
            self._next()
            me.go.wait()
            assert not self._lost, "all threads wait for each other"
        return event.is_set()

    def start(self, work: Callable[[], object]) -> Running:
        """Does the work in a thread, from this moment on, when it is its turn."""
        running, first = Running(self), self._park(threading.Event(), 0.0)

        def run() -> None:
            first.go.wait()
            self._ours.add(threading.get_ident())
            try:
                work()
            except BaseException as error:
                running.error = error
            finally:
                self._ours.discard(threading.get_ident())
                running.over.set()
                self._next()

        threading.Thread(target=run, daemon=True).start()
        return running

    def _park(self, event: threading.Event, seconds: float) -> _Parked:
        one = _Parked(math.inf if seconds == math.inf else self._ns + max(1, math.ceil(seconds * NS)), event)
        self._parked.append(one)
        return one

    def _next(self) -> None:
        """Whose turn it is now; of several at one moment, who waits longest."""
        if not self._parked:
            return
        one = min(self._parked, key=lambda parked: parked.moment(self._ns))
        if (moment := one.moment(self._ns)) == math.inf:
            self._lost = True
            for parked in self._parked:
                parked.go.set()
            return
        self._ns = int(moment)
        self._parked.remove(one)
        one.go.set()
