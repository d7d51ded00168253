"""transfer(): what arrives is what was there, nothing is read or sent twice, and being cut off costs only what was on the way."""

import hashlib
import os
import random
import struct
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from clocks import SimulatedClock
from hypothesis import given, settings
from hypothesis import strategies as st

from v2c import nbd, nbdserver, qemu
from v2c.errors import Paused, SourceError, TargetError
from v2c.events import Event, Meter, Moved
from v2c.model import KIB, MIB, DiskFormat, Ref
from v2c.nbd import Extent
from v2c.transfer import Block, BlockMap, Throttle, TransferResult, transfer

CHUNK = 4096


class Disk:
    """A disk in memory that counts how often each 512 bytes are read. Where `thick`, its holes are told as data."""

    def __init__(self, content: bytes, *, thick: bool = False, grain: int = 512) -> None:
        self.content, self.thick, self.grain = content, thick, grain
        self.size = len(content)
        self.reads = [0] * (len(content) // 512 + 1)
        self.broken: range = range(0)

    def read(self, offset: int, length: int) -> bytes:
        if max(offset, self.broken.start) < min(offset + length, self.broken.stop):
            raise OSError("bad sector")
        for sector in range(offset // 512, -(-(offset + length) // 512)):
            self.reads[sector] += 1
        return self.content[offset : offset + length]

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        at, end = offset, offset + length
        while at < end:
            stop = min(at - at % self.grain + self.grain, end)
            yield Extent(at, stop - at, self.thick or any(self.content[at:stop]))
            at = stop


class Shelf:
    """A target in memory: what it holds, what of it is flushed, and every put. Fails after `limit` puts."""

    def __init__(self, chunk: int = CHUNK) -> None:
        self.chunk = chunk
        self.blocks: dict[int, bytes] = {}
        self.durable: dict[int, bytes] = {}
        self.puts: list[int] = []
        self.threads: set[int] = set()
        self.expected: list[int] = []
        self.limit = 1 << 30
        self.lost: set[int] = set()
        self._lock = threading.Lock()

    def expect(self, indexes: Sequence[int]) -> None:
        self.expected = list(indexes)

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        return (index for index in blocks.written() if index in self.lost)

    def put(self, index: int, data: Block, digest: bytes) -> None:
        with self._lock:
            assert hashlib.sha256(data).digest() == digest
            assert not len(data) % 512
            self.threads.add(threading.get_ident())
            self.puts.append(index)
            self.blocks[index] = bytes(data)
            if len(self.puts) >= self.limit:
                raise TargetError("the shelf is full")

    def flush(self) -> None:
        self.durable = dict(self.blocks)

    def commit(self) -> Ref:
        return Ref("disk", "shelf")

    def abandon(self) -> None:
        self.blocks.clear()

    def content(self, size: int) -> bytes:
        """The whole disk as it would be read back."""
        empty = bytes(self.chunk)
        return b"".join(self.blocks.get(i, empty).ljust(self.chunk, b"\0") for i in range(-(-size // self.chunk)))[:size]


def send(
    disk: Disk,
    shelf: Shelf,
    folder: Path,
    *,
    generation: str = "g1",
    boot: str = "boot",
    meter: Meter | None = None,
    sequential: bool = False,
    throttle: Throttle | None = None,
) -> TransferResult:
    with ExitStack() as stack:
        export = stack.enter_context(nbdserver.serve(disk, folder / "s", "d"))
        blocks = stack.enter_context(BlockMap.open(folder / "map", boot))
        return transfer(
            export,
            shelf,
            blocks,
            generation=generation,
            capture="c",
            parallel=3,
            sequential=sequential,
            throttle=throttle,
            meter=meter,
        )


def make(seed: int, chunks: int = 40, tail: int = 0) -> bytes:
    """Data and zeros, by the sector and by the block."""
    chance = random.Random(seed)
    parts = []
    for _ in range(chunks):
        kind = chance.random()
        if kind < 0.4:
            parts.append(chance.randbytes(CHUNK))
        elif kind < 0.6:
            parts.append(b"".join(chance.choice((bytes(512), chance.randbytes(512))) for _ in range(CHUNK // 512)))
        else:
            parts.append(bytes(CHUNK))
    return b"".join(parts) + chance.randbytes(tail)


def fingerprint(content: bytes, chunk: int = CHUNK) -> str:
    """Computed another way, from the contract's words."""
    whole = hashlib.sha256()
    for index in range(-(-len(content) // chunk)):
        data = content[index * chunk : (index + 1) * chunk]
        data += bytes(-len(data) % 512)
        if any(data):
            whole.update(struct.pack(">Q", index) + hashlib.sha256(data).digest())
    return whole.hexdigest()


@pytest.mark.parametrize("thick", [False, True])
@pytest.mark.parametrize("tail", [0, 512, 1000])
def test_arrives_whole_and_zeros_are_never_sent(tmp_path: Path, thick: bool, tail: int) -> None:
    content = make(1, tail=tail)
    disk, shelf = Disk(content, thick=thick), Shelf()
    result = send(disk, shelf, tmp_path)
    assert shelf.content(len(content)) == content
    assert all(any(block) for block in shelf.blocks.values())
    assert sorted(shelf.puts) == sorted(shelf.blocks)
    assert result.sent_blocks == len(shelf.blocks)
    assert result.sent_bytes == sum(map(len, shelf.blocks.values()))
    assert result.digest == fingerprint(content)
    assert max(disk.reads) == 1
    assert set(shelf.puts) <= set(shelf.expected)


def test_twice_sends_and_reads_nothing(tmp_path: Path) -> None:
    content = make(2)
    shelf = Shelf()
    first = send(Disk(content), shelf, tmp_path)
    again = Disk(content)
    second = send(again, shelf, tmp_path)
    assert max(again.reads) == 0
    assert (second.sent_blocks, second.sent_bytes, second.read_bytes) == (0, 0, 0)
    assert second.skipped_bytes == first.sent_bytes
    assert second.digest == first.digest


@pytest.mark.parametrize("limit", [1, 2, 7, 15])
def test_goes_on_where_it_was_cut_off(tmp_path: Path, limit: int) -> None:
    content = make(3)
    shelf = Shelf()
    shelf.limit = limit
    with pytest.raises(TargetError, match="full"):
        send(Disk(content), shelf, tmp_path)
    before = list(shelf.puts)
    shelf.limit = 1 << 30
    disk = Disk(content)
    result = send(disk, shelf, tmp_path)
    assert shelf.content(len(content)) == content
    assert result.digest == fingerprint(content)
    twice = [index for index in set(before) if shelf.puts.count(index) > 1]
    assert len(twice) <= 3  # one for each thread
    assert max(disk.reads) == 1


def test_another_generation_sends_only_what_differs(tmp_path: Path) -> None:
    old = bytearray(make(4))
    data = [i for i in range(40) if any(old[i * CHUNK : (i + 1) * CHUNK])]
    shelf = Shelf()
    send(Disk(bytes(old)), shelf, tmp_path)
    shelf.puts.clear()
    new = bytearray(old)
    new[data[2] * CHUNK : (data[2] + 1) * CHUNK] = os.urandom(CHUNK)
    new[data[5] * CHUNK : (data[5] + 1) * CHUNK] = bytes(CHUNK)  # trimmed since: must become zeros at the target
    empty = next(i for i in range(40) if i not in data)
    new[empty * CHUNK : empty * CHUNK + 512] = os.urandom(512)
    disk = Disk(bytes(new))
    result = send(disk, shelf, tmp_path, generation="g2")
    assert sorted(shelf.puts) == sorted([data[2], data[5], empty])
    assert shelf.content(len(new)) == bytes(new)
    assert result.digest == fingerprint(bytes(new))
    assert max(disk.reads) == 1
    assert result.skipped_bytes == (len(data) - 2) * CHUNK


def test_what_the_target_lost_is_sent_again(tmp_path: Path) -> None:
    content = make(5)
    shelf = Shelf()
    send(Disk(content), shelf, tmp_path)
    lost = sorted(shelf.blocks)[3:6]
    for index in lost:
        del shelf.blocks[index]
    shelf.lost = set(lost)
    shelf.puts.clear()
    assert send(Disk(content), shelf, tmp_path).digest == fingerprint(content)
    assert sorted(shelf.puts) == lost
    assert shelf.content(len(content)) == content


def test_a_stream_gets_its_blocks_in_order_from_one_thread(tmp_path: Path) -> None:
    content = make(6, chunks=100)
    shelf = Shelf()
    send(Disk(content, thick=True), shelf, tmp_path, sequential=True)
    assert shelf.puts == sorted(shelf.puts)
    assert len(shelf.threads) == 1
    assert shelf.content(len(content)) == content


def test_a_pause_keeps_what_was_sent(tmp_path: Path) -> None:
    content = make(7, chunks=200)
    shelf = Shelf()
    meter = Meter(cancelled=lambda: len(shelf.puts) > 5)
    with pytest.raises(Paused):
        send(Disk(content), shelf, tmp_path, meter=meter, throttle=Throttle(CHUNK * 40))
    assert 5 < len(shelf.puts) < 40
    before = set(shelf.puts)
    shelf.puts.clear()
    send(Disk(content), shelf, tmp_path)
    assert shelf.content(len(content)) == content
    assert len(before & set(shelf.puts)) <= 3


def test_a_source_that_cannot_be_read_ends_it(tmp_path: Path) -> None:
    content = make(8)
    disk = Disk(content, thick=True)
    disk.broken = range(20 * CHUNK, 21 * CHUNK)
    shelf = Shelf()
    with pytest.raises(SourceError, match="cannot be read"):
        send(disk, shelf, tmp_path)
    send(Disk(content), shelf, tmp_path)
    assert shelf.content(len(content)) == content


def test_the_throttle_is_shared(tmp_path: Path) -> None:
    clock = SimulatedClock()
    throttle = Throttle(1_000_000, clock)

    def take() -> None:
        for _ in range(4):
            throttle.take(50_000)

    for running in [clock.start(take) for _ in range(2)]:
        running.join()
    assert clock.now() == pytest.approx(0.15, abs=1e-6)  # 400 kB at 1 MB/s, less one burst and the last turn


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    content = make(9)
    told: list[Event] = []
    meter = Meter(listener=told.append)
    result_bytes = 0
    with meter.phase("copy", len(content)):
        result = send(Disk(content), Shelf(), tmp_path, meter=meter)
        result_bytes = result.sent_bytes
        meter._told = 0.0
        meter.moved(0)
    moved = [event for event in told if isinstance(event, Moved)]
    assert moved[-1].done == moved[-1].total == result_bytes


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, bool, bool]]:
    """(generation, puts before the end comes, whether that is a power loss, whether the map's unsynced tail is lost)."""
    return draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12), st.booleans(), st.booleans()), max_size=5))


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 1 << 16))
def test_after_any_history_the_target_is_the_source(history: list[tuple[int, int, bool, bool]], seed: int) -> None:
    """Killed anywhere, powered off anywhere, repaired anew in between: at the end every byte is right."""
    chance = random.Random(seed)
    base = make(seed, chunks=16)
    contents = [bytearray(base) for _ in range(3)]
    for content in contents[1:]:
        for index in chance.sample(range(16), 5):
            content[index * CHUNK : (index + 1) * CHUNK] = chance.choice((bytes(CHUNK), chance.randbytes(CHUNK)))
    shelf = Shelf()
    boot = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for generation, limit, power, cut in history:
            shelf.limit = len(shelf.puts) + limit
            try:
                disk = Disk(bytes(contents[generation]), thick=chance.random() < 0.5)
                send(disk, shelf, folder, generation=str(generation), boot=str(boot))
            except TargetError:
                pass
            if power:
                boot += 1
                kept = [i for i in shelf.blocks if shelf.blocks[i] == shelf.durable.get(i) or chance.random() < 0.5]
                shelf.blocks = shelf.durable | {i: shelf.blocks[i] for i in kept}
                if cut:
                    cut_unsynced(folder / "map")
        shelf.limit = 1 << 30
        last = bytes(contents[2])
        result = send(Disk(last), shelf, folder, generation="2", boot=str(boot))
        assert shelf.content(len(last)) == last
        assert result.digest == fingerprint(last)


def cut_unsynced(path: Path) -> None:
    """Drops the records behind the last one that was synced (a plan or a checkpoint)."""
    raw = path.read_bytes()
    size = 52
    synced = max(i for i in range(0, len(raw), size) if raw[i : i + 4] in (b"PLAN", b"SYNC", b"V2CB"))
    path.write_bytes(raw[: synced + size])


@pytest.mark.tool
def test_what_the_overlay_left_alone_is_read_from_below(tmp_path: Path) -> None:
    content = bytearray(os.urandom(8 * MIB) + bytes(8 * MIB) + os.urandom(3 * MIB))
    overlay = tmp_path / "o.qcow2"
    qemu.create(overlay, DiskFormat.QCOW2, len(content))
    source = Disk(bytes(content), grain=64 * KIB)
    with ExitStack() as stack:
        below = stack.enter_context(nbdserver.serve(source, tmp_path / "below", "b"))
        with (
            qemu.serve(overlay, DiskFormat.QCOW2, socket=tmp_path / "w", read_only=False, backing=below) as top,
            nbd.connect(top) as client,
        ):
            for at, data in ((MIB, os.urandom(64 * KIB)), (9 * MIB, os.urandom(100 * KIB)), (17 * MIB, bytes(MIB))):
                client.pwrite(at, data)
                content[at : at + len(data)] = data
            client.trim(2 * MIB, MIB)
            client.flush()
            content[:] = client.pread(0, len(content))
        source.reads = [0] * len(source.reads)
        top = stack.enter_context(
            qemu.serve(overlay, DiskFormat.QCOW2, socket=tmp_path / "r", backing=below, depth=True, name="o")
        )
        for split in (True, False):
            shelf = Shelf(MIB)
            with BlockMap.open(tmp_path / f"map{split}") as blocks:
                result = transfer(top, shelf, blocks, generation="g", capture="c", parallel=2, below=below if split else None)
            assert shelf.content(len(content)) == content
            assert result.digest == fingerprint(bytes(content), MIB)
            assert max(source.reads) == 1
            assert sum(source.reads) * 512 <= 11 * MIB
            source.reads = [0] * len(source.reads)
