"""ImportSnapshot: an object of S3 becomes a snapshot, as a task that takes its time."""

import shutil
import threading
from collections.abc import Callable
from hashlib import sha256
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

FORMATS = {"VHD": DiskFormat.VHD, "VMDK": DiskFormat.VMDK, "RAW": DiskFormat.RAW}
_TASK: dict[str, Callable[[Record], list[str]]] = {"task-state": lambda task: [task["SnapshotTaskDetail"]["Status"]]}


def import_snapshot(cloud: Cloud, call: Call) -> Any:
    """Begins a task; the same token gives the same one."""
    params = call.params
    tags = tags_for(params, "import-snapshot-task", ("import-snapshot-task",))
    container = params.get("DiskContainer", {})
    format, where = container.get("Format", "").upper(), container.get("UserBucket", {})
    if format not in FORMATS:
        raise Refusal("InvalidParameter", f"The given format {format} is not supported")
    role = params.get("RoleName", "vmimport")
    if not any(known.name == role for known in iam_backends[cloud.account]["aws"].roles.values()):
        message = f"The service role {role} provided does not exist or does not have sufficient permissions"
        raise Refusal("InvalidParameter", message)
    bucket = s3_backends[cloud.account]["aws"].buckets.get(where.get("S3Bucket", ""))
    if bucket is None or where.get("S3Key") not in bucket.keys:
        raise Refusal("InvalidParameter", "The given S3 object is not found")
    dry(call)
    token = params.get("ClientToken", "")
    with cloud.store.lock:
        tasks = cloud.store.table(call.region, "imports")
        for known in tasks.values():
            if token and known["_token"] == token:
                return known
        task = {
            "ImportTaskId": new_id("import-snap"),
            "Description": params.get("Description", ""),
            "SnapshotTaskDetail": {"Status": "active", "Progress": "3", "Format": format, "UserBucket": where},
            "Tags": tags,
            "_token": token,
        }
        tasks[task["ImportTaskId"]] = task
        cloud.store.save()
    delay = threading.Timer(cloud.pace.import_s, _work, (cloud, call, task, format, where))
    delay.daemon = True
    delay.start()
    return task


def _work(cloud: Cloud, call: Call, task: Record, format: str, where: Record) -> None:
    """Converts the object, as the service does, and keeps what it holds."""
    about = task["SnapshotTaskDetail"]
    folder = cloud.folder / "imports"
    folder.mkdir(exist_ok=True)
    source, raw = folder / f"{task['ImportTaskId']}.in", folder / f"{task['ImportTaskId']}.raw"
    try:
        key = s3_backends[cloud.account]["aws"].get_object(where["S3Bucket"], where["S3Key"])
        if key is None:
            raise OSError("the object is gone")
        source.write_bytes(key.value)
        if format == "RAW":
            shutil.copyfile(source, raw)
        else:
            qemu.convert(source, FORMATS[format], raw, DiskFormat.RAW)
        size = max(1, -(-raw.stat().st_size // GIB))
        snapshot: Record = {
            "SnapshotId": new_id("snap"),
            "OwnerId": cloud.account,
            "State": "completed",
            "StartTime": cloud.now(),
            "Progress": "100%",
            "VolumeId": "vol-ffffffff",
            "VolumeSize": size,
            "Description": f"Created by AWS-VMImport service for {task['ImportTaskId']}",
            "Encrypted": bool(call.params.get("Encrypted")),
            "Tags": [],  # a task's tags are not its snapshot's
        }
        if about["Status"] == "active":
            blocks = cloud.blocks(snapshot)
            with raw.open("rb") as file:
                for index in range(-(-raw.stat().st_size // BLOCK)):
                    data = file.read(BLOCK).ljust(BLOCK, b"\0")
                    if data.count(0) != BLOCK:
                        blocks.put(index, data, sha256(data).digest())
        with cloud.store.lock:
            if about["Status"] == "active":
                cloud.store.table(call.region, "snapshots")[snapshot["SnapshotId"]] = snapshot
                about |= {"Status": "completed", "Progress": "100", "SnapshotId": snapshot["SnapshotId"]}
    except (V2cError, OSError) as error:
        about |= {"Status": "error", "StatusMessage": f"ClientError: Disk validation failed [{error}]"}
    finally:
        source.unlink(missing_ok=True)
        raw.unlink(missing_ok=True)
        with cloud.store.lock:
            cloud.store.save()


def describe_import_snapshot_tasks(cloud: Cloud, call: Call) -> Any:
    """All, the finished ones too."""
    dry(call)
    with cloud.store.lock:
        tasks = cloud.store.table(call.region, "imports")
        for id in call.params.get("ImportTaskIds", []):
            cloud.store.get(call.region, "imports", id, "InvalidConversionTaskId.Malformed")
        wanted = call.params.get("ImportTaskIds")
        found = [task for id, task in tasks.items() if not wanted or id in wanted]
        return {"ImportSnapshotTasks": filtered(found, call.params.get("Filters", []), _TASK)}


def cancel_import_task(cloud: Cloud, call: Call) -> Any:
    """Ends one that is under way."""
    with cloud.store.lock:
        task = cloud.store.get(call.region, "imports", call.params["ImportTaskId"], "InvalidConversionTaskId.Malformed")
        dry(call)
        if task["SnapshotTaskDetail"]["Status"] == "active":
            task["SnapshotTaskDetail"]["Status"] = "deleted"
        cloud.store.save()
        return {"ImportTaskId": task["ImportTaskId"], "State": task["SnapshotTaskDetail"]["Status"]}


OPERATIONS: dict[str, Operation] = {
    "ImportSnapshot": import_snapshot,
    "DescribeImportSnapshotTasks": describe_import_snapshot_tasks,
    "CancelImportTask": cancel_import_task,
}
