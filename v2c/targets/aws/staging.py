"""Disks by way of S3 (`?via=s3-import`): a bucket, and in it each disk as a dynamic VHD, sent by a multipart upload.

Every byte of the file has its place before the first is sent (writers/vhd.py), so a part is the same however often it is made. A
worker remembers its upload's id and its parts in v2c's own state; one that has no such memory aborts the upload that it finds and
begins its own: what the earlier worker still sends is refused (NoSuchUpload).
"""

import hashlib
import json
import threading
import uuid
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from v2c import state
from v2c.blocks import UNKNOWN, Block, BlockMap
from v2c.errors import BusyError, TargetError
from v2c.journal import Journal
from v2c.model import MIB, Disk, Plan, Ref
from v2c.targets.aws import names, objects
from v2c.targets.aws.session import ApiError, Session
from v2c.targets.writers.vhd import SparseVhd, data_at, places

CHUNK = 4 * MIB
GROUP = 2  # chunks a part, at least: S3 takes 5 MiB to 5 GiB, and 10,000 parts of an object
MOST_PARTS = 9000
PARALLEL = 4  # parts under way at once
GONE = ("NoSuchUpload", "404")


class Memory:
    """What this machine knows of an upload: its id, what all bytes depend on, and by part (ETag, checksum, digest of digests,
    digests).

    One file of mode 0600; without it an upload is another worker's."""

    def __init__(self, session: Session, bucket: str, key: str) -> None:
        whose = f"{session.region}/{bucket}/{key}"
        folder = state.private_folder(state.default_folder() / "uploads")
        self.path: Path = folder / f"{hashlib.sha256(whose.encode()).hexdigest()[:32]}.s3"
        self.upload = self.identity = ""
        self.parts: dict[int, list[str]] = {}
        self._lock = threading.Lock()
        if self.path.exists():
            told = json.loads(self.path.read_text(encoding="utf-8"))
            self.upload, self.identity = told["upload"], told["identity"]
            self.parts = {int(number): about for number, about in told["parts"].items()}

    def begin(self, upload: str, identity: str) -> None:
        """Another upload, or another disk: no part of it is known."""
        with self._lock:
            self.upload, self.identity, self.parts = upload, identity, {}
            self._save()

    def keep(self, number: int, about: list[str] | None) -> None:
        """A part that S3 holds; None: it is not the one that is wanted any more."""
        with self._lock:
            if about is None:
                self.parts.pop(number, None)
            else:
                self.parts[number] = about
            self._save()

    def remove(self) -> None:
        """The upload is over."""
        self.path.unlink(missing_ok=True)
        self.upload, self.parts = "", {}

    def _save(self) -> None:
        new = self.path.with_name(f"{self.path.name}.new")
        new.touch(mode=0o600)
        new.write_text(json.dumps({"upload": self.upload, "identity": self.identity, "parts": self.parts}), encoding="utf-8")
        new.replace(self.path)


class S3Writer:
    """A DiskWriter whose `put` comes from one thread in ascending order; several parts are under way at once."""

    chunk = CHUNK

    def __init__(self, session: Session, bucket: str, key: str, size: int, ref: Ref, journal: Journal) -> None:
        self._session, self._bucket, self._key, self._size, self._ref = session, bucket, key, size, ref
        self._journal, self._memory = journal, Memory(session, bucket, key)
        self._at: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._pool = ThreadPoolExecutor(PARALLEL, "s3")
        self._room = threading.Semaphore(PARALLEL)
        self._flight: list[Future[None]] = []
        self._handed: dict[int, list[bytes]]  # parts that were handed on, by their blocks' digests
        self._owed = set[int]()
        self._whole = self._ready = False
        self.expect(())

    # ---- which part ----------------------------------------------------------------------------------------------------------

    def expect(self, indexes: Sequence[int]) -> None:
        self._file = SparseVhd(self._size, CHUNK, list(indexes), uuid.uuid5(uuid.NAMESPACE_URL, self._ref.id))
        found = self._file.indexes
        many = max(GROUP, -(-len(found) // MOST_PARTS))
        self._groups = [tuple(found[at : at + many]) for at in range(0, len(found), many)] or [()]
        self._part = {index: number for number, group in enumerate(self._groups, 1) for index in group}
        self._filling: dict[int, dict[int, tuple[bytes, bytes]]] = {}
        self._handed = {}
        self._identity = hashlib.sha256(repr((self._size, found)).encode()).hexdigest()

    def _stake(self) -> str:
        """The id of the upload: the one that is remembered, if it lives; else a new one in place of all that there are."""
        living = [one["UploadId"] for one in objects.uploads(self._session, self._bucket, self._key)]
        if self._memory.upload in living:
            return self._memory.upload
        for upload in living:
            objects.abort(self._session, self._bucket, self._key, upload)
        about = {"v2c-job": self._ref["job"], "v2c-number": self._ref["number"], "v2c-size": str(self._size)}
        made = self._session.call(
            "s3",
            "create_multipart_upload",
            **self._at,
            ChecksumAlgorithm="SHA256",
            Metadata=about,
            ContentType="application/x-vhd",
        )
        self._memory.begin(made["UploadId"], self._identity)
        return str(made["UploadId"])

    def stake(self) -> None:
        """The upload exists, or the object that it became."""
        if self._noted() is None:
            self._stake()

    def _noted(self) -> str | None:
        """What was noted of a whole object that is still there."""
        noted = self._journal.noted(f"aws/{self._key}")
        there = objects.head(self._session, self._bucket, self._key) if noted else None
        return noted if noted and there and noted.startswith(f"{there['ETag']} ") else None

    @staticmethod
    def _identity_of(noted: str) -> str:
        return noted.rpartition(" ")[2]

    # ---- the writer's verbs --------------------------------------------------------------------------------------------------

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        written, noted = list(blocks.written()), self._noted()
        if noted and written and self._identity_of(noted) == self._identity and all(map(blocks.ours, written)):
            self._whole = True
            return iter(())
        if noted or not written:
            self._memory.remove()  # a map that knows of no block: what is there is of another life, or another worker's
        self._begin()
        held = set[int]()
        for number, about in list(self._memory.parts.items()):
            digests = [blocks.digest(index) for index in self._groups[number - 1]]
            if about[2] == _sum([digest or bytes(32) for digest in digests]) and UNKNOWN not in digests:
                held.update(self._groups[number - 1])
            else:
                self._memory.keep(number, None)
        self._owed = {index for index in written if index not in held and index in self._part}
        return iter([index for index in written if index not in held])

    def _begin(self) -> None:
        if self._ready:
            return
        upload = self._stake()
        if self._memory.identity != self._identity:
            self._memory.begin(upload, self._identity)
        there = {part["PartNumber"]: part["ETag"] for part in objects.parts(self._session, self._bucket, self._key, upload)}
        for number, about in list(self._memory.parts.items()):
            if there.get(number) != about[0] or number > len(self._groups):
                self._memory.keep(number, None)
        self._ready = True

    def put(self, index: int, data: Block, digest: bytes) -> None:
        if not 0 <= index * CHUNK < self._size:
            raise TargetError(f"block {index} lies beyond the end of {self._ref.id}")
        if self._dry_whole():
            return None  # a dry run has no blocks to compare
        if self._whole:
            self._journal.note(f"aws/{self._key}", "")
            raise TargetError(f"the disk changed under {self._ref.id}", remedy="the next try sends it anew", transient=True)
        self._begin()
        number = self._part.get(index)
        if number is None:
            raise TargetError(f"block {index} was not announced", remedy="report this: a file's table lists its blocks")
        if number in self._handed or number in self._memory.parts:
            return self._again(number, index, digest)
        filling = self._filling.setdefault(number, {})
        filling[index] = (bytes(data), digest)
        self._owed.discard(index)
        for before in [n for n in self._filling if n < number]:
            self._send(before)
        if len(filling) == len(self._groups[number - 1]):
            self._send(number)
        return None

    def _again(self, number: int, index: int, digest: bytes) -> None:
        """A block of a part that was handed on: harmless when it is the same, else the part is made anew by the next try."""
        known = self._handed.get(number) or [bytes.fromhex(told) for told in self._memory.parts[number][3:]]
        if known[self._groups[number - 1].index(index)] != digest:
            self.flush()
            self._memory.keep(number, None)
            raise TargetError(f"the disk changed under {self._ref.id}", remedy="the next try sends it anew", transient=True)

    def _send(self, number: int) -> None:
        """Hands a part on to be sent. What was announced and not put is zeros."""
        group, filled = self._groups[number - 1], self._filling.pop(number, {})
        pieces = [self._file.stored(filled[index][0] if index in filled else b"") for index in group]
        data = (self._file.head() if number == 1 else b"") + b"".join(pieces)
        data += self._file.footer if number == len(self._groups) else b""
        digests = [filled[index][1] if index in filled else bytes(32) for index in group]
        self._handed[number] = digests
        self._room.acquire()
        self._flight.append(self._pool.submit(self._upload, number, data, digests))
        self._flight = [one for one in self._flight if not one.done() or one.result()]

    def _upload(self, number: int, data: bytes, digests: list[bytes]) -> None:
        try:
            checksum = b64encode(hashlib.sha256(data).digest()).decode()
            about: dict[str, Any] = {"UploadId": self._memory.upload, "PartNumber": number, "ChecksumSHA256": checksum}
            made = self._session.call("s3", "upload_part", **self._at, **about, Body=data)
            self._memory.keep(number, [made["ETag"], checksum, _sum(digests), *(digest.hex() for digest in digests)])
        except ApiError as error:
            if error.code in GONE:
                text = f"another worker has taken {self._ref.id} over"
                raise BusyError(text, remedy="leave it to that one, or stop it and run again") from error
            raise
        finally:
            self._room.release()

    def flush(self) -> None:
        flight, self._flight = self._flight, []
        for part in flight:
            part.result()

    def _dry_whole(self) -> bool:
        if self._session.dry and not self._ready and not self._whole:
            self._whole = objects.head(self._session, self._bucket, self._key) is not None
        return self._session.dry and self._whole

    def commit(self) -> Ref:
        if self._whole or self._dry_whole():
            return self._ref
        self._begin()
        if self._owed:
            raise TargetError(f"{len(self._owed)} blocks of {self._ref.id} are not there", remedy="run it again", transient=True)
        for number in sorted(self._filling):
            self._send(number)
        self.flush()
        for number in range(1, len(self._groups) + 1):  # of nothing but zeros
            if number not in self._memory.parts and not self._session.dry:
                self._send(number)
        self.flush()
        parts = [
            {"PartNumber": number, "ETag": about[0], "ChecksumSHA256": about[1]}
            for number, about in sorted(self._memory.parts.items())
        ]
        made = self._completed(parts)
        self._journal.note(f"aws/{self._key}", f"{made['ETag']} {self._identity}")
        self._memory.remove()
        self._whole = True
        return self._ref

    def _completed(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """The object, of the length that was sent."""
        try:
            self._session.call(
                "s3", "complete_multipart_upload", **self._at, UploadId=self._memory.upload, MultipartUpload={"Parts": parts}
            )
        except ApiError as error:
            if error.code not in (*GONE, "InvalidPart"):
                raise
            if error.code == "InvalidPart":
                self._memory.begin(self._memory.upload, self._identity)
                raise TargetError(f"S3 lost a part of {self._ref.id}", remedy="they are sent again", transient=True) from error
        there = objects.head(self._session, self._bucket, self._key)  # also when the answer to an earlier try was lost
        if there is None or (there["ContentLength"] != self._file.length and not self._session.dry):
            self._memory.remove()
            found = f"{there['ContentLength']} bytes" if there else "nothing"
            text = f"S3 holds {found} of {self._ref.id}, sent were {self._file.length}"
            raise TargetError(text, remedy="the next try sends it anew", transient=True)
        return there

    def abandon(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._memory.remove()
        objects.remove(self._session, self._bucket, self._key)

    def close(self) -> None:
        """Ends the threads; what S3 holds stays."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _sum(digests: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def ref_of(bucket: str, job: str, number: int) -> Ref:
    """The staged disk of that number, in the machine's order."""
    return Ref.of("disk", f"s3://{bucket}/{objects.key(job, number)}", job=job, number=str(number))


@contextmanager
def writing(session: Session, bucket: str, plan: Plan, disk: Disk, journal: Journal) -> Iterator[S3Writer]:
    """The writer of a disk; what was put stays when it is left."""
    number, planned = next((n, p) for n, p in enumerate(plan.disks) if p.disk == disk.id)
    ref = ref_of(bucket, journal.job, number)
    writer = S3Writer(session, bucket, objects.key(journal.job, number), planned.target_size, ref, journal)
    try:
        if ref not in journal.refs("disk"):
            with journal.intent("disk", ref.id, {names.TAG: journal.job}) as intent:
                writer.stake()
                intent.done(ref)
        yield writer
        writer.flush()
    finally:
        writer.close()


def read(session: Session, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Blocks of a staged disk, by the table that its file begins with."""
    bucket, _, key = disk.id.removeprefix("s3://").partition("/")
    size = plan.disks[int(disk["number"])].target_size
    head = objects.ranged(session, bucket, key, 0, data_at(size))
    for index, at in places(head, size, CHUNK, indexes):
        length = min(CHUNK, size - index * CHUNK)
        if not at:
            yield index, bytes(length)
            continue
        half = length // 2  # two blocks, the second's bitmap between them
        data = objects.ranged(session, bucket, key, at, length + 512)
        yield index, data[:half] + data[half + 512 :]
