"""VM Import's images: snapshots are copied, and become an image that knows whose licence its system has.

The task goes through the states that AWS publishes; image and copies are there when it is completed, not before. What the guest
is, the request is believed: nothing here looks into it, and nothing changes it. The fault "unsupported-guest" lets a task end as
one does whose guest VM Import does not know.
"""

from typing import Any

from v2c.emulators.aws import imports
from v2c.emulators.aws.cloud import Call, Cloud, Operation, dry
from v2c.emulators.aws.store import Record, filtered, new_id, tags_for
from v2c.emulators.aws.wire import Refusal

STEPS = ("validating", "validated", "converting", "updating")  # between active and completed
MOST = 21  # disks of a machine (VM Import, "Limitations")
BILLED = {  # (platform, licence) -> how an image is billed (EC2 User Guide, billing fields of AMIs)
    ("Windows", "AWS"): ("Windows", "RunInstances:0002"),
    ("Windows", "BYOL"): ("Windows BYOL", "RunInstances:0800"),
    ("Linux", "BYOL"): ("Linux/UNIX", "RunInstances"),
}
OVER = ("completed", "deleting", "deleted")


def import_image(cloud: Cloud, call: Call) -> Any:
    """Begins a task; the same client token is the same task, other arguments under it are refused."""
    params, region = call.params, call.region
    tags = tags_for(params, "import-image-task", ("import-image-task",))
    dry(call)
    token = params.get("ClientToken", "")
    asked = repr(sorted(params.items()))
    with cloud.store.lock:
        known = cloud.store.table(region, "image-imports")
        for task in known.values():
            if token and task["_token"] == token:
                if task["_wanted"] != asked:
                    raise Refusal("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent")
                return _shown(task)
        imports.role(cloud, params.get("RoleName", imports.ROLE))
        snapshots = _snapshots(cloud, call)
        _sensible(params)
        licence = params.get("LicenseType") or ("AWS" if params["Platform"] == "Windows" else "BYOL")
        task = {
            "ImportTaskId": new_id("import-ami"),
            "Description": params.get("Description", ""),
            "Architecture": params.get("Architecture", "x86_64"),
            "Platform": params["Platform"],
            "LicenseType": licence,
            "Hypervisor": "xen",
            "Encrypted": bool(params.get("Encrypted")),
            "SnapshotDetails": [{"SnapshotId": id, "Status": "active"} for id in snapshots],
            "Status": "active",
            "StatusMessage": "pending",
            "Progress": "1",
            "Tags": tags,
            **{key: params[key] for key in ("BootMode", "KmsKeyId") if key in params},
            "_token": token,
            "_wanted": asked,
            "_of": snapshots,
        }
        for number, word in enumerate(STEPS, 1):
            cloud.store.later(task, number * cloud.pace.import_s, Status=word, StatusMessage=word, Progress=str(number * 20))
        if call.fault == "unsupported-guest" or (params["Platform"], licence) not in BILLED:
            cloud.store.later(
                task, 2 * cloud.pace.import_s, Status="deleting", StatusMessage="ClientError: Unknown OS / Missing OS files."
            )
            cloud.store.later(task, 3 * cloud.pace.import_s, Status="deleted")
            task["_next"] = [step for step in task["_next"] if step[1]["Status"] in ("validating", "deleting", "deleted")]
        else:
            cloud.store.later(task, (len(STEPS) + 1) * cloud.pace.import_s, Status="completed", StatusMessage="", Progress="100")
        known[task["ImportTaskId"]] = task
        cloud.store.save()
        return _shown(task)


def _snapshots(cloud: Cloud, call: Call) -> list[str]:
    containers = call.params.get("DiskContainers", [])
    if not 0 < len(containers) <= MOST:
        raise Refusal("InvalidParameter", f"An import has 1 to {MOST} disk containers, and this one {len(containers)}")
    found = []
    for container in containers:
        if "SnapshotId" not in container or {"Url", "UserBucket", "Format"} & set(container):
            raise Refusal("InvalidParameter", "this emulator imports snapshots: a disk container has a SnapshotId and no source")
        snapshot = cloud.store.get(call.region, "snapshots", container["SnapshotId"], "InvalidSnapshot.NotFound")
        if snapshot["State"] != "completed":
            raise Refusal("IncorrectState", f"The snapshot {snapshot['SnapshotId']} is in state {snapshot['State']}")
        found.append(str(snapshot["SnapshotId"]))
    return found


def _sensible(params: Record) -> None:
    if params.get("Platform") not in ("Windows", "Linux"):
        raise Refusal("InvalidParameter", "A disk that is a snapshot needs its platform said: Windows or Linux")
    if params.get("LicenseType", "AWS") not in ("AWS", "BYOL"):
        raise Refusal("InvalidParameter", f"Unsupported license type {params['LicenseType']}")
    if "LicenseType" in params and "UsageOperation" in params:
        raise Refusal("InvalidParameterCombination", "License type and usage operation cannot both be specified")
    if params.get("BootMode") == "uefi-preferred":
        raise Refusal("InvalidParameter", "The boot mode uefi-preferred is not supported for importing images")
    if "KmsKeyId" in params and not params.get("Encrypted"):
        raise Refusal("InvalidParameterCombination", "A KMS key goes with encryption")


def completed(cloud: Cloud, region: str) -> dict[str, Record]:
    """All tasks as they are by now; one that has just ended has its image, with copies of its snapshots."""
    found = cloud.store.table(region, "image-imports")
    for task in found.values():
        if task["Status"] == "completed" and "ImageId" not in task:
            _complete(cloud, region, task)
    return found


def _complete(cloud: Cloud, region: str, task: Record) -> None:
    snapshots = cloud.store.table(region, "snapshots")
    if any(id not in snapshots for id in task["_of"]):
        task |= {"Status": "deleted", "StatusMessage": "ServerError: a snapshot is gone"}
        return
    mappings, details = [], []
    for number, id in enumerate(task["_of"]):
        copy: Record = {
            **{key: snapshots[id][key] for key in ("VolumeSize", "OwnerId")},
            "SnapshotId": new_id("snap"),
            "State": "completed",
            "Progress": "100%",
            "StartTime": cloud.now(),
            "Description": f"Created by AWS-VMImport service for {task['ImportTaskId']}",
            "VolumeId": "vol-ffffffff",
            "Encrypted": task["Encrypted"] or snapshots[id]["Encrypted"],
            "Tags": [],
        }
        snapshots[copy["SnapshotId"]] = copy
        cloud.blocks(copy).inherit(cloud.blocks(snapshots[id]))
        device = "/dev/sda1" if number == 0 else f"xvd{chr(ord('f') + number - 1)}"
        ebs = {"SnapshotId": copy["SnapshotId"], "VolumeSize": copy["VolumeSize"], "VolumeType": "gp2"}
        mappings.append({"DeviceName": device, "Ebs": {**ebs, "DeleteOnTermination": True, "Encrypted": copy["Encrypted"]}})
        about = {"SnapshotId": copy["SnapshotId"], "DeviceName": device, "Status": "completed"}
        details.append({**about, "DiskImageSize": float(copy["VolumeSize"] << 30)})
    task |= {"ImageId": new_id("ami"), "SnapshotDetails": details}
    cloud.store.table(region, "images")[task["ImageId"]] = _image(cloud, task, mappings)
    cloud.store.save()


def _image(cloud: Cloud, task: Record, mappings: list[Record]) -> Record:
    details, operation = BILLED[(task["Platform"], task["LicenseType"])]
    return {
        "ImageId": task["ImageId"],
        "OwnerId": cloud.account,
        "CreationDate": cloud.now(),
        "State": "available",
        "Public": False,
        "Name": task["ImportTaskId"],
        "Description": f"AWS-VMImport service: {task['Platform']} - {task['Description']}",
        "Architecture": task["Architecture"],
        "VirtualizationType": "hvm",
        "RootDeviceName": "/dev/sda1",
        "RootDeviceType": "ebs",
        "BlockDeviceMappings": mappings,
        "EnaSupport": True,
        "Hypervisor": "xen",
        "ImageType": "machine",
        "ImageLocation": f"{cloud.account}/{task['ImportTaskId']}",
        "PlatformDetails": details,
        "UsageOperation": operation,
        **({"Platform": "windows"} if task["Platform"] == "Windows" else {}),
        "BootMode": task.get("BootMode", "legacy-bios"),
        "Tags": [],
    }


def describe_import_image_tasks(cloud: Cloud, call: Call) -> Any:
    """The account's, those that are over too."""
    dry(call)
    with cloud.store.lock:
        tasks = completed(cloud, call.region)
        wanted = call.params.get("ImportTaskIds")
        for id in wanted or []:
            cloud.store.get(call.region, "image-imports", id, "InvalidConversionTaskId.Malformed")
        found = [task for id, task in tasks.items() if not wanted or id in wanted]
        return {"ImportImageTasks": [_shown(task) for task in filtered(found, call.params.get("Filters", []), {})]}


def cancel_import_task(cloud: Cloud, call: Call) -> Any:
    """Ends an import that is under way, of an image or of a snapshot."""
    id = call.params.get("ImportTaskId", "")
    if not id.startswith("import-ami-"):
        return imports.cancel_import_task(cloud, call)
    dry(call)
    with cloud.store.lock:
        completed(cloud, call.region)
        task = cloud.store.get(call.region, "image-imports", id, "InvalidConversionTaskId.Malformed")
        before = task["Status"]
        if before in OVER:
            raise Refusal("IncorrectState", f"The task {id} is {before}")
        task |= {"Status": "deleting", "StatusMessage": "User requested", "_next": []}
        cloud.store.later(task, cloud.pace.ending_s, Status="deleted")
        cloud.store.save()
        return {"ImportTaskId": id, "PreviousState": before, "State": "deleting"}


def _shown(task: Record) -> Record:
    return {key: value for key, value in task.items() if key[0] != "_"}


OPERATIONS: dict[str, Operation] = {
    "ImportImage": import_image,
    "CancelImportTask": cancel_import_task,
    "DescribeImportImageTasks": describe_import_image_tasks,
}
