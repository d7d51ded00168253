"""gcp: uploads under the failures that Google publishes, takeovers, sessions that end, servers that lie."""

import hashlib
import json
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from gcp_places import Places, target_at, things

from v2c import state
from v2c.blocks import BlockMap
from v2c.emulators.faults import Faults
from v2c.emulators.gcp import GcpEmulator
from v2c.emulators.gcp.archive import unpack
from v2c.errors import BusyError, TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import GIB, KIB, MIB, Caps, Disk, DiskPlan, Firmware, Machine, Needs, Placement, Plan, Ref
from v2c.targets.gcp import GcpTarget, resumable, upload
from v2c.targets.gcp.session import ApiError
from v2c.targets.writers import CHUNK
from v2c.transfer import DiskWriter

pytestmark = pytest.mark.tool
JOB = "5f0c1e"
SIZE = 65 * MIB + 512
REQUEST = 1 * MIB
KINDS = ("throttle", "unavailable", "internal", "reset", "lost-answer", "short")


def content(index: int, salt: int = 0) -> bytes:
    """A block: a third of it noise, so that it shrinks by compression as real ones do."""
    length = min(CHUNK, SIZE - index * CHUNK)
    noise = random.Random(index * 1000 + salt).randbytes(length // 3)
    data = (noise + b"text " * (length // 5)).ljust(length, b"\0")[:length]
    return data + bytes(-len(data) % 512)


BLOCKS = {index: content(index) for index in (0, 1, 2, 3, 5, 8, 9, 12, 16)}


def plan(disks: int = 1) -> Plan:
    machine = Machine("erp", tuple(Disk(f"d{n}", SIZE, allocated=MIB) for n in range(disks)), firmware=Firmware.BIOS)
    planned = tuple(DiskPlan(f"d{n}", f"erp-{n}", SIZE, GIB) for n in range(disks))
    return Plan(JOB, machine, "gcp:", "gcp", planned, Needs(Firmware.BIOS), data_bytes=MIB)


@dataclass
class Worker:
    """A converter with a work folder and a state of its own."""

    double: GcpEmulator
    folder: Path
    journal: MemoryJournal = field(default_factory=lambda: MemoryJournal(JOB))
    number: int = 0

    def target(self) -> GcpTarget:
        return target_at(self.double)

    def map(self) -> BlockMap:
        self.folder.mkdir(exist_ok=True)
        told = BlockMap.open(self.folder / "d0.blocks")
        told.begin("capture", "generation", CHUNK)
        return told

    def state(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on this worker is the one that works in this process."""
        monkeypatch.setenv("V2C_STATE", str(self.folder / "state"))

    def send(self, writer: DiskWriter, told: BlockMap, blocks: dict[int, bytes], *, most: int = 99) -> list[int]:
        """What a transfer does; answers with what it put."""
        writer.expect(sorted(blocks))
        missing = set(writer.missing(told))
        put = [index for index in sorted(blocks) if index in missing or not told.ours(index)][:most]
        told.intend(put)
        for index in put:
            digest = hashlib.sha256(blocks[index]).digest()
            writer.put(index, blocks[index], digest)
            told.wrote(index, digest)
        return put

    def upload(self, blocks: dict[int, bytes] = BLOCKS) -> Ref:
        """To the end, as often as it takes: what the engine's retries do."""
        mine, target = plan(), self.target()
        for _ in range(20):
            with self.map() as told:
                try:
                    with target.writer(mine, mine.machine.disks[0], None, self.journal) as writer:
                        self.send(writer, told, blocks)
                        return writer.commit()
                except TargetError as error:
                    if not error.transient:
                        raise
        raise AssertionError("never came to an end")


@pytest.fixture
def places() -> Iterator[Places]:
    places = Places()
    yield places
    places.close()


@pytest.fixture
def double(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GcpEmulator:
    monkeypatch.setattr(upload, "REQUEST", REQUEST)
    folder = tmp_path / "cloud"
    folder.mkdir()
    return places.at(folder)


@pytest.fixture
def worker(double: GcpEmulator, tmp_path: Path) -> Worker:
    return Worker(double, tmp_path / "first")


def held(double: GcpEmulator, ref: Ref, tmp_path: Path) -> dict[int, bytes]:
    """The disk's blocks that are not zero, as the double's image would hold them."""
    bucket, _, name = ref.id.removeprefix("gs://").partition("/")
    raw = tmp_path / "held.raw"
    assert unpack(double.storage.path(double.storage.object(bucket, name)), raw) == GIB
    with raw.open("rb") as file:
        found = {index: file.read(CHUNK) for index in range(-(-SIZE // CHUNK))}
        assert not any(file.read(CHUNK).strip(b"\0") for _ in range(8))
    return {index: data for index, data in found.items() if data.strip(b"\0")}


def wanted(blocks: dict[int, bytes] = BLOCKS) -> dict[int, bytes]:
    return {index: data.ljust(CHUNK, b"\0") for index, data in blocks.items()}


def sent(double: GcpEmulator) -> int:
    return double.requests.bytes("upload")


# ---- what every upload does ------------------------------------------------------------------------------------------------


def test_every_byte_is_sent_once(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    ref = worker.upload()
    assert held(double, ref, tmp_path) == wanted()
    thing = double.storage.object(*ref.id.removeprefix("gs://").split("/", 1))
    assert sent(double) == int(thing["size"])
    whole = [r for r in double.requests if r.operation == "upload" and r.status == 308]
    assert len(whole) > 5 and all(r.bytes % (256 * KIB) == 0 for r in whole)


def test_a_worker_that_goes_on_sends_nothing_twice(
    double: GcpEmulator, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, as near as one process can have it: nothing is flushed, the next one reads what the first wrote down."""
    mine = plan()
    with (
        pytest.raises(KeyboardInterrupt),
        worker.map() as told,
        worker.target().writer(mine, mine.machine.disks[0], None, worker.journal) as writer,
    ):
        put = worker.send(writer, told, BLOCKS, most=6)
        raise KeyboardInterrupt
    before = sent(double)
    assert len(put) == 6 and before > 0
    with worker.map() as told, worker.target().writer(mine, mine.machine.disks[0], None, worker.journal) as writer:
        again = worker.send(writer, told, BLOCKS)
        ref = writer.commit()
    assert set(again) < set(BLOCKS) and len(set(again) & set(put)) <= 1 + REQUEST // MIB, "only what no request carried yet"
    assert held(double, ref, tmp_path) == wanted()
    thing = double.storage.object(*ref.id.removeprefix("gs://").split("/", 1))
    assert sent(double) == int(thing["size"]), "a byte went twice"
    assert double.requests.done("objects.insert").total() == 4, "the name, the fence, one session, the index"


def test_a_worker_that_was_killed_is_gone_on_with(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    """SIGKILL, in the midst of a request; the next process goes on from what the server holds."""
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
import test_gcp_faults as tests
from pathlib import Path
tests.upload.REQUEST = tests.REQUEST
class There:
    environment, locator = {dict(double.environment)!r}, {double.locator!r}
worker = tests.Worker(There(), Path({str(worker.folder)!r}))
with worker.map() as told, worker.target().writer(tests.plan(), tests.plan().machine.disks[0], None, worker.journal) as writer:
    tests.Worker.send(worker, writer, told, tests.BLOCKS)
    print("sent", flush=True)
    import time
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parent)
    deadline = time.monotonic() + 60
    while sum(r.operation == "upload" for r in double.requests) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = [r for r in double.requests if r.operation == "upload"]
    assert 4 <= len(before) < 11, "it was through before the kill"
    ref = worker.upload()
    assert held(double, ref, tmp_path) == wanted()
    thing = double.storage.object(*ref.id.removeprefix("gs://").split("/", 1))
    taken = sum(r.bytes for r in double.requests if r.operation == "upload" and r.status in (200, 308))
    assert taken == int(thing["size"]), "a byte that was taken went twice"
    assert sum(r.operation == "objects.insert" and r.subject.endswith(".gz") for r in double.requests) == 3, "one session"


def test_no_secret_is_written_down(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    mine = plan()
    with worker.map() as told, worker.target().writer(mine, mine.machine.disks[0], None, worker.journal) as writer:
        worker.send(writer, told, BLOCKS, most=3)
        session = next(key[2:] for key in double.store.things if key[:2] == "u/")
        writer.flush()
    journal = repr((worker.journal.intents, worker.journal.notes, worker.journal.told))
    assert session not in journal and "upload_id" not in journal
    folder = state.default_folder()
    kept = [path for path in folder.rglob("*") if path.is_file() and session.encode() in path.read_bytes()]
    assert len(kept) == 1 and kept[0].stat().st_mode & 0o077 == 0, "it must be remembered somewhere, for our eyes only"


def test_no_secret_is_in_an_error(double: GcpEmulator, worker: Worker) -> None:
    """Not in the trace that --debug prints either."""
    mine = plan()
    target = worker.target()
    with worker.map() as told, target.writer(mine, mine.machine.disks[0], None, worker.journal) as writer:
        target.place.session.patience.limit_s = writer._patience.limit_s = 0.0  # type: ignore[attr-defined]
        worker.send(writer, told, BLOCKS, most=3)
        double.faults.outage(1.0)
        with pytest.raises(TargetError, match="cannot be reached") as lost:
            writer.commit()
    trace = "".join(traceback.format_exception(lost.value))
    assert lost.value.transient and "Unreachable" in trace and "upload_id" not in trace


# ---- failures --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["lost-answer", "short", *(pytest.param(kind, marks=pytest.mark.full) for kind in KINDS if kind[0] not in "ls")]
)
def test_one_in_twenty_fails(double: GcpEmulator, worker: Worker, tmp_path: Path, kind: str) -> None:
    """Of every request, in one published way; more often than that, so that a short test meets it."""
    double.faults = Faults((kind,), 0.25, seed=3)
    ref = worker.upload()
    assert [k for _, k in double.faults.drawn].count(kind) >= 2
    double.faults = Faults()
    assert held(double, ref, tmp_path) == wanted()


def test_the_whole_way_with_all_failures_at_once(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    double.faults = Faults(KINDS, 0.05, seed=11)
    ref = worker.upload()
    target, mine = worker.target(), plan()
    image = target.register(mine, [ref], Caps(Firmware.BIOS, boot_disk="d0"), worker.journal)
    instance = target.launch(mine, image, Placement(), worker.journal, Meter())
    assert target.observe(instance).alive
    target.stop(instance, worker.journal)
    list(target.finalize(mine, worker.journal))
    for made in reversed(worker.journal.refs()):
        target.destroy(made)
    assert len(double.faults.drawn) >= 2
    assert double.left() == []


def test_an_outage_is_waited_out(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    mine = plan()
    with worker.map() as told, worker.target().writer(mine, mine.machine.disks[0], None, worker.journal) as writer:
        worker.send(writer, told, BLOCKS, most=4)
        double.faults.outage(3.0)
        for index in sorted(BLOCKS)[4:]:
            writer.put(index, BLOCKS[index], hashlib.sha256(BLOCKS[index]).digest())
        ref = writer.commit()
    assert double.faults.drawn and held(double, ref, tmp_path) == wanted()


def test_an_expired_session_begins_anew(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    for _ in range(4):
        double.faults.once("upload", "unavailable")
    double.faults.once("upload", "expired")
    ref = worker.upload()
    assert held(double, ref, tmp_path) == wanted()
    assert any("anew" in act.what for act in worker.journal.acts()), "it was not said"
    assert double.left() == [key for key in things(double) if key.startswith("o/")]


def test_a_lying_checksum_is_found(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    mine = plan()
    for _ in range(40):
        double.faults.once("upload", "lying-crc")
    with worker.map() as told, worker.target().writer(mine, mine.machine.disks[0], None, worker.journal) as writer:
        worker.send(writer, told, BLOCKS)
        with pytest.raises(TargetError, match="not what was sent") as lie:
            writer.commit()
    assert lie.value.transient and not [key for key in things(double) if key.startswith("o/")]
    double.faults = Faults()
    assert held(double, worker.upload(), tmp_path) == wanted()


def test_a_token_that_expired_is_renewed(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    mine = plan()
    with worker.map() as told, worker.target().writer(mine, mine.machine.disks[0], None, worker.journal) as writer:
        worker.send(writer, told, BLOCKS)
        double.tokens.forget()
        ref = writer.commit()
    assert held(double, ref, tmp_path) == wanted()


# ---- other content ---------------------------------------------------------------------------------------------------------


def test_what_differs_when_made_again_is_sent_anew(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    """The block that the server holds half of is another one when it is read again: nobody mixes the two."""
    mine = plan()
    with (
        pytest.raises(KeyboardInterrupt),
        worker.map() as told,
        worker.target().writer(mine, mine.machine.disks[0], None, worker.journal) as writer,
    ):
        worker.send(writer, told, BLOCKS, most=6)
        raise KeyboardInterrupt
    with worker.map() as told, worker.target().writer(mine, mine.machine.disks[0], None, worker.journal) as writer:
        writer.expect(sorted(BLOCKS))
        lost = min(writer.missing(told))
    changed = {index: content(index, salt=7) if index >= lost else data for index, data in BLOCKS.items()}
    ref = worker.upload(changed)
    assert held(double, ref, tmp_path) == wanted(changed)
    assert any("anew" in act.what for act in worker.journal.acts())


def test_a_block_that_changed_after_all_is_sent_anew(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    worker.upload()
    changed = {**BLOCKS, 3: content(3, salt=9)}
    mine, target = plan(), worker.target()
    for attempt in range(3):
        with worker.map() as told, target.writer(mine, mine.machine.disks[0], None, worker.journal) as writer:
            writer.expect(sorted(changed))
            missing = set(writer.missing(told))
            try:
                for index, data in changed.items():
                    digest = hashlib.sha256(data).digest()
                    if index in missing or told.digest(index) != digest:
                        writer.put(index, data, digest)
                        told.wrote(index, digest)
                ref = writer.commit()
                break
            except TargetError as error:
                assert error.transient and attempt == 0
    assert held(double, ref, tmp_path) == wanted(changed)


# ---- takeovers -------------------------------------------------------------------------------------------------------------


def test_a_second_worker_takes_over(double: GcpEmulator, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a work folder and a state of its own and shares the journal. The first, frozen, wakes up at the worst moments."""
    second = Worker(double, tmp_path / "second", worker.journal)
    mine = plan()
    worker.state(monkeypatch)
    with worker.map() as told, worker.target().writer(mine, mine.machine.disks[0], None, worker.journal) as frozen:
        worker.send(frozen, told, BLOCKS, most=5)
        second.state(monkeypatch)
        with second.map() as fresh, second.target().writer(mine, mine.machine.disks[0], None, second.journal) as writer:
            assert second.send(writer, fresh, BLOCKS, most=4) == sorted(BLOCKS)[:4]
            for index in sorted(BLOCKS)[5:]:  # it wakes up before the second is through
                frozen.put(index, content(index, salt=1), hashlib.sha256(content(index, salt=1)).digest())
            with pytest.raises(BusyError, match="another worker"):
                frozen.commit()
            second.send(writer, fresh, BLOCKS)
            ref = writer.commit()
        before = things(double)
        with pytest.raises(TargetError):
            frozen.commit()
        frozen.abandon()
        assert things(double) == before and worker.journal.noted("gcp/v2c/5f0c1e/disk-0.tar.gz")
    assert things(double) == before
    assert held(double, ref, tmp_path) == wanted()
    assert list(second.target().read(mine, ref, [5])) == [(5, BLOCKS[5])]


def test_a_first_worker_that_was_through_changes_nothing(
    double: GcpEmulator, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second takes over when the first had all but its answer; each then finishes what it believes to be its own."""
    second = Worker(double, tmp_path / "second", worker.journal)
    mine = plan()
    worker.state(monkeypatch)
    with worker.map() as told, worker.target().writer(mine, mine.machine.disks[0], None, worker.journal) as frozen:
        worker.send(frozen, told, {**BLOCKS, 16: content(16, salt=5)})
        second.state(monkeypatch)
        ref = second.upload()
        before = things(double)
        with pytest.raises(BusyError):
            frozen.commit()
        assert things(double) == before
    assert held(double, ref, tmp_path) == wanted()


def test_a_session_that_nobody_fenced_is_not_mixed_up(double: GcpEmulator) -> None:
    """Cloud Storage asks for the generation when an upload ends, too: what the fence stands on."""
    target = target_at(double)
    ref = Ref.of("disk", "gs://rehearsal-staging/v2c/x", job=JOB, disk="d0", number="0", size="1")
    one = resumable.Upload(target.place.session, "rehearsal-staging", "v2c/x", ref, target.place.session.patience)
    first = one.begin(one.fence(None))
    second = one.begin(one.fence(one.look()))
    with pytest.raises(ApiError) as refused:
        one.send(first, b"x", 0, total=1, crc32c=resumable.extended(0, b"x"))
    assert refused.value.status == 412
    assert one.send(second, b"y", 0, total=1, crc32c=resumable.extended(0, b"y"))["size"] == "1"
    assert json.dumps(one.look()).count("whole") == 1
