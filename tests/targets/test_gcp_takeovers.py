"""gcp: disks that changed on the way, and workers that take each other's over."""

import hashlib
import json
from pathlib import Path

import pytest
from gcp_places import target_at, things
from gcp_worker import BLOCKS, JOB, Worker, content, held, plan, wanted

from v2c.emulators.gcp import GcpEmulator
from v2c.errors import BusyError, TargetError
from v2c.model import Ref
from v2c.targets.gcp import resumable
from v2c.targets.gcp.session import ApiError

pytestmark = pytest.mark.tool
pytest_plugins = ("gcp_worker",)


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
