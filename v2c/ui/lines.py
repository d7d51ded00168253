"""Progress as JSON, one object a line, for programs: {"event": "moved", "job": ..., "step": ..., "at": ..., ...}."""

import dataclasses
import json
import threading
from typing import TextIO

from v2c.events import Event


class JsonLines:
    """A listener that writes one JSON object per event, flushed at once. Fields as in `v2c.events`."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        text = json.dumps({"event": type(event).__name__.lower(), **dataclasses.asdict(event)}, ensure_ascii=True)
        with self._lock:
            self.stream.write(text + "\n")
            self.stream.flush()

    def close(self) -> None:
        """Nothing is open."""
