"""VM Import's snapshots: an object of moto's S3, read by qemu-img as the format that was said, becomes a snapshot.

What ImportSnapshot asks for is checked as published: the role that VM Import acts under, the object, the format. A disk image
that qemu-img does not understand ends the task in error, with ClientError's words.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from moto.iam.models import iam_backends
from moto.s3.models import s3_backends

from v2c import qemu
from v2c.emulators.aws.blocks import BLOCK
from v2c.emulators.aws.cloud import Call, Cloud, Operation, dry
from v2c.emulators.aws.store import Record, filtered, new_id, tags_for
from v2c.emulators.aws.wire import Refusal
from v2c.errors import V2cError
from v2c.model import GIB, DiskFormat

ROLE = "vmimport"
FORMATS = {"VHD": DiskFormat.VHD, "VMDK": DiskFormat.VMDK, "RAW": DiskFormat.RAW}  # what ImportSnapshot takes
IMPORT_S = 0.5


def import_snapshot(cloud: Cloud, call: Call) -> Any:
    """Begins a task; the same client token is the same task."""
    params = call.params
    tags = tags_for(params, "import-snapshot-task", ("import-snapshot-task",))
    dry(call)
    token = params.get("ClientToken", "")
    with cloud.store.lock:
        tasks = cloud.store.table(call.region, "imports")
        for known in tasks.values():
            if token and known["_token"] == token:
                return known
        container = params.get("DiskContainer", {})
        data = _object(cloud, container.get("UserBucket", {}))
        role(cloud, params.get("RoleName", ROLE))
        if container.get("Format", "").upper() not in FORMATS:
            raise Refusal("InvalidParameter", f"Unsupported disk image format {container.get('Format')}")
        task: Record = {
            "ImportTaskId": new_id("import-snap"),
            "Description": params.get("Description", ""),
            "SnapshotTaskDetail": _detail(container, "active"),
            "Tags": tags,
            "_token": token,
        }
        tasks[task["ImportTaskId"]] = task
        done = _imported(cloud, call, data, FORMATS[container["Format"].upper()], params)
        cloud.store.later(task, IMPORT_S, SnapshotTaskDetail=_detail(container, **done))
        cloud.store.save()
        return task


def _detail(container: Record, status: str, **more: Any) -> Record:
    about = {"Status": status, "Format": container["Format"].upper(), "UserBucket": container["UserBucket"], **more}
    return {**about, "Progress": "100" if status == "completed" else "3", "DiskImageSize": more.get("DiskImageSize", 0.0)}


def _object(cloud: Cloud, place: Record) -> bytes:
    try:
        found: Any = s3_backends[cloud.account]["aws"].get_object(place.get("S3Bucket", ""), place.get("S3Key", ""))
    except Exception:  # moto raises one kind for each that is absent
        found = None
    if found is None:
        raise Refusal("InvalidParameter", f"S3 object {place.get('S3Bucket')}/{place.get('S3Key')} does not exist")
    data: bytes = found.value
    return data


def role(cloud: Cloud, name: str) -> None:
    roles = [role.name for role in iam_backends[cloud.account]["aws"].roles.values()]
    if name not in roles:
        words = f"The service role {name} provided does not exist or does not have sufficient permissions"
        raise Refusal("InvalidParameter", words)


def _imported(cloud: Cloud, call: Call, data: bytes, format: DiskFormat, params: Record) -> Record:
    """The snapshot, complete; or why there is none."""
    with tempfile.TemporaryDirectory(dir=cloud.folder) as folder:
        given, raw = Path(folder) / "given", Path(folder) / "raw"
        given.write_bytes(data)
        try:
            qemu.convert(given, format, raw, DiskFormat.RAW)
        except V2cError:
            return {"status": "error", "StatusMessage": "ClientError: Disk validation failed [unsupported disk image]"}
        snapshot: Record = {
            "SnapshotId": new_id("snap"),
            "VolumeSize": -(-raw.stat().st_size // GIB),
            "State": "completed",
            "Progress": "100%",
            "OwnerId": cloud.account,
            "StartTime": cloud.now(),
            "Description": f"Created by AWS-VMImport service for {params.get('DiskContainer', {}).get('Description', '')}",
            "VolumeId": "vol-ffffffff",
            "Encrypted": bool(params.get("Encrypted")),
            "Tags": [],
            **({"KmsKeyId": params["KmsKeyId"]} if "KmsKeyId" in params else {}),
        }
        cloud.store.table(call.region, "snapshots")[snapshot["SnapshotId"]] = snapshot
        blocks = cloud.blocks(snapshot)
        with raw.open("rb") as disk:
            for index in range(-(-raw.stat().st_size // BLOCK)):
                piece = disk.read(BLOCK).ljust(BLOCK, b"\0")
                if piece.count(0) != BLOCK:
                    blocks.put(index, piece, hashlib.sha256(piece).digest())
    return {"status": "completed", "SnapshotId": snapshot["SnapshotId"], "DiskImageSize": float(len(data))}


def describe_import_snapshot_tasks(cloud: Cloud, call: Call) -> Any:
    """The account's, those that are over too."""
    dry(call)
    with cloud.store.lock:
        tasks = cloud.store.table(call.region, "imports")
        wanted = call.params.get("ImportTaskIds")
        for id in wanted or []:
            cloud.store.get(call.region, "imports", id, "InvalidConversionTaskId.Malformed")
        found = [task for id, task in tasks.items() if not wanted or id in wanted]
        return {"ImportSnapshotTasks": filtered(found, call.params.get("Filters", []), {})}


def cancel_import_task(cloud: Cloud, call: Call) -> Any:
    """One that is under way; its snapshot goes."""
    dry(call)
    with cloud.store.lock:
        id = call.params.get("ImportTaskId", "")
        task = cloud.store.get(call.region, "imports", id, "InvalidConversionTaskId.Malformed")
        before = task["SnapshotTaskDetail"]["Status"]
        if before != "active":
            raise Refusal("IncorrectState", f"The task {id} is {before}")
        for _, changes in task.pop("_next", []):
            snapshot = changes["SnapshotTaskDetail"].get("SnapshotId", "")
            if found := cloud.store.table(call.region, "snapshots").pop(snapshot, None):
                cloud.forget(found)
        task["SnapshotTaskDetail"]["Status"] = "deleted"
        cloud.store.save()
        return {"ImportTaskId": id, "PreviousState": before, "State": "deleted"}


OPERATIONS: dict[str, Operation] = {
    "ImportSnapshot": import_snapshot,
    "DescribeImportSnapshotTasks": describe_import_snapshot_tasks,
    "CancelImportTask": cancel_import_task,
}
