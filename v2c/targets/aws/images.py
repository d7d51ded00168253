"""The image: all disks of the machine, registered as what the guest can drive."""

from collections.abc import Mapping, Sequence
from typing import Any

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import GIB, Caps, Firmware, Plan, Ref
from v2c.targets.aws import names
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import ApiError, Session

BOOT_MODES = {Firmware.BIOS: "legacy-bios", Firmware.UEFI: "uefi"}
WAIT_S = 3600.0


def register(session: Session, options: Options, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
    """Registers it; takes up the one that has its name, unless that was made of other snapshots: then it is made anew."""
    name = names.image_name(plan.machine.name, journal.job)
    wanted = _request(options, plan, disks, caps, name, journal.job)
    found = named(session, name)
    known = {ref.id for ref in journal.refs("image")}
    if found and _snapshots(found) != _snapshots(wanted):
        deregister(session, found, journal.job)
        journal.undone(_ref(found["ImageId"], journal.job))
        found = None
    if found and found["ImageId"] in known:
        return _ready(session, found["ImageId"], journal.job)
    with journal.intent("image", name, {names.TAG: journal.job}) as intent:
        if found and names.tagged(found).get(names.TAG) != journal.job:
            raise TargetError(
                f'the image name "{name}" is taken by {found["ImageId"]}, which is not this job\'s', remedy="remove it"
            )
        image = found["ImageId"] if found else _made(session, wanted, name)
        ref = intent.done(_ref(image, journal.job))
    _ready(session, image, journal.job)
    return ref


def _request(options: Options, plan: Plan, disks: Sequence[Ref], caps: Caps, name: str, job: str) -> dict[str, Any]:
    order = sorted(disks, key=lambda ref: ref.get("disk") != (caps.boot_disk or plan.machine.disks[0].id))
    mappings = []
    for device, ref in zip(names.devices(len(order)), order, strict=True):
        size = next(planned.target_size for planned in plan.disks if planned.disk == ref.get("disk"))
        ebs = {
            "SnapshotId": ref.id,
            "VolumeSize": size // GIB,
            "VolumeType": options.volume_type,
            "DeleteOnTermination": True,
        }
        mappings.append({"DeviceName": device, "Ebs": ebs})
    return {
        "Name": name,
        "Description": f"{plan.machine.name}, moved by v2c job {job}"[:255],
        "Architecture": caps.architecture,
        "VirtualizationType": "hvm",  # without it AWS takes paravirtual, and i386 without the architecture
        "RootDeviceName": mappings[0]["DeviceName"],
        "BlockDeviceMappings": mappings,
        "BootMode": BOOT_MODES[caps.firmware],
        # a guest whose kernels nobody could look at gets it too: Nitro starts nothing without
        "EnaSupport": caps.drives("ena") or not caps.kernels,
        "TagSpecifications": [{"ResourceType": "image", "Tags": names.tags(job, plan.machine.name)}],
    }


def _made(session: Session, wanted: Mapping[str, Any], name: str) -> str:
    try:
        return str(session.call("ec2", "register_image", **wanted)["ImageId"])
    except ApiError as error:
        found = named(session, name) if error.code == "InvalidAMIName.Duplicate" else None
        if found is None:
            raise
        return str(found["ImageId"])  # the answer to an earlier try was lost


def _ready(session: Session, image: str, job: str) -> Ref:
    """Waits until it can be launched."""
    found, state = None, "pending"
    for _ in session.polls(WAIT_S):
        found = described(session, image)
        state = found["State"] if found else "pending"
        if state == "available":
            return _ref(image, job)
        if state != "pending":
            break
    words = (found or {}).get("StateReason", {}).get("Message", "AWS does not say why")
    raise TargetError(f"the image {image} is {state}: {words}", remedy="run the command again with --again")


def _ref(image: str, job: str) -> Ref:
    return Ref.of("image", image, job=job)


def _snapshots(image: Mapping[str, Any]) -> set[str]:
    return {mapping["Ebs"].get("SnapshotId", "") for mapping in image["BlockDeviceMappings"] if "Ebs" in mapping}


def named(session: Session, name: str) -> dict[str, Any] | None:
    """The account's image of a name."""
    found = session.pages("ec2", "describe_images", "Images", Owners=["self"], Filters=[{"Name": "name", "Values": [name]}])
    return next(iter(found), None)


def described(session: Session, image: str) -> dict[str, Any] | None:
    """An image; None when there is none."""
    try:
        found = session.call("ec2", "describe_images", ImageIds=[image])["Images"]
    except ApiError as error:
        if not error.code.startswith("InvalidAMIID"):
            raise
        return None
    return found[0] if found and found[0]["State"] != "deregistered" else None


def deregister(session: Session, image: Mapping[str, Any], job: str) -> None:
    """Takes an image of the job away; its snapshots stay."""
    if names.tagged(image).get(names.TAG) != job or not job:
        raise TargetError(f"the image {image['ImageId']} is not of job {job}, so it is left alone")
    try:
        session.call("ec2", "deregister_image", ImageId=image["ImageId"])
    except ApiError as error:
        if not error.code.startswith("InvalidAMIID"):
            raise
