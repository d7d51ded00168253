"""The image of a Windows whose licence AWS provides: ImportImage over the uploaded snapshots, instead of RegisterImage.

An image that is registered is billed as Linux; ImportImage says whose the licence is (EC2 API reference of both). It copies the
snapshots, and changes the guest on the copies. It tags its task alone, so image and copies get the job's tags when the task is
over; the task's own lead to them if a crash comes before. VM Import acts under the role `vmimport`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Caps, Plan, Ref
from v2c.targets.aws import images, names
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import ApiError, Session

COPY = "v2c-copy"  # of a snapshot that an import made: which of the image's disks
TASK = "v2c-import"  # of an image: the task that made it
OF = "v2c-of"  # of a task: which snapshots it was made of
IMPORT_S = 12 * 3600.0  # a terabyte takes hours
_OVER = ("deleted", "deleting", "error")
Task = dict[str, Any]


def register(session: Session, options: Options, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
    """The image, imported; a repeat takes up its task or its image, unless that is of other snapshots: then it is made anew.
    TargetError for a guest that is no Windows."""
    if caps.kernels:
        text = f"{plan.machine.name} runs Linux, and the licence that AWS includes is for Windows"
        raise TargetError(text, remedy="leave &licence=included out")
    order = sorted(disks, key=lambda ref: ref.get("disk") != (caps.boot_disk or plan.machine.disks[0].id))
    of = hashlib.sha256("\0".join(ref.id for ref in order).encode()).hexdigest()[:32]
    known = tasks(session, journal.job)
    for other in known:
        if names.tagged(other).get(OF) != of:
            _drop(session, other, journal)
    task = next((one for one in known if names.tagged(one).get(OF) == of and _good(session, one)), None)
    made = images.described(session, task.get("ImageId", "")) if task and task.get("ImageId") else None
    if made is None or not _remembered(journal, made):
        with journal.intent("import", of, {names.TAG: journal.job}) as intent:
            tries = sum(names.tagged(one).get(OF) == of for one in known)
            id = str(task["ImportTaskId"]) if task else _begin(session, options, plan, order, caps, of, tries, journal.job)
            begun = intent.done(Ref.of("import", id, job=journal.job))
        made = _keep(session, plan, _finished(session, begun, journal), journal)
    for over in journal.refs("import"):  # also one that failed while nobody looked
        journal.undone(over)
    return images.ready(session, made["ImageId"], journal.job)


def _begin(
    session: Session, options: Options, plan: Plan, disks: Sequence[Ref], caps: Caps, of: str, tries: int, job: str
) -> str:
    tags = names.tags(job, plan.machine.name, v2c_of=of)
    above: dict[str, Any] = {"Encrypted": True, "KmsKeyId": options.kms} if options.kms else {}
    task = session.call(
        "ec2",
        "import_image",
        Description=f"{plan.machine.name}, moved by v2c job {job}"[:255],
        DiskContainers=[{"SnapshotId": ref.id, "Description": ref.get("disk", "")} for ref in disks],
        Platform="Windows",
        LicenseType="AWS",
        Architecture=caps.architecture,
        BootMode=images.BOOT_MODES[caps.firmware],
        RoleName=options.import_role,
        ClientToken=names.token(job, "import", of, options.kms, str(tries)),
        TagSpecifications=[{"ResourceType": "import-image-task", "Tags": tags}],
        **above,
    )
    return str(task["ImportTaskId"])


def _finished(session: Session, begun: Ref, journal: Journal) -> Task:
    """The task, once its image is there."""
    task: Task = {}
    id = begun.id
    for _ in session.polls(IMPORT_S):
        task = _described(session, id) or {"Status": "deleted"}
        if task.get("Status") == "completed" and task.get("ImageId"):
            return task
        if task.get("Status") in _OVER:
            journal.undone(begun)
            words = task.get("StatusMessage") or "AWS does not say why"
            remedy = "look at VM Import's requirements; the same command tries again"
            raise TargetError(f"AWS could not import {id}: {words}", remedy=remedy, transient="ClientError" not in words)
    text = f"{id} is still {task.get('Status')} after {IMPORT_S / 3600:.0f} hours"
    raise TargetError(text, remedy="the same command waits on")


def _keep(session: Session, plan: Plan, task: Task, journal: Journal) -> dict[str, Any]:
    """Image and copies become the job's: copies first, so that whoever finds the image finds all."""
    job, name = journal.job, plan.machine.name
    made = images.described(session, task["ImageId"])
    if made is None:
        raise TargetError(f"the image {task['ImageId']} is gone", remedy="run the command again", transient=True)
    with journal.intent("image", made["ImageId"], {names.TAG: job}) as intent:
        for number, id in enumerate(copies(made)):
            session.call("ec2", "create_tags", Resources=[id], Tags=names.tags(job, f"{name} {number}", v2c_copy=str(number)))
        tags = names.tags(job, name, v2c_import=task["ImportTaskId"])
        session.call("ec2", "create_tags", Resources=[made["ImageId"]], Tags=tags)
        intent.done(Ref.of("image", made["ImageId"], job=job))
    for ref in _copies(made, job):
        if ref not in journal.refs("snapshot"):
            with journal.intent("snapshot", ref.id, {names.TAG: job}) as intent:
                intent.done(ref)
    return made


def _remembered(journal: Journal, image: dict[str, Any]) -> bool:
    """Whether the journal has the image and all its copies."""
    return {Ref.of("image", image["ImageId"], job=journal.job), *_copies(image, journal.job)} <= set(journal.refs())


def copies(image: dict[str, Any]) -> list[str]:
    """The snapshots of an image."""
    return [mapping["Ebs"]["SnapshotId"] for mapping in image["BlockDeviceMappings"] if mapping.get("Ebs", {}).get("SnapshotId")]


def _copies(image: dict[str, Any], job: str) -> list[Ref]:
    return [Ref.of("snapshot", id, job=job, copy=str(number)) for number, id in enumerate(copies(image))]


def volumes(session: Session, told: dict[str, Any], image: str) -> list[dict[str, Any]]:
    """What a launch says about the image's volumes, all alike: an import chooses their type itself, and which of the machine's
    disks each is nobody tells."""
    made = images.described(session, image)
    told = {**told, "DeleteOnTermination": True}
    return [{"DeviceName": one["DeviceName"], "Ebs": told} for one in (made or {}).get("BlockDeviceMappings", ()) if "Ebs" in one]


# ---- tasks -------------------------------------------------------------------------------------------------------------------


def tasks(session: Session, job: str) -> list[Task]:
    """The job's imports, those that are over too."""
    found = session.pages("ec2", "describe_import_image_tasks", "ImportImageTasks", Filters=names.ours(job))
    return [task for task in found if names.tagged(task).get(names.TAG) == job]


def _described(session: Session, id: str) -> Task | None:
    try:
        found = session.call("ec2", "describe_import_image_tasks", ImportTaskIds=[id])["ImportImageTasks"]
    except ApiError as error:
        if not error.code.startswith("InvalidConversionTaskId"):
            raise
        return None
    return dict(found[0]) if found else None


def _good(session: Session, task: Task) -> bool:
    """Whether it is under way, or its image is there."""
    if task.get("Status") == "completed":
        return images.described(session, task.get("ImageId", "")) is not None
    return task.get("Status") not in _OVER


def _open(session: Session, task: Task) -> bool:
    """Whether it may still make something, or made what carries no tag of ours yet."""
    if task.get("Status") != "completed":
        return task.get("Status") not in _OVER
    made = images.described(session, task.get("ImageId", ""))
    return made is not None and names.TAG not in names.tagged(made)


def _drop(session: Session, task: Task, journal: Journal) -> None:
    """An import of other snapshots: it is ended, and what it made is removed."""
    ref = Ref.of("import", task["ImportTaskId"], job=journal.job)
    made = images.described(session, task["ImageId"]) if task.get("ImageId") else None
    destroy(session, ref)
    gone = [ref, *([Ref.of("image", made["ImageId"], job=journal.job), *_copies(made, journal.job)] if made else [])]
    for one in gone:
        if one in journal.refs():
            journal.undone(one)


def find(session: Session, job: str) -> Iterator[Ref]:
    """What imports add to a job's things: copies of snapshots, and tasks that are not done with."""
    filters = [*names.ours(job), {"Name": "tag-key", "Values": [COPY]}]
    for found in session.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=filters):
        yield Ref.of("snapshot", found["SnapshotId"], job=job, copy=names.tagged(found)[COPY])
    for task in tasks(session, job):
        if _open(session, task):
            yield Ref.of("import", task["ImportTaskId"], job=job)


def destroy(session: Session, ref: Ref) -> None:
    """Ends a task, or removes what it made: its image, and that one's snapshots. Absent is success."""
    job, task = ref.get("job"), _described(session, ref.id)
    if task is None:
        return
    if not job or names.tagged(task).get(names.TAG) != job:
        raise TargetError(f"the import {ref.id} carries no tag of job {job or '?'}, so it is left alone")
    if task.get("Status") not in ("completed", *_OVER):
        try:
            session.call("ec2", "cancel_import_task", ImportTaskId=ref.id)
        except ApiError as error:
            if not error.code.startswith(("InvalidConversionTaskId", "IncorrectState")):  # it was over in time
                raise
    for _ in session.polls(IMPORT_S):
        task = _described(session, ref.id)
        if task is None or task.get("Status") in ("completed", "deleted", "error"):
            break
    if task and task.get("ImageId") and (made := images.described(session, task["ImageId"])):
        remove(session, made)


def remove(session: Session, image: dict[str, Any]) -> None:
    """An image that an import made, with its copies of the snapshots."""
    images.quietly(session, "deregister_image", "InvalidAMIID.Unavailable", ImageId=image["ImageId"])
    for id in copies(image):
        images.quietly(session, "delete_snapshot", "InvalidSnapshot.NotFound", SnapshotId=id)
