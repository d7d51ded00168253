"""By tag: what a job made, and how each of it is removed, in any order."""

from collections.abc import Iterator
from typing import Any

from v2c.errors import TargetError
from v2c.model import Ref
from v2c.targets.aws import cards, images, importing, launch, licensed, names
from v2c.targets.aws.session import ApiError, Session

LIVING = ["pending", "running", "stopping", "stopped", "shutting-down"]


def find(session: Session, job: str, bucket: str = "", *, held: bool = False, imported: bool = False) -> Iterator[Ref]:
    """Everything of the job, in the order it is made in. `bucket`: where its disks are staged, if they are; `held`: whether
    network interfaces may hold addresses for it; `imported`: whether its image may be imported."""
    if bucket:
        yield from importing.find(session, bucket, job)
    ours = names.ours(job)
    for found in cards.held(session, job) if held else ():
        yield Ref.of("nic", found["NetworkInterfaceId"], job=job, card=names.tagged(found).get(names.CARD, "0"))
    active = [*ours, {"Name": "state", "Values": ["active", "pending"]}]
    for found in session.pages("ec2", "describe_capacity_reservations", "CapacityReservations", Filters=active):
        yield Ref.of("reservation", found["CapacityReservationId"], job=job)
    for found in session.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=ours):
        if not {importing.NUMBER, licensed.COPY} & set(names.tagged(found)):
            yield Ref.of("disk", found["SnapshotId"], job=job, disk=names.tagged(found).get(names.DISK, ""))
    yield from licensed.find(session, job) if imported else ()
    for found in session.pages("ec2", "describe_images", "Images", Owners=["self"], Filters=ours):
        yield Ref.of("image", found["ImageId"], job=job)
    for found in session.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=ours):
        yield Ref.of("network", found["GroupId"], job=job)
    for found in instances(session, job):
        yield Ref.of("instance", found["InstanceId"], job=job, launch=names.tagged(found).get("v2c-launch", ""))
    loose = [*ours, {"Name": "status", "Values": ["available", "error"]}]
    for found in session.pages("ec2", "describe_volumes", "Volumes", Filters=loose):
        yield Ref.of("volume", found["VolumeId"], job=job)


def instances(session: Session, job: str, *more: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The job's instances that are not over."""
    filters = [*names.ours(job), {"Name": "instance-state-name", "Values": LIVING}, *more]
    for reservation in session.pages("ec2", "describe_instances", "Reservations", Filters=filters):
        yield from reservation["Instances"]


def destroy(session: Session, ref: Ref) -> None:
    """Removes it, and first what of the same job stands in the way. Absent is success."""
    if ref.kind == "import" and ref.id.startswith("import-ami-"):
        licensed.destroy(session, ref)
        return
    if importing.destroy(session, ref):
        return
    found = _described(session, ref)
    if found is None:
        return
    job = ref.get("job")
    if not job or names.tagged(found).get(names.TAG) != job:
        raise TargetError(f"the {ref.kind} {ref.id} carries no tag of job {job or '?'}, so it is left alone")
    match ref.kind:
        case "disk" | "snapshot":
            images.drop_snapshot(session, ref.id, job)
        case "image":
            if licensed.TASK in names.tagged(found):
                licensed.remove(session, found)
            else:
                images.deregister(session, found, job)
        case "instance":
            launch.terminate(session, ref.id)
            _volumes(session, job)
        case "network":
            for instance in instances(session, job, {"Name": "instance.group-id", "Values": [ref.id]}):
                launch.terminate(session, instance["InstanceId"])
            launch.drop_group(session, ref.id)
        case "nic":
            user = launch.described(session, found.get("Attachment", {}).get("InstanceId", "")) if "Attachment" in found else None
            if user is not None and names.tagged(user).get(names.TAG) == job:
                launch.terminate(session, user["InstanceId"])
            cards.drop(session, ref.id)
        case "volume":
            images.quietly(session, "delete_volume", "InvalidVolume.NotFound", VolumeId=ref.id)
        case "reservation":
            images.quietly(
                session, "cancel_capacity_reservation", "InvalidCapacityReservationId.NotFound", CapacityReservationId=ref.id
            )


def _described(session: Session, ref: Ref) -> dict[str, Any] | None:
    listing = {
        "disk": ("describe_snapshots", "SnapshotIds", "Snapshots"),
        "snapshot": ("describe_snapshots", "SnapshotIds", "Snapshots"),
        "image": ("describe_images", "ImageIds", "Images"),
        "network": ("describe_security_groups", "GroupIds", "SecurityGroups"),
        "volume": ("describe_volumes", "VolumeIds", "Volumes"),
        "reservation": ("describe_capacity_reservations", "CapacityReservationIds", "CapacityReservations"),
    }
    if ref.kind == "nic":
        return cards.described(session, ref.id)
    if ref.kind == "instance":
        found = launch.described(session, ref.id)
        return found if found and found["State"]["Name"] != "terminated" else None
    if ref.kind not in listing:
        raise TargetError(f"AWS knows no {ref.kind}")
    method, key, members = listing[ref.kind]
    try:
        asked: dict[str, Any] = {key: [ref.id]}
        things = session.call("ec2", method, **asked)[members]
    except ApiError as error:
        if ".NotFound" not in error.code and ".Unavailable" not in error.code:
            raise
        return None
    if not things or (ref.kind == "reservation" and things[0]["State"] not in ("active", "pending")):
        return None
    return dict(things[0])


def _volumes(session: Session, job: str) -> None:
    """Volumes that an instance left behind."""
    loose = [*names.ours(job), {"Name": "status", "Values": ["available", "error"]}]
    for volume in list(session.pages("ec2", "describe_volumes", "Volumes", Filters=loose)):
        images.quietly(session, "delete_volume", "InvalidVolume.NotFound", VolumeId=volume["VolumeId"])
