"""Several workers on one run, each with a state and a work folder of its own, over PostgreSQL; and two on one SQLite file."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from servers import Server
from waving import World, machine, manifest

from v2c.model.wave import Snapshot, Stage, Standing
from v2c.state import open_state
from v2c.waves import actions
from v2c.waves.snapshot import snapshot

DONE = (Stage.FINALIZE, Standing.DONE)
SLOW = "import time; from v2c.sources.memory import Content as C, _HEAD; read = C.read\n"
SLOW += "def slow(self, at, length):\n    time.sleep({seconds} * (at >= _HEAD)); return read(self, at, length)\nC.read = slow\n"
DIES = "import os; from v2c import crashpoints\n"
DIES += "def point(name):\n    if name == {name!r}: os.kill(os.getpid(), 9)\ncrashpoints.point = point\n"


@dataclass
class Fleet:
    """Workers as processes, each with its own folders below `folder`; the targets in memory are everybody's."""

    folder: Path
    engine: str
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def argv(self, name: str, *words: str) -> list[str]:
        own = self.folder / name
        engine = ["--engine", self.engine] if self.engine else []
        state = own if self.engine else self.folder / "shared"
        return [*words, "--state", str(state / "state"), "--workdir", str(own / "work"), *engine]

    def start(
        self, name: str, *words: str, slow: float = 0.0, beats: Mapping[str, float] | None = None, dies_at: str = ""
    ) -> None:
        """A process that runs the command line; `slow`: seconds for each read of its data; `beats`: constants of workers.
        `dies_at`: the boundary at which it kills itself."""
        code = SLOW.format(seconds=slow) if slow else ""
        code += DIES.format(name=dies_at) if dies_at else ""
        for constant, value in (beats or {}).items():
            module, _, attribute = constant.rpartition(".")
            code += f"import {module}; {module}.{attribute} = {value}\n"
        code += "from v2c.cli import main; main()"
        (self.folder / name).mkdir(exist_ok=True)
        out = (self.folder / name / "out").open("ab")
        env = os.environ | {"V2C_MEMORY": str(self.folder / "memory")}
        argv = [sys.executable, "-c", code, *self.argv(name, *words)]
        self.running[name] = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env)

    def said(self, name: str) -> str:
        return (self.folder / name / "out").read_text()

    def seen(self) -> Snapshot:
        state = open_state(self.engine, self.folder / "looks") if self.engine else open_state(self.folder / "shared" / "state")
        return snapshot(state, "trial")

    def until(self, enough: Callable[[], bool], seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not enough():
            ended = {name: process.poll() for name, process in self.running.items()}
            dead = {name: self.said(name)[-2000:] for name, code in ended.items() if code not in (None, 0, -9)}
            assert not dead, dead
            assert time.monotonic() < deadline, [self.said(name)[-1000:] for name in self.running]
            time.sleep(0.1)

    def steps(self) -> Counter[tuple[str, str]]:
        """How often each step of each machine ended well."""
        return Counter((one.id, span.step) for one in self.seen().machines for span in one.spans if span.ended and not span.error)

    def end(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@pytest.fixture
def fleet(tmp_path: Path, postgres: Server) -> Iterator[Fleet]:
    made = Fleet(tmp_path, postgres.database())
    yield made
    made.end()


def begin(fleet: Fleet, count: int, *more: str, name: str = "begin") -> None:
    file = fleet.folder / "wave.yaml"
    file.write_text(manifest([machine(f"a{n}") for n in range(count)]))
    fleet.start(name, "run", str(file), "--detach", *more)
    assert fleet.running.pop(name).wait(300) == 0, fleet.said(name)


def uploading(fleet: Fleet, name: str) -> list[str]:
    """The machines that the worker is sending."""
    pid = fleet.running[name].pid
    seen = fleet.seen()
    own = {worker.id for worker in seen.workers if worker.pid == pid}
    return [one.id for one in seen.machines if one.worker in own and one.moving and one.moving.step == "upload"]


def over(fleet: Fleet) -> bool:
    return fleet.seen().over


def events(fleet: Fleet) -> World:
    return World(fleet.folder)


@pytest.mark.tool
def test_workers_share_a_run(fleet: Fleet) -> None:
    begin(fleet, 8, "--until", "replicate")
    for name in ("w1", "w2", "w3"):
        fleet.start(name, "worker", "--slots", "1", slow=0.05)
    fleet.until(lambda: all(one.stage is Stage.TEST for one in fleet.seen().machines))
    begin(fleet, 8)
    fleet.until(lambda: over(fleet))
    seen = fleet.seen()
    assert [one.standing for one in seen.machines] == [Standing.DONE] * 8
    assert len({span.worker for one in seen.machines for span in one.spans}) == 3
    assert events(fleet).twice() == []
    assert max(fleet.steps().values()) == 1
    crossed = [one for one in seen.machines if len({span.worker for span in one.spans}) > 1]
    assert crossed, "no machine was ever handed from one worker to another"  # whose report was read from the state
    for name in ("w1", "w2", "w3"):
        fleet.running[name].send_signal(signal.SIGTERM)
        assert fleet.running[name].wait(60) == 130
    assert fleet.seen().workers == ()


@pytest.mark.tool
def test_a_dead_workers_machine_is_taken_over(fleet: Fleet) -> None:
    """kill -9 of one of three, in the middle of an upload: its folder is out of reach, so the repair is done again, and nothing
    that lies outside is made twice."""
    begin(fleet, 3)
    beats = {"v2c.waves.claims.STALE_S": 15.0, "v2c.waves.worker.BEAT_S": 1.0}
    for name in ("w1", "w2", "w3"):
        fleet.start(name, "worker", "--slots", "1", slow=1.0, beats=beats)
    fleet.until(lambda: bool(uploading(fleet, "w1")))
    victim = next(one for one in fleet.seen().workers if one.pid == fleet.running["w1"].pid)
    (held,) = victim.machines
    fleet.running["w1"].kill()
    fleet.until(lambda: over(fleet))
    seen = fleet.seen()
    assert [one.standing for one in seen.machines] == [Standing.DONE] * 3
    assert events(fleet).twice() == []
    for (id, step), count in fleet.steps().items():
        assert count == (2 if (id, step) == (held, "fix") else 1), (id, step)
    died = [span for one in seen.machines for span in one.spans if span.error == f"the worker {victim.id} died"]
    assert [(span.stage, span.step) for span in died] == [(Stage.REPLICATE, "upload")]


@pytest.mark.tool
@pytest.mark.parametrize("moment", ["claimed", "done fix", "made image", "made instance", "settling"])
def test_one_of_three_dies_and_the_wave_ends_as_undisturbed(fleet: Fleet, moment: str) -> None:
    begin(fleet, 3)
    beats = {"v2c.waves.claims.STALE_S": 15.0, "v2c.waves.worker.BEAT_S": 1.0}
    fleet.start("w1", "worker", "--slots", "1", beats=beats, dies_at=moment)
    fleet.until(lambda: bool(fleet.seen().workers))
    for name in ("w2", "w3"):
        fleet.start(name, "worker", "--slots", "1", beats=beats)
    fleet.until(lambda: over(fleet))
    assert fleet.running["w1"].wait(60) == -9
    assert [(one.stage, one.standing, one.verdict) for one in fleet.seen().machines] == [(*DONE, "pass")] * 3
    assert events(fleet).twice() == []
    assert {key for key, count in fleet.steps().items() if count > 1} <= {(f"a{n}", "fix") for n in range(3)}


@pytest.mark.tool
def test_a_frozen_worker_that_wakes_late_harms_nothing(fleet: Fleet) -> None:
    begin(fleet, 1)
    beats = {"v2c.waves.claims.STALE_S": 10.0, "v2c.waves.worker.BEAT_S": 1.0, "v2c.waves.worker.LEASE_S": 6.0}
    fleet.start("w1", "worker", "--slots", "1", slow=2.0, beats=beats)
    fleet.until(lambda: bool(uploading(fleet, "w1")))
    fleet.running["w1"].send_signal(signal.SIGSTOP)
    frozen = fleet.seen().workers[0].id
    fleet.start("w2", "worker", "--slots", "1", slow=2.0, beats=beats)
    fleet.until(lambda: any(span.worker != frozen for span in fleet.seen().machines[0].spans))
    fleet.until(lambda: bool(uploading(fleet, "w2")))
    fleet.running["w1"].send_signal(signal.SIGCONT)
    fleet.until(lambda: over(fleet))
    (one,) = fleet.seen().machines
    assert (one.stage, one.standing, one.verdict) == (*DONE, "pass")
    assert events(fleet).twice() == []
    time.sleep(3)  # what the one that slept might still do
    assert fleet.running["w1"].poll() is None, fleet.said("w1")
    assert fleet.seen().machines[0].spans == one.spans
    puts = [event for event in events(fleet).events() if event["what"] == "put"]
    first = next(place for place, event in enumerate(puts) if event["pid"] != fleet.running["w1"].pid)
    assert not any(event["pid"] == fleet.running["w1"].pid for event in puts[first:])


@pytest.mark.tool
def test_a_machine_that_runs_is_cancelled_and_the_others_go_on(fleet: Fleet) -> None:
    begin(fleet, 2)
    fleet.start("w1", "worker", "--slots", "2", slow=3.0)
    fleet.until(lambda: "a0" in uploading(fleet, "w1"))
    assert actions.cancel(open_state(fleet.engine, fleet.folder / "looks"), "trial", ["a0"]) == ["a0"]
    fleet.until(lambda: over(fleet))
    first, second = fleet.seen().machines
    assert (first.stage, first.standing, second.standing) == (Stage.REPLICATE, Standing.CANCELLED, Standing.DONE)
    assert fleet.running["w1"].poll() is None
    puts = [event["id"] for event in events(fleet).events() if event["what"] == "put" and first.job in event["id"]]
    actions.retry(open_state(fleet.engine, fleet.folder / "looks"), "trial", ["a0"])
    fleet.until(lambda: over(fleet))
    assert [one.standing for one in fleet.seen().machines] == [Standing.DONE] * 2
    assert len(puts) < 4  # it was in the middle of it


def test_two_operators_at_once(tmp_path: Path) -> None:
    """The same command in two terminals, on one SQLite file: they share the wave, and both tell the same end."""
    fleet = Fleet(tmp_path, "")
    file = tmp_path / "wave.yaml"
    file.write_text(manifest([machine(f"a{n}") for n in range(4)]))
    try:
        for name in ("w1", "w2"):
            fleet.start(name, "run", str(file), "--slots", "1", slow=0.1)
        codes = [fleet.running[name].wait(300) for name in ("w1", "w2")]
        assert codes == [0, 0], fleet.said("w1") + fleet.said("w2")
        assert [one.standing for one in fleet.seen().machines] == [Standing.DONE] * 4
        assert events(fleet).twice() == []
        assert max(fleet.steps().values()) == 1
        assert len({span.worker for one in fleet.seen().machines for span in one.spans}) == 2
        assert sum(fleet.said(name).count("joined:") for name in ("w1", "w2")) == 1
        assert all("trial: 4 done" in fleet.said(name) for name in ("w1", "w2"))
    finally:
        fleet.end()


def test_nobody_claims_what_another_one_has(world: World) -> None:
    """Many claim at the same moment: each machine goes to one of them, once."""
    from concurrent.futures import ThreadPoolExecutor

    from v2c.waves.claims import claim, locks
    from v2c.waves.store import Heart, Store

    world.begin(manifest([machine(f"a{n}") for n in range(12)]))
    hearts = [Heart(f"w{n}", "elsewhere", 1, 0.0, 0.0, 12, f"not {locks(world.state)}") for n in range(6)]
    stores = [Store(open_state(world.folder / "state")) for _ in hearts]  # as processes have them: connections of their own
    for store, heart in zip(stores, hearts, strict=True):
        store.beat(heart)

    def take(number: int) -> list[str]:
        taken: list[str] = []
        while got := claim(stores[number], "trial", hearts[number], 1, working={(id, 1) for id in taken})[0]:
            taken += [one.id for one in got]
        return taken

    with ThreadPoolExecutor(len(hearts)) as pool:
        every = [id for taken in pool.map(take, range(len(hearts))) for id in taken]
    assert sorted(every) == sorted(f"a{n}" for n in range(12))
    assert {one.epoch for one in stores[0].machines("trial")} == {1}


@pytest.mark.tool
def test_a_database_that_is_away_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads and writes the run fails for a while, as when the server is restarted."""
    from v2c.waves import claims
    from v2c.waves.worker import Worker

    world.begin(manifest([machine("a1")]))
    claim, failures = claims.claim, [0]

    def away(*words: Any, **more: Any) -> Any:
        failures[0] += 1
        if failures[0] < 4:
            raise ConnectionError("the server closed the connection")
        return claim(*words, **more)

    monkeypatch.setattr(claims, "claim", away)
    with Worker(world.state, world.folder / "work", slots=1, run="trial") as worker:
        worker.work()
    assert world.stood() == {"a1": DONE}
    assert failures[0] > 4


def test_a_worker_whose_lock_is_in_sight_lives_as_long_as_it_is_held(world: World) -> None:
    from v2c.engine.memory import lockfile
    from v2c.state import hold
    from v2c.waves.claims import STALE_S, alive, locks
    from v2c.waves.store import Heart

    state, now = world.state, time.time()
    near = Heart("w1", "here", 1, now, now - 10 * STALE_S, 1, locks(state))
    with hold(lockfile(state, "w1"), "worker w1"):
        assert alive(near, state, now)  # held up, and not dead: its jobs are locked, too
    assert not alive(near, state, now)
    far = Heart("w2", "there", 1, now, now - STALE_S / 2, 1, "another machine's")
    assert alive(far, state, now)
    assert not alive(far, state, now + STALE_S)
    assert not alive(Heart("w3", "there", 1, now, now, 1, "another machine's", left=True), state, now)
