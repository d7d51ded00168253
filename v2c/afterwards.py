"""What becomes of a machine once it was converted, a function a verb: tested again, cut over, finalized, rolled back, cleaned up.

A conversion ends with a test: an isolated instance, which is over when it told what it is. `cut_over` launches the real one,
which stays; from then on the target takes writes, and nothing here removes it without being told to give those up. After
`finalize` nothing here removes it at all. Whoever does what, when and from where is in the journal, and in the report.

Each may be cut off anywhere, and the same command goes on. With a `recorder` it is a dry run: nothing is changed anywhere, and
the recorder hears what would be.
"""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from v2c import report as reports
from v2c.dryrun import DrySteps, Recorder, dry, remembered
from v2c.engine import Phase, Steps, status, story
from v2c.errors import ProofError, SourceError, TargetError, UsageError, V2cError
from v2c.events import Listener, Meter, silent
from v2c.jobs import Job, JobRecord, Jobs
from v2c.journal import Journal, MemoryJournal
from v2c.model import Placement, Plan, Ref, Report, StepRecord, Verdict
from v2c.pipeline import end_tests, judge, remove_scratch, validate
from v2c.sources import open_source
from v2c.sources.spec import MachineSpec
from v2c.state import State
from v2c.targets import Call, Target, open_target
from v2c.validate.boot import Evidence

# keys of the journal's notes: when it happened ("2026-01-02 03:04:05+0000"), empty when it did not
CUT_OVER, FINALIZED, ROLLED_BACK = "cut-over", "finalized", "rolled-back"


@dataclass(frozen=True, slots=True)
class Launch:
    """What is booted again: the image of a job that was converted."""

    target: str
    plan: Plan
    image: Ref
    placement: Placement


@dataclass(frozen=True, slots=True)
class Launched:
    """What came up, and how the steps went."""

    instance: Ref
    evidence: Evidence
    steps: tuple[StepRecord, ...] = ()


@story("launch")
def launch(steps: Steps, asked: Launch, journal: Journal) -> Launched:
    """Boots the image and hears what the machine is. A test is over then; a cut-over stays, whatever it said."""
    return launched(steps, asked, journal, open_target(asked.target))


def launched(steps: Steps, asked: Launch, journal: Journal, target: Target) -> Launched:
    """The story, with its target."""
    real = asked.placement.cutover
    if real:
        steps("end-test", lambda _: end_tests(target, journal), returns=int, retries=3)
    instance = steps(
        "cutover" if real else "launch",
        lambda meter: target.launch(asked.plan, asked.image, asked.placement, journal, meter),
        returns=Ref,
        retries=3,
    )
    evidence = steps(
        "confirm" if real else "validate",
        lambda meter: validate(target, asked.plan, asked.image, asked.placement, journal, meter),
        returns=Evidence,
        retries=3,
    )
    if not real:
        steps("stop", lambda _: end_tests(target, journal), returns=int, retries=3)
    return Launched(instance, evidence, steps.records())


def test_cutover(
    job_id: str,
    state: State | Path,
    workdir: Path,
    listener: Listener = silent,
    *,
    network: bool = False,
    boot_timeout_s: int = 900,
    reach: tuple[str, ...] = (),
    turn: str = "",
) -> Report:
    """Boots the job's image as a test, as often as one likes, and compares it with what the machine was before it moved.

    After a cut-over it is the real instance that is looked at, and nothing is booted or stopped. `reach`: checks from here, in
    place of those that were declared. `turn`: which of the tests this is; one that is over is not made again for the same.
    """
    with Jobs(state, workdir).claim(job_id) as job:
        journal, before = job.journal(), _converted(job, reach)
        _refuse_rolled_back(job, journal)
        real = bool(journal.noted(CUT_OVER))
        placement = Placement(isolated=not (network or real), timeout_s=boot_timeout_s, cutover=real)
        journal.act("look at the instance" if real else "boot again as a test", before.target)
        name = f"{job_id}-test"
        return _launched(job, before, placement, listener, name, again=not (turn and _over(job, journal, name, turn)))


def cut_over(
    job_id: str,
    state: State | Path,
    workdir: Path,
    listener: Listener = silent,
    *,
    anyway: bool = False,
    boot_timeout_s: int = 900,
    reach: tuple[str, ...] = (),
    recorder: Recorder | None = None,
) -> Report:
    """Launches the real instance, hears what it is, and leaves it running. Asked again it answers what came of it.

    Raises ProofError when the test failed (unless `anyway`), SourceError when the source changed since it was copied.
    """
    with Jobs(state, workdir).claim(job_id) as job:
        return cut_over_claimed(job, listener, anyway=anyway, boot_timeout_s=boot_timeout_s, reach=reach, recorder=recorder)


def cut_over_claimed(
    job: Job,
    listener: Listener,
    *,
    anyway: bool = False,
    boot_timeout_s: int = 900,
    reach: tuple[str, ...] = (),
    recorder: Recorder | None = None,
) -> Report:
    """`cut_over` of a job that is held already."""
    journal, before = _journal(job, recorder), _converted(job, reach)
    _refuse_rolled_back(job, journal)
    target = open_target(before.target)
    if not target.features.cutover:
        raise UsageError(f"{before.target} has no cut-over", remedy=f"start what job {job.id} made by hand: see its report")
    if not journal.noted(CUT_OVER):
        if before.verdict is Verdict.FAIL and not anyway:
            raise ProofError(
                f"the test of job {job.id} failed", remedy="see its report; try v2c test-cutover again, or cut over with --anyway"
            )
        _unchanged(job, before, Meter(job.id, "cutover", listener))
        journal.act("cut over", before.target)
        journal.note(CUT_OVER, clock())  # before the launch: it may take writes the moment it is there
    elif any(step.name == "confirm" for step in before.steps):
        return before
    placement = Placement(isolated=False, timeout_s=boot_timeout_s, cutover=True)
    if recorder is not None:
        assert before.plan and before.image
        made = dry(target, recorder, before.target)
        launched(DrySteps(made, journal, recorder), Launch(before.target, before.plan, before.image, placement), journal, made)
        return before
    return _launched(job, before, placement, listener, f"{job.id}-cutover", again=False)


def finalize(job_id: str, state: State | Path, workdir: Path, *, recorder: Recorder | None = None) -> list[Ref]:
    """Removes what only the migration needed, at the target and at the source; returns what is gone. From now on the instance is
    nobody's but its owner's: no verb removes it. Twice is harmless."""
    with Jobs(state, workdir).claim(job_id) as job:
        _known(job)
        journal, report = _journal(job, recorder), reported(job)
        _refuse_rolled_back(job, journal)
        target = _target(report.target, recorder)
        if target.features.launches and target.features.cutover and not journal.noted(CUT_OVER):
            raise UsageError(f"job {job_id} was not cut over", remedy=f"v2c cutover {job_id} first, or v2c rollback {job_id}")
        if not journal.noted(FINALIZED):
            journal.act("finalize", report.target)
            journal.note(FINALIZED, clock())  # first: what is finalized must not be removed by who comes in between
        assert report.plan
        gone = [*target.finalize(report.plan, journal), *_release(job, journal, recorder)]
        if recorder is None:
            tell(job, report)
    return gone


def rollback(
    job_id: str, state: State | Path, workdir: Path, *, discard: bool = False, recorder: Recorder | None = None
) -> list[Ref]:
    """Removes instance, image and disks, newest first, and leaves the source as it was, started again if v2c had stopped it.
    The report stays and says so; the job can be started anew. `discard` gives up what the target wrote since its cut-over."""
    with Jobs(state, workdir).claim(job_id) as job:
        journal, record = _journal(job, recorder), _known(job)
        guard(job, journal, discard=discard)
        if not journal.noted(ROLLED_BACK):
            since = journal.noted(CUT_OVER)
            journal.act("roll back", f"discarding what the target wrote since {since}" if since else record.target)
            journal.note(ROLLED_BACK, clock())
        gone = [*undo(journal, _target(record.target, recorder)), *_release(job, journal, recorder, start=True)]
        if recorder is not None:
            return gone
        remove_scratch(job.folder)
        if (report := known_report(job)) is not None:
            tell(job, report)
    return gone


def cleanup(
    job_id: str, state: State | Path, workdir: Path, *, discard: bool = False, recorder: Recorder | None = None
) -> list[Ref]:
    """Removes all that the job made, newest first, and proves by listing that nothing is left; then forgets the job."""
    with Jobs(state, workdir).claim(job_id) as job:
        journal, record = _journal(job, recorder), _known(job)
        guard(job, journal, discard=discard)
        gone = [*undo(journal, _target(record.target, recorder)), *_release(job, journal, recorder)]
        if recorder is not None:
            return gone
        folder = Path(record.folder)
        if folder.is_dir():
            shutil.rmtree(folder)
        start_over(journal)
        job.forget()
    return gone


def guard(job: Job, journal: Journal, *, discard: bool = False) -> None:
    """Raises UsageError when what the job made is not ours to remove any more."""
    if when := journal.noted(FINALIZED):
        raise UsageError(
            f"job {job.id} was finalized on {when}, and what it moved is in use", remedy="remove it at the target, by hand"
        )
    when = journal.noted(CUT_OVER)
    if when and not discard and not journal.noted(ROLLED_BACK):
        raise UsageError(
            f"job {job.id} was cut over, and since {when} the target takes writes",
            remedy=f"v2c rollback {job.id} --discard-target-writes gives them up",
        )


def undo(journal: Journal, target: Target) -> list[Ref]:
    """Destroys what both the target's tag and our journal call ours, newest first. TargetError when something is left."""
    ours = {(ref.kind, ref.id) for ref in journal.refs()}
    tried = {intent.kind for intent in journal.pending()}
    listed = [ref for ref in target.find(journal.job) if (ref.kind, ref.id) in ours or ref.kind in tried]
    order = {key: place for place, key in enumerate((ref.kind, ref.id) for ref in journal.refs())}
    listed.sort(key=lambda ref: order.get((ref.kind, ref.id), len(order)), reverse=True)
    for ref in listed:
        target.destroy(ref)
        journal.undone(ref)
    left = [ref for ref in target.find(journal.job) if (ref.kind, ref.id) in ours]
    if left:
        raise TargetError(f"{left[0].kind} {left[0].id} is still there", remedy="try the same command again", transient=True)
    return listed


def start_over(journal: Journal) -> None:
    """The job begins anew: what became of its earlier attempt is no longer so. (The journal's acts keep telling it.)"""
    for key in (CUT_OVER, FINALIZED, ROLLED_BACK):
        if journal.noted(key):
            journal.note(key, "")


def marks(journal: Journal) -> dict[str, str]:
    """What was done with the job since it was converted, and when: "cut over", "finalized", "rolled back"."""
    return {key.replace("-", " "): when for key in (CUT_OVER, FINALIZED, ROLLED_BACK) if (when := journal.noted(key))}


def tell(job: Job, report: Report) -> Report:
    """Writes the report with all that was done so far, by whom and when; returns it."""
    journal = job.journal()
    whole = replace(
        report,
        acts=tuple(journal.acts()),
        cut_over=journal.noted(CUT_OVER) or "",
        finalized=journal.noted(FINALIZED) or "",
        rolled_back=journal.noted(ROLLED_BACK) or "",
    )
    reports.write(whole, job.folder)
    job.tell(reports.json(whole))
    return whole


def reported(job: Job) -> Report:
    """The report of the job, by whichever worker it was told. UsageError when there is none."""
    return known_report(job) or reports.read(job.folder)


def known_report(job: Job) -> Report | None:
    """That of the job's folder, which with SQLite is everybody's; else the state's, whose folder may lie on another host."""
    here = (job.folder / reports.JSON).exists()
    if here and job.state.sqlite:
        return reports.read(job.folder)
    text = job.told()
    return reports.parse(text) if text else reports.read(job.folder) if here else None


def clock(seconds: float | None = None) -> str:
    """A time (default: now) for people, with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(seconds))


def refuse_rolled_back(job: Job) -> None:
    """Raises UsageError when the job was rolled back, wholly or in part: its memos speak of what is gone."""
    _refuse_rolled_back(job, job.journal())


def _refuse_rolled_back(job: Job, journal: Journal) -> None:
    if when := journal.noted(ROLLED_BACK):
        raise UsageError(f"job {job.id} was rolled back on {when}", remedy="convert it anew with --again")


def _journal(job: Job, recorder: Recorder | None) -> Journal:
    """The job's journal; for a dry run a copy of it."""
    journal = job.journal()
    if recorder is None:
        return journal
    copy = remembered(journal)
    copy.notes = {key: when for key in (CUT_OVER, FINALIZED, ROLLED_BACK) if (when := journal.noted(key))}
    return copy


def _target(locator: str, recorder: Recorder | None) -> Target:
    target = open_target(locator)
    return target if recorder is None else dry(target, recorder, locator)


def _known(job: Job) -> JobRecord:
    record = job.record()
    if record is None:
        raise UsageError(f'"{job.id}" is not a job', remedy="see `v2c status`")
    return record


def _converted(job: Job, reach: tuple[str, ...] = ()) -> Report:
    """The report of a job that made something that boots; with `reach` these are the checks that its plan declares."""
    _known(job)
    report = reported(job)
    if not (report.plan and report.facts and report.image and report.plan.needs.probe):
        raise UsageError(f"job {job.id} made nothing that boots", remedy="name a job whose target launches instances")
    declared = replace(report.plan.declared, reach=reach or report.plan.declared.reach)
    return replace(report, plan=replace(report.plan, declared=declared))


def _launched(job: Job, before: Report, placement: Placement, listener: Listener, name: str, *, again: bool = True) -> Report:
    """Tells the story `launch` for the job, and puts what came of it into the report. `again`: also when it was done before."""
    assert before.plan and before.facts and before.image
    known = status(job.state, name)
    asked = Launch(before.target, before.plan, before.image, placement)
    with job.engine(listener) as engine:
        anew = known is not None and (known.phase is Phase.CANCELLED or (again and known.phase is not Phase.INTERRUPTED))
        done = engine.run(name, launch, asked, again=anew)
    steps = (*_without(before.steps, done.steps), *done.steps)
    report = judge(before, before.plan, before.facts, done.evidence)
    return tell(job, replace(report, steps=steps, instance=done.instance, ended=clock()))


def _over(job: Job, journal: Journal, name: str, turn: str) -> bool:
    """Whether what this turn began is done; what was begun earlier is not its own."""
    known, key = status(job.state, name), f"turn/{name}/{turn}"
    latest = known.attempt if known else "none"
    earlier = journal.noted(key)
    if earlier is None:
        journal.note(key, latest)
    return earlier not in (None, latest) and known is not None and known.phase is Phase.DONE


def _without(steps: Iterable[StepRecord], others: Iterable[StepRecord]) -> tuple[StepRecord, ...]:
    names = {step.name for step in others}
    return tuple(step for step in steps if step.name not in names)


def _unchanged(job: Job, report: Report, meter: Meter) -> None:
    """Raises SourceError when the source changed since it was copied: that would be lost. One that is gone is told."""
    assert report.plan
    machine = report.plan.machine
    spec = MachineSpec(name=machine.name, formats=tuple(disk.format for disk in machine.disks))
    try:
        open_source(_known(job).sources, spec).capture(machine, None, MemoryJournal(job.id))
    except SourceError as changed:
        raise SourceError(
            f"{changed.text}, so the target lacks what was written there", remedy="convert it anew with --again"
        ) from changed
    except V2cError as gone:
        meter.note(f"whether the source changed since it was copied cannot be seen: {gone.text}")


def _release(job: Job, journal: Journal, recorder: Recorder | None, *, start: bool = False) -> list[Ref]:
    """Removes what the job left at the source; with `start` a machine that v2c stopped runs again."""
    source = open_source(_known(job).sources, MachineSpec())
    gone = list(source.find(job.id))
    if recorder is not None:
        for ref in gone:
            recorder(Call("remove", f"{ref.kind} {ref.id}", detail="at the source"))
        return gone
    for ref in gone:
        source.destroy(ref)
        journal.undone(ref)
    if start and (report := known_report(job)) is not None and report.plan:
        source.start(report.plan.machine, journal)
    return gone
