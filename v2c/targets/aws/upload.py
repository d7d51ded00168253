"""Disks by EBS direct: a snapshot is started, its blocks are put from many threads at once, it is completed; and read back.

One snapshot per disk and generation. A worker that takes a disk over from another one (its block map tells them apart) starts the
next generation and deletes the last one's snapshot, so that a worker that was only frozen writes into nothing when it wakes up.
"""

import hashlib
import json
import sys
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from v2c.blocks import BlockMap
from v2c.errors import Paused, TargetError
from v2c.journal import Journal
from v2c.model import GIB, Disk, Plan, Ref
from v2c.targets.aws import names
from v2c.targets.aws.facts import api
from v2c.targets.aws.options import Options
from v2c.targets.aws.putlog import PutLog
from v2c.targets.aws.session import ApiError, Session, told
from v2c.transfer import Block

BLOCK = api().ebs.block
PARALLEL = 32  # at 150 ms a put: 100 MiB/s; coldsnap uses 64, and the default quota ends at 1000 a second
READERS = 16
PAGE = 10000  # blocks a page of a listing: the most there are
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

    def __init__(self, session: Session, options: Options, plan: Plan, disk: Disk, journal: Journal) -> None:
        self._session, self._options, self._journal, self._disk = session, options, journal, disk
        self._machine = plan.machine.name
        self._size = next(planned.target_size for planned in plan.disks if planned.disk == disk.id)
        self._log = PutLog(None)
        self._lane = Lane(PARALLEL)
        self._seen = False  # a put succeeded: the snapshot is visible
        self._began = time.monotonic()
        self._generation, self._holder = self._noted()
        self.snapshot, self._completed, self._fresh = self._adopt()

    # ---- which snapshot ----------------------------------------------------------------------------------------------------

    def _noted(self) -> tuple[int, str]:
        noted = self._journal.noted(f"aws/{self._disk.id}")
        if noted is None:
            return -1, ""
        told = json.loads(noted)
        return told["generation"], told["holder"]

    def _note(self, generation: int, holder: str) -> None:
        self._generation, self._holder = generation, holder
        self._journal.note(f"aws/{self._disk.id}", json.dumps({"generation": generation, "holder": holder}))

    def _name(self) -> str:
        return f"{self._disk.id}/{self._generation}"

    def _ref(self, snapshot: str) -> Ref:
        return Ref.of("disk", snapshot, job=self._journal.job, disk=self._disk.id)

    def _adopt(self) -> tuple[str, bool, bool]:
        """(snapshot, whether it is complete, whether nothing is known of its blocks): the noted generation's, else a new one."""
        there = {names.tagged(s).get(names.GENERATION, ""): s for s in self._all()}
        found = there.get(str(self._generation))
        known = {ref.id for ref in self._journal.refs("disk")}
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
            if snapshot["SnapshotId"] != kept:
                self._delete(snapshot["SnapshotId"])

    def _delete(self, snapshot: str) -> None:
        try:
            self._session.call("ec2", "delete_snapshot", SnapshotId=snapshot)
        except ApiError as error:
            if error.code != "InvalidSnapshot.NotFound":
                raise
        self._journal.undone(self._ref(snapshot))

    def _start(self, found: dict[str, Any] | None = None) -> str:
        """Starts the generation's snapshot, or takes up the one that an attempt cut off has started."""
        job, disk, generation, key = self._journal.job, self._disk.id, str(self._generation), self._options.kms
        encrypted: dict[str, Any] = {"Encrypted": True, "KmsKeyArn": key} if key else {}
        tags = names.tags(job, f"{self._machine} {disk}", v2c_disk=disk, v2c_generation=generation)
        with self._journal.intent("disk", self._name(), {names.TAG: job}) as intent:
            answer = found or self._session.call(
                "ebs",
                "start_snapshot",
                VolumeSize=self._size // GIB,
                ClientToken=names.token(job, disk, generation, str(self._size), key),
                Description=f"{disk} of {self._machine}, moved by v2c job {job}"[:255],
                Timeout=api().ebs.timeout_minutes,
                Tags=tags,
                **encrypted,
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
        if log.snapshot == self.snapshot and self._stale(log, blocks):
            self._take_over(log.worker)
        if log.snapshot != self.snapshot:
            log.restart(self.snapshot)
        self._log.close()
        self._log = log
        if self._completed:
            held = {block["BlockIndex"] for block in self._listed()}
            return (index for index in blocks.written() if index not in held)
        return (index for index in blocks.written() if index not in log)

    @staticmethod
    def _stale(log: PutLog, blocks: BlockMap) -> bool:
        """Whether the snapshot holds data that the map knows nothing of: the map is another one, so nothing would wipe it."""
        last = {index: digest for index, digest in log.items() if blocks.digest(index) is None}
        return any(digest != _ZEROS for digest in last.values())

    def _take_over(self, worker: str) -> None:
        """Another worker's snapshot is left for one of our own, and goes: what it still sends meets nothing."""
        old = self.snapshot
        self._note(self._generation + 1, worker)
        self.snapshot, self._completed, self._fresh = self._start(), False, True
        self._delete(old)

    def put(self, index: int, data: Block, digest: bytes) -> None:
        if not 0 <= index * BLOCK < self._size:
            raise TargetError(f"block {index} lies beyond the end of {self._disk.id}")
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
        return self._ref(self.snapshot)

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
        began, pause = time.monotonic(), 0.5
        limit = 120.0 if refused else COMPLETE_S
        while True:
            state, words = self._state()
            if state == "completed":
                return
            if state == "error":
                raise TargetError(f"AWS gave the snapshot {self.snapshot} of {self._disk.id} up: {words}", remedy=AGAIN)
            if time.monotonic() - began > limit:
                raise refused or TargetError(
                    f"the snapshot {self.snapshot} is still {state} after {limit / 60:.0f} minutes", remedy=AGAIN
                )
            rest(self._session, pause)
            pause = min(pause * 1.5, 15.0)

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

    def _listed(self) -> Iterator[dict[str, Any]]:
        return self._session.pages("ebs", "list_snapshot_blocks", "Blocks", SnapshotId=self.snapshot, MaxResults=PAGE)


@contextmanager
def writing(session: Session, options: Options, plan: Plan, disk: Disk, journal: Journal) -> Iterator[EbsWriter]:
    """The writer of a disk; what was put stays when it is left."""
    writer = EbsWriter(session, options, plan, disk, journal)
    try:
        yield writer
    finally:
        writer.close()


def read(session: Session, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Blocks of a completed snapshot, each checked against the digest that came with it; read ahead by many threads."""
    with ThreadPoolExecutor(READERS, "read-back") as pool:
        ahead: deque[tuple[int, Future[bytes] | None]] = deque()
        for index, token in _tokens(session, disk.id, indexes):
            ahead.append((index, pool.submit(_get, session, disk.id, index, token) if token else None))
            while len(ahead) > READERS:
                yield _arrived(*ahead.popleft())
        while ahead:
            yield _arrived(*ahead.popleft())


def _tokens(session: Session, snapshot: str, indexes: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Each index with its block's token, empty where nothing was written. Holds one page of the listing, whatever the size."""
    page: dict[int, str] = {}
    first, last = 0, -1  # what the page tells about
    for index in indexes:
        if not first <= index <= last:
            answer = session.call("ebs", "list_snapshot_blocks", SnapshotId=snapshot, StartingBlockIndex=index, MaxResults=PAGE)
            page = {block["BlockIndex"]: block["BlockToken"] for block in answer.get("Blocks") or ()}
            token = answer.get("NextToken")
            while token and not page:  # a page may be empty though there is more
                answer = session.call("ebs", "list_snapshot_blocks", SnapshotId=snapshot, NextToken=token, MaxResults=PAGE)
                page = {block["BlockIndex"]: block["BlockToken"] for block in answer.get("Blocks") or ()}
                token = answer.get("NextToken")
            first, last = index, max(page) if token else sys.maxsize
        yield index, page.get(index, "")


def _arrived(index: int, future: "Future[bytes] | None") -> tuple[int, bytes]:
    return index, future.result() if future else bytes(BLOCK)


def _get(session: Session, snapshot: str, index: int, token: str) -> bytes:
    def once() -> tuple[bytes, str]:
        answer = session.client("ebs").get_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockToken=token)
        return answer["BlockData"].read(), answer["Checksum"]

    for _ in range(3):
        data, checksum = session.patiently(once, "get_snapshot_block")
        if len(data) == BLOCK and b64encode(hashlib.sha256(data).digest()).decode() == checksum:
            return data
    raise TargetError(
        f"block {index} of {snapshot} comes back other than AWS says it is", remedy="run the command again with --again"
    )


def rest(session: Session, seconds: float) -> None:
    """Sleeps; Paused when the user wants to stop."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if session.meter.cancelled():
            raise Paused("stopped while waiting for AWS", remedy="the same command goes on")
        time.sleep(min(left, 0.5))
