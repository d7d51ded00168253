"""Snapshots out of staged disks, by VM Import: ImportSnapshot, asked about until it is over.

The task carries the job's tag and a client token, so that a repeat finds it; the snapshot gets its tags when it is there, since
ImportSnapshot tags the task alone (EC2 API reference, ImportSnapshot). VM Import itself acts under the role `vmimport`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Plan, Ref
from v2c.targets.aws import images, names, objects
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import ApiError, Session

NUMBER = "v2c-number"
ETAG = "v2c-etag"  # of the object that a snapshot was made of
IMPORT_S = 12 * 3600.0  # a terabyte takes hours
_OVER = ("deleted", "deleting", "error")


def snapshots(session: Session, options: Options, plan: Plan, disks: Sequence[Ref], journal: Journal) -> list[Ref]:
    """A snapshot of each staged disk, all imported side by side; each with the attributes that registering needs."""
    begun = [(disk, *_begun(session, options, plan, disk, journal)) for disk in disks]
    made = []
    for disk, task, snapshot in begun:
        ref = Ref.of("snapshot", snapshot or _finished(session, task), job=journal.job, number=disk["number"])
        if ref not in journal.refs("snapshot"):
            with journal.intent("snapshot", disk.id, {names.TAG: journal.job}) as intent:
                _tag(session, ref, _etag(session, disk), plan)
                intent.done(ref)
        made.append(Ref.of("disk", ref.id, disk=plan.disks[int(disk["number"])].disk))
    return made


def _begun(session: Session, options: Options, plan: Plan, disk: Ref, journal: Journal) -> tuple[str, str]:
    """(task, snapshot): one of them is empty. Older snapshots of another object go."""
    etag = _etag(session, disk)
    for found in owned(session, journal.job):
        if names.tagged(found)[NUMBER] != disk["number"]:
            continue
        if names.tagged(found).get(ETAG) == etag:
            return "", str(found["SnapshotId"])
        images.drop_snapshot(session, found["SnapshotId"], journal.job)
        journal.undone(Ref.of("snapshot", found["SnapshotId"], job=journal.job, number=disk["number"]))
    bucket, _, key = disk.id.removeprefix("s3://").partition("/")
    tags = names.tags(journal.job, f"{plan.machine.name} {disk['number']}", v2c_number=disk["number"], v2c_etag=etag)
    container = {"Format": "VHD", "Description": key, "UserBucket": {"S3Bucket": bucket, "S3Key": key}}
    above: dict[str, Any] = {"Encrypted": True, "KmsKeyId": options.kms} if options.kms else {}
    for again in range(2):
        task = session.call(
            "ec2",
            "import_snapshot",
            DiskContainer=container,
            Description=f"{plan.machine.name}, moved by v2c job {journal.job}"[:255],
            RoleName=options.import_role,
            ClientToken=names.token(
                journal.job, disk.id, etag, options.kms, str(again + _failed(session, disk, etag, journal.job))
            ),
            TagSpecifications=[{"ResourceType": "import-snapshot-task", "Tags": tags}],
            **above,
        )
        if task["SnapshotTaskDetail"].get("Status") not in _OVER:
            break
    return str(task["ImportTaskId"]), ""


def _failed(session: Session, disk: Ref, etag: str, job: str) -> int:
    """How many imports of the same object went wrong: the next one has a token of its own."""
    found = tasks(session, job)
    return sum(_is(task, disk, etag) and task["SnapshotTaskDetail"].get("Status") in _OVER for task in found)


def _is(task: dict[str, Any], disk: Ref, etag: str) -> bool:
    tags = names.tagged(task)
    return tags.get(NUMBER) == disk["number"] and tags.get(ETAG) == etag


def _etag(session: Session, disk: Ref) -> str:
    bucket, _, key = disk.id.removeprefix("s3://").partition("/")
    there = objects.head(session, bucket, key)
    if there is None:
        raise TargetError(f"{disk.id} is gone", remedy="run the command again with --again")
    return str(there["ETag"]).strip('"')


def _finished(session: Session, task: str) -> str:
    """The snapshot that a task makes, once it is there."""
    detail: dict[str, Any] = {}
    for _ in session.polls(IMPORT_S):
        found = session.call("ec2", "describe_import_snapshot_tasks", ImportTaskIds=[task])["ImportSnapshotTasks"]
        detail = found[0]["SnapshotTaskDetail"] if found else {"Status": "deleted"}
        if detail.get("Status") == "completed" and detail.get("SnapshotId"):
            return str(detail["SnapshotId"])
        if detail.get("Status") in _OVER:
            words = detail.get("StatusMessage") or "AWS does not say why"
            raise TargetError(f"AWS could not import {task}: {words}", remedy="run the command again", transient=True)
    raise TargetError(f"{task} is still {detail.get('Status')} after {IMPORT_S / 3600:.0f} hours", remedy="run the command again")


def _tag(session: Session, ref: Ref, etag: str, plan: Plan) -> None:
    name = f"{plan.machine.name} {plan.disks[int(ref['number'])].disk}"
    tags = names.tags(ref["job"], name, v2c_number=ref["number"], v2c_etag=etag)
    session.call("ec2", "create_tags", Resources=[ref.id], Tags=tags)


def owned(session: Session, job: str) -> Iterator[dict[str, Any]]:
    """The job's imported snapshots."""
    filters = [*names.ours(job), {"Name": "tag-key", "Values": [NUMBER]}]
    yield from session.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=filters)


def tasks(session: Session, job: str) -> list[dict[str, Any]]:
    """The job's imports."""
    found = session.pages("ec2", "describe_import_snapshot_tasks", "ImportSnapshotTasks", Filters=names.ours(job))
    return [task for task in found if names.tagged(task).get(names.TAG) == job]


def find(session: Session, bucket: str, job: str) -> Iterator[Ref]:
    """What this way adds to a job's things: its bucket, staged disks, imports under way, snapshots."""
    if objects.owner(session, bucket) == job:
        yield Ref.of("bucket", bucket, job=job)
    for key in objects.listed(session, bucket, job):
        number = key.rpartition("disk-")[2].removesuffix(".vhd")
        yield Ref.of("disk", f"s3://{bucket}/{key}", job=job, number=number)
    seen = set[str]()
    for found in owned(session, job):
        seen.add(found["SnapshotId"])
        yield Ref.of("snapshot", found["SnapshotId"], job=job, number=names.tagged(found)[NUMBER])
    for task in tasks(session, job):
        detail = task["SnapshotTaskDetail"]
        if detail.get("Status") == "active":
            yield Ref.of("import", task["ImportTaskId"], job=job)
        untagged = detail.get("Status") == "completed" and detail.get("SnapshotId") not in seen  # a kill came before the tags
        if untagged and _exists(session, detail["SnapshotId"]):
            yield Ref.of("snapshot", detail["SnapshotId"], job=job, number=names.tagged(task)[NUMBER])


def _exists(session: Session, snapshot: str) -> bool:
    try:
        return bool(session.call("ec2", "describe_snapshots", SnapshotIds=[snapshot])["Snapshots"])
    except ApiError as error:
        if error.code != "InvalidSnapshot.NotFound":
            raise
        return False


def destroy(session: Session, ref: Ref) -> bool:
    """Removes a thing of this way; False when it is none. Absent is success."""
    job = ref.get("job")
    if ref.kind == "bucket":
        objects.remove_bucket(session, ref.id, job)
    elif ref.kind == "disk" and ref.id.startswith("s3://"):
        bucket, _, key = ref.id.removeprefix("s3://").partition("/")
        if not job or not key.startswith(f"v2c/{job}/"):
            raise TargetError(f"{ref.id} is not of job {job or '?'}, so it is left alone")
        objects.remove(session, bucket, key)
    elif ref.kind == "import":
        try:
            session.call("ec2", "cancel_import_task", ImportTaskId=ref.id)
        except ApiError as error:
            if not error.code.startswith(("InvalidConversionTaskId", "IncorrectState")):
                raise
    else:
        return False
    return True
