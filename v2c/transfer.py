"""Extents -> chunks -> writer: what is read once, digested, and sent once."""

import hashlib
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from v2c import nbd, tails
from v2c.blocks import UNKNOWN, Block, BlockMap
from v2c.errors import Paused
from v2c.events import Meter
from v2c.model import GIB, KIB, MIB, Ref
from v2c.nbd import Client, Export, Scattered
from v2c.rawfile import RawFile
from v2c.throttle import Taking, Throttle

__all__ = ["Block", "BlockMap", "DiskWriter", "Throttle", "TransferResult", "transfer"]

REQUEST = 4 * MIB  # bytes per read; larger ones are no faster
AHEAD = 8 * MIB  # bytes of reads on the way,
READS = 16  # and how many they are at most
VIEWS = 512  # buffers of a read; the kernel takes 1024
GAP = 64 * KIB  # a hole shorter than a cluster of qcow2 is cheaper read than asked around
CHECKPOINT = 30.0  # seconds between flushes of the target: what a power loss can cost
WINDOW = 4 * GIB  # how far ahead the block map says what will be written, with one fsync
SECTOR = 512


class DiskWriter(Protocol):
    """A disk being built at a target, in blocks of `chunk` bytes (the last one may be shorter in the source; `put` gets it
    padded with zeros to a multiple of 512, never beyond the target's size)."""

    @property
    def chunk(self) -> int:
        """Bytes per block."""
        ...

    def expect(self, indexes: Sequence[int]) -> None:
        """Called once, before `missing` and the first `put`, with every index of the disk that holds data, ascending, those
        written by earlier attempts too. Streams whose head lists their content (tar) need it; for others it does nothing.
        An index that turns out to be zeros need not be put."""
        ...

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        """Of the indexes that the map says were written, those that the target does not hold (after a crash, a new session)."""
        ...

    def put(self, index: int, data: Block, digest: bytes) -> None:
        """Writes one block; `digest` is its SHA-256. `data` is valid until it returns: copy what is kept. Harmless twice.
        Called from several threads where the target says so."""
        ...

    def flush(self) -> None:
        """All that was put (and returned) survives a power loss. Where `put` may come from several threads, so may this."""
        ...

    def commit(self) -> Ref:
        """The disk is complete. Raises TargetError when what the target holds is not what was put."""
        ...

    def abandon(self) -> None:
        """Removes what was written."""
        ...


@dataclass(frozen=True, slots=True)
class TransferResult:
    """How a transfer went: blocks and bytes put at the target, bytes of blocks that it held already, bytes read from the
    source and its overlay, and the disk's fingerprint (SHA-256 over index and digest of every block that is not zero, in hex:
    the same however often the transfer was cut off)."""

    sent_blocks: int
    sent_bytes: int
    skipped_bytes: int
    digest: str
    read_bytes: int = 0


class _Layout:
    """The runs of data of an export, each with where to read it: 0 the export itself, 1 what lies below it."""

    def __init__(self, top: Client, split: bool) -> None:
        self._starts, self._ends, self._from = array("Q"), array("Q"), array("B")
        depth = self._depths(top) if split else iter(())
        until, low = (0, 0) if split else (top.size, 0)
        for extent in top.extents():
            at, end = extent.offset, extent.offset + extent.length
            while extent.data and at < end:
                while until <= at:
                    until, low = next(depth)
                stop = min(end, until)
                self._starts.append(at)
                self._ends.append(stop)
                self._from.append(low)
                at = stop

    @staticmethod
    def _depths(top: Client) -> Iterator[tuple[int, int]]:
        """(end, whether it lies below) over the export: only depth 1 is the overlay's own."""
        for offset, length, depth in top.status(nbd.DEPTH):
            yield offset + length, int(depth > 1)

    def chunks(self, chunk: int) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
        """(index, [(from, start, end)...]) for each block that holds data, ascending."""
        index, pieces = -1, list[tuple[int, int, int]]()
        for start, end, low in zip(self._starts, self._ends, self._from, strict=True):
            while start < end:
                stop = min(end, (start // chunk + 1) * chunk)
                if start // chunk != index:
                    if pieces:
                        yield index, pieces
                    index, pieces = start // chunk, []
                if pieces and pieces[-1][0] == low and start - pieces[-1][2] < GAP:
                    pieces[-1] = (low, pieces[-1][1], stop)
                else:
                    pieces.append((low, start, stop))
                start = stop
        if pieces:
            yield index, pieces


def transfer(
    export: Export,
    writer: DiskWriter,
    blocks: BlockMap,
    *,
    generation: str,
    capture: str,
    parallel: int = 1,
    sequential: bool = False,
    below: Export | None = None,
    size: int | None = None,
    throttle: Taking | None = None,
    meter: Meter | None = None,
) -> TransferResult:
    """Sends every block of the export that is not zero and that the target does not hold yet; each byte is read once at most.

    `below` is what the export, an overlay served with `qemu:allocation-depth`, lies on: what the overlay left alone is read
    from there, one server instead of two. With `sequential` blocks come in ascending order from one thread, else from
    `parallel` threads in any order. `size`: the disk's size at the target in bytes; where it is larger than the export, a GPT's
    backup is moved to the new end on the way. Cut off at any moment, the same call goes on. Does not commit the writer.

    Raises Paused when the meter is cancelled, and what reader and writer raise.
    """
    sender = _Transfer(writer, blocks, parallel, sequential, throttle, meter or Meter())
    return sender.run(export, below, generation, capture, size or export.size)


def _reader(export: Export, stack: ExitStack) -> Client | RawFile:
    if export.raw:
        return stack.enter_context(RawFile(export))
    return stack.enter_context(nbd.connect(export, contexts=()))


class _Transfer:
    def __init__(
        self,
        writer: DiskWriter,
        blocks: BlockMap,
        parallel: int,
        sequential: bool,
        throttle: Taking | None,
        meter: Meter,
    ) -> None:
        self.writer, self.blocks, self.throttle, self.meter = writer, blocks, throttle, meter
        self.chunk = writer.chunk
        self.sequential = sequential
        self.threads = 1 if sequential else max(1, parallel)
        self.missing: set[int] = set()
        self.holds: set[int] = set()  # what may hold something at the target
        self.sent_blocks = self.sent_bytes = self.skipped_bytes = self.read_bytes = 0
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._room = threading.Semaphore(self.threads + 2)
        self._spare: list[bytearray] = []
        self._open: dict[int, bytearray] = {}  # blocks that reads were asked for
        self._asked = 0.0
        self._zeros = bytes(self.chunk)

    def run(self, export: Export, below: Export | None, generation: str, capture: str, size: int) -> TransferResult:
        with ExitStack() as stack:
            contexts = (nbd.ALLOCATION, nbd.DEPTH) if below else (nbd.ALLOCATION,)
            top = stack.enter_context(nbd.connect(export, contexts=contexts))
            self.size = max(size, top.size)
            self.patches = tails.patches(top, self.size)
            split = below is not None and nbd.DEPTH in top.contexts
            sources = [export, below] if below is not None and split else [export]
            readers = [_reader(one, stack) for one in sources]
            layout = _Layout(top, split)

            self.blocks.begin(capture, generation, self.chunk)
            data = array("Q", (index for index, _ in layout.chunks(self.chunk)))
            made = tails.indexes(self.patches, self.chunk).difference(data)  # holes, but for the moved partition table
            self.writer.expect(array("Q", sorted(made.union(data))) if made else data)
            self.missing = set(self.writer.missing(self.blocks))
            read, wipe = self._sort(data, made)
            with ThreadPoolExecutor(self.threads, "transfer") as workers, ThreadPoolExecutor(1, "checkpoint") as keeper:
                self._workers, self._keeper = workers, workers if self.sequential else keeper
                self._send(layout, readers, read, wipe)
            self._go_on()
            position = self.blocks.position
            self.writer.flush()
            self.blocks.checkpoint(position)
        return TransferResult(self.sent_blocks, self.sent_bytes, self.skipped_bytes, self.blocks.fingerprint(), self.read_bytes)

    def _length(self, index: int) -> int:
        """Bytes of the block as `put` gets it."""
        length = min(self.chunk, self.size - index * self.chunk)
        return length + -length % SECTOR

    def _sort(self, data: Sequence[int], made: set[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Which blocks are read, and which need no reading: zero now but perhaps not so at the target, or patched zeros."""
        read = array("Q")
        for index in data:
            if self.blocks.ours(index) and index not in self.missing:
                self.skipped_bytes += self._length(index)
            else:
                read.append(index)
        self.holds = set(self.blocks.written()) - self.missing
        wipe = array("Q", sorted(made.union(self.holds.difference(data))))
        self.meter.spare(self.size - sum(map(self._length, read)))
        return read, wipe

    def _send(self, layout: _Layout, readers: Sequence[Client | RawFile], read: Sequence[int], wipe: Sequence[int]) -> None:
        """Reads in this thread, in ascending order; the workers digest and put."""
        wanted = set(read)
        pipes = [reader.read_into(self._requests(layout, wanted, low), READS, AHEAD) for low, reader in enumerate(readers)]
        come = [0] * len(pipes)  # up to where
        order = sorted([*read, *wipe])
        planned = 0
        checkpoint = time.monotonic() + CHECKPOINT
        pieces = layout.chunks(self.chunk)
        for number, index in enumerate(order):
            self._go_on()
            if number == planned:
                planned += max(1, WINDOW // self.chunk)
                # What holds something keeps its digest as a hint until it is known to differ.
                self.blocks.intend(i for i in order[number:planned] if i not in self.holds)
            if index in wanted:
                block = next(found for found in pieces if found[0] == index)
                for low, start, end in block[1]:
                    while come[low] < end:
                        come[low] = next(pipes[low])
                    self.read_bytes += end - start
                buffer = self._open.pop(index)
            else:
                buffer = bytearray(self._length(index))
            self._room.acquire()
            self._workers.submit(self._put, index, buffer)
            if time.monotonic() > checkpoint:
                checkpoint = time.monotonic() + CHECKPOINT
                self._keeper.submit(self._checkpoint)

    def _go_on(self) -> None:
        """Raises what a worker raised, or Paused."""
        if self._error is not None:
            raise self._error
        if time.monotonic() > self._asked + 0.2:
            self._asked = time.monotonic()
            if self.meter.cancelled():
                raise self._fail(Paused("paused while blocks were being sent", remedy="the same command goes on"))

    def _fail(self, error: BaseException) -> BaseException:
        """The first error is the one that is told; the workers put nothing more."""
        with self._lock:
            self._error = self._error or error
            return self._error

    def _requests(self, layout: _Layout, wanted: set[int], low: int) -> Iterator[Scattered]:
        """The reads of one reader, each into its places in the blocks' buffers. Neighbours are one read: coming back from the
        kernel costs more than the bytes do where many threads wait for the interpreter."""
        begin = end = 0
        views: list[memoryview] = []
        for index, pieces in layout.chunks(self.chunk):
            if index not in wanted:
                continue
            base = index * self.chunk
            for _, start, stop in (piece for piece in pieces if piece[0] == low):
                if index not in self._open:
                    whole = sum(e - s for _, s, e in pieces) == self.chunk
                    self._open[index] = self._buffer(index, whole)
                view = memoryview(self._open[index])
                for at in range(start, stop, REQUEST):
                    until = min(at + REQUEST, stop)
                    if views and (at != end or until - begin > REQUEST or len(views) == VIEWS):
                        yield begin, views
                        views = []
                    begin = begin if views else at
                    views.append(view[at - base : until - base])
                    end = until
        if views:
            yield begin, views

    def _buffer(self, index: int, whole: bool) -> bytearray:
        """Room for a block; zeros where nothing will be read into it. Used again: fresh memory costs a fault per page."""
        if self._length(index) == self.chunk and self._spare:
            buffer = self._spare.pop()
            if not whole:
                buffer[:] = self._zeros
            return buffer
        return bytearray(self._length(index))

    # ---- in the workers ---------------------------------------------------------------------------------------------------

    def _put(self, index: int, buffer: bytearray) -> None:
        try:
            if self._error is None:
                self._deliver(index, buffer)
        except BaseException as error:
            self._fail(error)
        finally:
            if len(buffer) == self.chunk:
                self._spare.append(buffer)
            self._room.release()

    def _deliver(self, index: int, buffer: bytearray) -> None:
        tails.lay(self.patches, index * self.chunk, buffer)
        held = self.blocks.digest(index) if index in self.holds else None
        zero = buffer == (self._zeros if len(buffer) == self.chunk else bytes(len(buffer)))
        if zero and held is None:
            self.blocks.zeroed(index)
            self.meter.moved(len(buffer))
            return
        digest = hashlib.sha256(buffer).digest()
        sent = digest != held
        if sent:
            if self.throttle is not None:
                self.throttle.take(len(buffer), self._stopped)
                self._go_on()
            if held not in (None, UNKNOWN):
                self.blocks.intend([index])
            if self.meter.cancelled():  # last thing before it is sent: who slept may have lost the machine meanwhile
                raise Paused("stopped before a block was sent", remedy="the same command goes on")
            self.writer.put(index, buffer, digest)
        if zero:
            self.blocks.zeroed(index)
        else:
            self.blocks.wrote(index, digest)
        with self._lock:
            self.sent_blocks += sent
            self.sent_bytes += sent * len(buffer)
            self.skipped_bytes += (not sent) * len(buffer)
        self.meter.moved(len(buffer))

    def _stopped(self) -> bool:
        try:
            self._go_on()
        except BaseException:
            return True
        return False

    def _checkpoint(self) -> None:
        try:
            position = self.blocks.position
            self.writer.flush()
            self.blocks.checkpoint(position)
        except BaseException as error:
            self._fail(error)
