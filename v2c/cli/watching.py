"""What `v2c status --watch` and `v2c report` do with a run."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from v2c.cli import waves
from v2c.cli.running import terminable
from v2c.errors import UsageError

if TYPE_CHECKING:
    from v2c.model.wave import Snapshot
    from v2c.report.wave import Remains
    from v2c.state import State

INTERRUPTED = 130


def watch(state: "State", run_id: str, as_json: bool) -> int:
    """Shows the run until it is over. The code is that of the run then; 130 when Ctrl-C ended the watching: the run goes on."""
    from v2c.ui.watch import watch as watched
    from v2c.waves.snapshot import runs, snapshot

    if not run_id:
        known = [run.id for run in runs(state)]
        if not known:
            raise UsageError("there is no run to watch", remedy="v2c run WAVE.yaml begins one")
        run_id = known[-1]
    terminable()
    try:
        seen = watched(lambda: snapshot(state, run_id), sys.stdout, "json" if as_json else "auto")
    except KeyboardInterrupt:
        click.echo(f"no longer watching {run_id}; it goes on", err=True)
        return INTERRUPTED
    return waves.code(seen)


def report(state: "State", run_id: str, form: str, listing: bool) -> int:
    """The run's report on stdout. With `listing` sources and targets are asked what they still hold."""
    import dataclasses

    from v2c.report import wave as reports
    from v2c.waves import remains
    from v2c.waves.snapshot import snapshot

    seen = snapshot(state, run_id)
    seen = dataclasses.replace(seen, acts=remains.deeds(state, seen))
    found = remains.remains(state, seen) if listing else {}
    if form == "text":
        _text(seen, found)
    else:
        click.echo(reports.render(seen, form, found), nl=False)
    return waves.code(seen)


def _text(seen: "Snapshot", found: "Mapping[str, Remains]") -> None:
    """Sums, a line a machine, and what is left of each."""
    from v2c.cli import show
    from v2c.report.wave import rows, totals
    from v2c.ui.wave import counts, state
    from v2c.ui.words import size, span

    told = rows(seen, found)
    sums = totals(seen, told)
    show.line(f"{seen.run}: {state(seen)}, {counts(seen.machines)}")
    show.line(f"{size(sums['sent_bytes'])} sent, {span(sums['lasted_s'])}, {span(sums['work_s'])} of work")
    longest = sums["downtime_longest_s"]
    if longest is not None:
        late = f", {sums['over_budget']} over budget" if sums["over_budget"] else ""
        show.line(f"{sums['cut_over']} cut over, down for {span(longest)} at most{late}")
    for row in told:
        one = row.one
        down = "" if one.downtime_s is None else f"down {span(one.downtime_s)}"
        if row.late is not None and one.budget_s is not None:
            down += f" {'over' if row.late else 'of'} {span(one.budget_s)}"
        parts = (str(one.stage), str(one.standing), one.verdict, down, row.left, one.why)
        show.line(f"  {one.id}: {', '.join(part for part in parts if part)}")
