"""Runs for the page that were never made: they stand as the test says, and remember what was agreed to."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from example_run import example_run

from v2c.errors import UsageError
from v2c.model.wave import Gate, MachineView, Snapshot, Standing


class ExampleRuns:
    """`runs` by name. Whoever agrees at a gate waits from then on; whoever refuses is refused."""

    def __init__(self, *runs: Snapshot) -> None:
        self.runs = {one.run: one for one in runs or (example_run(5),)}
        self.said: list[tuple[str, Gate, tuple[str, ...], bool]] = []
        self.reports: dict[str, str] = {}
        self.consoles: dict[str, str] = {}
        self.reads = 0
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        return tuple(self.runs)

    def snapshot(self, run: str) -> Snapshot:
        self.reads += 1
        if run not in self.runs:
            raise UsageError(f'there is no run "{run}"', remedy="see `v2c status`")
        return self.runs[run]

    def agree(self, run: str, gate: Gate, machines: Sequence[str], *, yes: bool) -> tuple[str, ...]:
        with self._lock:
            seen = self.snapshot(run)
            heard = tuple(m.id for m in seen.machines if m.id in machines and m.standing is Standing.GATED and m.gate is gate)
            if not heard:
                raise UsageError(f"none of {', '.join(machines)} waits at {gate}", remedy="see `v2c status`")
            self.said.append((run, gate, heard, yes))
        after = Standing.WAITING if yes else Standing.REFUSED
        self.change(run, lambda m: replace(m, standing=after, gate=None, why="for a worker") if m.id in heard else m)
        return heard

    def report(self, run: str, machine: str) -> str | None:
        return self.reports.get(machine)

    def console(self, run: str, machine: str) -> str | None:
        return self.consoles.get(machine)

    def change(self, run: str, how: Callable[[MachineView], MachineView]) -> None:
        """Every machine of the run becomes what `how` makes of it; a second passes."""
        seen = self.runs[run]
        self.runs[run] = replace(seen, machines=tuple(how(one) for one in seen.machines), at=seen.at + 1)
