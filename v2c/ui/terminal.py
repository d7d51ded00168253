"""Progress on a terminal: a tqdm bar for each phase that moves bytes, a running clock for each other step, lines above them."""

import threading
from typing import Any, TextIO

from tqdm import tqdm

from v2c.events import Began, Ended, Event, Moved
from v2c.ui.plain import Plain
from v2c.ui.words import clean

TICK = 0.5  # seconds between two looks at the clocks
CLOCK = "{desc} {elapsed}"


class Terminal:
    """A listener that draws. Events may come from several threads. `close` removes the bars that are left."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.plain = Plain(stream)
        self.bars: dict[tuple[str, str, str], tqdm[Any]] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="v2c-clock", daemon=True)
        self._ticker.start()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._over.is_set():
                return
            if isinstance(event, Began | Moved | Ended):
                self._draw(event)
            if isinstance(event, Moved) or (isinstance(event, Began) and not event.phase):
                return  # the bar says it
            for text in self.plain.lines(event):
                tqdm.write(clean(text), file=self.stream)

    def _draw(self, event: Began | Moved | Ended) -> None:
        key = (event.job, event.step, event.phase)
        name = clean(f"{event.step} {event.phase}".strip())
        if isinstance(event, Ended):
            bar = self.bars.pop(key, None)
            if bar is not None:
                if event.phase and bar.total:
                    bar.n = event.bytes
                bar.close()
            return
        bar = self.bars.get(key)
        if bar is None:
            bar = self.bars[key] = self._bar(name, event.total)
        if isinstance(event, Moved):
            bar.n = event.done  # what was sent; zeros and holes are never sent, so a bar may end before 100 %
            bar.refresh()

    def _bar(self, name: str, total: int) -> "tqdm[Any]":
        if not total:
            return tqdm(desc=name, file=self.stream, bar_format=CLOCK, leave=False, dynamic_ncols=True)
        return tqdm(
            desc=name,
            total=total,
            file=self.stream,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            leave=False,
            dynamic_ncols=True,
        )

    def _tick(self) -> None:
        while not self._over.wait(TICK):
            with self._lock:
                for bar in self.bars.values():
                    bar.refresh()

    def close(self) -> None:
        """Removes what is still drawn; harmless twice."""
        self._over.set()
        self._ticker.join()
        with self._lock:
            for bar in self.bars.values():
                bar.close()
            self.bars.clear()
