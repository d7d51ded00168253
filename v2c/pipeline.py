"""One machine's journey, told in verbs.

    describe -> plan -> reserve -> capture -> fix -> [rehearse] -> upload -> [verify] -> register -> [launch -> validate]
             -> finalize

`journey` is the story that the engine makes durable: every step takes and returns plain values, so a step that ended is never
done again, and a step that was cut off opens what it needs anew. The functions below it are the steps, in the same order.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from v2c import plan as planning
from v2c import prices, processes, sizing, usage
from v2c.engine import Steps, story
from v2c.errors import BlockedError, CaptureLost, SourceError, WorkLost
from v2c.events import Meter
from v2c.fixes.repair import repair
from v2c.guest.ledger import Ledger
from v2c.guest.opening import open_guest
from v2c.journal import Journal
from v2c.model import (
    Compared,
    Disk,
    Expectation,
    Facts,
    Fitted,
    Machine,
    Observation,
    Placement,
    Plan,
    ProbeNeed,
    Ref,
    Repair,
    Report,
    Verdict,
    Verify,
    Volume,
)
from v2c.overlays import Overlays, open_overlays
from v2c.platforms import payload, platform, platforms
from v2c.rehearsal.rehearse import rehearse, unproven
from v2c.sources import Source, open_source
from v2c.sources.spec import MachineSpec
from v2c.targets import Target, open_target
from v2c.throttle import Line, line
from v2c.transfer import BlockMap, TransferResult, transfer
from v2c.usage import Usage
from v2c.validate import reach
from v2c.validate.boot import Evidence, await_probe, booted, settled
from v2c.validate.checks import compare, verdict
from v2c.validate.uploaded import checks as upload_checks
from v2c.validate.uploaded import read_back

STATUS_S = 300.0  # a cloud's own checks of an instance take some minutes


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for one machine; goes into the engine as JSON, so it names secrets and never holds them.

    `workdir` is where this job's overlays and block maps lie (not part of the job's identity). `verify` None: a sample, where
    the target can be read. `usage`: what the machine really uses, to size it by; `prices`: the folder of a price list.
    `test` False ends with the image: whoever asks boots it later (a wave's test cut-over, behind its gate). `tags`: the user's
    own, for the instance and its disks. `volumes`: what disks are to be at a cloud.
    """

    job: str
    sources: tuple[str, ...]
    target: str
    workdir: str
    spec: MachineSpec = field(default_factory=MachineSpec)
    repair: Repair = field(default_factory=Repair)
    rehearse: bool | None = None
    network: bool = False
    boot_timeout_s: int = 600
    bandwidth: int = 0
    verify: Verify | None = None
    usage: Usage | None = None
    prices: str = ""
    test: bool = True
    tags: tuple[tuple[str, str], ...] = ()
    volumes: tuple[Volume, ...] = ()


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The disks at the target, and how each went."""

    disks: tuple[Ref, ...]
    results: tuple[TransferResult, ...]


@story("journey")
def journey(steps: Steps, request: Request, journal: Journal) -> Report:
    """Moves one machine. Returns the report; its verdict says whether the machine that came up is the same one.

    What an earlier step made and is gone by now (a capture at the source, an overlay of another converter) is made again.
    """
    try:
        return travel(steps, request, journal, open_source(request.sources, request.spec), open_target(request.target))
    except CaptureLost as lost:
        raise steps.redo("capture", lost.text) from lost
    except WorkLost as lost:
        raise steps.redo(lost.step, lost.text) from lost


def travel(steps: Steps, request: Request, journal: Journal, source: Source, target: Target) -> Report:
    """The way from a source to a target."""
    machine = steps("describe", lambda _: source.describe(request.spec.name or ""), returns=Machine)
    plan = steps("plan", lambda _: make_plan(request, machine, source, target), returns=Plan)
    if plan.blockers:
        first = plan.blockers[0]
        blocked = BlockedError(f"{first.subject}: {first.text}", remedy=first.remedy)
        blocked.findings = plan.findings
        raise blocked
    steps("reserve", lambda _: tuple(target.reserve(plan, journal)), returns=tuple[Ref, ...])
    capture = steps("capture", lambda _: source.capture(machine, None, journal), returns=Ref)
    fitted = steps("fix", lambda meter: fix(request, plan, source, capture, meter), returns=Fitted, retries=1)
    if request.rehearse or (request.rehearse is None and target.features.rehearse):
        steps("rehearse", lambda meter: boot_test(request, plan, source, capture, fitted, meter), returns=Observation)
    uploaded = steps(
        "upload",
        lambda meter: upload(request, plan, source, target, capture, fitted, journal, meter),
        returns=Uploaded,
        retries=3,
    )
    compared: tuple[Compared, ...] = ()
    if (mode := verifying(request, target)) is not Verify.NONE:
        compared = steps(
            "verify",
            lambda meter: verify(request, plan, target, capture, fitted, uploaded, mode, meter),
            returns=tuple[Compared, ...],
            retries=3,
        )
    image = steps("register", lambda _: target.register(plan, uploaded.disks, fitted.caps, journal), returns=Ref)
    instance: Ref | None = None
    evidence: Evidence | None = None
    if request.test and target.features.launches:
        placement = Placement(isolated=not request.network, timeout_s=request.boot_timeout_s)
        instance = steps("launch", lambda meter: target.launch(plan, image, placement, journal, meter), returns=Ref)
        evidence = steps("validate", lambda meter: validate(target, plan, image, placement, journal, meter), returns=Evidence)
    steps("finalize", lambda _: end_tests(target, journal) + remove_scratch(workdir(request)), returns=int, retries=3)
    report = conclude(steps, request, plan, fitted, image, instance)
    report = replace(report, checks=upload_checks(compared, uploaded.disks) if compared else ())
    return judge(report, plan, fitted.facts, evidence) if evidence else report


def make_plan(request: Request, machine: Machine, source: Source, target: Target) -> Plan:
    """The plan, with what source and target have to say about it."""
    arrival = platform(target.platform)
    probe = None
    if target.features.launches or request.rehearse:
        probe = ProbeNeed(
            nonce=secrets.token_hex(8),
            device=arrival.arrive.serial,
            script=payload("v2c-probe.sh"),
            unit=payload("v2c-probe.service"),
        )
    choices = planning.Choices(
        target=request.target,
        repair=request.repair,
        size_unit=target.features.size_unit,
        launches=target.features.launches,
        rehearse=bool(request.rehearse),
        verify=verifying(request, target) is not Verify.NONE,
        declared=request.spec.expect,
        bandwidth=request.bandwidth,
        tags=request.tags,
        volumes=request.volumes,
    )
    wanted = usage.sized(machine, request.usage) if request.usage else machine
    said = [usage.finding(machine, wanted, request.usage)] if request.usage else []
    plan = planning.make(request.job, wanted, arrival, platforms(), choices, probe, [*source.check(machine), *said])
    book = prices.kept(Path(request.prices)) if request.prices else None
    with sizing.priced(book.at(request.target) if book else {}):
        plan = target.size(plan)
        plan = planning.with_findings(plan, target.check(plan))
    return book.told(plan) if book else plan


def fix(request: Request, plan: Plan, source: Source, capture: Ref, meter: Meter) -> Fitted:
    """Repairs the machine on fresh overlays, in one appliance; seals them and says under which generation."""
    folder = workdir(request)
    with (
        source.open(capture, plan.machine, folder) as opened,
        open_overlays(folder, plan.machine, opened, generation=None, writable=True) as overlays,
    ):
        fitted = fit(plan, overlays, meter)
        with meter.phase("seal"):
            generation = overlays.seal()
        return replace(fitted, generation=generation, overlays=overlays.files)


def fit(plan: Plan, overlays: Overlays, meter: Meter, *, trim: bool = True) -> Fitted:
    """Repairs the machine that the overlays hold. The appliance is gone, and all is written, when this returns."""
    repaired = plan.repair
    with open_guest(
        plan.machine,
        overlays.exports,
        writable=True,
        keys=repaired.keys,
        root=repaired.root,
        leave=plan.needs.leave,
        meter=meter,
    ) as guest:
        ledger = Ledger(guest)
        done = repair(ledger, plan.needs, skip=repaired.skip, meter=meter)
        if trim:
            with meter.phase("trim"):
                guest.trim()
        facts, found = guest.facts, tuple(guest.findings)
    return Fitted(
        generation="",
        overlays=overlays.files,
        caps=done.caps,
        facts=facts,
        reasons=done.reasons,
        changes=done.changes,
        findings=(*found, *done.findings),
        seconds=tuple(meter.phases.items()),
    )


def boot_test(request: Request, plan: Plan, source: Source, capture: Ref, fitted: Fitted, meter: Meter) -> Observation:
    """Boots the repaired machine on hardware shaped like the target's before a byte is uploaded. Raises ProofError."""
    with reopened(request, plan, source, capture, fitted) as overlays:
        return rehearse(
            overlays.exports, plan, fitted.caps, workdir=workdir(request), timeout_s=request.boot_timeout_s, meter=meter
        )


def upload(
    request: Request, plan: Plan, source: Source, target: Target, capture: Ref, fitted: Fitted, journal: Journal, meter: Meter
) -> Uploaded:
    """Sends every disk's blocks once, all disks side by side. Cut off, it goes on from the block maps."""
    with reopened(request, plan, source, capture, fitted) as overlays, line(request.job, request.bandwidth) as throttle:
        total = sum(disk.size for disk in plan.machine.disks)
        with meter.phase("copy", total), processes.pool(len(overlays.exports)) as pool:
            futures = [
                pool.submit(send, request, plan, target, disk, overlays, capture, fitted, journal, throttle, meter)
                for disk, _ in overlays.exports
            ]
            sent = [future.result() for future in futures]
    if source.capture(plan.machine, None, journal) != capture:
        raise SourceError(f"{plan.machine.name} changed while it was copied", remedy="stop what writes to it and use --again")
    return Uploaded(tuple(ref for ref, _ in sent), tuple(result for _, result in sent))


def send(
    request: Request,
    plan: Plan,
    target: Target,
    disk: Disk,
    overlays: Overlays,
    capture: Ref,
    fitted: Fitted,
    journal: Journal,
    throttle: Line | None,
    meter: Meter,
) -> tuple[Ref, TransferResult]:
    """One disk: its blocks into the target's writer, then the commit."""
    folder = workdir(request)
    with BlockMap.open(folder / f"{disk.id}.blocks") as blocks, target.writer(plan, disk, None, journal) as writer:
        result = transfer(
            overlays.export(disk),
            writer,
            blocks,
            generation=fitted.generation,
            capture=capture.id,
            parallel=target.features.parallel,
            sequential=target.features.sequential,
            below=overlays.below(disk),
            size=next(planned.target_size for planned in plan.disks if planned.disk == disk.id),
            throttle=throttle,
            meter=meter,
        )
        journal.note(f"blocks/{disk.id}", f"{folder / f'{disk.id}.blocks'} {fitted.generation} {result.digest}")
        return writer.commit(), result


def verifying(request: Request, target: Target) -> Verify:
    """How much of the upload is read back."""
    if not target.features.readable:
        return Verify.NONE
    return request.verify or Verify.SAMPLE


def verify(
    request: Request, plan: Plan, target: Target, capture: Ref, fitted: Fitted, uploaded: Uploaded, mode: Verify, meter: Meter
) -> tuple[Compared, ...]:
    """Reads the disks back, side by side, and compares them with the block maps. Raises TargetError where they differ."""
    chunk = target.features.chunk

    def one(disk: Disk, ref: Ref, sent: TransferResult) -> Compared:
        size = next(planned.target_size for planned in plan.disks if planned.disk == disk.id)
        with BlockMap.open(workdir(request) / f"{disk.id}.blocks") as blocks:
            blocks.begin(capture.id, fitted.generation, chunk)
            read = partial(target.read, plan, ref)
            seed = f"{request.job}/{disk.id}"
            return read_back(read, disk.id, blocks, sent, size=size, chunk=chunk, mode=mode, seed=seed, meter=meter)

    with meter.phase("read"), processes.pool(len(uploaded.disks)) as pool:
        return tuple(pool.map(one, plan.machine.disks, uploaded.disks, uploaded.results))


def validate(target: Target, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Evidence:
    """Waits for the probe of the launched instance (started again when it died with an earlier attempt). The instance runs when
    this returns: who has written down what it showed ends it (`end_tests`), so that a test that was heard is not made again."""
    assert plan.needs.probe
    nonce = plan.needs.probe.nonce

    def boot() -> Evidence:
        instance = target.launch(plan, image, placement, journal, meter)
        heard = False
        try:
            evidence = await_probe(lambda: target.observe(instance), nonce, placement.timeout_s, meter)
            if evidence.probe:
                reached = reach.checks(plan.declared.reach, evidence.observation.addresses, meter, isolated=placement.isolated)
                evidence = settled(lambda: target.observe(instance), replace(evidence, reached=reached), STATUS_S, meter)
            heard = not evidence.emulated
            return evidence
        finally:
            if not heard and not placement.cutover:
                target.stop(instance, journal)

    return booted(boot, meter)


def end_tests(target: Target, journal: Journal) -> int:
    """Stops what a test left running; how many instances were looked at. The one of a cut-over stays (`Target.stop`)."""
    left = journal.refs("instance")
    for instance in left:
        target.stop(instance, journal)
    return len(left)


def remove_scratch(folder: Path) -> int:
    """Removes overlays and block maps of a job's folder. Returns how many files."""
    files = [path for pattern in ("*.qcow2", "*.blocks") for path in folder.glob(pattern)]
    for path in files:
        path.unlink()
    return len(files)


def conclude(steps: Steps, request: Request, plan: Plan, fitted: Fitted, image: Ref, instance: Ref | None) -> Report:
    """The report of what was done; without a boot nothing is proven."""
    return Report(
        job=request.job,
        machine=plan.machine.name,
        source=" ".join(request.sources),
        target=request.target,
        verdict=Verdict.OBSERVED,
        findings=(*plan.findings, *fitted.findings),
        changes=fitted.changes,
        reasons=fitted.reasons,
        steps=steps.records(),
        image=image,
        instance=instance,
        plan=plan,
        facts=fitted.facts,
    )


def judge(report: Report, plan: Plan, facts: Facts, evidence: Evidence) -> Report:
    """The report with what a boot showed, compared with what the machine was before and what the repair did to it. What was
    read back from the target stays in it."""
    boot = platform(plan.platform).boot
    sent = (check for check in report.checks if check.expectation is Expectation.SENT)
    checks = (*compare(facts, evidence, plan, report.changes), *sent)
    return replace(
        report,
        checks=checks,
        verdict=verdict(checks),
        console=evidence.observation.console,
        screenshot=evidence.observation.screenshot,
        unproven=(*(boot.unproven if boot else ()), *unproven(plan.needs)),
    )


@contextmanager
def reopened(request: Request, plan: Plan, source: Source, capture: Ref, fitted: Fitted) -> Iterator[Overlays]:
    """The sealed overlays over their source, read-only."""
    folder = workdir(request)
    with (
        source.open(capture, plan.machine, folder) as opened,
        open_overlays(folder, plan.machine, opened, generation=fitted.generation, writable=False) as overlays,
    ):
        yield overlays


def workdir(request: Request) -> Path:
    """This job's own folder."""
    path = Path(request.workdir)
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path
