"""The disk as one object: a sparse tar.gz, made as it is sent, by one resumable upload; nothing is staged here.

A worker that goes on asks the session how much it holds, makes the stream again from the last block that ended there, and
compares what it made with the digest of what was sent; where they differ all is sent anew, and said. A worker without a block
map takes the disk over: it fences the earlier one off (resumable.py) and sends all by a session of its own.
"""

import hashlib
import os
import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from v2c import state
from v2c.blocks import UNKNOWN, Block, BlockMap
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import MIB, Ref
from v2c.patience import Patience
from v2c.targets.gcp.buffers import Buffers
from v2c.targets.gcp.names import TAG
from v2c.targets.gcp.resumable import GONE, STATE, Thing, Upload, extended, told
from v2c.targets.gcp.session import ApiError, Session, failures, passing, refused
from v2c.targets.gcp.tracker import BEGIN, NOBODY, Entry, Tracker
from v2c.targets.writers.part import CHUNK
from v2c.targets.writers.tar import Archive, packed, summed

REQUEST = 16 * MIB  # bytes per request: large enough for a long line, small enough that two per disk fit in memory
PACKERS = min(4, os.cpu_count() or 1)  # blocks packed at once: packing takes five times as long as all else that a block needs
UNIT = 256 * 1024  # what a request that is not the last holds multiples of (Cloud Storage, "Resumable uploads")


class UploadWriter:
    """A DiskWriter whose `put` comes from one thread in ascending order; blocks are packed by several, and one request is under
    way while the next is made."""

    chunk = CHUNK

    def __init__(self, session: Session, bucket: str, name: str, size: int, ref: Ref, journal: Journal) -> None:
        self.session, self.bucket, self.name, self.size, self.ref, self.journal = session, bucket, name, size, ref, journal
        self._archive = Archive(size, self.chunk)
        self._closing = False
        known = session.patience
        self._patience = Patience(Meter(cancelled=lambda: self._closing), known.limit_s, known.first_s, known.most_s)
        self._upload = Upload(session, bucket, name, ref, self._patience)
        self._pool = ThreadPoolExecutor(1, "upload")
        self._packers = ThreadPoolExecutor(PACKERS, "pack")
        self._packing: deque[_Piece] = deque()  # in the order of the stream
        self._flight: Future[Any] | None = None
        self._ready = self._whole = False
        self._broken: Exception | None = None
        self._repeat: Entry | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self._ready and not self._whole and self._broken is None:
                self.flush()
        finally:
            self._end_threads()
            if self._ready:
                self._tracker.close()

    def _end_threads(self) -> None:
        self._closing = True
        for pool in (self._pool, self._packers):
            pool.shutdown(wait=True, cancel_futures=True)

    # ---- DiskWriter --------------------------------------------------------------------------------------------------------

    def expect(self, indexes: Sequence[int]) -> None:
        self._archive.announce(indexes)

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        written = list(blocks.written())
        self._open(anew=not written)  # a map that knows of no block: what is there is of another life, or another worker's
        if self._whole:
            return iter(())
        for index in written:
            held = self._tracker.digest(index)
            if held is not None and blocks.digest(index) not in (held, UNKNOWN):
                self._drop(f"block {index} is another one now")
                self._open(anew=True)
                break
        return iter([index for index in written if self._tracker.digest(index) is None])

    def put(self, index: int, data: Block, digest: bytes) -> None:
        if index < 0 or index * self.chunk + len(data) > self.size:
            raise TargetError(f"block {index} ({len(data)} bytes) lies beyond the {self.size} bytes of {self.ref.id}")
        self._begin()
        if self._whole:
            raise self._changed()
        if digest in (self._tracker.digest(index), next((p.digest for p in self._packing if p.index == index), None)):
            return
        if index <= self._last:
            raise self._changed()
        if not self._archive.announced(index):
            raise TargetError(f"block {index} was not announced", remedy="report this: a stream's head lists its blocks")
        self._fill(index)
        self._block(index, data, digest)

    def flush(self) -> None:
        if self._ready and not self._whole and self._broken is None:
            self._packed()
            self._launch(len(self._pending) // UNIT * UNIT)
            self._landed()
            self._tracker.keep(self._sent, bytes(self._pending.view()))
            self._tracker.sync()

    def commit(self) -> Ref:
        self._begin()
        if self._whole:
            return self.ref
        if self._owed:
            raise TargetError(f"{len(self._owed)} blocks of {self.ref.id} are not there", remedy="run it again", transient=True)
        self._fill(-(-self.size // self.chunk))
        self._packed()
        tail = self._archive.tail(self._checksum)
        total, crc32c = self._end + len(tail), extended(self._crc32c, tail)
        self._landed()
        self._pending.add(tail[self._skip :])
        made = self._guarded(
            lambda: self._upload.send(self._tracker.session, self._pending.view(), self._sent, total=total, crc32c=crc32c)
        )
        self._compare(made, total, crc32c)
        self._tell(made)
        return self.ref

    def abandon(self) -> None:
        self._end_threads()
        tracker = self._tracker if self._ready else Tracker(self._path)
        there, mine = self._upload.look(), tracker.generation
        tracker.remove()
        taken = self._ready and not self._whole and there is not None and str(there["generation"]) != mine
        self._ready = self._whole = False
        if taken:
            return  # it is another worker's now
        for found in self.session.objects(self.bucket, self.name):
            self._upload.remove(found["name"])

    # ---- the session -------------------------------------------------------------------------------------------------------

    def stake(self) -> None:
        """The placeholder is there: made, or found. Harmless twice."""
        if self._upload.look() is None:
            self._upload.fence(None)

    @property
    def _path(self) -> Path:
        return tracker_of(self.session, self.bucket, self.name)

    def _begin(self) -> None:
        if self._broken is not None:
            raise TargetError(f"the upload of {self.ref.id} was broken off", transient=True) from self._broken
        if not self._ready:
            self._open(anew=False)

    def _open(self, *, anew: bool) -> None:
        """Goes on where the session stands; begins one where there is none, or none to go on with."""
        self._tracker = Tracker(self._path)
        self._ready, self._whole, self._owed = True, False, set[int]()
        self._pending, self._repeat, self._broken = Buffers(REQUEST + 2 * CHUNK), None, None
        self._packing.clear()
        found = self._upload.look()
        identity = hashlib.sha256(f"{self.size} {self.chunk} ".encode() + self._archive.identity()).hexdigest()
        mine = self._tracker
        if not anew and found and found["metadata"].get(STATE) == "whole" and self._known(found, identity):
            self._whole = True
            return
        if not anew and mine.session and mine.identity == identity:
            held = self._held(found)
            if isinstance(held, int):
                self._continue(held)
                return
            self.journal.act("begin the upload anew", f"{self.ref.id}: {held}")
        generation = self._upload.fence(found)
        if mine.session:
            self._upload.cancel(mine.session)
        mine.begin(self._upload.begin(generation), generation, identity)
        self._continue(0)

    def _known(self, found: Thing, identity: str) -> bool:
        """Whether a whole object is what this job sent: compared already, or, after a kill at the very end, now."""
        if self.journal.noted(f"gcp/{self.name}") == f"{found['generation']} {found.get('crc32c', '')}":
            return True
        if not self._tracker.session or self._tracker.identity != identity or not len(self._tracker):
            return False
        last = self._tracker.entry(len(self._tracker) - 1)
        tail = self._archive.tail(last.checksum)
        if found.get("crc32c") != told(extended(last.crc32c, tail)) or int(found["size"]) != last.end + len(tail):
            return False
        self._tell(found)
        return True

    def _held(self, found: Thing | None) -> int | str:
        """Bytes that our session holds; or why it is over."""
        if found is None or found["metadata"].get(STATE) != "open" or str(found["generation"]) != self._tracker.generation:
            return "the name was taken by another upload"
        try:
            held = self._patience(lambda: self._upload.status(self._tracker.session), passing)
        except ApiError as error:
            if error.status in GONE:
                return "the upload session is over"
            raise refused(error, f"the upload to {self.ref.id} cannot go on") from error
        except failures() as error:
            raise refused(error, f"the upload to {self.ref.id} cannot go on") from error
        return held if isinstance(held, int) else "it ended without being compared"

    def _continue(self, held: int) -> None:
        """The server holds that many bytes: the stream goes on from the last entry that ended there or before."""
        tracker = self._tracker
        self._sent = held
        self._pending.add(tracker.kept(held))
        held += len(self._pending)
        count = bisect_right(tracker.ends, held)
        owed, first = tracker.cut(count)
        self._owed = {index for index in owed if index != BEGIN}
        last = tracker.entry(count - 1) if count else None
        self._last = last.index if last and last.index != BEGIN else -1
        self._end, self._checksum, self._crc32c = (last.end, last.checksum, last.crc32c) if last else (0, 0, 0)
        self._skip = held - self._end
        self._repeat = first if self._skip else None
        if last is None:
            piece, self._checksum = self._archive.head()
            self._write(BEGIN, piece, NOBODY, _told(piece), self._checksum)

    def _drop(self, why: str) -> None:
        """Ends the session: what it holds is of no use."""
        self.journal.act("begin the upload anew", f"{self.ref.id}: {why}")
        if self._tracker.session:
            self._upload.cancel(self._tracker.session)
        self._tracker.remove()
        self._packing.clear()
        if self._whole:  # else the note is nobody's, or of the worker that took the disk over
            self.journal.note(f"gcp/{self.name}", "")
        self._ready = self._whole = False
        self._broken = TargetError(why)

    def _changed(self) -> TargetError:
        self._drop("the disk changed under a stream that cannot be rewritten in place")
        return TargetError(f"the disk changed under {self.ref.id}", remedy="the next try sends it anew", transient=True)

    # ---- the stream --------------------------------------------------------------------------------------------------------

    def _fill(self, before: int) -> None:
        """Blocks that were announced and turned out to be zeros have their place in the stream."""
        for gap in self._archive.gaps(self._last, before):
            self._block(gap, bytes(min(self.chunk, self.size - gap * self.chunk)), NOBODY)

    def _block(self, index: int, data: Block, digest: bytes) -> None:
        whole = self._archive.whole(index, data)
        self._checksum = summed(whole, self._checksum)
        self._packing.append(_Piece(index, digest, self._checksum, self._packers.submit(_made, whole)))
        self._last = index
        self._owed.discard(index)
        self._packed(PACKERS)

    def _packed(self, most: int = 0) -> None:
        """Writes what is packed, until no more than `most` blocks are on their way there."""
        while len(self._packing) > most:
            piece = self._packing.popleft()
            data, sent = piece.made.result()
            self._write(piece.index, data, piece.digest, sent, piece.checksum)

    def _write(self, index: int, piece: bytes, digest: bytes, sent: bytes, checksum: int) -> None:
        end = self._end + len(piece)
        if self._repeat is not None:
            before, self._repeat = self._repeat, None
            if (before.index, before.end, before.piece) != (index, end, sent):
                self._drop(f"block {index} made again differs from what was sent")
                raise TargetError(f"what is sent to {self.ref.id} changed", remedy="the next try sends it anew", transient=True)
        self._crc32c = extended(self._crc32c, piece)
        self._tracker.append(Entry(index, end, checksum, self._crc32c, digest, sent))
        self._end = end
        self._pending.add(memoryview(piece)[self._skip :])
        self._skip = max(0, self._skip - len(piece))
        if len(self._pending) >= REQUEST:
            self._launch(len(self._pending) // UNIT * UNIT)

    def _launch(self, count: int) -> None:
        """Sends the first `count` bytes that wait, when what is under way has arrived."""
        if count:
            self._landed()
            data = self._pending.take(count)
            self._flight = self._pool.submit(self._upload.send, self._tracker.session, data, self._sent)
            self._sent += count

    def _landed(self) -> None:
        """What is under way has arrived."""
        flight, self._flight = self._flight, None
        if flight is not None:
            self._guarded(flight.result)

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Turns what went wrong with the upload into the error it is; nothing more is sent by this writer."""
        try:
            return call()
        except ApiError as error:
            self._broken = error
            if error.status == 412:
                raise self._upload.taken() from error
            if error.status == 400 and "CRC32C" in error.text:  # what a resumed upload held is not what was remembered of it
                self._drop("Google calculates another checksum")
                raise TargetError(f"{self.ref.id}: {error.text}", remedy="the next try sends it anew", transient=True) from error
            if error.status in GONE:
                text, remedy = f"the upload session of {self.ref.id} is over", "the next try sends it anew"
                raise TargetError(text, remedy=remedy, transient=True) from error
            raise refused(error, f"{self.ref.id} was not taken") from error
        except failures() as error:
            self._broken = error
            raise refused(error, f"{self.ref.id} was not taken") from error
        except BaseException as error:
            self._broken = error if isinstance(error, Exception) else None
            raise

    # ---- the end -----------------------------------------------------------------------------------------------------------

    def _compare(self, made: Thing, total: int, crc32c: int) -> None:
        if made.get("crc32c") == told(crc32c) and int(made.get("size", -1)) == total:
            return
        self._drop(
            f"Google holds {made.get('size')} bytes with CRC32C {made.get('crc32c')}, sent were {total} with {told(crc32c)}"
        )
        self._upload.remove(self.name, ifGenerationMatch=str(made.get("generation", "")))
        text = f"{self.ref.id} is not what was sent: its checksum differs"
        raise TargetError(text, remedy="the next try sends it anew", transient=True)

    def _tell(self, made: Thing) -> None:
        """Where each block lies in the object, for who reads it back; and that it was compared."""
        tracker = self._tracker
        starts = b"".join(struct.pack("<QQ", *pair) for pair in zip(tracker.indexes, tracker.ends, strict=True))
        labels = {TAG: self.journal.job, "v2c-generation": str(made["generation"]), STATE: "index"}
        about = {
            "name": index_of(self.name, str(made["generation"])),
            "contentType": "application/octet-stream",
            "metadata": labels,
        }
        self._guarded(lambda: self._upload.insert(about, starts))
        self.journal.note(f"gcp/{self.name}", f"{made['generation']} {made['crc32c']}")
        tracker.remove()
        self._whole = True


@dataclass(frozen=True, slots=True)
class _Piece:
    """A block on its way into the stream: its digest, the CRC-32 of the archive behind it, and the piece with its own digest."""

    index: int
    digest: bytes
    checksum: int
    made: Future[tuple[bytes, bytes]]


def _made(whole: bytes) -> tuple[bytes, bytes]:
    piece = packed(whole)
    return piece, _told(piece)


def _told(piece: bytes) -> bytes:
    """By which a piece that is made again is compared with what was sent."""
    return hashlib.sha256(piece).digest()[:16]


def index_of(name: str, generation: str) -> str:
    """The object that tells where each block lies in that generation of the disk's."""
    return f"{name}.{generation}.index"


def forget(session: Session, bucket: str, name: str) -> None:
    """Removes what this machine remembers of an upload."""
    Tracker(tracker_of(session, bucket, name)).remove()


def tracker_of(session: Session, bucket: str, name: str) -> Path:
    """Where this machine remembers an upload."""
    whose = f"{session.endpoints.storage}/{bucket}/{name}"
    return state.private_folder(state.default_folder() / "uploads") / hashlib.sha256(whose.encode()).hexdigest()[:32]
