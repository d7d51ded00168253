"""What AWS does to an upload, and what an upload does to a worker that was frozen: whole disks through the real transfer."""

import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aws_places import Places, places
from clocks import HandClock, slowness
from target_contract import CAPS, JOB

from v2c import qemu
from v2c.blocks import BlockMap
from v2c.emulators.aws import AwsEmulator
from v2c.errors import Paused, TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import GIB, KIB, MIB, Disk, DiskFormat, DiskPlan, Firmware, Machine, Needs, Plan, Ref, Verify
from v2c.patience import working
from v2c.targets.aws import AwsTarget, open_target
from v2c.targets.aws.session import ApiError
from v2c.transfer import TransferResult, transfer
from v2c.validate.uploaded import read_back

pytestmark = pytest.mark.tool

CHUNK = 512 * KIB
BLOCKS = 40  # of data, in a disk of 64 MiB
SIZE = 64 * MIB
# every published way to fail that passes
PASSING = ("throttle", "internal", "unavailable", "reset", "lost-answer", "slow", "write-timeout", "conflict", "not-found-yet")


@dataclass
class Worker:
    """A converter: its own folder with a block map, its own SDK session, the job's journal."""

    place: AwsEmulator
    folder: Path
    raw: Path
    journal: MemoryJournal

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.target: AwsTarget = open_target(self.place.locator.removeprefix("aws:"))
        disk = Disk("d0", SIZE, path=str(self.raw))
        planned = DiskPlan("d0", "erp-0", SIZE, GIB)
        machine = Machine("erp", (disk,))
        self.plan = Plan(JOB, machine, "here", "aws", (planned,), Needs(Firmware.BIOS))

    @contextmanager
    def map(self) -> Iterator[BlockMap]:
        with BlockMap.open(self.folder / "d0.blocks") as blocks:
            yield blocks

    def send(self, meter: Meter | None = None, capture: str = "c", base: Ref | None = None) -> tuple[Ref, TransferResult]:
        """The disk, as the pipeline sends it."""
        with (
            qemu.serve(self.raw, DiskFormat.RAW, socket=self.folder / "nbd") as export,
            self.map() as blocks,
            self.target.writer(self.plan, self.plan.machine.disks[0], base, self.journal) as writer,
            working(JOB, meter or Meter(JOB)),
        ):
            features = self.target.features
            sent = transfer(
                export, writer, blocks, generation="g1", capture=capture, parallel=features.parallel, size=GIB, meter=meter
            )
            return writer.commit(), sent

    def compare(self, disk: Ref, sent: TransferResult) -> None:
        """Reads the whole disk back; TargetError when it is another one."""
        with self.map() as blocks:
            blocks.begin("c", "g1", CHUNK)
            read_back(
                lambda asked: self.target.read(self.plan, disk, asked),
                "d0",
                blocks,
                sent,
                size=GIB,
                chunk=CHUNK,
                mode=Verify.FULL,
                meter=Meter(),
            )


@pytest.fixture
def known() -> Iterator[Places]:
    with places() as found:
        yield found


@pytest.fixture
def cloud(known: Places, tmp_path: Path) -> AwsEmulator:
    return known[tmp_path / "cloud"]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A disk with data in every third of its 128 blocks."""
    path, dice = tmp_path / "disk.raw", random.Random(3)
    with path.open("wb") as file:
        file.truncate(SIZE)
        for index in range(BLOCKS):
            file.seek(index * 3 * CHUNK)
            file.write(dice.randbytes(CHUNK))
    return path


@pytest.fixture
def worker(cloud: AwsEmulator, raw: Path, tmp_path: Path) -> Worker:
    return Worker(cloud, tmp_path / "a", raw, MemoryJournal(JOB))


def same(raw: Path, held: Path) -> bool:
    """Whether the snapshot holds the disk, and zeros behind it."""
    with raw.open("rb") as one, held.open("rb") as other:
        while data := one.read(MIB):
            if other.read(len(data)) != data:
                return False
        if held.stat().st_size != GIB:
            return False
        try:
            os.lseek(other.fileno(), SIZE, os.SEEK_DATA)
        except OSError:  # nothing but a hole
            return True
        return False


def test_every_published_failure_is_outlived(worker: Worker, cloud: AwsEmulator, raw: Path) -> None:
    """One request in twenty fails, of any kind, and each way once in a put: the disk is the same, and made once."""
    cloud.faults.kinds, cloud.faults.share, cloud.faults.seed = PASSING, 0.05, 7
    for kind in PASSING:
        cloud.faults.once("PutSnapshotBlock", kind)
    for operation in ("StartSnapshot", "CompleteSnapshot", "DescribeSnapshots"):
        cloud.faults.once(operation, "lost-answer")
        cloud.faults.once(operation, "internal")
    disk, sent = worker.send()
    cloud.faults.share = 0.0
    assert {kind for _, kind in cloud.faults.drawn} == set(PASSING) and len(cloud.faults.drawn) >= len(PASSING) + 6
    assert same(raw, cloud.disk(disk.id)) and len(list(worker.target.find(JOB))) == 1
    worker.compare(disk, sent)
    puts = cloud.requests.done("PutSnapshotBlock")
    assert len(puts) == BLOCKS and sum(puts.values()) - BLOCKS <= sum(kind == "lost-answer" for _, kind in cloud.faults.drawn)


def test_an_outage_of_half_an_hour_is_waited_out(worker: Worker, cloud: AwsEmulator, raw: Path) -> None:
    class Clock(HandClock):
        def on(self, seconds: float) -> None:
            super().on(seconds)
            cloud.cloud.offset = self.now()  # what the cloud takes its time for is done in it

    clock = Clock()
    worker.target.session.clock = cloud.faults.clock = clock
    with worker.target.writer(worker.plan, worker.plan.machine.disks[0], None, worker.journal):
        pass  # the snapshot is there when it goes dark
    cloud.faults.outage(30 * 60)
    disk, sent = worker.send()
    assert clock.now() > 30 * 60 and same(raw, cloud.disk(disk.id)) and sent.sent_blocks == BLOCKS


@pytest.mark.parametrize("lie", ["lost-block", "wrong-block"])
def test_a_lying_server_is_found_out(worker: Worker, cloud: AwsEmulator, raw: Path, lie: str) -> None:
    """It acknowledges a block and keeps another, or none: reading back tells."""
    cloud.pace.visible_s = 0.0
    cloud.faults.once("PutSnapshotBlock", lie)
    disk, sent = worker.send()
    assert not same(raw, cloud.disk(disk.id))
    with pytest.raises(TargetError, match="d0"):
        worker.compare(disk, sent)


def test_a_block_that_does_not_fit_its_own_digest_is_not_taken(worker: Worker, cloud: AwsEmulator) -> None:
    disk, sent = worker.send()
    cloud.faults.once("GetSnapshotBlock", "wrong-checksum")
    worker.compare(disk, sent)  # once: it is asked again
    cloud.faults.once("GetSnapshotBlock", "wrong-checksum", 99)
    with pytest.raises(TargetError, match="comes back other than AWS says"):
        worker.compare(disk, sent)


def test_a_snapshot_that_aws_spoils_is_made_anew(worker: Worker, cloud: AwsEmulator, raw: Path) -> None:
    cloud.faults.once("CompleteSnapshot", "internal")
    with worker.target.writer(worker.plan, worker.plan.machine.disks[0], None, worker.journal) as writer:
        snapshot = writer.snapshot  # type: ignore[attr-defined]
    cloud.cloud.offset += 5000 * 60  # nobody wrote for longer than the time-out
    disk, _ = worker.send()
    assert disk.id != snapshot and same(raw, cloud.disk(disk.id))
    assert [ref.id for ref in worker.target.find(JOB)] == [disk.id] == [ref.id for ref in worker.journal.refs("disk")]


def test_credentials_that_expire_are_renewed(
    worker: Worker, cloud: AwsEmulator, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's chain is asked anew: here, a file that somebody else keeps fresh."""
    file = tmp_path / "credentials"

    def write(key: str, secret: str) -> None:
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key={secret}\n")

    write(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    old = os.environ["AWS_ACCESS_KEY_ID"]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def expire() -> None:
        while not cloud.requests.done("PutSnapshotBlock"):
            time.sleep(0.01)
        cloud.access.expired.add(old)
        time.sleep(0.5)
        write(*cloud.access.another_key("migrator"))

    keeper = threading.Thread(target=expire)
    keeper.start()
    disk, _ = worker.send()
    keeper.join()
    assert same(raw, cloud.disk(disk.id))
    assert any(request.status in (400, 403) for request in cloud.requests), "nothing expired"


def test_without_credentials_it_says_so(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (finding,) = worker.target.check(worker.plan)
    assert finding.id == "aws.credentials" and "credentials" in finding.text and finding.remedy


def test_ctrl_c_is_heard_while_aws_is_down(worker: Worker, cloud: AwsEmulator) -> None:
    stop = threading.Event()
    meter = Meter(JOB, cancelled=stop.is_set)
    with worker.target.writer(worker.plan, worker.plan.machine.disks[0], None, worker.journal):
        pass
    cloud.faults.outage(600)
    threading.Timer(1.5, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Paused), working(JOB, meter):
        worker.send(meter)
    assert time.monotonic() - began < (1.5 + 3) * slowness()


def test_a_resumed_upload_sends_what_was_on_the_way(worker: Worker, cloud: AwsEmulator, raw: Path) -> None:
    """Stopped in the middle and gone on with by a new session: each block is put once but those in flight."""
    count = 0

    def enough() -> bool:
        nonlocal count
        count = sum(cloud.requests.done("PutSnapshotBlock").values())
        return count >= 10

    with pytest.raises(Paused):
        worker.send(Meter(JOB, cancelled=enough))
    again = Worker(cloud, worker.folder, raw, worker.journal)
    disk, sent = again.send()
    puts = cloud.requests.done("PutSnapshotBlock")
    assert len(puts) == BLOCKS and sum(puts.values()) - BLOCKS <= worker.target.features.parallel
    assert sent.skipped_bytes >= 10 * CHUNK and same(raw, cloud.disk(disk.id))


def test_another_worker_takes_over_and_a_frozen_one_changes_nothing(
    worker: Worker, cloud: AwsEmulator, raw: Path, tmp_path: Path
) -> None:
    target, plan = worker.target, worker.plan
    frozen = target.writer(plan, plan.machine.disks[0], None, worker.journal)
    with qemu.serve(raw, DiskFormat.RAW, socket=worker.folder / "nbd"), worker.map() as blocks, frozen as writer:
        blocks.begin("c", "g1", CHUNK)
        assert list(writer.missing(blocks)) == []
        stale = b"stale".ljust(CHUNK, b"!")
        writer.put(0, stale, hashlib.sha256(stale).digest())

        second = Worker(cloud, tmp_path / "b", raw, worker.journal)
        disk, sent = second.send()
        assert sent.sent_blocks == BLOCKS and same(raw, cloud.disk(disk.id))
        held = sorted(cloud.cloud.store.table("eu-west-1", "snapshots"))

        with pytest.raises(ApiError, match="SNAPSHOT_NOT_FOUND"):  # it wakes up
            writer.put(1, stale, hashlib.sha256(stale).digest())
        with pytest.raises(TargetError):
            writer.commit()
    assert sorted(cloud.cloud.store.table("eu-west-1", "snapshots")) == held == [disk.id]
    assert same(raw, cloud.disk(disk.id)) and list(second.target.find(JOB)) == [disk] == worker.journal.refs("disk")
    second.compare(disk, sent)
    image = second.target.register(plan, [disk], CAPS, worker.journal)
    assert worker.target.register(plan, [disk], CAPS, worker.journal) == image


def test_a_delta_sends_what_changed(worker: Worker, cloud: AwsEmulator, raw: Path) -> None:
    """On the snapshot of an earlier round: only blocks that differ are put, one that became zeros among them, and the new
    snapshot holds everything when the old one is gone."""
    disk, first = worker.send()
    with raw.open("r+b") as file:
        file.seek(3 * CHUNK)
        file.write(b"changed".ljust(CHUNK, b"."))
        file.seek(6 * CHUNK)
        file.write(bytes(CHUNK))
        file.seek(4 * CHUNK)
        file.write(b"new".ljust(CHUNK, b"."))
    cloud.requests.clear()
    second, sent = worker.send(capture="c2", base=disk)
    puts = cloud.requests.done("PutSnapshotBlock")
    assert sorted(subject.partition("/")[2] for subject in puts) == ["3", "4", "6"] and sum(puts.values()) == 3
    assert second != disk and same(raw, cloud.disk(second.id)) and first.sent_blocks == BLOCKS and sent.sent_blocks == 3
    assert list(worker.target.find(JOB)) == [second] == worker.journal.refs("disk")


def test_a_delta_by_a_worker_that_does_not_know_the_base_sends_all(
    worker: Worker, cloud: AwsEmulator, raw: Path, tmp_path: Path
) -> None:
    disk, _ = worker.send()
    with raw.open("r+b") as file:
        file.seek(6 * CHUNK)
        file.write(bytes(CHUNK))  # which the other worker cannot know to be something else at the target
    other = Worker(cloud, tmp_path / "b", raw, worker.journal)
    second, sent = other.send(capture="c2", base=disk)
    assert sent.sent_blocks == BLOCKS - 1 and same(raw, cloud.disk(second.id))
    assert other.send(capture="c2", base=disk)[1].sent_blocks == 0, "the same worker goes on"
