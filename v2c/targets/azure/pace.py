"""How fast one disk's pages are sent: as fast as they go, until the service says that it is too fast.

AzCopy does the same (pacer-autoPacer.go): a 503 takes a third of the rate away, and quiet time gives it back. A page blob takes
about 60 MiB/s (Blob service scalability targets), a managed disk what a standard disk of its size takes, so each disk has a pace
of its own.
"""

import threading

from v2c.clock import CLOCK, Clock

DOWN, UP = 0.65, 1.1  # AzCopy's step down at a 503; and per page that went through
LEAST = 16 << 20  # bytes a second: the slowest standard disk takes 60 MiB/s (disks-types)


class Pace:
    """`turn(bytes)` before each page, `busy(seconds)` when the service was, `fine(bytes)` when it went through. Thread-safe."""

    def __init__(self, clock: Clock = CLOCK) -> None:
        self._clock = clock
        self._rate = 0.0  # bytes a second; 0: no limit yet
        self._free = 0.0  # when the line is free again
        self._began, self._sent = clock.now(), 0
        self._slowed = 0.0
        self._lock = threading.Lock()

    @property
    def rate(self) -> float:
        """Bytes a second; 0: as fast as it goes."""
        return self._rate

    def turn(self, count: int) -> float:
        """Seconds to wait before so many bytes may go."""
        with self._lock:
            now = self._clock.now()
            start = max(now, self._free)
            if self._rate:
                self._free = start + count / self._rate
            return start - now

    def fine(self, count: int) -> None:
        """They went through."""
        with self._lock:
            self._sent += count
            if self._rate:
                self._rate *= UP

    def busy(self, wait_s: float) -> None:
        """The service was busy and wants `wait_s` seconds of quiet. Many refusals at once are one."""
        with self._lock:
            now = self._clock.now()
            self._free = max(self._free, now + wait_s)
            if now - self._slowed < 1.0:
                return
            seen = self._sent / max(0.1, now - self._began)
            self._rate = max(LEAST, (min(self._rate, seen * 2) if self._rate else seen) * DOWN)
            self._began, self._sent, self._slowed = now, 0, now
