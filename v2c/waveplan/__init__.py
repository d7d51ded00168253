"""The plan of a wave: what happens to each machine, when, and what stands in the way. Pure: machines come described.

    describe -> plan (one machine at a time, by v2c.plan) -> pack into windows -> add up

Targets of a cloud are asked only by who says so (`asking`): then rights, quotas, prices and instance types are known, too.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from v2c import plan as planning
from v2c.errors import V2cError
from v2c.manifest import Manifest, Resolved
from v2c.manifest.parts import Bandwidth
from v2c.manifest.rates import rates
from v2c.manifest.schema import Target as TargetSpec
from v2c.model import MIB, Finding, Level, Plan
from v2c.platforms import Platform, platform, platforms
from v2c.targets import Target, open_target
from v2c.usage import sized
from v2c.waveplan import stores, sums
from v2c.waveplan.describe import repair, tags, used
from v2c.waveplan.nouns import (
    COPY_RANGE,
    DELTA_SHARE,
    WORK_RANGE,
    Choices,
    Described,
    MachinePlan,
    Span,
    WavePlan,
)
from v2c.waveplan.pack import Packed, Piece, offset, pack

if TYPE_CHECKING:
    from v2c.waveplan.asking import Answer, Answers, Ask

CLOUDS = ("aws", "gcp", "azure")  # their targets need an SDK and an account, so they are opened only when they are asked
VERSION = 1


@dataclass(frozen=True, slots=True)
class _Goal:
    """A target as far as it is known without asking it."""

    spec: TargetSpec
    platform: Platform | None
    target: Target | None
    finding: Finding | None = None


@dataclass(frozen=True, slots=True)
class _Lines:
    """What the lines give, bytes per second (0: no limit), on the average of a week: of the run, the waves, the sources."""

    whole: int
    at_once: int
    waves: Mapping[str, tuple[int, int]]  # with how many machines share it
    sources: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, manifest: Manifest, machines: Sequence[Resolved], choices: Choices) -> "_Lines":
        """Each line is taken to be shared by as many machines as there are at once, all the time and in equal parts: so many
        as converters and limits let, and not more than there are. When in the week a machine is copied, nobody knows yet."""
        zone, most = manifest.defaults.zone, planning.COPY_BYTES_PER_SECOND
        by_wave = Counter(one.wave.name for one in machines)
        by_source = Counter(one.machine.source.at for one in machines)

        def mean(said: Bandwidth | None, own: str | None) -> int:
            return rates(said, own).mean(choices.now, most)

        def sharing(count: int, limit: int | None) -> int:
            return max(1, min(choices.converters, limit or choices.converters, count))

        return cls(
            choices.bandwidth or mean(manifest.limits.bandwidth, zone),
            sharing(len(machines), manifest.limits.machines),
            {
                w.name: (mean(w.limits.bandwidth, w.zone or zone), sharing(by_wave[w.name], w.limits.machines))
                for w in manifest.waves
            },
            {name: (mean(s.bandwidth, zone), sharing(by_source[name], s.copies)) for name, s in manifest.sources.items()},
        )

    def share(self, one: Resolved) -> int:
        """What a machine gets of the narrowest of its lines; 0: none is limited."""
        shared = ((self.whole, self.at_once), self.waves[one.wave.name], self.sources[one.machine.source.at])
        return min((max(1, rate // count) for rate, count in shared if rate), default=0)


def make(
    manifest: Manifest,
    machines: Sequence[Resolved],
    described: Mapping[str, Described],
    choices: Choices,
    ask: "Ask | None" = None,
) -> WavePlan:
    """The plan of `machines`, which come in the order in which they move. `ask`: clouds are asked, and how."""
    known = platforms()
    goals = {name: _goal(name, spec) for name, spec in manifest.targets.items()}
    lines = _Lines.of(manifest, machines, choices)
    made: list[MachinePlan] = []
    answers = _asked(manifest, machines, described, goals, known, lines, ask) if ask else None
    for order, one in enumerate(machines, 1):
        goal, said = goals[one.machine.target or ""], answers.machines.get(one.id) if answers else None
        made.append(_machine(manifest, one, described[one.id], goal, known, lines.share(one), order, said))
    placed = _packed(manifest, machines, made, described, choices)
    plans = tuple(_timed(one, plan, placed[one.id], choices) for one, plan in zip(machines, made, strict=True))
    digest = _digest([plan.digest for plan in plans])
    return WavePlan(
        name=manifest.name,
        converters=choices.converters,
        bandwidth=lines.whole,
        machines=plans,
        waves=tuple(sums.wave(name, [p for p in plans if p.wave == name]) for name in dict.fromkeys(p.wave for p in plans)),
        targets=tuple(
            sums.target(name, spec, plans, answers.targets.get(name, ()) if answers and not goals[name].target else None)
            for name, spec in manifest.targets.items()
        ),
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


def _asked(
    manifest: Manifest,
    machines: Sequence[Resolved],
    described: Mapping[str, Described],
    goals: Mapping[str, _Goal],
    known: Mapping[str, Platform],
    lines: _Lines,
    ask: "Ask",
) -> "Answers":
    """What the clouds say of those machines that go there, and whose sizes are known."""
    from v2c.waveplan.asking import answers

    def draft(one: Resolved, job: str, to: str, target: Target) -> Plan:
        goal = replace(goals[one.machine.target or ""], target=target)
        return _draft(job, one, described[one.id], goal, known, lines.share(one), to)

    going = [one for one in machines if one.machine.target and not described[one.id].failed]
    going = [one for one in going if (goal := goals[one.machine.target or ""]).platform and not goal.target]
    return answers(manifest, [(one, partial(draft, one)) for one in going], ask)


def _draft(
    job: str, one: Resolved, said: Described, goal: _Goal, known: Mapping[str, Platform], bandwidth: int, to: str = ""
) -> Plan:
    """A machine's plan as far as its target was not asked."""
    plan = planning.make(
        job,
        sized(said.machine, use) if (use := used(one)) else said.machine,
        goal.platform or known["kvm"],
        known,
        planning.Choices(
            target=to or goal.spec.to,
            repair=repair(one),
            size_unit=goal.target.features.size_unit if goal.target else 512,
            launches=goal.target.features.launches if goal.target else True,
            bandwidth=bandwidth,
            tags=tags(goal.spec, one),
            volumes=said.volumes,
        ),
        None,
        said.findings,
    )
    return replace(plan, findings=tuple(map(_here, plan.findings)))


def _machine(
    manifest: Manifest,
    one: Resolved,
    said: Described,
    goal: _Goal,
    known: Mapping[str, Platform],
    bandwidth: int,
    order: int,
    answer: "Answer | None" = None,
) -> MachinePlan:
    source = manifest.sources[one.machine.source.at]
    plan = _draft(one.id, one, said, goal, known, bandwidth)
    # of what is known without asking: a run, which asks later, may be bound to a plan that asked
    digest = _digest([one.machine.model_dump(mode="json", by_alias=True), asdict(said.machine), goal.spec.to, plan.disks])
    if goal.target:
        plan = goal.target.size(plan)
        plan = planning.with_findings(plan, goal.target.check(plan) if not said.failed else ())
    elif answer:
        plan = answer.plan or planning.with_findings(plan, answer.findings)
    duration, downtime = _spans(plan, bandwidth, one.mode == "warm")
    size, vcpus, memory = _size(one, said)
    findings = [*([goal.finding] if goal.finding else []), *plan.findings]
    findings += _unmapped(manifest, one, goal)
    findings += _cards(one, goal)
    findings += _licence(one, goal)
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
        size=size if goal.target else plan.instance_type or size,
        vcpus=vcpus,
        memory_mib=memory,
        disks=plan.disks,
        data_bytes=plan.data_bytes,
        duration=duration,
        downtime=downtime,
        budget_s=one.machine.downtime_budget,
        findings=tuple(findings),
        digest=digest,
        price=plan.price,
        storage=plan.storage,
        reserves=answer.reserves if answer else None,
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
    if use := used(one):
        machine = sized(machine, use)
    return (size.type or "") if size else "", machine.vcpus, machine.memory_mib


def _unmapped(manifest: Manifest, one: Resolved, goal: _Goal) -> Iterator[Finding]:
    """Cards of which nobody says where they go; only a cloud has subnets to choose from."""
    if goal.target is not None or goal.spec.subnet or "subnet=" in goal.spec.to.partition("?")[2]:
        return
    mapped = {m.source for m in manifest.networks if m.target in (None, one.machine.target)}
    for index, nic in enumerate(one.machine.nics):
        if not nic.subnet and "*" not in mapped and nic.network not in mapped:
            network = f'the network "{nic.network}"' if nic.network else f"card {index}"
            text = f"{network} has no subnet at {one.machine.target}"
            yield Finding("network.unmapped", Level.BLOCKER, one.id, text, "add it to networks, or say the card's subnet")


def _cards(one: Resolved, goal: _Goal) -> Iterator[Finding]:
    """What the manifest says of cards and no locator can say."""
    nics = one.machine.nics
    if goal.target is not None or len(nics) < 2:
        return
    if len({nic.security_groups for nic in nics if nic.security_groups}) > 1:
        text = "its network cards name different security groups, and all cards get those of the first one"
        yield Finding(
            "network.groups", Level.WARNING, one.id, text, "name the same for all, or change the others after the cut-over"
        )


def _licence(one: Resolved, goal: _Goal) -> Iterator[Finding]:
    """A licence for another system than the inventory names. What the guest really is shows when it is looked into."""
    wanted, system = goal.platform.limits.licensed if goal.platform else "", one.machine.hardware and one.machine.hardware.os
    if one.machine.licence == "included" and wanted and system and wanted not in system.lower():
        text = f'it runs "{system}", and the licence that {goal.spec.to.partition(":")[0]} includes is for {wanted.capitalize()}'
        yield Finding("licence.system", Level.BLOCKER, one.id, text, "leave licence: included out, or correct hardware.os")


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


def _packed(
    manifest: Manifest,
    machines: Sequence[Resolved],
    made: Sequence[MachinePlan],
    described: Mapping[str, Described],
    choices: Choices,
) -> dict[str, Packed]:
    pieces = [
        Piece(
            one.id,
            one.wave.name,
            plan.downtime.likely if one.mode == "warm" else plan.duration.likely,
            one.spans() if one.machine.window else None,
            one.machine.depends_on,
            one.machine.source.at,
            tuple(stores.key(one, name) for name in described[one.id].stores),
        )
        for one, plan in zip(machines, made, strict=True)
    ]
    at_once = {wave.name: wave.limits.machines or manifest.limits.machines or choices.converters for wave in manifest.waves}
    copies = {name: source.copies for name, source in manifest.sources.items() if source.copies}
    most = stores.limits(manifest, ((one, described[one.id].stores) for one in machines))
    return pack(pieces, choices.converters, choices.now, at_once, copies, most)


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


__all__ = ["MIB", "Choices", "Described", "WavePlan", "changed", "document", "make"]
