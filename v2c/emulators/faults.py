"""Faults on demand: an emulator asks before and after each request whether, and how, it should fail.

Kinds are words that each emulator translates into its cloud's own published failure ("throttle", "internal", "reset", "slow",
"lost-answer", ...). Dice are seeded: the same seed and the same order of requests fail alike.
"""

import random
import threading
from dataclasses import dataclass, field

from v2c.clock import CLOCK, Clock


@dataclass
class Faults:
    """`share` of the requests fail, by kinds drawn evenly from `kinds`; `once` lists faults for the next matching requests.

    `down_until` (of `clock`): every request fails as an outage until then.
    """

    kinds: tuple[str, ...] = ()
    share: float = 0.0
    seed: int = 0
    down_until: float = 0.0
    clock: Clock = CLOCK
    drawn: list[tuple[str, str]] = field(default_factory=list)  # (operation, kind) of every fault that was dealt
    _once: list[tuple[str, str]] = field(default_factory=list)
    _dice: random.Random | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def once(self, operation: str, kind: str, times: int = 1) -> None:
        """The next `times` requests of the operation fail like this."""
        with self._lock:
            self._once += [(operation, kind)] * times

    def outage(self, seconds: float) -> None:
        """Nothing answers for so long."""
        self.down_until = self.clock.now() + seconds

    def draw(self, operation: str) -> str:
        """How this request fails ("outage" or a kind); empty: it does not."""
        with self._lock:
            kind = self._deal(operation)
            if kind:
                self.drawn.append((operation, kind))
            return kind

    def _deal(self, operation: str) -> str:
        if self.clock.now() < self.down_until:
            return "outage"
        if (planned := next((entry for entry in self._once if entry[0] == operation), None)) is not None:
            self._once.remove(planned)
            return planned[1]
        if self.share and self.kinds:
            self._dice = self._dice or random.Random(self.seed)  # noqa: S311 - dice for rehearsals
            if self._dice.random() < self.share:
                return self._dice.choice(self.kinds)
        return ""
