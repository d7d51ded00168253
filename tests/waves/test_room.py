"""Room in the work folder: who does not fit waits, says why, and goes on when there is room."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from waving import World, machine, manifest

from v2c import doctor
from v2c.model import GIB, MIB
from v2c.model.wave import Gate, Snapshot, Stage, Standing
from v2c.waves import actions, room
from v2c.waves.claims import claim
from v2c.waves.folder import Folder
from v2c.waves.nouns import Limits
from v2c.waves.room import Room, need
from v2c.waves.store import Heart, Store
from v2c.waves.worker import Worker

PATIENCE_S = 600  # a busy machine takes its time for three machines, one after the other
DONE = (Stage.FINALIZE, Standing.DONE)
MACHINES = tuple(f"a{n}" for n in range(3))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """What is free, made up where a disk is asked."""
    known = {"free": 100 * GIB}
    monkeypatch.setattr(room, "free", lambda _: known["free"])
    yield known


@contextmanager
def working(world: World, slots: int = 4, scratch: int | None = None) -> Iterator[threading.Thread]:
    """A worker that works in the background."""
    with Worker(world.state, world.folder / "work", slots=slots, run="trial", scratch=scratch) as worker:
        thread = threading.Thread(target=worker.work)
        thread.start()
        yield thread
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def until(world: World, enough: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not any(enough in one.why for one in world.seen().machines):
        assert time.monotonic() < deadline, [one.why for one in world.seen().machines]
        time.sleep(0.1)


def at_once(seen: Snapshot) -> int:
    """The most machines that replicated at the same time."""
    spans = [(s.began, s.ended) for one in seen.machines for s in one.spans if s.stage is Stage.REPLICATE]
    whole = {}
    for one in seen.machines:
        mine = [s for s in one.spans if s.stage is Stage.REPLICATE]
        whole[one.id] = (min(s.began for s in mine), max(s.ended for s in mine))
    assert spans
    return max(sum(begin <= at < end for begin, end in whole.values()) for at, _ in whole.values())


def test_nobody_begins_where_it_does_not_fit(world: World, disk: dict[str, int]) -> None:
    disk["free"] = GIB // 2
    world.begin(manifest([machine("a1")]))
    with working(world):
        until(world, "waits for room")
        time.sleep(1.5)
        one = world.one("a1")
        assert (one.stage, one.standing, one.spans) == (Stage.REPLICATE, Standing.WAITING, ())
        need = f"{doctor.REPAIR / GIB:.1f}"
        assert one.why.startswith(f"waits for room: it may take {need} GiB, and the work folder on ")
        assert one.why.endswith(" had 0.5 GiB beside what runs there")
        disk["free"] = GIB
    assert world.stood() == {"a1": DONE}
    assert world.one("a1").why == ""


def test_as_many_as_fit_at_once(world: World, disk: dict[str, int]) -> None:
    """Four slots and room for one at a time: one after the other, and none fails."""
    disk["free"] = 3 * GIB
    world.begin(manifest([machine(id) for id in MACHINES], more="limits: { scratch: 2GiB }"))
    with working(world):
        until(world, "waits for room: it may take 2.0 GiB, ")
    assert world.stood() == dict.fromkeys(MACHINES, DONE)
    assert at_once(world.seen()) == 1


def test_what_a_machine_wrote_is_free_no_more_and_counted_once(world: World, disk: dict[str, int]) -> None:
    """1.5 GiB are free beside a machine that may take 1 GiB and holds a part of it already: the rest of it is kept."""
    world.begin(manifest([machine("a1"), machine("a2")], more="limits: { scratch: 1GiB }"))
    store = Store(world.state)
    one, _ = store.machines("trial")
    own = Folder(store, "w1", world.folder / "work")
    disk["free"] = GIB + GIB // 2
    assert own.room([("trial", one)]).left == GIB // 2
    job = world.folder / "work" / one.order.request.job
    job.mkdir(parents=True)
    (job / "d0.qcow2").write_bytes(bytes(64 * MIB))
    assert GIB // 2 + 64 * MIB <= own.room([("trial", one)]).left < GIB // 2 + 66 * MIB
    assert own.room([("trial", replace(one, stage=Stage.TEST))]).left == GIB + GIB // 2


def test_other_workers_of_the_disk_are_counted(world: World, disk: dict[str, int]) -> None:
    world.begin(manifest([machine("a1")], more="limits: { scratch: 1GiB }"))
    store = Store(world.state)
    (one,) = store.machines("trial")
    for name in ("w1", "w2"):
        store.beat(Heart(name, "here", 1, time.time(), 0.0, 1, "seen by its heart"))
    disk["free"] = 3 * GIB
    first, second = (Folder(store, name, world.folder / "work") for name in ("w1", "w2"))
    assert first.room([("trial", one)]).left == 2 * GIB
    assert second.room([]).left == 2 * GIB
    store.beat(Heart("w1", "here", 1, time.time(), 0.0, 1, "seen by its heart", left=True))
    assert second.room([]).left == 3 * GIB


def test_who_knows_best_how_much_a_machine_takes(world: World) -> None:
    world.begin(manifest([machine("a1")]))
    (one,) = Store(world.state).machines("trial")
    assert need(one, Limits()) == doctor.REPAIR  # a target in memory needs no boot here
    assert need(one, Limits(scratch=5)) == 5
    assert need(one, Limits(scratch=5, wave_scratch={"pilot": 4, "other": 3})) == 4
    assert need(one, Limits(scratch=5), own=7) == 7
    for stage in (Stage.TEST, Stage.CUTOVER, Stage.FINALIZE, Stage.ROLLBACK):
        assert need(replace(one, stage=stage), Limits(scratch=5)) == 0


def test_a_cloud_that_cannot_be_rehearsed_on_adds_a_boot(world: World) -> None:
    world.begin(manifest([machine("a1", "target: aws")]).replace("targets: {", 'targets: { aws: { to: "aws:eu-west-1" },'))
    assert Store(world.state).machines("trial")[0].order.scratch == doctor.REPAIR + doctor.BOOT


def test_another_worker_with_room_takes_it(world: World) -> None:
    world.begin(manifest([machine("a1")], more="limits: { scratch: 1GiB }"))
    store = Store(world.state)
    full, roomy = (Heart(name, name, 1, time.time(), 0.0, 1, "seen by its heart") for name in ("full", "roomy"))
    for heart in (full, roomy):
        store.beat(heart)
    assert claim(store, "trial", full, 1, room=Room(GIB - 1)) == ([], True)
    assert "the work folder on full had 1.0 GiB" in world.one("a1").why
    (taken,), _ = claim(store, "trial", roomy, 1, room=Room(GIB))
    assert (taken.worker, taken.why) == ("roomy", "")


def test_a_stage_that_takes_nothing_goes_on_where_the_disk_is_full(world: World, disk: dict[str, int]) -> None:
    world.begin(manifest([machine("a1")], gates="{}"))
    world.work()
    disk["free"] = 0
    for gate in Gate:
        actions.approve(world.state, "trial", gate)
    world.work()
    assert world.stood() == {"a1": DONE}


@pytest.mark.tool
def test_a_small_disk(world: World, tmp_path: Path) -> None:
    """A real file system of 8 MiB under the work folder."""
    work = world.folder / "work"
    work.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(work)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    try:
        assert 7 * MIB <= room.free(work / "not" / "there") <= 8 * MIB
        world.begin(manifest([machine("a1")]))
        with working(world, scratch=4 * MIB):
            pass
        assert world.stood() == {"a1": DONE}
        world.begin(manifest([machine("a1"), machine("a2")]))
        with working(world) as thread:
            until(world, "waits for room")
            assert thread.is_alive()
            subprocess.run(["mount", "-o", "remount,size=1g", str(work)], check=True)
        assert world.stood() == {"a1": DONE, "a2": DONE}
    finally:
        subprocess.run(["umount", "-l", str(work)], check=False)
