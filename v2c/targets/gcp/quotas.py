"""What all machines of a project share: its quotas, and those of its regions; asked for one machine or for many together."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from v2c.model import Finding, Level, Plan
from v2c.targets.gcp import cards, names
from v2c.targets.gcp.catalogue import catalogue
from v2c.targets.gcp.held import held
from v2c.targets.gcp.place import Place, gigabytes
from v2c.targets.gcp.session import REMEDIES

Going = tuple[Place, Plan]  # a machine, and where its locator says it goes


def quotas(going: Sequence[Going]) -> Iterator[Finding]:
    """What does not fit into what is left: of each region's quotas what goes there, of the project's everything. What a machine
    holds already, it does not need again."""
    has = held(going)
    for region in dict.fromkeys(place.region for place, _ in going):
        here = [(place, plan) for place, plan in going if place.region == region]
        told = here[0][0].look(f"regions/{region}") or {}
        yield from _short(told.get("quotas", ()), _wanted(here, has), len(here))
    project = going[0][0].look("") or {}
    yield from _short(project.get("quotas", ()), _wanted(going, has), len(going))


def _wanted(going: Iterable[Going], has: Mapping[str, Counter[str]]) -> Counter[str]:
    """By metric. A test's networks are gone before the next machine's are made, so the largest one's count."""
    known, wanted = catalogue(), Counter[str]()
    for place, plan in going:
        nets = cards.count(plan)  # the test's: one for each card
        for metric, count in (("NETWORKS", nets), ("SUBNETWORKS", nets), ("FIREWALLS", 2 * nets)):
            wanted[metric] = max(wanted[metric], count)
        own = Counter({"INSTANCES": 1})
        if plan.instance_type and (told := place.look(place.in_zone("machineTypes", plan.instance_type))):
            series = known.series_of(plan.instance_type)
            if series.quota:
                own[series.quota] += int(told["guestCpus"])
        for disk in plan.disks:
            if quota := known.disk_quota.get(place.type_of(disk)):
                own[quota] += gigabytes(disk.target_size)
        wanted += own - has[plan.job]  # never less than nothing: what one has too much of is no room for others
        wanted["IMAGES"] += _images_left(place, plan)
    return wanted


def _short(quotas: Iterable[dict[str, Any]], wanted: Counter[str], machines: int) -> Iterator[Finding]:
    who = f"the {machines} machines together need" if machines > 1 else "the machine needs"
    for quota in quotas:
        metric, more = quota["metric"], wanted[quota["metric"]]
        free = float(quota["limit"]) - float(quota.get("usage", 0.0))
        if more > free:
            text = f"the quota {metric} has {free:g} left of {quota['limit']:g}, and {who} {more:g}"
            yield Finding("gcp.quota", Level.BLOCKER, metric, text, REMEDIES["quotaExceeded"])


def _images_left(place: Place, plan: Plan) -> int:
    """Images that are not made yet."""
    made = place.session.page("global/images", filter=f"labels.{names.TAG}={plan.job}") if names.LABEL.fullmatch(plan.job) else []
    return max(0, len(plan.disks) - len(made))
