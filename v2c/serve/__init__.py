"""`v2c serve`: a local web page of the runs, for people who sit before them while a wave moves.

    guard.py    who may ask: the token, the Host and the Origin of a request
    wire.py     a snapshot as the JSON that the page reads
    feed.py     what changed since somebody last looked
    server.py   the few addresses that there are
    runs.py     the runs of a state
    page/       one HTML file, one style sheet, three scripts; nothing is fetched from elsewhere

It is bound to loopback. What it shows and does comes from a `Runs`, so that it can be tried with runs that were never made.
"""

from collections.abc import Sequence
from typing import Protocol

from v2c.model.wave import Gate, Snapshot


class Runs(Protocol):
    """The runs of a state. Every method may be called from several threads at once, and raises UsageError for a run or a machine
    that is not there."""

    def names(self) -> tuple[str, ...]:
        """The runs that are known, the newest first."""
        ...

    def snapshot(self, run: str) -> Snapshot:
        """How the run stands now."""
        ...

    def agree(self, run: str, gate: Gate, machines: Sequence[str], *, yes: bool) -> tuple[str, ...]:
        """Says yes or no at a gate for the machines named, as the user who serves; returns those that waited there."""
        ...

    def report(self, run: str, machine: str) -> str | None:
        """The machine's own report as HTML; None when there is none so far, or it lies on another host."""
        ...

    def console(self, run: str, machine: str) -> str | None:
        """What its latest boot wrote on the serial console, made harmless; None when there is nothing."""
        ...
