"""The plan of a wave: what happens to each machine, when, and what stands in the way. Pure: machines come described.

    describe -> plan (one machine at a time, by v2c.plan) -> pack into windows -> add up

Targets of a cloud are not asked: rights, quotas, prices and instance types are known when a machine is planned alone.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from v2c import plan as planning
from v2c.errors import V2cError
from v2c.manifest import Manifest, Resolved
from v2c.manifest.schema import Target as TargetSpec
from v2c.model import GIB, MIB, Finding, Level, Plan
from v2c.platforms import Platform, platform, platforms
from v2c.targets import Target, open_target
from v2c.waveplan.describe import repair
from v2c.waveplan.nouns import (
    COPY_RANGE,
    DELTA_SHARE,
    WORK_RANGE,
    Choices,
    Described,
    MachinePlan,
    Span,
    TargetSum,
    WavePlan,
    WaveSum,
)
from v2c.waveplan.pack import Packed, Piece, offset, pack

CLOUDS = ("aws", "gcp", "azure")  # their targets need an SDK and an account, so they are not opened here
VERSION = 1


@dataclass(frozen=True, slots=True)
class _Goal:
    """A target as far as it is known without asking it."""

    spec: TargetSpec
    platform: Platform | None
    target: Target | None
    finding: Finding | None = None


def make(manifest: Manifest, machines: Sequence[Resolved], described: Mapping[str, Described], choices: Choices) -> WavePlan:
    """The plan of `machines`, which come in the order in which they move."""
    known = platforms()
    goals = {name: _goal(name, spec) for name, spec in manifest.targets.items()}
    line = choices.bandwidth or manifest.limits.bandwidth or 0
    share = line // max(1, min(choices.converters, len(machines)))
    made: list[MachinePlan] = []
    for order, one in enumerate(machines, 1):
        made.append(_machine(manifest, one, described[one.id], goals[one.machine.target or ""], known, share, order))
    placed = _packed(manifest, machines, made, choices)
    plans = tuple(_timed(one, plan, placed[one.id], choices) for one, plan in zip(machines, made, strict=True))
    digest = _digest([plan.digest for plan in plans])
    return WavePlan(
        name=manifest.name,
        converters=choices.converters,
        bandwidth=line,
        machines=plans,
        waves=tuple(_wave(name, [p for p in plans if p.wave == name]) for name in dict.fromkeys(p.wave for p in plans)),
        targets=tuple(_target(name, spec, plans) for name, spec in manifest.targets.items()),
        digest=digest,
    )


def document(plan: WavePlan) -> dict[str, Any]:
    """The plan file: the plan as plain values, with its digest. `machines` can be compared one by one with a later plan's."""
    return {"kind": "v2c-wave-plan", "version": VERSION, **asdict(plan)}


def changed(document: Mapping[str, Any], plan: WavePlan) -> tuple[str, ...]:
    """The machines that a plan file and a plan differ in: edited, new, or gone. None: a run may be bound to the file."""
    before = {one["id"]: one["digest"] for one in document["machines"]}
    now = {one.id: one.digest for one in plan.machines}
    return tuple(sorted(id for id in before.keys() | now.keys() if before.get(id) != now.get(id)))


# ---- one machine -----------------------------------------------------------------------------------------------------------


def _goal(name: str, spec: TargetSpec) -> _Goal:
    scheme = spec.to.partition(":")[0]
    try:
        if scheme in CLOUDS:
            return _Goal(spec, platform(scheme), None)
        target = open_target(spec.to)
        return _Goal(spec, platform(target.platform), target)
    except V2cError as error:
        return _Goal(spec, None, None, Finding("target.unknown", Level.BLOCKER, name, error.text, error.remedy))


def _machine(
    manifest: Manifest, one: Resolved, said: Described, goal: _Goal, known: Mapping[str, Platform], share: int, order: int
) -> MachinePlan:
    source = manifest.sources[one.machine.source.at]
    bandwidth = min((rate for rate in (share, source.bandwidth or 0) if rate), default=0)
    launches = goal.target.features.launches if goal.target else True
    plan = planning.make(
        one.id,
        said.machine,
        goal.platform or known["kvm"],
        known,
        planning.Choices(
            target=goal.spec.to,
            repair=repair(one),
            size_unit=goal.target.features.size_unit if goal.target else 512,
            launches=launches,
            bandwidth=bandwidth,
        ),
        None,
        said.findings,
    )
    plan = replace(plan, findings=tuple(map(_here, plan.findings)))
    if goal.target:
        plan = goal.target.size(plan)
        plan = planning.with_findings(plan, goal.target.check(plan) if not said.failed else ())
    duration, downtime = _spans(plan, bandwidth, one.mode == "warm")
    size, vcpus, memory = _size(one, said)
    findings = [*([goal.finding] if goal.finding else []), *plan.findings]
    findings += _unmapped(manifest, one, goal)
    findings += _mode(one, source.type)
    findings += _budget(one, downtime)
    return MachinePlan(
        id=one.id,
        wave=one.wave.name,
        order=order,
        source=one.machine.source.at,
        target=one.machine.target or "",
        platform=plan.platform if goal.platform else "",
        mode=one.mode,
        size=size,
        vcpus=vcpus,
        memory_mib=memory,
        disks=plan.disks,
        data_bytes=plan.data_bytes,
        duration=duration,
        downtime=downtime,
        budget_s=one.machine.downtime_budget,
        findings=tuple(findings),
        digest=_digest([one.machine.model_dump(mode="json", by_alias=True), asdict(said.machine), goal.spec.to, plan.disks]),
    )


def _here(found: Finding) -> Finding:
    """What the planner says of flags, said of a manifest."""
    if not found.id.startswith("assumed."):
        return found
    where = "nics" if found.id == "assumed.nics" else "hardware"
    return replace(found, remedy=f"say it in the manifest, under {where}")


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=lambda value: asdict(value) if hasattr(value, "__slots__") else str(value))
    return hashlib.sha256(text.encode()).hexdigest()


def _spans(plan: Plan, bandwidth: int, warm: bool) -> tuple[Span, Span]:
    """Duration and downtime. A cold machine is down for all of it; a warm one for the last difference and what follows it."""
    speed = min(planning.COPY_BYTES_PER_SECOND, bandwidth or planning.COPY_BYTES_PER_SECOND)
    copy = plan.data_bytes / speed
    work = max(0.0, plan.seconds - copy)

    def span(copying: float) -> Span:
        low, high = (work * w + copying * c for w, c in zip(WORK_RANGE, COPY_RANGE, strict=True))
        return Span(work + copying, low, high)

    return span(copy), span(copy * DELTA_SHARE if warm else copy)


def _size(one: Resolved, said: Described) -> tuple[str, int, int]:
    """The instance type that was named, and the processors and memory (MiB) that the machine needs at least."""
    size, machine = one.machine.size, said.machine
    if size and size.right_sizing == "used" and size.cpu_used and size.memory_used:
        factor = (100 + size.headroom) / 100
        vcpus = max(1, min(machine.vcpus, math.ceil(machine.vcpus * size.cpu_used / 100 * factor)))
        return "", vcpus, max(512, min(machine.memory_mib, math.ceil(machine.memory_mib * size.memory_used / 100 * factor)))
    return (size.type or "") if size else "", machine.vcpus, machine.memory_mib


def _unmapped(manifest: Manifest, one: Resolved, goal: _Goal) -> Iterator[Finding]:
    """Cards of which nobody says where they go; only a cloud has subnets to choose from."""
    if goal.target is not None or goal.spec.subnet:
        return
    mapped = {m.source for m in manifest.networks if m.target in (None, one.machine.target)}
    for index, nic in enumerate(one.machine.nics):
        if not nic.subnet and "*" not in mapped and nic.network not in mapped:
            network = f'the network "{nic.network}"' if nic.network else f"card {index}"
            text = f"{network} has no subnet at {one.machine.target}"
            yield Finding("network.unmapped", Level.BLOCKER, one.id, text, "add it to networks, or say the card's subnet")


def _mode(one: Resolved, source: str) -> Iterator[Finding]:
    if one.mode == "warm" and source in ("files", "memory"):
        text = "disk files do not run: warm is the same as cold here"
        yield Finding("mode.warm", Level.WARNING, one.id, text, "say mode: cold")


def _budget(one: Resolved, downtime: Span) -> Iterator[Finding]:
    budget = one.machine.downtime_budget
    if budget is None or downtime.high <= budget:
        return
    level = Level.BLOCKER if downtime.low > budget else Level.WARNING
    sure = "is at least" if level is Level.BLOCKER else "may be"
    minutes = (downtime.low if level is Level.BLOCKER else downtime.high) / 60
    text = f"the downtime {sure} {minutes:.0f} min, and its budget is {budget / 60:.0f} min"
    yield Finding("downtime.budget", level, one.id, text, "move it warm, give it a faster line, or a larger budget")


# ---- all of them -----------------------------------------------------------------------------------------------------------


def _packed(manifest: Manifest, machines: Sequence[Resolved], made: Sequence[MachinePlan], choices: Choices) -> dict[str, Packed]:
    pieces = [
        Piece(
            one.id,
            one.wave.name,
            plan.downtime.likely if one.mode == "warm" else plan.duration.likely,
            one.spans() if one.machine.window else None,
            one.machine.depends_on,
            one.machine.source.at,
        )
        for one, plan in zip(machines, made, strict=True)
    ]
    at_once = {wave.name: wave.limits.machines or manifest.limits.machines or choices.converters for wave in manifest.waves}
    copies = {name: source.copies for name, source in manifest.sources.items() if source.copies}
    return pack(pieces, choices.converters, choices.now, at_once, copies)


def _timed(one: Resolved, plan: MachinePlan, placed: Packed, choices: Choices) -> MachinePlan:
    """With its place in the window, or why it has none."""
    if not placed.window:
        return replace(plan, offset_s=offset(placed.end) - (plan.downtime if one.mode == "warm" else plan.duration).likely)
    whole, spans = one.span(), one.spans()
    assert whole and one.zone
    found = []
    if whole.end <= choices.now:
        text = f"the window ended at {_moment(whole.end)}"
        found.append(Finding("window.missed", Level.BLOCKER, one.id, text, "give it another window"))
        return replace(plan, findings=(*plan.findings, *found))
    if placed.start is None:
        text = (
            f"it does not fit into its window, which ends at {_moment(spans[-1].end)}: at best it ends at {_moment(placed.end)}"
        )
        found.append(Finding("window.full", Level.BLOCKER, one.id, text, "more converters, a longer window, or fewer machines"))
        return replace(plan, findings=(*plan.findings, *found))
    here = next(span for span in spans if span.start <= placed.start < span.end)
    high = (plan.downtime if one.mode == "warm" else plan.duration).high
    if placed.start.timestamp() + high > here.end.timestamp():
        text = f"it may last until after {_moment(here.end)}, when it must be done"
        found.append(Finding("window.tight", Level.WARNING, one.id, text, "begin earlier, or give it a longer window"))
    from v2c.manifest.times import ambiguous

    if one.machine.window and ambiguous(one.machine.window, one.zone):
        text = "a time of its window occurs twice when the clocks go back; the shorter window is taken"
        found.append(Finding("window.ambiguous", Level.WARNING, one.id, text, "write the offset: 2026-10-25T02:30+02:00"))
    return replace(plan, start=_moment(placed.start), end=_moment(placed.end), findings=(*plan.findings, *found))


def _moment(moment: Any) -> str:
    return str(moment.strftime("%Y-%m-%dT%H:%MZ"))


def _wave(name: str, plans: Sequence[MachinePlan]) -> WaveSum:
    starts, ends = sorted(p.start for p in plans if p.start), sorted(p.end for p in plans if p.end)
    offsets = [(p.offset_s, p.offset_s + p.duration.likely) for p in plans if p.offset_s is not None]
    span = max((end for _, end in offsets), default=0.0)
    return WaveSum(
        name=name,
        machines=len(plans),
        blocked=sum(p.blocked for p in plans),
        vcpus=sum(p.vcpus for p in plans),
        memory_mib=sum(p.memory_mib for p in plans),
        disks=sum(len(p.disks) for p in plans),
        target_bytes=sum(d.target_size for p in plans for d in p.disks),
        data_bytes=sum(p.data_bytes for p in plans),
        work_s=sum(p.duration.likely for p in plans),
        span_s=span,
        begins=starts[0] if starts else "",
        ends=ends[-1] if ends else "",
    )


def _target(name: str, spec: TargetSpec, plans: Iterable[MachinePlan]) -> TargetSum:
    mine = [p for p in plans if p.target == name]
    vcpus, stored = sum(p.vcpus for p in mine), sum(d.target_size for p in mine for d in p.disks)
    quota, found = spec.quota, []
    if quota:
        for what, need, have, unit in (
            ("processors", vcpus, quota.vcpus, 1),
            ("instances", len(mine), quota.machines, 1),
            ("GiB of disks", stored, quota.storage, GIB),
        ):
            if have is not None and need > have:
                text = f"the machines need {need / unit:.0f} {what}, and the quota is {have / unit:.0f}"
                found.append(Finding("target.quota", Level.BLOCKER, name, text, "have it raised, or move fewer machines"))
    return TargetSum(name, spec.to, len(mine), vcpus, sum(p.memory_mib for p in mine), stored, tuple(found))


__all__ = ["MIB", "Choices", "Described", "WavePlan", "changed", "document", "make"]
