"""What the machines of a wave, and those that go to a target, come to together."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from v2c.manifest.schema import Target as TargetSpec
from v2c.model import GIB, Finding, Level, Price
from v2c.waveplan.nouns import Instances, MachinePlan, TargetSum, WaveSum


def wave(name: str, plans: Sequence[MachinePlan]) -> WaveSum:
    """A wave's sum."""
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


def target(name: str, spec: TargetSpec, plans: Iterable[MachinePlan], said: Sequence[Finding] | None) -> TargetSum:
    """A target's sum. `said`: what its cloud says of all of them together; None: it was not asked."""
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
    made = TargetSum(name, spec.to, len(mine), vcpus, sum(p.memory_mib for p in mine), stored, (*found, *(said or ())))
    return made if said is None else _asked(made, [p for p in mine if p.size])


def _asked(made: TargetSum, sized: Sequence[MachinePlan]) -> TargetSum:
    """With types, prices and reservations."""
    types = Counter(p.size for p in sized)
    reserved = Counter((p.size, p.reserves) for p in sized if p.reserves is not None)
    return replace(
        made,
        asked=True,
        instances=tuple(Instances(size, count) for size, count in sorted(types.items())),
        prices=_prices([p.price for p in sized if p.price]),
        unpriced=sum(p.price is None for p in sized),
        storage=_prices([p.storage for p in sized if p.storage]),
        reserved=tuple(Instances(size, count, hours) for (size, hours), count in sorted(reserved.items())),
    )


def _prices(each: Iterable[Price]) -> tuple[Price, ...]:
    """What an hour of all costs, by currency and list."""
    sums: dict[tuple[str, str, str], float] = {}
    for price in each:
        key = (price.currency, price.date, price.source)
        sums[key] = sums.get(key, 0.0) + price.hourly
    return tuple(Price(hourly, *key) for key, hourly in sums.items())
