"""What machines that were cut over hold of the quotas already: their instances, disks and reservations, found by their labels."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from v2c.model import Plan
from v2c.targets.gcp import names
from v2c.targets.gcp.catalogue import catalogue
from v2c.targets.gcp.launch import ALIVE, CUTOVER, ROLE
from v2c.targets.gcp.place import Place

Going = tuple[Place, Plan]
RUNS = ALIVE | {"STOPPING", "SUSPENDING"}  # the processors of an instance that is stopped count no more; it and its disks do


def held(going: Sequence[Going]) -> Mapping[str, Counter[str]]:
    """By job and metric. A test's instance is nobody's: it may still stand beside the real one. The zones are asked once for all
    jobs."""
    found: dict[str, Counter[str]] = {plan.job: Counter() for _, plan in going}
    for place in {place.zone: place for place, _ in going}.values():
        chosen = f"labels.{names.TAG}:*"
        running: dict[str, Counter[str]] = {}
        for one in _ours(place.session.page(place.in_zone("instances"), filter=chosen), found):
            mine = found[names.tagged(one)]
            mine["INSTANCES"] += 1
            if one["status"] in RUNS:
                running.setdefault(names.tagged(one), Counter()).update(_processors(place, one["machineType"], 1))
        for one in _ours(place.session.page(place.in_zone("disks"), filter=chosen), found):
            if quota := catalogue().disk_quota.get(str(one["type"]).rpartition("/")[2]):
                found[names.tagged(one)][quota] += int(one["sizeGb"])
        for job, processors in (running | _reserved(place, going, running)).items():
            found[job].update(processors)
    return found


def _ours(things: Iterable[dict[str, Any]], jobs: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one for one in things if names.tagged(one) in jobs and one.get("labels", {}).get(ROLE) == CUTOVER]


def _reserved(place: Place, going: Sequence[Going], running: Mapping[str, Counter[str]]) -> dict[str, Counter[str]]:
    """What is reserved for the jobs and what runs of them: an instance on its reservation counts once."""
    if not any(other.reserve_hours for other, _ in going):
        return {}
    jobs = {plan.job for _, plan in going}
    found: dict[str, Counter[str]] = {}
    for one in place.session.page(place.in_zone("reservations")):
        if (job := names.tagged(one)) in jobs:
            about = one["specificReservation"]
            kind = about["instanceProperties"]["machineType"]
            found[job] = _processors(place, kind, int(about["count"])) | running.get(job, Counter())
    return found


def _processors(place: Place, kind: str, count: int) -> Counter[str]:
    """What so many instances of a machine type (its name, or its URL) take of the quota of its series."""
    name = kind.rpartition("/")[2]
    quota, told = catalogue().series_of(name).quota, place.look(place.in_zone("machineTypes", name))
    return Counter({quota: count * int(told["guestCpus"])}) if quota and told else Counter()
