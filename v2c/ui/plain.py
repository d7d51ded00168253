"""Progress as plain lines, for logs and pipes: a line per step, and one now and then while bytes move."""

import time
from typing import TextIO

from v2c.events import Began, Ended, Event, Found, Moved, Noted
from v2c.ui.words import clean, finding, size, span

EVERY = 15.0  # seconds between two lines of one moving phase


class Plain:
    """A listener that writes lines; `close` has nothing to do."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.said: dict[tuple[str, str, str], float] = {}
        self.phases: dict[tuple[str, str], dict[str, float]] = {}

    def __call__(self, event: Event) -> None:
        for text in self.lines(event):
            self.stream.write(f"{clean(text)}\n")
        self.stream.flush()

    def lines(self, event: Event) -> list[str]:
        """What there is to say about the event: mostly nothing."""
        key = (event.job, event.step)
        match event:
            case Began(phase="", step=step):
                self.phases[key] = {}
                return [f"{step} ..."]
            case Moved(phase=phase, done=done, total=total):
                now = time.monotonic()
                if now - self.said.setdefault((*key, phase), now) < EVERY:
                    return []
                self.said[(*key, phase)] = now
                part = f" of {size(total)} ({done / total:.0%})" if total else ""
                return [f"{event.step} {phase}: {size(done)}{part}"]
            case Ended(phase=phase) if phase:
                self.said.pop((*key, phase), None)
                parts = self.phases.setdefault(key, {})
                parts[phase] = parts.get(phase, 0.0) + event.seconds
                return []
            case Ended():
                return [ended(event, self.phases.pop(key, {}))]
            case Noted(text=text):
                return [f"  {text}"]
            case Found(finding=found) if found is not None:
                return [f"  {finding(found)}"]
        return []

    def close(self) -> None:
        """Nothing is open."""


def ended(event: Ended, phases: dict[str, float]) -> str:
    """The line of a step that ended: its seconds, what it moved, its phases."""
    if event.error:
        return f"{event.step} stopped after {span(event.seconds)}: {event.error}"
    moved = f", {size(event.bytes)}" if event.bytes else ""
    detail = f" ({', '.join(f'{name} {span(seconds)}' for name, seconds in phases.items())})" if phases else ""
    return f"{event.step}: {span(event.seconds)}{moved}{detail}"
