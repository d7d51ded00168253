"""What stands in the way at Google, told before a byte moves and all at once. Reads only."""

import re
from collections.abc import Iterator

from v2c.errors import TargetError
from v2c.model import GIB, Finding, Firmware, Level, Plan
from v2c.targets.gcp import cards, checkcards, names, quotas
from v2c.targets.gcp.catalogue import Series, catalogue
from v2c.targets.gcp.place import Place, gigabytes
from v2c.targets.gcp.session import REMEDIES, ApiError, failures, refused

MOST_GB = 65536  # of a persistent disk (diskTypes.get, validDiskSize)
MOST_BOOT_GB = 2048  # of a boot disk with an MBR (Compute Engine, "Import an existing image")
MOST_OBJECT = 5 * 1024 * GIB  # bytes of an object of Cloud Storage
ASKED_AT_ONCE = 100  # permissions in one testIamPermissions


def findings(place: Place, plan: Plan) -> Iterator[Finding]:
    """All of it. Without credentials nothing else can be told."""
    try:
        account = place.session.account()
    except TargetError as error:
        yield _blocker("gcp.credentials", place.project, error.text, error.remedy)
        return
    caught: tuple[type[Exception], ...] = (TargetError, *failures())
    for asked in (
        _permissions(place, account),
        _zone(place),
        _type(place, plan),
        _disk_types(place, plan),
        quotas.quotas([(place, plan)]),
        _names(place, plan),
        checkcards.findings(place, plan),
        _bucket(place),
    ):
        try:
            yield from asked
        except caught as error:  # the others are told all the same
            told = error if isinstance(error, TargetError) else refused(error, f"{place.project} cannot be asked")
            yield _blocker("gcp.api", place.project, told.text, told.remedy)
            if told.transient:
                return
    yield from _disks(plan)


def _permissions(place: Place, account: str) -> Iterator[Finding]:
    known = catalogue()
    asked = [*known.permissions, *(known.permissions_own_bucket if not place.bucket else ())]
    asked += [*(known.permissions_reserve if place.reserve_hours else ()), *(known.permissions_account if place.account else ())]
    asked += known.permissions_address if place.private_ip else ()
    lacking: list[str] = []
    url = f"{place.session.endpoints.projects}/projects/{place.project}:testIamPermissions"
    for at in range(0, len(asked), ASKED_AT_ONCE):
        part = asked[at : at + ASKED_AT_ONCE]
        try:
            held = place.session.json("POST", url, {"permissions": part}, {}).get("permissions", [])
        except ApiError as error:
            if error.status not in (403, 404):
                raise
            text = f"the permissions of {account} in {place.project} cannot be asked for: {error.text}"
            yield Finding("gcp.permissions", Level.WARNING, place.project, text, "switch cloudresourcemanager.googleapis.com on")
            return
        lacking += [one for one in part if one not in held]
    if place.bucket:
        query = "&".join(f"permissions={one}" for one in known.permissions_bucket)
        path = f"b/{place.bucket}/iam/testPermissions?{query}"
        try:
            held = place.session.storage("GET", path).get("permissions", [])
        except ApiError as error:
            if error.status not in (403, 404):
                raise
            held = known.permissions_bucket if error.status == 404 else []  # that it is not there is told by itself
        lacking += [f"{one} (on {place.bucket})" for one in known.permissions_bucket if one not in held]
    if lacking:
        yield _blocker("gcp.permissions", place.project, f"{account} lacks {', '.join(lacking)}", REMEDIES["forbidden"])


def _zone(place: Place) -> Iterator[Finding]:
    zone = place.look(f"zones/{place.zone}")
    if zone is None:
        yield _blocker("gcp.zone", place.zone, f"{place.project} has no zone {place.zone}", "see: gcloud compute zones list")
        return
    if zone.get("status") != "UP":
        yield _blocker("gcp.zone", place.zone, f"the zone {place.zone} is {zone.get('status')}", "choose another zone")


def _type(place: Place, plan: Plan) -> Iterator[Finding]:
    name = plan.instance_type
    if not name:
        text = f"no type of {place.zone} holds {plan.machine.vcpus} processors and {plan.machine.memory_mib} MiB"
        yield _blocker("gcp.type", plan.machine.name, text, "choose another zone, or name a type with ?type=")
        return
    told = place.look(place.in_zone("machineTypes", name))
    if told is None:
        yield _blocker("gcp.type", name, f"the zone {place.zone} has no type {name}", "see: gcloud compute machine-types list")
        return
    if told.get("architecture", "X86_64") != "X86_64":
        yield _blocker("gcp.type", name, f"{name} is {told['architecture']}, and the machine x86_64", "choose another type")
    if int(told["memoryMb"]) < plan.machine.memory_mib * 0.97 or int(told["guestCpus"]) < plan.machine.vcpus:
        text = f"{name} has {told['guestCpus']} processors and {told['memoryMb']} MiB, less than the machine"
        yield Finding("gcp.type", Level.WARNING, name, text, "leave ?type= out, and a fitting one is chosen")
    if told.get("maximumPersistentDisks", 128) < len(plan.disks):
        yield _blocker("gcp.type", name, f"{name} takes {told['maximumPersistentDisks']} disks", "choose another type")
    if (takes := catalogue().cards(int(told["guestCpus"]))) < cards.count(plan):
        text = f"{name} takes {takes} network cards, and the machine has {cards.count(plan)}"
        yield _blocker("gcp.type", name, text, "choose another type, or leave ?type= out")
    series: Series = catalogue().series_of(name)
    demands = [word for word, asked in (("gVNIC (module gve)", series.gvnic), ("NVMe disks", series.nvme)) if asked]
    if demands:
        text = f"types like {name} have {' and '.join(demands)}: a guest that cannot drive them is refused after its repair"
        yield Finding("gcp.series", Level.WARNING, name, text, "choose n2, n2d or e2 unless you know that it can")


def _disk_types(place: Place, plan: Plan) -> Iterator[Finding]:
    """Whether the zone has them, and they hold the disks; `validDiskSize` of diskTypes.get is written "10GB-65536GB"."""
    series = catalogue().series_of(plan.instance_type)
    for type in dict.fromkeys(place.type_of(disk) for disk in plan.disks):
        if not series.takes(type):
            text = f"machines of the series {series.name} run on no disks of the type {type}"
            fit = ", ".join(f"{begin}*" if begin.endswith("-") else begin for begin in series.disks)
            remedy = f"choose {fit} (?disk-type=, or type in the manifest), or another machine type"
            yield _blocker("gcp.disk-type", type, text, remedy)
        if (told := place.look(place.in_zone("diskTypes", type))) is None:
            text = f"the zone {place.zone} has no disks of the type {type}"
            yield _blocker("gcp.disk-type", type, text, "see: gcloud compute disk-types list")
            continue
        told_range = re.fullmatch(r"(\d+)GB-(\d+)GB", told.get("validDiskSize", ""))
        least, most = map(int, told_range.groups()) if told_range else (0, MOST_GB)
        for disk in (disk for disk in plan.disks if place.type_of(disk) == type):
            if not least <= (size := gigabytes(disk.target_size)) <= most:
                text = f"the disk has {size} GB, and those of the type {type} {least} to {most} GB"
                yield _blocker("gcp.disk-type", disk.disk, text, "choose another type (?disk-type=, or type in the manifest)")
    known = catalogue().provisioned
    for disk in plan.disks:
        for what, said, kinds in (("iops", disk.iops, known.iops), ("throughput", disk.throughput, known.throughput)):
            if said and place.type_of(disk) not in kinds:
                text = f"disks of the type {place.type_of(disk)} have no {what} to be provisioned"
                yield _blocker("gcp.disk-type", disk.disk, text, f"leave {what} out, or choose one of {', '.join(kinds)}")


def _names(place: Place, plan: Plan) -> Iterator[Finding]:
    if not names.LABEL.fullmatch(plan.job):
        text = f'the job id "{plan.job}" cannot be a label'
        yield _blocker("gcp.names", plan.job, text, "use lower-case letters, digits, - and _")
        return
    name = place.instance_name(plan, cutover=True)
    found = place.look(place.in_zone("instances", name))
    if found is not None and names.tagged(found) != plan.job:
        text = f"{place.zone} has an instance {name} already"
        yield Finding("gcp.names", Level.WARNING, name, text, "name the real instance with ?name= before the cut-over")
    for path in (f"global/images/{names.name(plan, str(number))}" for number in range(len(plan.disks))):
        found = place.look(path)
        if found is not None and names.tagged(found) != plan.job:
            yield _blocker("gcp.names", path, f"{path} exists and is not of this job", "remove it")


def _bucket(place: Place) -> Iterator[Finding]:
    if not place.bucket:
        return
    try:
        found = place.session.storage("GET", f"b/{place.bucket}")
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        yield _blocker("gcp.bucket", place.bucket, f"the bucket {place.bucket} cannot be used: {error.text}", "name another one")
        return
    where = str(found.get("location", "")).lower()
    if found.get("retentionPolicy"):
        text = f"the bucket {place.bucket} has a retention policy: what is staged could not be removed"
        yield _blocker("gcp.bucket", place.bucket, text, "name another one, or none")
    if "-" in where and where != place.region:
        text = f"the bucket {place.bucket} lies in {where}, and the zone in {place.region}: the import is slower and is billed"
        yield Finding("gcp.bucket", Level.WARNING, place.bucket, text, f"name one in {place.region}")


def _disks(plan: Plan) -> Iterator[Finding]:
    firmware = plan.machine.firmware or plan.needs.firmware
    for number, disk in enumerate(plan.disks):
        size = gigabytes(disk.target_size)
        if size > MOST_GB:
            yield _blocker("gcp.disk", disk.disk, f"the disk has {size} GiB, and Google's have at most {MOST_GB}", "split it")
        if number == 0 and firmware is Firmware.BIOS and size > MOST_BOOT_GB:
            text = f"the boot disk has {size} GiB, and a machine that boots by BIOS at most {MOST_BOOT_GB}"
            yield _blocker("gcp.disk", disk.disk, text, "convert it to UEFI first, or make it smaller")
        if disk.target_size > disk.source_size and size * GIB > disk.target_size:
            text = f"the disk will have {size} GiB at Google, the least there is"
            yield Finding("gcp.disk", Level.INFO, disk.disk, text)
    if plan.data_bytes > MOST_OBJECT:
        text = "the disks may hold more than an object of Cloud Storage takes (5 TiB)"
        yield Finding("gcp.object", Level.WARNING, plan.machine.name, text, "trim them first")


def _blocker(id: str, subject: str, text: str, remedy: str) -> Finding:
    return Finding(id, Level.BLOCKER, subject, text, remedy)
