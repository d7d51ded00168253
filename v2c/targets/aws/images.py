"""The image: all disks of the machine, registered as what the guest can drive."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import GIB, Caps, Firmware, Plan, Ref
from v2c.targets.aws import names, volumes
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import ApiError, Session

BOOT_MODES = {Firmware.BIOS: "legacy-bios", Firmware.UEFI: "uefi"}
CARD = "ena"  # the module: Nitro has no other network card (EC2 User Guide, enhanced-networking-ena)
WAIT_S = 3600.0
UEFI_MOST = 64000  # characters of UefiData (EC2 API reference, RegisterImage)


def register(session: Session, options: Options, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
    """Registers it; takes up the one that has its name, unless that was made of other snapshots, or its volumes are not what
    is asked for: then it is made anew."""
    name = names.image_name(plan.machine.name, journal.job)
    wanted = _request(options, plan, disks, caps, name, journal.job)
    found = named(session, name)
    known = {ref.id for ref in journal.refs("image")}
    if found and not _same(found, wanted):
        deregister(session, found, journal.job)
        journal.undone(_ref(found["ImageId"], journal.job))
        found = None
    if found and found["ImageId"] in known:
        return ready(session, found["ImageId"], journal.job)
    with journal.intent("image", name, {names.TAG: journal.job}) as intent:
        if found and names.tagged(found).get(names.TAG) != journal.job:
            raise TargetError(
                f'the image name "{name}" is taken by {found["ImageId"]}, which is not this job\'s', remedy="remove it"
            )
        image = found["ImageId"] if found else _made(session, wanted, name)
        ref = intent.done(_ref(image, journal.job))
    ready(session, image, journal.job)
    return ref


def _request(options: Options, plan: Plan, disks: Sequence[Ref], caps: Caps, name: str, job: str) -> dict[str, Any]:
    order = sorted(disks, key=lambda ref: ref.get("disk") != (caps.boot_disk or plan.machine.disks[0].id))
    mappings = []
    for device, ref in zip(names.devices(len(order)), order, strict=True):
        planned = next(planned for planned in plan.disks if planned.disk == ref.get("disk"))
        ebs = {
            "SnapshotId": ref.id,
            "VolumeSize": planned.target_size // GIB,
            **volumes.asked(options, planned),
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
        "EnaSupport": caps.drives(CARD) or not caps.kernels,
        "TagSpecifications": [{"ResourceType": "image", "Tags": names.tags(job, plan.machine.name, plan.tags)}],
        # who launches it by hand asks for tokens, too
        **({"ImdsSupport": "v2.0"} if options.imds == "required" else {}),
        **({"TpmSupport": options.tpm} if options.tpm else {}),
        **({"UefiData": variables(options)} if options.uefi_data else {}),
    }


def variables(options: Options) -> str:
    """The UEFI variables that the user brings. TargetError when the file cannot be, or is no such thing."""
    try:
        text = Path(options.uefi_data).read_text(encoding="ascii").strip()
        base64.b64decode(text, validate=True)
    except (OSError, ValueError) as error:
        raise TargetError(
            f"{options.uefi_data} holds no UEFI variables ({error})", remedy="write them with python-uefivars"
        ) from error
    if not 0 < len(text) <= UEFI_MOST:
        raise TargetError(
            f"{options.uefi_data} holds {len(text)} characters, and AWS takes 1 to {UEFI_MOST}", remedy="leave some out"
        )
    return text


def _made(session: Session, wanted: Mapping[str, Any], name: str) -> str:
    try:
        return str(session.call("ec2", "register_image", **wanted)["ImageId"])
    except ApiError as error:
        found = named(session, name) if error.code == "InvalidAMIName.Duplicate" else None
        if found is None:
            raise
        return str(found["ImageId"])  # the answer to an earlier try was lost


def ready(session: Session, image: str, job: str) -> Ref:
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


def _same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an image is of these snapshots, and its volumes are as asked for; what AWS does not tell of them is taken to be."""
    there, asked = _volumes(found), {id: volumes.unsaid(ebs) for id, ebs in _volumes(wanted).items()}
    told = ("VolumeType", "Iops", "Throughput")
    return there.keys() == asked.keys() and all(
        there[id].get(name, ebs[name]) == ebs[name] for id, ebs in asked.items() for name in told if name in ebs
    )


def _volumes(image: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """By snapshot."""
    every = (mapping["Ebs"] for mapping in image["BlockDeviceMappings"] if "Ebs" in mapping)
    return {ebs.get("SnapshotId", ""): ebs for ebs in every}


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


def drop_snapshot(session: Session, id: str, job: str) -> None:
    """Deletes it. A snapshot that an image of the job needs takes the image with it."""
    try:
        quietly(session, "delete_snapshot", "InvalidSnapshot.NotFound", SnapshotId=id)
    except ApiError as error:
        if error.code != "InvalidSnapshot.InUse":
            raise
        used = [*names.ours(job), {"Name": "block-device-mapping.snapshot-id", "Values": [id]}]
        for image in session.pages("ec2", "describe_images", "Images", Owners=["self"], Filters=used):
            deregister(session, image, job)
        quietly(session, "delete_snapshot", "InvalidSnapshot.NotFound", SnapshotId=id)


def quietly(session: Session, method: str, absent: str, **params: Any) -> None:
    """A removal; the code `absent` is success."""
    try:
        session.call("ec2", method, **params)
    except ApiError as error:
        if error.code != absent:
            raise
