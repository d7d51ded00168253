"""Volumes: of which type each disk becomes, what of it is provisioned, and whether AWS has such a one."""

from collections.abc import Iterator, Mapping
from typing import Any

from v2c.model import GIB, DiskPlan, Finding, Level, Plan
from v2c.targets.aws import names
from v2c.targets.aws.facts import VolumeType, api
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import Session

GP3_IOPS, GP3_THROUGHPUT = 3000, 125  # what one has unasked


def asked(options: Options, disk: DiskPlan) -> dict[str, Any]:
    """What a request says of the volume, beside where it comes from."""
    told: dict[str, Any] = {"VolumeType": disk.type or options.volume_type}
    return told | ({"Iops": disk.iops} if disk.iops else {}) | ({"Throughput": disk.throughput} if disk.throughput else {})


def unsaid(volume: Mapping[str, Any]) -> dict[str, Any]:
    """A volume of a request with what AWS gives it unasked."""
    usual = {"Iops": GP3_IOPS, "Throughput": GP3_THROUGHPUT} if volume.get("VolumeType") == "gp3" else {}
    return {**usual, **volume}


def check(session: Session, options: Options, instances: object, plan: Plan) -> Iterator[Finding]:
    """Whether there are such types, and hold the disks."""
    for number, disk in enumerate(plan.disks):
        name = disk.type or options.volume_type
        if (kind := api().ebs.volume_types.get(name)) is None:
            text = f"AWS has no volumes of the type {name}"
            yield _blocker("aws.volume", disk.disk, text, f"choose one of {', '.join(api().ebs.volume_types)}")
        else:
            yield from _fits(name, kind, disk, boots=number == 0)
    limit = len(list(names.devices(1000)))
    if len(plan.disks) > limit:
        yield _blocker("aws.disks", plan.machine.name, f"an image maps at most {limit} disks", "leave disks behind or join them")
    if options.licensed and len({str(asked(options, disk)) for disk in plan.disks}) > 1:
        text = "its disks are to be of several types, and those of an image that AWS imports are all of the first one's"
        yield Finding("aws.volume", Level.WARNING, plan.machine.name, text, "change the others after the cut-over")


def _fits(name: str, kind: VolumeType, disk: DiskPlan, *, boots: bool) -> Iterator[Finding]:
    size, other = disk.target_size // GIB, "choose another type (&volume-type=, or type in the manifest)"
    if size > kind.most:
        yield _blocker("aws.volume", disk.disk, f"the disk has {size} GiB, and {name} volumes hold {kind.most} GiB", other)
    if size < kind.least:
        text = f"the disk has {size} GiB, and {name} volumes have {kind.least} GiB at least"
        yield _blocker("aws.volume", disk.disk, text, other)
    if boots and not kind.boots:
        yield _blocker("aws.volume", disk.disk, f"no machine boots from a {name} volume", other)
    if kind.asks and not disk.iops:
        text = f"{name} volumes have as many operations per second as one says, and nobody did"
        yield _blocker("aws.volume", disk.disk, text, "say iops, or choose another type")
    yield from _provisioned(name, kind, disk, size)


def _provisioned(name: str, kind: VolumeType, disk: DiskPlan, size: int) -> Iterator[Finding]:
    for what, said, range, most in (
        ("iops", disk.iops, kind.iops, kind.iops_per_gib * size),
        ("throughput", disk.throughput, kind.throughput, int(kind.throughput_per_iops * (disk.iops or GP3_IOPS))),
    ):
        if not said:
            continue
        if range is None:
            yield _blocker("aws.volume", disk.disk, f"{name} volumes have no {what} to be provisioned", f"leave {what} out")
        elif not range[0] <= said <= range[1]:
            text = f"{what} of {name} volumes are {range[0]} to {range[1]}, and {said} are asked for"
            yield _blocker("aws.volume", disk.disk, text, f"correct {what}")
        elif said > max(most, range[0]):
            of = f"of {size} GiB" if what == "iops" else f"with {disk.iops or GP3_IOPS} iops"
            yield _blocker("aws.volume", disk.disk, f"{name} volumes {of} have at most {most} {what}", f"correct {what}")


def _blocker(id: str, subject: str, text: str, remedy: str) -> Finding:
    return Finding(id, Level.BLOCKER, subject, text, remedy)
