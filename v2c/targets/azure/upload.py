"""Pages into a managed disk under upload: what is not zero, in blocks of 4 MiB, several at once; resumed by what it holds."""

import threading
import time
import uuid
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from v2c.blocks import Block, BlockMap
from v2c.errors import Paused, TargetError
from v2c.events import Meter
from v2c.model import MIB, Ref
from v2c.patience import Patience
from v2c.targets.azure.disks import FOOTER, ManagedDisk
from v2c.targets.azure.pace import Pace
from v2c.targets.azure.session import Session, code_of, passing, retry_after, status_of, told
from v2c.targets.writers.raw import vhd_footer

CHUNK = 4 * MIB  # the most that one Put Page takes
PARALLEL = 8  # pages in flight: 8 fill 60 MiB/s up to 500 ms of round trip
RENEWED = {"AuthenticationFailed"}  # the service's word for a SAS that ran out or was ended
READ_S = 3600  # of a read SAS
STAMP = 0  # the footer's time, so that the same disk has the same footer


class Renewed(Exception):
    """The SAS was replaced: the same page may be tried again at once."""


class Blob:
    """The page blob behind a SAS, which is replaced when it runs out. Thread-safe."""

    def __init__(self, session: Session, sas: str, renew: Callable[[], str], meter: Meter) -> None:
        self._session, self._renew, self._meter = session, renew, meter
        self._lock = threading.Lock()
        self._client = client(session, sas)
        self.pace = Pace()
        self.patience = Patience(meter)

    def call(self, what: str, ask: Callable[[Any], Any], count: int = 0) -> Any:
        """`ask(client)`, again and again while the failure is a passing one. `count`: bytes that it sends, for the pace."""

        def once() -> Any:
            self._wait(self.pace.turn(count) if count else 0.0)
            at_hand = self._client
            try:
                answer = ask(at_hand)
            except Exception as error:
                if status_of(error) == 403 and code_of(error) in RENEWED:
                    self._replace(at_hand)
                    raise Renewed from None
                if status_of(error) in (429, 503):
                    self.pace.busy(retry_after(error))
                raise
            if count:
                self.pace.fine(count)
            return answer

        try:
            return self.patience(once, _passing)
        except (TargetError, Paused):
            raise
        except Exception as error:
            raise told(what, error) from None  # no chain: the SDK's own words may hold the SAS

    def _replace(self, used: Any) -> None:
        """Another SAS, unless another thread has just got one."""
        with self._lock:
            if self._client is used:
                self._client = client(self._session, self._renew())

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._meter.cancelled():
                raise Paused("stopped while pages were being sent", remedy="the same command goes on")
            time.sleep(min(left, 0.2))

    def ranges(self, name: str) -> list[tuple[int, int]]:
        """The half-open ranges of bytes that were written, ascending."""
        found = self.call(f"the pages of {name} cannot be listed", lambda blob: list(blob.list_page_ranges()))
        return [(one.start, one.end + 1) for one in found if not one.cleared]


def _passing(error: Exception) -> str | None:
    return "the SAS was renewed" if isinstance(error, Renewed) else passing(error)


def client(session: Session, sas: str) -> Any:
    """The SDK's client of the blob that the SAS opens."""
    from azure.storage.blob import BlobClient

    cut: dict[str, Any] = {"max_single_get_size": CHUNK, "max_chunk_get_size": CHUNK}
    return BlobClient.from_blob_url(sas, transport=session.transport(), retry_total=0, **cut)


class PageWriter:
    """A DiskWriter over a managed disk. `remake` makes the disk anew when it was closed with other contents than ours."""

    chunk = CHUNK

    def __init__(self, disk: ManagedDisk, size: int, ref: Ref, *, sealed: bool, remake: Callable[[], None], meter: Meter) -> None:
        self.disk, self.size, self.ref = disk, size, ref
        self._sealed, self._remake, self._meter = sealed, remake, meter
        self._blob: Blob | None = None
        self._lock = threading.Lock()
        self._put: set[int] = set()
        self._zeros = bytes(CHUNK)

    def _open(self) -> Blob:
        with self._lock:
            if self._blob is None:
                self._blob = Blob(self.disk.session, self.disk.take(), self.disk.renew, self._meter)
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
        blob.call(f"pages of {self.disk.name} cannot be cleared", lambda b: b.clear_page(offset=first, length=last - first))

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
            lambda b: b.upload_page(memoryview(page), offset=first, length=last - first),
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
        blob.call(what, lambda b: b.upload_page(footer, offset=self.size, length=FOOTER), count=FOOTER)
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


def pages_of(disk: ManagedDisk, size: int, indexes: Sequence[int], meter: Meter) -> Iterator[tuple[int, bytes]]:
    """Blocks of a disk whose upload is over, in the order asked, by a read SAS that is ended at the end."""
    blob = Blob(disk.session, disk.readable(READ_S), lambda: disk.readable(READ_S), meter)

    def fetch(index: int) -> bytes:
        offset = index * CHUNK
        length = min(CHUNK, size - offset)
        what = f"block {index} of {disk.name} cannot be read"
        found: bytes = blob.call(what, lambda b: b.download_blob(offset=offset, length=length).readall())
        return found

    try:
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
    finally:
        disk.revoke()


def _covered(ranges: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether the disjoint, ascending ranges hold all of [start, end)."""
    at = bisect_right(ranges, (start, 1 << 62)) - 1
    while start < end and 0 <= at < len(ranges) and ranges[at][0] <= start < ranges[at][1]:
        start, at = ranges[at][1], at + 1
    return start >= end
