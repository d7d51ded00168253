"""What machines share by the second: the lines of their run, wave and source, and the calls to their target's account.

In this process each is one bucket (v2c.throttle), so what one machine does not use the others may. Between workers its rate is
divided by how many machines each of them has there: those that send for a line, those that it works on for an account. A worker
writes that number down when it changes, and reads the others' with each beat of its heart. Machines that only wait, are repaired
or boot take no share of a line.

Nobody takes more than a share that all the others know of. Who begins where others are already waits `NOTICE_S`, in which every
one of them has read of it and takes less; who ends is read of by the next beat, and until then its share lies idle. What was read
is good for as long as the state can be reached: where it cannot, a worker keeps its share until its lease is over and it stops. A
rate that is edited in the manifest, or changes with the time of day, holds for what runs from the next second or beat on.
"""

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from v2c import throttle
from v2c.clock import CLOCK, Clock
from v2c.manifest.rates import Rates
from v2c.throttle import Throttle
from v2c.waves.nouns import Limits, Machine
from v2c.waves.shares import Shares
from v2c.waves.store import Store

NOTICE_S = 5.0  # more than a beat (3 s) and its half second

Key = tuple[str, ...]  # "line", the run, and which of its lines: "all", "wave" NAME, "source" NAME; or "account" NAME


@dataclass(eq=False)
class Shared:
    """One of them as this worker has it. `whole`: its rate now, 0: no limit. `ours`: machines here that use it; `counted`: those
    of them that the others know of."""

    whole: Callable[[], float]
    clock: Clock
    ours: int = 0
    counted: int = 0
    others: float = 0.0
    known_at: float = 0.0
    throttle: Throttle = field(init=False)

    def __post_init__(self) -> None:
        self.throttle = Throttle(_lately(self._rate, self.clock), self.clock)

    def _rate(self) -> float | None:
        whole = self.whole()
        if not whole:
            return None
        if self.counted < self.ours and self.clock.now() >= self.known_at:
            self.counted = self.ours
        return whole * self.counted / (self.counted + self.others) if self.counted else 0.0


class Lines:
    """What one worker's machines share. Usable from several threads."""

    def __init__(self, store: Store, worker: str, clock: Clock = CLOCK) -> None:
        self._store, self._shares, self._clock = store, Shares(store, worker, "line"), clock
        self._known: dict[Key, Shared] = {}
        self._limits: dict[str, Limits] = {}
        self._lock = threading.RLock()

    def limit(self, run: str, limits: Limits) -> None:
        """What holds for the run from now on."""
        self._limits[run] = limits

    @contextmanager
    def sending(self, run: str, machine: Machine) -> Iterator[Sequence[Throttle]]:
        """The machine sends while the body runs, through these: its source's, its wave's, the run's."""
        order = machine.order
        keys: list[Key] = [("line", run, "source", order.source), ("line", run, "wave", order.wave), ("line", run, "all")]
        with self._using(run, keys) as shared:
            yield [one.throttle for one in shared]

    @contextmanager
    def working(self, run: str, machine: Machine) -> Iterator[None]:
        """The machine is worked on while the body runs: calls to its account take turns."""
        account = machine.order.account
        with self._using(run, [("account", account)] if account else []) as shared:
            for one in shared:
                throttle.pace(account, one.throttle)
            yield

    @contextmanager
    def _using(self, run: str, keys: Sequence[Key]) -> Iterator[list[Shared]]:
        with self._lock:
            if run not in self._limits:
                self.limit(run, self._store.run(run).limits)
            shared = [self._known.setdefault(key, Shared(partial(self._whole, key), self._clock)) for key in keys]
            for one in shared:
                one.ours += 1
            told = self._exchanged()
            for one in shared:
                if told and not one.others:
                    one.counted = one.ours
                one.known_at = self._clock.now() + NOTICE_S
        try:
            yield shared
        finally:
            with self._lock:
                for key, one in zip(keys, shared, strict=True):
                    one.ours -= 1
                    one.counted = min(one.counted, one.ours)
                    if not one.ours:
                        del self._known[key]
                        if key[0] == "account":
                            throttle.pace(key[1], None)

    def exchange(self) -> None:
        """Tells the other workers how many machines are here, and reads how many are there."""
        with self._lock:
            others = self._shares.exchange({json.dumps(k): one.ours for k, one in self._known.items() if self._limited(k)})
            for key, shared in self._known.items():
                shared.others = others.get(json.dumps(key), 0.0)

    def _exchanged(self) -> bool:
        """Whether the state could be reached; where it cannot, a later beat tells, and nobody begins before he would be known."""
        try:
            self.exchange()
        except Exception:
            return False
        return True

    def _limited(self, key: Key) -> bool:
        return bool(self._calls(key[1]) if key[0] == "account" else self._rates(key))

    def _whole(self, key: Key) -> float:
        return self._calls(key[1]) if key[0] == "account" else self._rates(key).at(self._clock.time())

    def _calls(self, account: str) -> float:
        """Of all runs that had machines here and limit it, the narrowest."""
        return min((said for limits in list(self._limits.values()) if (said := limits.requests.get(account))), default=0.0)

    def _rates(self, key: Key) -> Rates:
        limits = self._limits[key[1]]
        if key[2] == "all":
            return limits.line
        known: Mapping[str, Rates] = limits.wave_lines if key[2] == "wave" else limits.source_lines
        return known.get(key[3], Rates())


def _lately(rate: Callable[[], float | None], clock: Clock) -> Callable[[], float | None]:
    """Asked at most twice in a second: what time it is in a zone takes a while to find out."""
    asked, known = -math.inf, None

    def lately() -> float | None:
        nonlocal asked, known
        if (now := clock.now()) - asked > 0.5:
            asked, known = now, rate()
        return known

    return lately
