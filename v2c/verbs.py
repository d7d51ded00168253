"""What can be asked for of a machine, one function a verb: the command line (and whatever else drives one machine) calls these,
and those of `v2c.afterwards` once it was converted.

`state` is what remembers jobs, `workdir` the one that their overlays lie in; `listener` hears every event.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from v2c import afterwards
from v2c import report as reports
from v2c.afterwards import clock
from v2c.dryrun import Recorder, dry, remembered
from v2c.dryrun import convert as dry_travel
from v2c.engine import Phase, status
from v2c.errors import BlockedError, UsageError
from v2c.events import Listener, Meter, silent
from v2c.fixes import support
from v2c.guest.opening import open_guest
from v2c.jobs import Jobs
from v2c.journal import MemoryJournal
from v2c.model import Facts, Finding, Fitted, Plan, Report, Verdict, Verify
from v2c.overlays import Overlays, open_overlays
from v2c.pipeline import Request, fit, journey, make_plan
from v2c.sources import open_source
from v2c.state import State
from v2c.targets import open_target


def convert(
    request: Request,
    state: State | Path,
    workdir: Path,
    listener: Listener = silent,
    *,
    again: bool = False,
    cutover: bool = False,
) -> Report:
    """Moves one machine, or goes on with it; answers with the report. The report's files lie in the job's folder.

    With `cutover` the real instance is launched, too, once the test went well. Raises what stands in the way: BlockedError before
    anything was changed, SourceError when the source changed meanwhile.
    """
    source = open_source(request.sources, request.spec)
    if request.verify not in (None, Verify.NONE) and not open_target(request.target).features.readable:
        raise UsageError(f"{request.target} cannot be read back", remedy="leave --verify out")
    if cutover and not open_target(request.target).features.cutover:
        raise UsageError(f"{request.target} has no cut-over", remedy="leave --cutover out")
    machine = source.describe(request.spec.name or "")
    with Jobs(state, workdir).claim(request.job) as job:
        known = job.record()
        if known and again:
            afterwards.guard(job, job.journal())
            (job.folder / reports.JSON).unlink(missing_ok=True)
            job.tell("")
            job.restart()  # before the rest: a crash there must not leave memos of what is gone
            afterwards.undo(job.journal(), open_target(known.target))
            afterwards.start_over(job.journal())
        elif known:
            afterwards.refuse_rolled_back(job)
        record = job.began(request.sources, request.target, machine.fingerprint, again=again)
        folder = Path(record.folder)
        began = time.time()
        seen = status(job.state, job.id)
        told = bool(job.told() or (folder / reports.JSON).exists()) and seen is not None and seen.phase is Phase.DONE
        try:
            with job.engine(listener) as engine:
                report = engine.run(job.id, journey, replace(request, workdir=str(folder)), again=again)
        except BlockedError:
            made = job.journal()  # what was prepared before the guest was looked into
            prepared = bool(made.refs() or made.pending())
            if not known:
                if prepared:
                    afterwards.undo(made, open_target(request.target))
                shutil.rmtree(folder)
                job.forget()
            elif not prepared:
                job.restart()  # it is planned anew by the next try: what stood in the way may be gone then
            raise
        if told:
            report = afterwards.reported(job)  # which may know more than the memo: a later test, a cut-over
        else:
            ended = time.time()
            report = replace(report, started=clock(began), ended=clock(ended), host=record.host, user=record.who)
            report = afterwards.tell(job, report)
        if cutover and report.verdict is not Verdict.FAIL:
            report = afterwards.cut_over_claimed(job, listener, boot_timeout_s=request.boot_timeout_s)
    return report


def dry_convert(
    request: Request, state: State | Path, workdir: Path, recorder: Recorder, *, again: bool = False, cutover: bool = False
) -> Plan:
    """Tells the recorder what `convert` would change at the target, in order, from how things stand; changes nothing. The repair
    is taken to succeed, and the disks to be full. Raises what `convert` would."""
    target = dry(open_target(request.target), recorder, request.target)
    source = open_source(request.sources, request.spec)
    with Jobs(state, workdir).claim(request.job) as job:
        journal = remembered(job.journal())
        if job.record() and again:
            afterwards.guard(job, job.journal())
            afterwards.undo(journal, target)
        elif job.record():
            afterwards.refuse_rolled_back(job)
        return dry_travel(request, source, target, journal, recorder, cutover=cutover)


def plan(request: Request) -> Plan:
    """What convert would do, from descriptors alone."""
    source, target = open_source(request.sources, request.spec), open_target(request.target)
    return make_plan(request, source.describe(request.spec.name or ""), source, target)


def preview(request: Request, workdir: Path, listener: Listener = silent) -> Fitted:
    """Runs the repair on overlays that are thrown away: its reasons, its diff, what the guest could drive."""
    made = plan(request)
    meter = Meter(request.job, "preview", listener)
    with _thrown_away(request, made, workdir, writable=True) as overlays:
        return fit(made, overlays, meter, trim=False)


def inspect(request: Request, workdir: Path, listener: Listener = silent) -> tuple[Facts, tuple[Finding, ...]]:
    """What is inside the machine, and what stands in its way."""
    made = plan(request)
    meter = Meter(request.job, "inspect", listener)
    with (
        _thrown_away(request, made, workdir, writable=False) as overlays,
        open_guest(
            made.machine,
            overlays.exports,
            writable=False,
            keys=request.repair.keys,
            root=request.repair.root,
            leave=made.needs.leave,
            meter=meter,
        ) as guest,
    ):
        return guest.facts, (*made.findings, *support.findings(guest.facts, made.needs.system), *guest.findings)


@contextmanager
def _thrown_away(request: Request, made: Plan, workdir: Path, *, writable: bool) -> Iterator[Overlays]:
    """The source's disks under overlays (or bare, where nothing is written) that vanish at the end."""
    source = open_source(request.sources, request.spec)
    capture = source.capture(made.machine, None, MemoryJournal(request.job))
    with (
        TemporaryDirectory(prefix="trial-", dir=workdir) as folder,
        source.open(capture, made.machine, Path(folder)) as opened,
        open_overlays(Path(folder), made.machine, opened, generation=None if writable else "none", writable=writable) as overlays,
    ):
        yield overlays
