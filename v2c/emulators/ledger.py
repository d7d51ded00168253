"""What an emulator was asked: one entry a request, so that a test can count what was sent twice and made twice."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from v2c.clock import CLOCK, Clock


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it was answered: the operation by the SDK's name ("PutSnapshotBlock"), what it was about ("snap-1/7"), the
    HTTP status (0: the connection was cut), the bytes of its body, and when it was answered (seconds of a clock that only
    goes on)."""

    operation: str
    subject: str
    status: int
    bytes: int = 0
    at: float = field(default=0.0, compare=False)


@dataclass
class Requests:
    """All requests so far, in the order of their answers. Thread-safe."""

    clock: Clock = CLOCK
    _told: list[Request] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, operation: str, subject: str, status: int, bytes: int = 0) -> None:
        """Writes one down."""
        with self._lock:
            self._told.append(Request(operation, subject, status, bytes, self.clock.now()))

    def __iter__(self) -> Iterator[Request]:
        with self._lock:
            return iter(list(self._told))

    def done(self, operation: str) -> Counter[str]:
        """How often the operation succeeded (2xx), by subject."""
        return Counter(r.subject for r in self if r.operation == operation and 200 <= r.status < 300)

    def bytes(self, operation: str) -> int:
        """Bytes of the bodies of the operation's requests, failed ones too."""
        return sum(r.bytes for r in self if r.operation == operation)

    def most_in(self, seconds: float, left_out: Collection[str] = ()) -> int:
        """The most requests of any span of so many seconds, failed ones too, without these operations."""
        moments = sorted(r.at for r in self if r.operation not in left_out)
        return max((bisect_left(moments, at + seconds) - place for place, at in enumerate(moments)), default=0)

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._told.clear()
