"""gcp: uploads under the failures that Google publishes, sessions that end, servers that lie."""

import hashlib
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
from gcp_places import things
from gcp_worker import BLOCKS, KINDS, PACKERS, REQUEST, Worker, held, plan, sent, wanted

from v2c import state
from v2c.emulators.faults import Faults
from v2c.emulators.gcp import GcpEmulator
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.model import KIB, MIB, Caps, Firmware, Placement

pytestmark = pytest.mark.tool
pytest_plugins = ("gcp_worker",)


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
    assert set(again) < set(BLOCKS) and len(set(again) & set(put)) <= 1 + PACKERS + REQUEST // MIB, (
        "only what no request carried yet"
    )
    assert held(double, ref, tmp_path) == wanted()
    thing = double.storage.object(*ref.id.removeprefix("gs://").split("/", 1))
    assert sent(double) == int(thing["size"]), "a byte went twice"
    assert double.requests.done("objects.insert").total() == 4, "the name, the fence, one session, the index"


def test_a_worker_that_was_killed_is_gone_on_with(double: GcpEmulator, worker: Worker, tmp_path: Path) -> None:
    """SIGKILL, in the midst of a request; the next process goes on from what the server holds."""
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
import gcp_worker as tests
from pathlib import Path
tests.upload.REQUEST, tests.upload.PACKERS = tests.REQUEST, tests.PACKERS
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
