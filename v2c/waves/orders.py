"""From a manifest to orders: what is to be done with each machine, with all that was planned for it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from v2c import doctor, waveplan
from v2c.errors import UsageError
from v2c.jobs import job_id
from v2c.manifest import Manifest, Resolved, ordered, resolve
from v2c.manifest.rates import rates
from v2c.model import Finding, Level, Volume
from v2c.model.wave import Gate, Stage, Window
from v2c.pipeline import Request
from v2c.targets import TargetFeatures, open_target
from v2c.waveplan import WavePlan, stores
from v2c.waveplan.aim import aim
from v2c.waveplan.describe import READ, describe, repair, sources_of, spec, stores_of, tags, used
from v2c.waveplan.nouns import MachinePlan
from v2c.waves.nouns import Limits, Order

COMMIT_S = 300.0  # what a cut-over is taken to last: an instance is launched, and tells what it is
TEST_S, FINALIZE_S = 300.0, 10.0
LATE = ("window.full", "window.tight", "window.missed", "window.ambiguous")  # findings that time decides, not the machine


@dataclass(frozen=True, slots=True)
class Wanted:
    """A manifest as it is to be worked off: orders in the order in which they move, and the plan they come from."""

    run: str
    file: str
    digest: str
    waves: tuple[str, ...]
    limits: Limits
    orders: tuple[Order, ...]
    plan: WavePlan


def wanted(manifest: Manifest, file: Path, *, wave: str | None = None, converters: int = 2) -> Wanted:
    """The manifest (or one wave of it), planned and made into orders. UsageError for what no run can be made of."""
    names = tuple(w.name for w in manifest.waves)
    if wave is not None and wave not in names:
        raise UsageError(f'{file} has no wave "{wave}"', remedy=f"it has {', '.join(names)}")
    folder = file.absolute().parent
    machines = tuple(one for one in ordered(resolve(manifest)) if wave in (None, one.wave.name))
    choices = waveplan.Choices(datetime.now(UTC).replace(microsecond=0), converters)
    described = describe(manifest, machines, folder)
    plan = waveplan.make(manifest, machines, described, choices)
    targets = {
        target.name: [f for f in target.findings if f.level is Level.BLOCKER] for target in plan.targets if target.findings
    }
    features: dict[str, TargetFeatures] = {}
    orders = []
    for one, planned in zip(machines, plan.machines, strict=True):
        more = targets.get(one.machine.target or "", [])
        orders.append(_order(manifest, one, planned, described[one.id].volumes, more, folder, features))
    _unlike(orders)
    most = limits(manifest, orders, folder)
    return Wanted(manifest.name, str(file.absolute()), plan.digest, names, most, tuple(orders), plan)


def _order(
    manifest: Manifest,
    one: Resolved,
    planned: MachinePlan,
    volumes: tuple[Volume, ...],
    more: Sequence[Finding],
    folder: Path,
    known: dict[str, TargetFeatures],
) -> Order:
    machine, source = one.machine, manifest.sources[one.machine.source.at]
    to, repaired = aim(manifest, one), repair(one)
    at = sources_of(manifest, one, folder)
    said = replace(spec(one), name=machine.name or one.id)
    mine = tags(manifest.targets[machine.target or ""], one)
    job = job_id(at, to, repaired)
    request = Request(job, at, to, "", said, repaired, boot_timeout_s=900, usage=used(one), tags=mine, volumes=volumes)
    findings = [*planned.findings, *more]
    if source.type not in READ:
        text = f"sources of type {source.type} cannot be moved from yet"
        findings.append(Finding("source.type", Level.BLOCKER, one.id, text, "export its disks, and name them as files"))
    scratch = doctor.REPAIR
    if any(f.id == "target.unknown" for f in findings):
        stages: tuple[Stage, ...] = (Stage.REPLICATE, Stage.FINALIZE)
        account = ""
    else:
        if to not in known:
            known[to] = open_target(to).features
        stages, account = stages_of(known[to]), known[to].account
        scratch += doctor.BOOT * known[to].rehearse
    kept = {name: getattr(machine, name) for name in ("hooks", "checks", "on_failure")}
    settings: list[Any] = [machine.model_dump(mode="json", by_alias=True), list(at), to, one.wave.name, one.mode]
    settings += [[asdict(volume) for volume in volumes]]  # which also follow from the manifest's storage map
    gates = machine.gates
    opened = ((Gate.TEST, gates.ok_to_test), (Gate.CUTOVER, gates.ok_to_cutover), (Gate.FINALIZE, gates.ok_to_finalize))
    return Order(
        id=one.id,
        wave=one.wave.name,
        order=planned.order,
        source=machine.source.at,
        target=machine.target or "",
        request=request,
        stages=stages,
        digest=hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        mode=one.mode,
        name=said.name or one.id,
        application=machine.application or "",
        owner=machine.owner or "",
        depends_on=machine.depends_on,
        open=tuple(gate for gate, is_open in opened if is_open),
        window=_window(one),
        blackout=machine.blackout,
        zone=one.zone or "",
        budget_s=machine.downtime_budget,
        on_failure=kept["on_failure"] or "skip",
        finalize_after_s=machine.finalize_after or 0,
        commit_s=COMMIT_S,
        expected=tuple((stage, _lasts(stage, planned)) for stage in stages),
        data_bytes=planned.data_bytes,
        hooks=kept["hooks"],
        checks=kept["checks"],
        findings=tuple(f for f in findings if f.id not in LATE),
        account=account,
        scratch=scratch,
        host_key=machine.host_key or "",
        stores=tuple(stores.key(one, name) for name in stores_of(manifest, one, folder)),
        known_hosts=str((folder / machine.known_hosts).absolute()) if machine.known_hosts else "",
    )


def limits(manifest: Manifest, orders: Sequence[Order], folder: Path) -> Limits:
    """What the manifest says of how much at once. Where two targets are one account, the narrower limit is its. `folder`: the
    manifest's."""
    requests: dict[str, float] = {}
    for order in orders:
        said = manifest.targets[order.target].limits.requests if order.account else None
        if said:
            requests[order.account] = min(said, requests.get(order.account, said))
    zone, waves, sources = manifest.defaults.zone, manifest.waves, manifest.sources
    return Limits(
        manifest.limits.machines,
        {w.name: w.limits.machines for w in waves if w.limits.machines},
        {name: source.copies for name, source in sources.items() if source.copies},
        rates(manifest.limits.bandwidth, zone),
        {w.name: rates(w.limits.bandwidth, w.zone or zone) for w in waves if w.limits.bandwidth},
        {name: rates(source.bandwidth, zone) for name, source in sources.items() if source.bandwidth},
        requests,
        manifest.limits.scratch,
        {w.name: w.limits.scratch for w in waves if w.limits.scratch},
        stores.limits(manifest, ((one, stores_of(manifest, one, folder)) for one in resolve(manifest))),
    )


def stages_of(features: TargetFeatures) -> tuple[Stage, ...]:
    """What is done with a machine that goes there, in order."""
    made = [Stage.REPLICATE]
    if features.launches:
        made.append(Stage.TEST)
    if features.launches and features.cutover:
        made.append(Stage.CUTOVER)
    return (*made, Stage.FINALIZE)


def _window(one: Resolved) -> Window | None:
    whole = one.span()
    if whole is None:
        return None
    spans = tuple((s.start.timestamp(), s.end.timestamp()) for s in one.spans())
    return Window(whole.start.timestamp(), whole.end.timestamp(), one.zone or "UTC", spans)


def _lasts(stage: Stage, planned: MachinePlan) -> float:
    return {
        Stage.REPLICATE: planned.duration.likely,
        Stage.TEST: TEST_S,
        Stage.CUTOVER: COMMIT_S,
    }.get(stage, FINALIZE_S)


def _unlike(orders: Sequence[Order]) -> None:
    """UsageError when two machines are one job: the same disks, to the same place."""
    seen: dict[str, str] = {}
    for order in orders:
        job = order.request.job
        if job in seen:
            raise UsageError(
                f"{seen[job]} and {order.id} are the same disks that go to the same target", remedy="take one of them out"
            )
        seen[job] = order.id
