"""Pages of a fixed VHD to where they go: what is not zero, in blocks of 4 MiB, several at once; resumed by what is there."""

import threading
import uuid
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Protocol

from v2c.blocks import Block, BlockMap
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import Disk, DiskPlan, Plan, Ref
from v2c.targets.azure.pageblob import CHUNK, Blob
from v2c.targets.azure.place import JOB
from v2c.targets.azure.session import Session
from v2c.targets.writers.raw import FOOTER, vhd_footer
from v2c.transfer import DiskWriter

PARALLEL = 8  # pages in flight: 8 fill 60 MiB/s up to 500 ms of round trip
STAMP = 0  # the footer's time, so that the same disk has the same footer


class State(StrEnum):
    """How far a disk's pages are: not there, taking some, complete, or closed before it was complete."""

    ABSENT = "absent"
    OPEN = "open"
    SEALED = "sealed"
    CLOSED = "closed"


class Sink(Protocol):
    """Where the pages of a fixed VHD go. One worker writes at a time: `take` fences every other off."""

    session: Session
    name: str

    def state(self, job: str) -> State:
        """What is there; TargetError when it is not the job's."""
        ...

    def create(self, plan: Plan, disk: Disk, planned: DiskPlan, *, boots: bool) -> None:
        """Makes it, empty."""
        ...

    def take(self) -> Any:
        """A client that writes it, and that no other worker has."""
        ...

    def renew(self) -> Any:
        """Another client, when the one at hand was refused."""
        ...

    def said(self) -> dict[str, Any]:
        """What each write has to say besides: who writes."""
        ...

    def seal(self) -> None:
        """It is complete."""
        ...

    def delete(self) -> None:
        """Absent is success."""
        ...


@contextmanager
def writing(sink: Sink, ref: Ref, plan: Plan, disk: Disk, journal: Journal) -> Iterator[DiskWriter]:
    """Makes the sink, or finds it again. It is taken when something is to be sent, and not before."""
    number, planned = next((n, p) for n, p in enumerate(plan.disks) if p.disk == disk.id)

    def make() -> None:
        sink.create(plan, disk, planned, boots=number == 0)

    def remake() -> None:
        sink.delete()
        make()

    state = sink.state(journal.job)
    if state is State.ABSENT or ref not in journal.refs("disk"):
        with journal.intent("disk", ref.id, {JOB: journal.job}) as intent:
            if state is State.ABSENT:
                make()
            intent.done(ref)
    if state is State.CLOSED:
        remake()  # its SAS was ended too early: it takes no pages any more
    sealed = state is State.SEALED
    yield PageWriter(sink, planned.target_size, ref, sealed=sealed, remake=remake, meter=sink.session.meter)


class PageWriter:
    """A DiskWriter over a sink. `remake` makes it anew when it was closed with other contents than ours."""

    chunk = CHUNK

    def __init__(self, disk: Sink, size: int, ref: Ref, *, sealed: bool, remake: Callable[[], None], meter: Meter) -> None:
        self.disk, self.size, self.ref = disk, size, ref
        self._sealed, self._remake, self._meter = sealed, remake, meter
        self._blob: Blob | None = None
        self._lock = threading.Lock()
        self._put: set[int] = set()
        self._zeros = bytes(CHUNK)

    def _open(self) -> Blob:
        with self._lock:
            if self._blob is None:
                self._blob = Blob(self.disk.take(), self.disk.renew, self._meter)
                self._measure(self._blob)
            return self._blob

    def _measure(self, blob: Blob) -> None:
        """The blob exists already and must have the VHD's length to the byte."""
        found = blob.call(f"the disk {self.disk.name} cannot be read", lambda b: b.get_blob_properties().size)
        if found != self.size + FOOTER:
            raise TargetError(
                f"the disk {self.disk.name} takes {found} bytes, and {self.size + FOOTER} are to be uploaded",
                remedy="clean the job up and use --again",
            )

    def expect(self, indexes: Sequence[int]) -> None:
        """Nothing to prepare."""

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        """By the ranges that the service lists. What it holds and nobody here knows of (another worker's) is cleared."""
        written = list(blocks.written())
        if self._sealed:
            if written and all(map(blocks.ours, written)):
                return iter(())
            self._remake()
            self._sealed = False
        blob = self._open()
        ranges = blob.ranges(self.disk.name)
        lacking = [index for index in written if not _covered(ranges, *self._bounds(index))]
        self._forget_strangers(blob, ranges, set(written))
        self._put = set(written).difference(lacking)
        return iter(lacking)

    def _bounds(self, index: int) -> tuple[int, int]:
        return index * CHUNK, min((index + 1) * CHUNK, self.size)

    def _forget_strangers(self, blob: Blob, ranges: Sequence[tuple[int, int]], ours: set[int]) -> None:
        runs: list[tuple[int, int]] = []
        for start, end in ranges:
            for index in range(start // CHUNK, -(-min(end, self.size) // CHUNK)):
                first, last = self._bounds(index)
                if index in ours or first >= self.size:
                    continue
                if runs and runs[-1][1] == first:
                    runs[-1] = (runs[-1][0], last)
                elif not runs or runs[-1][1] < first:
                    runs.append((first, last))
        for first, last in runs:
            self._clear(blob, first, last)

    def _clear(self, blob: Blob, first: int, last: int) -> None:
        blob.call(
            f"pages of {self.disk.name} cannot be cleared",
            lambda b: b.clear_page(offset=first, length=last - first, **self.disk.said()),
        )

    def put(self, index: int, data: Block, digest: bytes) -> None:
        first, last = self._bounds(index)
        if index < 0 or not 0 < len(data) <= last - first:
            raise TargetError(f"block {index} of {len(data)} bytes does not fit into the {self.size} bytes of {self.disk.name}")
        dry = self.disk.session.shadow is not None
        if self._sealed and dry:
            return  # a run in earnest knows by its map that the block is there
        if self._sealed:
            # It was closed by a run that knew more blocks than this one: the next try finds it gone and sends all.
            with self._lock:
                if self._sealed:
                    self._remake()
                    self._sealed = False
            raise TargetError(f"the disk {self.disk.name} was closed already and is made anew", transient=True)
        blob = self._open()
        # whole, so that what is listed tells whether it is there
        page = data if len(data) == last - first else bytes(data).ljust(last - first, b"\0")
        if not dry and page == (self._zeros if len(page) == CHUNK else bytes(len(page))):
            self._clear(blob, first, last)
            self._put.discard(index)
            return
        blob.call(
            f"a page of {self.disk.name} cannot be sent",
            # a view: the SDK slices what it is given, and a copy of 4 MiB costs a third of the processor time of a page
            lambda b: b.upload_page(memoryview(page), offset=first, length=last - first, **self.disk.said()),
            count=last - first,
        )
        self._put.add(index)

    def flush(self) -> None:
        """A page that was confirmed is stored."""

    def commit(self) -> Ref:
        """Writes the footer, compares the list of pages with what was put, ends the SAS, and waits for "Unattached"."""
        if self._sealed:
            return self.ref
        blob = self._open()
        footer = vhd_footer(self.size, uuid.uuid5(uuid.NAMESPACE_URL, self.ref.id), STAMP)
        what = f"the footer of {self.disk.name} cannot be sent"
        blob.call(what, lambda b: b.upload_page(footer, offset=self.size, length=FOOTER, **self.disk.said()), count=FOOTER)
        ranges = blob.ranges(self.disk.name)
        bounds = [*(self._bounds(index) for index in sorted(self._put)), (self.size, self.size + FOOTER)]
        if lost := [start for start, end in bounds if not _covered(ranges, start, end)]:
            text = f"{len(lost)} blocks of {self.disk.name} were confirmed and are not there, the first at byte {lost[0]}"
            raise TargetError(text, remedy="they are sent again", transient=True)
        self.disk.seal()
        self._sealed, self._blob = True, None
        return self.ref

    def abandon(self) -> None:
        self._blob = None
        self.disk.delete()


def pages_of(blob: Blob, name: str, size: int, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Blocks of a disk that is complete, in the order asked, several ahead."""

    def fetch(index: int) -> bytes:
        offset = index * CHUNK
        length = min(CHUNK, size - offset)
        what = f"block {index} of {name} cannot be read"
        found: bytes = blob.call(what, lambda b: b.download_blob(offset=offset, length=length).readall())
        return found

    with ThreadPoolExecutor(PARALLEL // 2, "read-back") as pool:
        ahead: deque[tuple[int, Future[bytes]]] = deque()
        for index in indexes:
            ahead.append((index, pool.submit(fetch, index)))
            if len(ahead) >= PARALLEL:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()


def _covered(ranges: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether the disjoint, ascending ranges hold all of [start, end)."""
    at = bisect_right(ranges, (start, 1 << 62)) - 1
    while start < end and 0 <= at < len(ranges) and ranges[at][0] <= start < ranges[at][1]:
        start, at = ranges[at][1], at + 1
    return start >= end
