"""The time that is waited by: the machine's own, or one that is made up.

Who waits, or counts per second, is given a `Clock` and asks nothing else what time it is; so an hour of it can pass in no time.
"""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Usable from several threads."""

    def now(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, as the wall shows them: somebody may set them."""
        ...

    def sleep(self, seconds: float) -> None:
        """Returns when so many have passed."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Returns when the event is set (True), or so many have passed."""
        ...


class _Machine:
    """The machine's own."""

    def now(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


CLOCK: Clock = _Machine()
