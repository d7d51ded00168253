"""What exists in the double, in one file of its folder, rewritten whole at each change; bulk data lies beside it as files."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Thing = dict[str, Any]


class Refusal(Exception):
    """An answer that is an error: HTTP status, Google's reason word, message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    def body(self) -> Thing:
        """As Google's JSON APIs write it."""
        told = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.status, "message": self.message, "errors": [told]}}


def missing(what: str) -> Refusal:
    """404, in Compute Engine's words."""
    return Refusal(404, "notFound", f"The resource '{what}' was not found")


class Store:
    """Things by key ("zones/Z/disks/NAME"). Thread-safe: hold `lock` around what belongs together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / "cloud.json"
        self.lock = threading.RLock()
        self.things: dict[str, Thing] = json.loads(self._path.read_text("utf-8")) if self._path.exists() else {}
        self._last = 0

    @contextmanager
    def changing(self) -> Iterator[dict[str, Thing]]:
        """The things, to be changed; written down at the end."""
        with self.lock:
            yield self.things
            self.save()

    def save(self) -> None:
        """Writes all down."""
        with self.lock:
            new = self._path.with_name("cloud.json.new")
            new.write_text(json.dumps(self.things, indent=1), encoding="utf-8")
            new.replace(self._path)

    def get(self, key: str) -> Thing:
        """The thing; 404 when there is none."""
        with self.lock:
            if key not in self.things:
                raise missing(key)
            return self.things[key]

    def under(self, prefix: str) -> list[tuple[str, Thing]]:
        """(key, thing) of all below a prefix, by name."""
        with self.lock:
            return sorted((key, thing) for key, thing in self.things.items() if key.startswith(prefix))

    def number(self) -> int:
        """A number that grows and is never given twice: ids and generations (microseconds)."""
        with self.lock:
            self._last = max(self._last + 1, time.time_ns() // 1000)
            return self._last


def now() -> str:
    """As Google writes times."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
