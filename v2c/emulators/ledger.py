"""What an emulator was asked: one entry a request, so that a test can count what was sent twice and made twice."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it was answered: the operation by the SDK's name ("PutSnapshotBlock"), what it was about ("snap-1/7"), the
    HTTP status (0: the connection was cut), and the bytes of its body."""

    operation: str
    subject: str
    status: int
    bytes: int = 0


@dataclass
class Requests:
    """All requests so far, in the order of their answers. Thread-safe."""

    _told: list[Request] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, operation: str, subject: str, status: int, bytes: int = 0) -> None:
        """Writes one down."""
        with self._lock:
            self._told.append(Request(operation, subject, status, bytes))

    def __iter__(self) -> Iterator[Request]:
        with self._lock:
            return iter(list(self._told))

    def done(self, operation: str) -> Counter[str]:
        """How often the operation succeeded (2xx), by subject."""
        return Counter(r.subject for r in self if r.operation == operation and 200 <= r.status < 300)

    def bytes(self, operation: str) -> int:
        """Bytes of the bodies of the operation's requests, failed ones too."""
        return sum(r.bytes for r in self if r.operation == operation)

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._told.clear()
