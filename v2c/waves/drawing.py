"""Spans of steps from what a stage tells: the bars that people see. Kept in memory, and written down a few times a second."""

import threading
from collections.abc import Iterable

from v2c.events import Began, Ended, Event, Listener, Moved, silent
from v2c.model.wave import Span, Stage
from v2c.waves.store import Bar

SMOOTH = 0.3  # the share of the latest measurement in a rate: steady to the eye, and a minute late at most


class Drawing:
    """The bars of a machine's stage while a worker does it. A listener of the engine; passes on what it hears."""

    def __init__(self, machine: str, stage: Stage, epoch: int, worker: str, listener: Listener = silent) -> None:
        self._about = (machine, stage, epoch, worker)
        self._listener = listener
        self._lock = threading.Lock()
        self._bars: list[Bar] = []
        self._dirty: set[int] = set()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._draw(event)
        self._listener(event)

    def _draw(self, event: Event) -> None:
        machine, stage, epoch, worker = self._about
        if isinstance(event, Began) and not event.phase:
            bar = Bar(machine, epoch, len(self._bars), Span(stage, event.step, worker, event.at), at=event.at)
            self._bars.append(bar)
            self._dirty.add(bar.number)
            return
        bar = self._bars[-1] if self._bars and not self._bars[-1].span.ended else None  # type: ignore[assignment]
        if bar is None or bar.span.step != event.step:
            return  # a step of an earlier process
        span = bar.span
        if isinstance(event, Began):
            bar = Bar(machine, epoch, bar.number, span, event.phase, 0, event.total, 0.0, event.at)
        elif isinstance(event, Moved):
            rate = (event.done - bar.done) / max(event.at - bar.at, 0.001)
            rate = rate if not bar.rate else bar.rate + SMOOTH * (rate - bar.rate)
            bar = Bar(machine, epoch, bar.number, span, event.phase, event.done, event.total, max(0.0, rate), event.at)
        elif isinstance(event, Ended) and not event.phase:
            ended = Span(stage, span.step, worker, span.began, event.at, event.bytes, event.error)
            bar = Bar(machine, epoch, bar.number, ended)
        else:
            return
        self._bars[bar.number] = bar
        self._dirty.add(bar.number)

    def changed(self) -> list[Bar]:
        """What was drawn since what is `written`."""
        with self._lock:
            return [self._bars[number] for number in sorted(self._dirty)]

    def written(self, bars: Iterable[Bar]) -> None:
        """These are in the state now; what changed again meanwhile stays to be written."""
        with self._lock:
            self._dirty -= {bar.number for bar in bars if self._bars[bar.number] is bar}
