"""What changed in a run since somebody last looked. No thread of its own: who looks first reads the run, the others share it."""

import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from v2c.errors import V2cError
from v2c.model.wave import Snapshot
from v2c.serve import wire

EVERY = 1.0  # seconds between two readings of a run, however many look
ACTS = 200  # of the latest; the report has all
KEPT = 300  # readings of the throughput, for the curve: five minutes


@dataclass(frozen=True, slots=True)
class News:
    """What a page has to be told: an id to go on from, and a JSON document without newlines."""

    id: str
    text: str


class Feed:
    """The news of one run. Its ids begin with a word of this feed: a page that outlives a server is told everything anew."""

    def __init__(self, read: Callable[[], Snapshot], every: float = EVERY) -> None:
        self._read = read
        self._every = every
        self._lock = threading.Lock()
        self._word = secrets.token_hex(4)
        self._version = 0
        self._looked = 0.0
        self._head: dict[str, Any] = {}
        self._acts: tuple[int, list[dict[str, Any]]] = (0, [])
        self._rows: dict[str, tuple[int, str]] = {}  # machine -> the version in which its row became what it is
        self._gone: list[tuple[int, str]] = []
        self._rates: list[tuple[float, float]] = []
        self._trouble = ""

    def since(self, last: str = "") -> News | None:
        """Everything that changed after the news with the id `last`; all there is when that is not one of ours; None when nothing
        did. A run that cannot be read is news too: {"trouble": "..."}."""
        with self._lock:
            if not self._looked or time.monotonic() - self._looked >= self._every:
                self._look()
                self._looked = time.monotonic()
            word, _, number = last.partition("-")
            known = int(number) if word == self._word and number.isascii() and number.isdigit() else 0
            if known >= self._version:
                return None
            return News(f"{self._word}-{self._version}", self._told(known))

    def _told(self, known: int) -> str:
        if self._trouble:
            return json.dumps({"trouble": self._trouble})
        rows = ",".join(row for version, row in self._rows.values() if version > known)
        rest = {
            "whole": not known,
            "head": self._head,
            "rates": self._rates if not known else self._rates[-1:],
            "acts": self._acts[1] if self._acts[0] > known else None,
            "gone": [id for version, id in self._gone if version > known],
        }
        return f'{json.dumps(rest)[:-1]}, "rows": [{rows}]}}'

    def _look(self) -> None:
        try:
            seen = self._read()
        except (V2cError, OSError) as error:
            if self._trouble != str(error):
                self._trouble = str(error)
                self._version += 1
            return
        if self._trouble:
            self._trouble, self._word = "", secrets.token_hex(4)  # who heard of the trouble may have missed something before it
        version, news = self._version + 1, False
        rows = {one.id: json.dumps(wire.row(one)) for one in seen.machines}
        for id, text in rows.items():
            if id not in self._rows or self._rows[id][1] != text:
                self._rows[id] = (version, text)
                news = True
        for id in [id for id in self._rows if id not in rows]:
            del self._rows[id]
            self._gone.append((version, id))
            news = True
        acts = wire.acts(seen.acts[-ACTS:])
        if acts != self._acts[1]:
            self._acts = (version, acts)
            news = True
        head = wire.head(seen)
        if news or {**head, "at": 0} != {**self._head, "at": 0}:
            self._head = head
            self._rates = [*self._rates, (seen.at, seen.rate)][-KEPT:]
            self._version = version
