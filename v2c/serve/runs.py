"""The runs of a state, for the page."""

from collections.abc import Sequence

from v2c import report as reports
from v2c.errors import UsageError
from v2c.jobs import Jobs
from v2c.model import Report
from v2c.model.wave import Gate, MachineView, Snapshot, Standing
from v2c.report import harmless
from v2c.state import State
from v2c.waves import actions
from v2c.waves import snapshot as looking


class StateRuns:
    """`Runs` of a state. `first`: the run that is shown at first, of several."""

    def __init__(self, state: State, first: str = "") -> None:
        self._state = state
        self._first = first

    def names(self) -> tuple[str, ...]:
        known = [run.id for run in reversed(looking.runs(self._state))]
        return tuple(sorted(known, key=lambda name: name != self._first))

    def snapshot(self, run: str) -> Snapshot:
        return looking.snapshot(self._state, run)

    def agree(self, run: str, gate: Gate, machines: Sequence[str], *, yes: bool) -> tuple[str, ...]:
        waits = {one.id for one in self.snapshot(run).machines if one.standing is Standing.GATED and one.gate is gate}
        heard = [id for id in machines if id in waits]
        if not heard:
            raise UsageError(f"none of {', '.join(machines)} waits at {gate} any more", remedy=f"see v2c status --run {run}")
        return tuple(actions.approve(self._state, run, gate, heard, yes=yes))

    def report(self, run: str, machine: str) -> str | None:
        told = self._told(run, machine)
        return reports.render(told, reports.HTML) if told else None

    def console(self, run: str, machine: str) -> str | None:
        told = self._told(run, machine)
        return harmless.console(told.console) or None if told else None

    def _told(self, run: str, machine: str) -> Report | None:
        """The machine's latest report, by whichever worker it was told."""
        text = Jobs(self._state, self._state.folder).told(self._machine(run, machine).job)
        return reports.parse(text) if text else None

    def _machine(self, run: str, id: str) -> MachineView:
        for one in self.snapshot(run).machines:
            if one.id == id:
                return one
        raise UsageError(f'the run {run} has no machine "{id}"', remedy=f"see v2c status --run {run}")
