"""Disks by way of S3, where EBS direct cannot be reached: a dynamic VHD in parts, of which ImportSnapshot makes a snapshot.

The disk's data blocks are known before the first one is sent (`expect`), so each part of the object is made of its blocks alone:
parts go side by side, and S3 itself tells which it holds. A worker that takes a disk over ends the other one's upload first.
"""

import json
import re
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from v2c.blocks import UNKNOWN, BlockMap
from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Disk, Plan, Ref
from v2c.targets.aws import names, vhd
from v2c.targets.aws.options import Options
from v2c.targets.aws.putlog import PutLog
from v2c.targets.aws.session import ApiError, Session
from v2c.transfer import Block

PARALLEL = 8
PER_PART = 4  # blocks: 8 MiB, above S3's least of 5 MiB
MOST_PARTS = 9900  # S3 takes 10,000
IMPORT_S = 12 * 3600.0  # tens of minutes to hours: AWS reads the object and converts it


def prefix(job: str) -> str:
    """Where a job's objects lie in the bucket."""
    return f"v2c/{re.sub(r'[^A-Za-z0-9_.-]', '-', job)}/"


def staged(job: str, bucket: str, key: str) -> Ref:
    """An object, or an upload that is to become one."""
    return Ref.of("staging", f"{bucket}/{key}", job=job)


class ImportWriter:
    """The object of one disk, and the snapshot that AWS makes of it."""

    chunk = vhd.BLOCK

    def __init__(self, session: Session, options: Options, plan: Plan, disk: Disk, journal: Journal) -> None:
        self._session, self._options, self._journal, self._disk = session, options, journal, disk
        self._size = next(planned.target_size for planned in plan.disks if planned.disk == disk.id)
        if self._size > vhd.MOST:
            raise TargetError(f"{disk.id} is larger than a VHD can be", remedy="leave &via= out: EBS direct takes it")
        self._machine = plan.machine.name
        self._lock = threading.Lock()
        self._open: dict[int, bytearray] = {}  # parts that lack blocks
        self._filled: dict[int, set[int]] = {}
        self._snapshot = self._found()

    # ---- the layout --------------------------------------------------------------------------------------------------------

    def expect(self, indexes: Sequence[int]) -> None:
        if indexes and indexes[-1] * vhd.BLOCK >= self._size:
            raise TargetError(f"block {indexes[-1]} lies beyond the end of {self._disk.id}")
        self._vhd = vhd.Vhd(self._size, array("I", indexes))
        self._per = max(PER_PART, -(-len(indexes) // MOST_PARTS))
        self._parts = max(1, -(-len(indexes) // self._per))
        self._digests = bytearray(32 * len(indexes))
        self._done: set[int] = set()
        self._key = f"{prefix(self._journal.job)}{self._disk.id}-{self._vhd.identity}.vhd"
        if not self._snapshot:
            self._upload = self._begin(anew=False)
            self._done = {part["PartNumber"] for part in self._listed()}

    def _noted(self) -> dict[str, str]:
        told: dict[str, str] = json.loads(self._journal.noted(f"aws/s3/{self._disk.id}") or "{}")
        return told

    def _note(self, **more: str) -> None:
        self._journal.note(f"aws/s3/{self._disk.id}", json.dumps(self._noted() | more))

    def _begin(self, *, anew: bool) -> str:
        """The upload of this layout: the noted one, else a new one, after which no other of the disk goes on."""
        noted, bucket = self._noted(), self._options.bucket
        running = list(uploads(self._session, bucket, f"{prefix(self._journal.job)}{self._disk.id}-"))
        if not anew and any((u["Key"], u["UploadId"]) == (self._key, noted.get("upload")) for u in running):
            return noted["upload"]
        ref = staged(self._journal.job, bucket, self._key)
        for other in running:
            _abort(self._session, bucket, other["Key"], other["UploadId"])
            if other["Key"] != self._key:
                self._journal.undone(staged(self._journal.job, bucket, other["Key"]))
        with self._journal.intent("staging", self._key, {names.TAG: self._journal.job}) as intent:
            made = self._session.call("s3", "create_multipart_upload", Bucket=bucket, Key=self._key)
            self._note(upload=made["UploadId"])
            intent.done(ref)
        return str(made["UploadId"])

    def _listed(self) -> Iterator[dict[str, Any]]:
        marker: dict[str, Any] = {}
        while True:
            about = {"Bucket": self._options.bucket, "Key": self._key, "UploadId": self._upload, **marker}
            answer = self._session.call("s3", "list_parts", **about)
            yield from answer.get("Parts") or ()
            if not answer.get("IsTruncated"):
                return
            marker = {"PartNumberMarker": answer["NextPartNumberMarker"]}

    # ---- the writer's verbs ------------------------------------------------------------------------------------------------

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        if self._snapshot:
            return iter(())
        log = PutLog(blocks.path.with_suffix(".s3.blocks"))  # only for the name of its worker
        worker, holder = log.worker, self._noted().get("holder", "")
        if log.snapshot != "s3":
            log.restart("s3")
        log.close()
        if holder and worker != holder:
            self._upload, self._done = self._begin(anew=True), set()
        if worker != holder:
            self._note(holder=worker)
        self._done = {part for part in self._done if self._known(part, blocks)}
        places = self._vhd.indexes
        lacking = [i for i in blocks.written() if (at := _place(places, i)) >= 0 and at // self._per + 1 not in self._done]
        return iter(lacking)

    def _known(self, part: int, blocks: BlockMap) -> bool:
        """Whether what the part holds is what the map says: nothing was on the way when it was cut off."""
        indexes = self._vhd.indexes[(part - 1) * self._per : part * self._per]
        doubted = any(blocks.digest(i) == UNKNOWN or not (blocks.ours(i) or blocks.digest(i) is None) for i in indexes)
        return not doubted and any(map(blocks.ours, indexes))

    def put(self, index: int, data: Block, digest: bytes) -> None:
        at = _place(self._vhd.indexes, index)
        if at < 0 or self._snapshot:
            raise TargetError(f"block {index} of {self._disk.id} was not to be expected", remedy="begin anew with --again")
        part, within = at // self._per + 1, at % self._per
        with self._lock:
            if self._digests[at * 32 : at * 32 + 32] == digest:
                return  # twice is harmless
            if part in self._done:
                raise TargetError(f"block {index} of {self._disk.id} changed while it was sent", remedy="run the command again")
            self._digests[at * 32 : at * 32 + 32] = digest
            self._keep(part, within, data)
            if len(self._filled[part]) < self._count(part):
                return
            body = self._open.pop(part)
        self._send(part, body)

    def _keep(self, part: int, within: int, data: Block) -> None:
        start = (len(self._vhd.head()) if part == 1 else 0) + within * (vhd.BLOCK + vhd.SECTOR)
        block = self._vhd.block(bytes(data))
        self._part(part)[start : start + len(block)] = block
        self._filled[part].add(within)

    def _part(self, part: int) -> bytearray:
        """A part's bytes, with zeros where blocks are to come."""
        if part not in self._open:
            empty = self._vhd.block(b"") * self._count(part)
            head = self._vhd.head() if part == 1 else b""
            self._open[part] = bytearray(head + empty + (self._vhd.footer() if part == self._parts else b""))
            self._filled[part] = set()
        return self._open[part]

    def _count(self, part: int) -> int:
        return min(self._per, len(self._vhd.indexes) - (part - 1) * self._per)

    def _send(self, part: int, body: bytearray) -> None:
        about: dict[str, Any] = {"Bucket": self._options.bucket, "Key": self._key, "UploadId": self._upload, "PartNumber": part}
        self._session.call("s3", "upload_part", Body=bytes(body), **about)
        self._done.add(part)

    def flush(self) -> None:
        """Nothing: what S3 acknowledged is kept, and the map of parts is S3's own."""

    def commit(self) -> Ref:
        if not self._snapshot:
            for part in range(1, self._parts + 1):  # what was not put is zeros
                if part not in self._done:
                    self._send(part, self._part(part))
                    self._open.pop(part)
            self._finish()
            self._snapshot = self._import()
        return Ref.of("disk", self._snapshot, job=self._journal.job, disk=self._disk.id)

    def _finish(self) -> None:
        parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in self._listed()]
        about: dict[str, Any] = {"Bucket": self._options.bucket, "Key": self._key, "UploadId": self._upload}
        try:
            self._session.call("s3", "complete_multipart_upload", MultipartUpload={"Parts": parts}, **about)
        except ApiError as error:
            if error.code != "NoSuchUpload" or not exists(self._session, self._options.bucket, self._key):
                raise  # else the answer to an earlier try was lost

    def _import(self) -> str:
        job, disk = self._journal.job, self._disk.id
        key: dict[str, Any] = {"Encrypted": True, "KmsKeyId": self._options.kms} if self._options.kms else {}
        with self._journal.intent("import", self._key, {names.TAG: job}) as intent:
            task = self._session.call(
                "ec2",
                "import_snapshot",
                ClientToken=names.token(job, disk, "import", self._upload),
                Description=f"{disk} of {self._machine}, moved by v2c job {job}"[:255],
                DiskContainer={"Format": "VHD", "UserBucket": {"S3Bucket": self._options.bucket, "S3Key": self._key}},
                TagSpecifications=[{"ResourceType": "import-snapshot-task", "Tags": names.tags(job, self._machine)}],
                **key,
            )["ImportTaskId"]
            ref = intent.done(Ref.of("import", task, job=job))
        snapshot = self._imported(task)
        with self._journal.intent("disk", f"{disk}/import", {names.TAG: job}) as intent:
            tags = names.tags(job, f"{self._machine} {disk}", v2c_disk=disk)
            self._session.call("ec2", "create_tags", Resources=[snapshot], Tags=tags)
            intent.done(Ref.of("disk", snapshot, job=job, disk=disk))
        self._journal.undone(ref)
        return snapshot

    def _imported(self, task: str) -> str:
        words = "active"
        for _ in self._session.polls(IMPORT_S):
            found = self._session.call("ec2", "describe_import_snapshot_tasks", ImportTaskIds=[task])["ImportSnapshotTasks"]
            about = found[0]["SnapshotTaskDetail"] if found else {}
            words = about.get("StatusMessage") or about.get("Status", "gone")
            if about.get("Status") == "completed":
                return str(about["SnapshotId"])
            if about.get("Status") != "active":
                break
        raise TargetError(f"AWS did not import {self._disk.id}: {words}", remedy="look at the role vmimport and the bucket")

    def _found(self) -> str:
        """The snapshot that an earlier attempt made."""
        known = [ref.id for ref in self._journal.refs("disk") if ref.get("disk") == self._disk.id]
        try:
            found = self._session.call("ec2", "describe_snapshots", SnapshotIds=known[-1:])["Snapshots"] if known else []
        except ApiError as error:
            if error.code != "InvalidSnapshot.NotFound":
                raise
            found = []
        return str(found[0]["SnapshotId"]) if found else ""

    def abandon(self) -> None:
        _abort(self._session, self._options.bucket, self._key, self._upload)
        self._journal.undone(staged(self._journal.job, self._options.bucket, self._key))


def _place(indexes: Sequence[int], index: int) -> int:
    at = bisect_left(indexes, index)
    return at if at < len(indexes) and indexes[at] == index else -1


@contextmanager
def writing(session: Session, options: Options, plan: Plan, disk: Disk, journal: Journal) -> Iterator[ImportWriter]:
    """The writer of a disk; what was sent stays when it is left."""
    yield ImportWriter(session, options, plan, disk, journal)


# ---- what lies in the bucket ---------------------------------------------------------------------------------------------------


def uploads(session: Session, bucket: str, start: str) -> Iterator[dict[str, Any]]:
    """Uploads that were begun and not ended, by the beginning of their key."""
    marker: dict[str, Any] = {}
    while True:
        answer = session.call("s3", "list_multipart_uploads", Bucket=bucket, Prefix=start, **marker)
        yield from answer.get("Uploads") or ()
        if not answer.get("IsTruncated"):
            return
        marker = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}


def exists(session: Session, bucket: str, key: str) -> bool:
    """Whether the object is there."""
    return any(
        found["Key"] == key for found in session.call("s3", "list_objects_v2", Bucket=bucket, Prefix=key).get("Contents", ())
    )


def find(session: Session, bucket: str, job: str) -> Iterator[Ref]:
    """Objects and unfinished uploads of a job."""
    keys = {found["Key"]: None for found in uploads(session, bucket, prefix(job))}
    keys |= {f["Key"]: None for f in session.call("s3", "list_objects_v2", Bucket=bucket, Prefix=prefix(job)).get("Contents", ())}
    yield from (staged(job, bucket, key) for key in sorted(keys))


def remove(session: Session, ref: Ref) -> None:
    """Ends the uploads of an object and deletes it. TargetError for one that lies elsewhere than the job's do."""
    bucket, _, key = ref.id.partition("/")
    if not ref.get("job") or not key.startswith(prefix(ref["job"])):
        raise TargetError(f"s3://{ref.id} is not of job {ref.get('job') or '?'}, so it is left alone")
    for found in list(uploads(session, bucket, key)):
        if found["Key"] == key:
            _abort(session, bucket, key, found["UploadId"])
    session.call("s3", "delete_object", Bucket=bucket, Key=key)


def _abort(session: Session, bucket: str, key: str, upload: str) -> None:
    try:
        session.call("s3", "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)
    except ApiError as error:
        if error.code != "NoSuchUpload":
            raise
