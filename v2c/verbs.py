"""What can be asked for, one function a verb: the command line (and whatever else drives one machine) calls these.

`state` is the folder that remembers jobs, `workdir` the one that their overlays lie in; `listener` hears every event.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from v2c import report as reports
from v2c.errors import BlockedError, TargetError, UsageError
from v2c.events import Listener, Meter, silent
from v2c.fixes import support
from v2c.guest.opening import open_guest
from v2c.jobs import Job, Jobs
from v2c.journal import MemoryJournal
from v2c.model import Facts, Finding, Fitted, Placement, Plan, Ref, Report, StepRecord, Verify
from v2c.overlays import Overlays, open_overlays
from v2c.pipeline import Request, fit, journey, judge, make_plan
from v2c.pipeline import validate as validate_instance
from v2c.sources import open_source
from v2c.targets import Target, open_target


def convert(request: Request, state: Path, workdir: Path, listener: Listener = silent, *, again: bool = False) -> Report:
    """Moves one machine, or goes on with it; answers with the report. The report's files lie in the job's folder.

    Raises what stands in the way: BlockedError before anything was changed, SourceError when the source changed meanwhile.
    """
    source = open_source(request.sources, request.spec)
    if request.verify not in (None, Verify.NONE) and not open_target(request.target).features.readable:
        raise UsageError(f"{request.target} cannot be read back", remedy="leave --verify out")
    machine = source.describe(request.spec.name or "")
    with Jobs(state, workdir).claim(request.job) as job:
        known = job.record()
        if known and again:
            job.restart()  # first: a crash in what follows must not leave memos of what is gone
            _undo(job, open_target(known.target))
        record = job.began(request.sources, request.target, machine.fingerprint, again=again)
        folder = Path(record.folder)
        began = time.time()
        try:
            with job.engine(listener) as engine:
                report = engine.run(job.id, journey, replace(request, workdir=str(folder)), again=again)
        except BlockedError:
            if not known:
                shutil.rmtree(folder)
                job.forget()
            raise
        if not report.started:
            report = replace(report, started=_clock(began), ended=_clock(time.time()), host=record.host, user=record.who)
        reports.write(report, folder)
    return report


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
        return guest.facts, (*made.findings, *support.findings(guest.facts), *guest.findings)


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


def validate(
    job_id: str, state: Path, workdir: Path, listener: Listener = silent, *, network: bool = False, boot_timeout_s: int = 900
) -> Report:
    """Launches the job's instance again and compares it with what the machine was before it moved."""
    with Jobs(state, workdir).claim(job_id) as job:
        folder = job.folder
        before = reports.read(folder)
        if not (before.plan and before.facts and before.image and before.plan.needs.probe):
            raise UsageError(f"job {job_id} made nothing that boots", remedy="validate a job whose target launches instances")
        target = open_target(before.target)
        placement = Placement(isolated=not network, timeout_s=boot_timeout_s)
        meter = Meter(job_id, "validate", listener)
        began = time.monotonic()
        evidence = validate_instance(target, before.plan, before.image, placement, job.journal(), meter)
        record = StepRecord("validate", time.monotonic() - began, phases=tuple(meter.phases.items()))
        report = judge(before, before.plan, before.facts, evidence)
        report = replace(report, steps=(*(s for s in before.steps if s.name != "validate"), record), ended=_clock(time.time()))
        reports.write(report, folder)
    return report


def cleanup(job_id: str, state: Path, workdir: Path) -> list[Ref]:
    """Removes all that the job made, newest first, and proves by listing that nothing is left; then forgets the job."""
    with Jobs(state, workdir).claim(job_id) as job:
        record = job.record()
        if record is None:
            raise UsageError(f'"{job_id}" is not a job', remedy="see `v2c status`")
        gone = _undo(job, open_target(record.target))
        folder = Path(record.folder)
        if folder.is_dir():
            shutil.rmtree(folder)
        job.forget()
    return gone


def _undo(job: Job, target: Target) -> list[Ref]:
    """Destroys what both the target's tag and our journal call ours, newest first. TargetError when something is left."""
    journal = job.journal()
    ours = {(ref.kind, ref.id) for ref in journal.refs()}
    tried = {intent.kind for intent in journal.pending()}
    listed = [ref for ref in target.find(job.id) if (ref.kind, ref.id) in ours or ref.kind in tried]
    order = {key: place for place, key in enumerate((ref.kind, ref.id) for ref in journal.refs())}
    listed.sort(key=lambda ref: order.get((ref.kind, ref.id), len(order)), reverse=True)
    for ref in listed:
        target.destroy(ref)
        journal.undone(ref)
    left = [ref for ref in target.find(job.id) if (ref.kind, ref.id) in ours]
    if left:
        raise TargetError(f"{left[0].kind} {left[0].id} is still there", remedy="try `v2c cleanup` again", transient=True)
    return listed


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(seconds))
