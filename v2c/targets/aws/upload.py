"""Disks by EBS direct: a snapshot is started, its blocks are put from many threads at once, it is completed; and read back.

One snapshot per disk and generation. A worker that takes a disk over from another one (its block map tells them apart) starts the
next generation and deletes the last one's snapshot, so that a worker that was only frozen writes into nothing when it wakes up.
"""

import hashlib
import json
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from v2c.blocks import BlockMap
from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import GIB, Disk, Plan, Ref
from v2c.targets.aws import images, names
from v2c.targets.aws.facts import api
from v2c.targets.aws.options import Options
from v2c.targets.aws.putlog import PutLog
from v2c.targets.aws.readback import listed
from v2c.targets.aws.session import ApiError, Session, told
from v2c.transfer import Block

BLOCK = api().ebs.block
PARALLEL = 32  # at 150 ms a put: 100 MiB/s; coldsnap uses 64, and the default quota ends at 1000 a second
COMPLETE_S = 4 * 3600.0  # a snapshot's way from pending to completed: minutes, hours for terabytes
_ZEROS = hashlib.sha256(bytes(BLOCK)).digest()
AGAIN = "run the command again; it goes on with what is there"


class Lane:
    """How many puts are under way at once: halved when the line or AWS cannot follow, one more after every hundred that went
    well."""

    def __init__(self, most: int) -> None:
        self.most = self.limit = most
        self._busy = self._good = 0
        self._condition = threading.Condition()

    def __enter__(self) -> None:
        with self._condition:
            while self._busy >= self.limit:
                self._condition.wait()
            self._busy += 1

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._condition:
            self._busy -= 1
            self._good += kind is None
            if self._good >= 100 and self.limit < self.most:
                self._good, self.limit = 0, self.limit + 1
            self._condition.notify_all()

    def narrow(self) -> None:
        """It was too much."""
        with self._condition:
            self._good, self.limit = 0, max(1, self.limit // 2)


class EbsWriter:
    """The snapshot of one disk. `put` may be called from many threads."""

    chunk = BLOCK

    def __init__(
        self, session: Session, options: Options, plan: Plan, disk: Disk, journal: Journal, base: Ref | None = None
    ) -> None:
        self._session, self._options, self._journal, self._disk = session, options, journal, disk
        self._machine = plan.machine.name
        self._size = next(planned.target_size for planned in plan.disks if planned.disk == disk.id)
        self._log = PutLog(None)
        self._lane = Lane(PARALLEL)
        self._seen = False  # a put succeeded: the snapshot is visible
        self._began = time.monotonic()
        self._generation, self._holder, before, alone = self._noted()
        self._below = base.id if base else ""  # the snapshot that was asked for as base,
        self._base = "" if alone and self._below == before else self._below  # and the one that this stands on
        if self._below != before and self._generation >= 0:
            self._note(self._generation + 1, self._holder)  # the last generation is what this one stands on
        self.snapshot, self._completed, self._fresh = self._adopt()

    # ---- which snapshot ----------------------------------------------------------------------------------------------------

    def _noted(self) -> tuple[int, str, str, bool]:
        """(generation, the worker that writes it, the snapshot asked for as its base, whether it does without)."""
        noted = self._journal.noted(f"aws/{self._disk.id}")
        if noted is None:
            return -1, "", "", False
        told = json.loads(noted)
        return told["generation"], told["holder"], told["base"], told["alone"]

    def _note(self, generation: int, holder: str) -> None:
        self._generation, self._holder = generation, holder
        about = {"generation": generation, "holder": holder, "base": self._below, "alone": self._base != self._below}
        self._journal.note(f"aws/{self._disk.id}", json.dumps(about))

    def _name(self) -> str:
        return f"{self._disk.id}/{self._generation}"

    def _ref(self, snapshot: str) -> Ref:
        return Ref.of("disk", snapshot, job=self._journal.job, disk=self._disk.id)

    def _adopt(self) -> tuple[str, bool, bool]:
        """(snapshot, whether it is complete, whether nothing is known of its blocks): the noted generation's, else a new one."""
        there = {names.tagged(s).get(names.GENERATION, ""): s for s in self._all()}
        known = {ref.id for ref in self._journal.refs("disk")}
        if self._generation < 0:  # nothing was noted, as in a copy of a journal: what it lists tells
            ours = [int(generation) for generation, s in there.items() if s["SnapshotId"] in known and generation.isdigit()]
            self._generation = max(ours, default=-1)
        found = there.get(str(self._generation))
        tried = any((intent.kind, intent.name) == ("disk", self._name()) for intent in self._journal.pending())
        if found is not None and found["State"] not in ("pending", "completed"):
            found, tried = None, False
        if found is None and not tried:
            self._note(self._generation + 1, self._holder)
        elif found is not None and found["SnapshotId"] in known:
            self._drop(there, found["SnapshotId"])
            return found["SnapshotId"], found["State"] == "completed", False
        snapshot = self._start(found)
        self._drop(there, snapshot)
        return snapshot, bool(found and found["State"] == "completed"), True

    def _all(self) -> Iterator[dict[str, Any]]:
        """The job's snapshots of this disk."""
        filters = [*names.ours(self._journal.job), {"Name": f"tag:{names.DISK}", "Values": [self._disk.id]}]
        return self._session.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=filters)

    def _drop(self, there: dict[str, Any], kept: str) -> None:
        """Snapshots of other generations are nobody's any more."""
        for snapshot in there.values():
            if snapshot["SnapshotId"] not in (kept, self._below):
                self._delete(snapshot["SnapshotId"])

    def _delete(self, snapshot: str) -> None:
        """It goes, and an image that was made of it."""
        images.drop_snapshot(self._session, snapshot, self._journal.job)
        self._journal.undone(self._ref(snapshot))

    def _start(self, found: dict[str, Any] | None = None) -> str:
        """Starts the generation's snapshot, or takes up the one that an attempt cut off has started."""
        job, disk, generation, key = self._journal.job, self._disk.id, str(self._generation), self._options.kms
        above: dict[str, Any] = {"Encrypted": True, "KmsKeyArn": key} if key else {}
        if self._base:  # which passes its encryption on
            above = {"ParentSnapshotId": self._base}
        tags = names.tags(job, f"{self._machine} {disk}", v2c_disk=disk, v2c_generation=generation)
        with self._journal.intent("disk", self._name(), {names.TAG: job}) as intent:
            answer = found or self._session.call(
                "ebs",
                "start_snapshot",
                VolumeSize=self._size // GIB,
                ClientToken=names.token(job, disk, generation, str(self._size), key, self._base),
                Description=f"{disk} of {self._machine}, moved by v2c job {job}"[:255],
                Timeout=api().ebs.timeout_minutes,
                Tags=tags,
                **above,
            )
            intent.done(self._ref(answer["SnapshotId"]))
        self._seen, self._began = False, time.monotonic()
        return str(answer["SnapshotId"])

    # ---- the writer's verbs ------------------------------------------------------------------------------------------------

    def expect(self, indexes: Sequence[int]) -> None:
        """Nothing: a snapshot takes blocks in any order."""

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        log = PutLog(blocks.path.with_suffix(".ebs.blocks"))
        if self._holder and log.worker != self._holder:
            self._take_over(log.worker)
        elif not self._holder:
            self._note(self._generation, log.worker)
            if not self._fresh and log.snapshot != self.snapshot:  # this map was there before anybody asked whose it is
                log.restart(self.snapshot)
                for index in blocks.written():
                    digest = blocks.digest(index)
                    if digest is not None and blocks.ours(index):
                        log.add(index, digest)
        strange = self._base and log.snapshot not in (self._base, self.snapshot)  # this map knows nothing of the base
        if strange or (log.snapshot == self.snapshot and self._stale(log, blocks)):
            self._take_over(log.worker)
        if log.snapshot != self.snapshot:
            log.restart(self.snapshot)
        self._log.close()
        self._log = log
        below = self.snapshot if self._completed else self._base
        held = {block["BlockIndex"] for block in listed(self._session, below)} if below else frozenset[int]()
        return (index for index in blocks.written() if index not in held and index not in log)

    @staticmethod
    def _stale(log: PutLog, blocks: BlockMap) -> bool:
        """Whether the snapshot holds data that the map knows nothing of: the map is another one, so nothing would wipe it."""
        last = {index: digest for index, digest in log.items() if blocks.digest(index) is None}
        return any(digest != _ZEROS for digest in last.values())

    def _take_over(self, worker: str) -> None:
        """Another worker's snapshot is left for one of our own, and goes: what it still sends meets nothing."""
        old, self._base = self.snapshot, ""  # what the map does not know is in a base could not be wiped
        self._note(self._generation + 1, worker)
        self.snapshot, self._completed, self._fresh = self._start(), False, True
        self._delete(old)

    def put(self, index: int, data: Block, digest: bytes) -> None:
        if not 0 <= index * BLOCK < self._size:
            raise TargetError(f"block {index} lies beyond the end of {self._disk.id}")
        if self._completed and self._session.dry:
            return  # a dry run has no blocks to compare
        if self._completed:
            raise TargetError(
                f"the snapshot {self.snapshot} is complete and takes no more blocks", remedy="begin anew with --again"
            )
        if len(data) != BLOCK:
            data = bytes(data).ljust(BLOCK, b"\0")
            digest = hashlib.sha256(data).digest()
        with self._lane:
            self._session.call(
                "ebs",
                "put_snapshot_block",
                self._passing,
                SnapshotId=self.snapshot,
                BlockIndex=index,
                BlockData=data,
                DataLength=BLOCK,
                Checksum=b64encode(digest).decode(),
                ChecksumAlgorithm="SHA256",
            )
        self._seen = True
        self._log.add(index, digest)

    def _passing(self, error: Exception) -> str | None:
        """What passes for a block beside what passes for every call."""
        code, reason, _ = told(error)
        known = api()
        if code == "ResourceNotFoundException":
            early = time.monotonic() - self._began < known.ebs.visible_seconds
            return "the snapshot is not visible everywhere yet" if early and (not self._seen or self._there()) else None
        slow = code == "ValidationException" and (reason in known.errors.slow or known.errors.slow_text in str(error))
        if slow or code in known.errors.passing:
            self._lane.narrow()
        return "the line is too slow for so many blocks at once" if slow else None

    def _there(self) -> bool:
        """Whether the snapshot exists: one that was seen may be gone because another worker took the disk over."""
        try:
            return bool(self._session.call("ec2", "describe_snapshots", SnapshotIds=[self.snapshot])["Snapshots"])
        except ApiError:
            return False

    def flush(self) -> None:
        self._log.flush()

    def commit(self) -> Ref:
        if not self._completed:
            self._log.flush()
            count, digest = self._log.whole()
            refused = self._complete(count, digest)
            self._await(refused)
            self._completed = True
        if self._below:
            self._supersede()
        return self._ref(self.snapshot)

    def _supersede(self) -> None:
        """The snapshot below is not needed any more: this one holds all of it. One that an image needs stays."""
        try:
            self._session.call("ec2", "delete_snapshot", SnapshotId=self._below)
        except ApiError as error:
            if error.code == "InvalidSnapshot.InUse":
                return
            if error.code != "InvalidSnapshot.NotFound":
                raise
        self._journal.undone(self._ref(self._below))

    def _complete(self, count: int, digest: bytes) -> ApiError | None:
        """Asks for it; a refusal is kept, because an answer that was lost makes the second asking one."""
        try:
            self._session.call(
                "ebs",
                "complete_snapshot",
                self._passing,
                SnapshotId=self.snapshot,
                ChangedBlocksCount=count,
                Checksum=b64encode(digest).decode(),
                ChecksumAlgorithm="SHA256",
                ChecksumAggregationMethod="LINEAR",
            )
        except ApiError as error:
            if error.code not in ("ValidationException", "ConflictException"):
                raise
            return error
        return None

    def _await(self, refused: ApiError | None) -> None:
        state, limit = "pending", 120.0 if refused else COMPLETE_S
        for _ in self._session.polls(limit):
            state, words = self._state()
            if state == "completed":
                return
            if state == "error":
                raise TargetError(f"AWS gave the snapshot {self.snapshot} of {self._disk.id} up: {words}", remedy=AGAIN)
        text = f"the snapshot {self.snapshot} is still {state} after {limit / 60:.0f} minutes"
        raise refused or TargetError(text, remedy=AGAIN)

    def _state(self) -> tuple[str, str]:
        try:
            found = self._session.call("ec2", "describe_snapshots", SnapshotIds=[self.snapshot])["Snapshots"][0]
        except ApiError as error:
            if error.code != "InvalidSnapshot.NotFound":
                raise
            raise TargetError(f"the snapshot {self.snapshot} of {self._disk.id} is gone", remedy=AGAIN) from error
        return found["State"], found.get("StateMessage", "it does not say why")

    def abandon(self) -> None:
        self._delete(self.snapshot)
        self._log.restart("")

    def close(self) -> None:
        """Closes the log; the snapshot stays."""
        self._log.close()


@contextmanager
def writing(
    session: Session, options: Options, plan: Plan, disk: Disk, journal: Journal, base: Ref | None
) -> Iterator[EbsWriter]:
    """The writer of a disk, with `base` of what differs from it; what was put stays when it is left."""
    writer = EbsWriter(session, options, plan, disk, journal, base)
    try:
        yield writer
    finally:
        writer.close()
