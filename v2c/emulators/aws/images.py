"""Snapshots as EC2 shows them, and images: registered with all that they were registered with, and refused where EC2 refuses."""

import re
from typing import Any

from v2c.emulators.aws.cloud import Call, Cloud, Operation, dry
from v2c.emulators.aws.ebs import expire
from v2c.emulators.aws.store import Record, filtered, new_id, tags_for
from v2c.emulators.aws.wire import Refusal

NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}\Z")  # API reference, RegisterImage
DEVICE = re.compile(r"(/dev/(sd[a-z]|xvd[a-z]{1,2})[0-9]*|xvd[a-z]{1,2})\Z")
VOLUMES = {"gp2": 16384, "gp3": 65536, "io1": 16384, "io2": 65536, "st1": 16384, "sc1": 16384, "standard": 1024}  # GiB

_SNAPSHOT = {
    "snapshot-id": lambda s: [s["SnapshotId"]],
    "status": lambda s: [s["State"]],
    "owner-id": lambda s: [s["OwnerId"]],
    "volume-size": lambda s: [str(s["VolumeSize"])],
    "description": lambda s: [s["Description"]],
}
_IMAGE = {
    "image-id": lambda i: [i["ImageId"]],
    "name": lambda i: [i["Name"]],
    "state": lambda i: [i["State"]],
    "architecture": lambda i: [i["Architecture"]],
    "owner-id": lambda i: [i["OwnerId"]],
    "block-device-mapping.snapshot-id": lambda i: [m["Ebs"]["SnapshotId"] for m in i["BlockDeviceMappings"] if "Ebs" in m],
}


def describe_snapshots(cloud: Cloud, call: Call) -> Any:
    """Those of the account."""
    dry(call)
    with cloud.store.lock:
        snapshots = cloud.store.table(call.region, "snapshots")
        for snapshot in snapshots.values():
            expire(cloud, snapshot)
        for id in call.params.get("SnapshotIds", []):
            if id not in snapshots:
                raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{id}' does not exist.")
        wanted = call.params.get("SnapshotIds")
        found = [s for id, s in snapshots.items() if not wanted or id in wanted]
        return {"Snapshots": filtered(found, call.params.get("Filters", []), _SNAPSHOT)}


def delete_snapshot(cloud: Cloud, call: Call) -> Any:
    """Also a pending one; not one that an image needs."""
    dry(call)
    with cloud.store.lock:
        snapshots = cloud.store.table(call.region, "snapshots")
        id = call.params["SnapshotId"]
        if id not in snapshots:
            raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{id}' does not exist.")
        for image in cloud.store.table(call.region, "images").values():
            if any(mapping.get("Ebs", {}).get("SnapshotId") == id for mapping in image["BlockDeviceMappings"]):
                raise Refusal("InvalidSnapshot.InUse", f"The snapshot {id} is currently in use by {image['ImageId']}")
        cloud.forget(snapshots.pop(id))
        cloud.store.save()
        return {}


def register_image(cloud: Cloud, call: Call) -> Any:
    """An image of the named snapshots. What is not said gets EC2's own defaults, paravirtual and i386 among them."""
    params = call.params
    if not NAME.match(params["Name"]):
        raise Refusal("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and ...")
    tags = tags_for(params, "image", ("image",))
    with cloud.store.lock:
        images = cloud.store.table(call.region, "images")
        same = next((image["ImageId"] for image in images.values() if image["Name"] == params["Name"]), "")
        if same:
            raise Refusal("InvalidAMIName.Duplicate", f"AMI name {params['Name']} is already in use by AMI {same}")
        mappings = [_mapping(cloud, call, mapping) for mapping in params.get("BlockDeviceMappings", [])]
        _sensible(params, mappings)
        dry(call)
        mode = params.get("BootMode", "")
        image: Record = {
            "ImageId": new_id("ami"),
            "Name": params["Name"],
            "Description": params.get("Description", ""),
            "OwnerId": cloud.account,
            "Public": False,
            "State": "pending",
            "CreationDate": cloud.now(),
            "Architecture": params.get("Architecture", "i386"),
            "VirtualizationType": params.get("VirtualizationType", "paravirtual"),
            "RootDeviceName": params["RootDeviceName"],
            "RootDeviceType": "ebs",
            "BlockDeviceMappings": mappings,
            "EnaSupport": params.get("EnaSupport", False),
            "Hypervisor": "xen",  # what EC2 shows, also for images that only Nitro boots
            "ImageType": "machine",
            "ImageLocation": f"{cloud.account}/{params['Name']}",
            "PlatformDetails": "Linux/UNIX",
            "UsageOperation": "RunInstances",
            "Tags": tags,
            **({"BootMode": mode} if mode else {}),
            **{key: params[key] for key in ("TpmSupport", "ImdsSupport", "SriovNetSupport") if key in params},
        }
        cloud.store.later(image, cloud.pace.image_s, State="available")
        images[image["ImageId"]] = image
        cloud.store.save()
        return {"ImageId": image["ImageId"]}


def _mapping(cloud: Cloud, call: Call, mapping: Record) -> Record:
    device, ebs = mapping.get("DeviceName", ""), mapping.get("Ebs", {})
    if not DEVICE.match(device):
        raise Refusal("InvalidBlockDeviceMapping", f"Invalid device name {device}")
    snapshot = cloud.store.table(call.region, "snapshots").get(ebs.get("SnapshotId", ""))
    if "SnapshotId" in ebs:
        if snapshot is None:
            raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{ebs['SnapshotId']}' does not exist.")
        if snapshot["State"] != "completed":
            raise Refusal("IncorrectState", f"The snapshot {snapshot['SnapshotId']} is in state {snapshot['State']}")
        if "Encrypted" in ebs:
            raise Refusal("InvalidBlockDeviceMapping", "the encrypted flag cannot be specified with a snapshot")
        if ebs.get("VolumeSize", snapshot["VolumeSize"]) < snapshot["VolumeSize"]:
            raise Refusal("InvalidBlockDeviceMapping", f"Volume of size {ebs['VolumeSize']}GB is smaller than its snapshot")
    elif "VolumeSize" not in ebs:
        raise Refusal("MissingParameter", f"{device} needs a snapshot or a size")
    kind = ebs.get("VolumeType", "gp2")
    size = ebs.get("VolumeSize") or (snapshot or {})["VolumeSize"]
    if size > VOLUMES[kind]:
        raise Refusal("InvalidParameterValue", f"Volume of {size}GiB is too large for volume type {kind}")
    for key, kinds in (("Iops", ("io1", "io2", "gp3")), ("Throughput", ("gp3",))):
        if key in ebs and kind not in kinds:
            raise Refusal("InvalidParameterCombination", f"The parameter {key} is not supported for {kind} volumes.")
    if kind in ("io1", "io2") and "Iops" not in ebs:
        raise Refusal("MissingParameter", f"The parameter iops must be specified for {kind} volumes.")
    full = {"VolumeSize": size, "VolumeType": kind, "DeleteOnTermination": True, **ebs}
    full["Encrypted"] = bool(snapshot and snapshot["Encrypted"])
    return {"DeviceName": device, "Ebs": full}


def _sensible(params: Record, mappings: list[Record]) -> None:
    names = [mapping["DeviceName"] for mapping in mappings]
    if len(set(names)) != len(names):
        raise Refusal("InvalidBlockDeviceMapping", "The same device name is used twice")
    if "RootDeviceName" not in params:
        raise Refusal("MissingParameter", "The request must contain the parameter RootDeviceName")
    if params["RootDeviceName"] not in names or "SnapshotId" not in mappings[names.index(params["RootDeviceName"])]["Ebs"]:
        raise Refusal("InvalidBlockDeviceMapping", "The root device is no mapping with a snapshot")
    if params.get("VirtualizationType", "paravirtual") != "hvm" and params.get("EnaSupport"):
        raise Refusal("InvalidParameterCombination", "EnaSupport needs virtualization type hvm")
    if params.get("TpmSupport") and params.get("BootMode") != "uefi":
        raise Refusal("InvalidParameterCombination", "TpmSupport needs boot mode uefi")
    if params.get("BootMode", "legacy-bios") != "legacy-bios" and params.get("VirtualizationType") != "hvm":
        raise Refusal("InvalidParameterCombination", "BootMode needs virtualization type hvm")
    if params.get("Architecture") == "arm64" and params.get("BootMode", "uefi") != "uefi":
        raise Refusal("InvalidParameterCombination", "arm64 boots by uefi only")


def describe_images(cloud: Cloud, call: Call) -> Any:
    """Those of the account."""
    dry(call)
    with cloud.store.lock:
        images = cloud.store.table(call.region, "images")
        wanted = call.params.get("ImageIds")
        for id in wanted or []:
            if id not in images:
                raise Refusal("InvalidAMIID.NotFound", f"The image id '[{id}]' does not exist")
        found = [image for id, image in images.items() if not wanted or id in wanted]
        return {"Images": filtered(found, call.params.get("Filters", []), _IMAGE)}


def deregister_image(cloud: Cloud, call: Call) -> Any:
    """Takes an image away, and with DeleteAssociatedSnapshots its snapshots."""
    dry(call)
    with cloud.store.lock:
        images = cloud.store.table(call.region, "images")
        id = call.params["ImageId"]
        if id not in images:
            raise Refusal("InvalidAMIID.Unavailable", f"The image ID '{id}' is no longer available")
        image = images.pop(id)
        results = []
        if call.params.get("DeleteAssociatedSnapshots"):
            snapshots = cloud.store.table(call.region, "snapshots")
            for mapping in image["BlockDeviceMappings"]:
                snapshot = mapping["Ebs"].get("SnapshotId", "")
                if snapshot in snapshots:
                    cloud.forget(snapshots.pop(snapshot))
                    results.append({"SnapshotId": snapshot, "ReturnCode": "success"})
        cloud.store.save()
        return {"Return": True, "DeleteSnapshotResults": results}


OPERATIONS: dict[str, Operation] = {
    "DescribeSnapshots": describe_snapshots,
    "DeleteSnapshot": delete_snapshot,
    "RegisterImage": register_image,
    "DescribeImages": describe_images,
    "DeregisterImage": deregister_image,
}
