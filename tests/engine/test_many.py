"""Many stories in one process: each with its own outcome, its own programs, its own cancel; one pause for all of them."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from v2c import errors, processes
from v2c.engine import Engine, Host, Steps, cancel, hosting, status, story
from v2c.engine.memory import Phase
from v2c.events import Meter
from v2c.processes import Process
from v2c.state import State, open_state


@dataclass(frozen=True, slots=True)
class Ask:
    log: str
    fails: str = ""
    flag: str = ""


@story("many-walk")
def walk(steps: Steps, ask: Ask, journal: object) -> tuple[str, ...]:
    def make(name: str) -> str:
        with Path(ask.log).open("a") as file:
            file.write(f"{steps.job} {name}\n")
        if name == ask.fails and Path(ask.flag).exists():
            raise errors.TargetError(f"{name} is refused")
        return f"{steps.job}.{name}"

    return tuple(steps(name, partial(lambda name, _: make(name), name), returns=str) for name in ("one", "two", "three"))


@story("many-wait")
def wait(steps: Steps, ask: str, journal: object) -> int:
    """Runs a program until somebody ends it."""

    def run(meter: Meter) -> int:
        with processes.pool(1) as pool:
            child = pool.submit(Process, ["sleep", "600"]).result()
            Path(ask, f"{steps.job}.pid").write_text(str(child.pid))
            code = child.wait()
        raise errors.ToolError(f"sleep ended ({code})")

    return steps("wait", run, returns=int)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(tmp_path / "state")


def move(state: State, job: str, ask: Ask) -> tuple[str, ...]:
    with Engine(state, job) as engine:
        return engine.run(job, walk, ask)


def test_many_jobs_run_at_once_and_fail_alone(state: State, tmp_path: Path) -> None:
    log, flag = tmp_path / "log", tmp_path / "flag"
    flag.touch()
    asks = {f"a{n}": Ask(str(log), "two" if n % 3 == 0 else "", str(flag)) for n in range(12)}

    def attempt(job: str) -> object:
        try:
            return move(state, job, asks[job])
        except errors.TargetError as error:
            return str(error)

    with hosting(state, "host-1"), ThreadPoolExecutor(12) as pool:
        first = dict(zip(asks, pool.map(attempt, asks), strict=True))
        assert {job for job, got in first.items() if got == "two is refused"} == {"a0", "a3", "a6", "a9"}
        flag.unlink()
        again = dict(zip(asks, pool.map(attempt, asks), strict=True))
    assert all(got == tuple(f"{job}.{name}" for name in ("one", "two", "three")) for job, got in again.items())
    lines = log.read_text().splitlines()
    assert sorted(set(lines)) == sorted(f"{job} {name}" for job in asks for name in ("one", "two", "three"))
    assert len(lines) - len(set(lines)) == 4  # the failed step of four jobs


def test_a_job_is_held_while_it_runs_in_a_host(state: State, tmp_path: Path) -> None:
    with hosting(state, "host-1"), Engine(state, "a1"), pytest.raises(errors.BusyError, match="job a1"):
        move(state, "a1", Ask(str(tmp_path / "log")))


def test_a_host_has_one_name_on_this_machine(state: State) -> None:
    with hosting(state, "host-1"), pytest.raises(errors.BusyError, match="worker host-1"), hosting(state, "host-1"):
        pass


def waiting(state: State, folder: Path, job: str, ended: dict[str, BaseException]) -> threading.Thread:
    def run() -> None:
        try:
            with Engine(state, job) as engine:
                engine.run(job, wait, str(folder))
        except BaseException as error:
            ended[job] = error

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 60
    while not (folder / f"{job}.pid").exists() or not (folder / f"{job}.pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return thread


def alive(folder: Path, job: str) -> bool:
    try:
        state = Path(f"/proc/{(folder / f'{job}.pid').read_text()}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] not in "ZX"


def test_a_cancelled_job_loses_its_programs_and_no_other_does(state: State, tmp_path: Path) -> None:
    ended: dict[str, BaseException] = {}
    with hosting(state, "host-1") as host:
        first, second = (waiting(state, tmp_path, job, ended) for job in ("a1", "a2"))
        assert cancel(state, "a1")
        first.join(60)
        assert "cancelled from elsewhere" in str(ended["a1"])
        assert (alive(tmp_path, "a1"), alive(tmp_path, "a2")) == (False, True)
        host.stop("a2")
        second.join(60)
        assert "sleep ended" in str(ended["a2"])
        assert not alive(tmp_path, "a2")


def test_what_is_not_its_own_any_more_is_told_to_stop(state: State) -> None:
    heard: list[bool] = []

    @story("many-lost")
    def lost(steps: Steps, ask: int, journal: Host) -> int:
        def look(meter: Meter) -> int:
            heard.append(meter.cancelled())
            journal.lost = lambda: True
            heard.append(meter.cancelled())
            return 1

        return steps("look", look, returns=int)

    with hosting(state, "host-1") as host, Engine(state, "a1", journal=lambda _: host) as engine:
        engine.run("a1", lost, 1)
    assert heard == [False, True]


SCRIPT = """
import sys, threading
from pathlib import Path
sys.path[:0] = [{tests!r}]
from test_many import wait
from v2c.engine import Engine, hosting
from v2c.state import open_state

state, folder = open_state({state!r}), {folder!r}

def run(job):
    with Engine(state, job) as engine:
        engine.run(job, wait, folder)

with hosting(state, "host-1", lambda: print("bye", flush=True)) as host:
    threads = [threading.Thread(target=run, args=(f"a{{n}}",), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        sys.stdin.read()
    except KeyboardInterrupt:
        pass
    host.pause(lambda: None)
"""


def test_one_pause_parks_all(state: State, tmp_path: Path) -> None:
    script = SCRIPT.format(tests=str(Path(__file__).parent), state=str(state.folder), folder=str(tmp_path))
    running = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("a*.pid"))) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    out, _ = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "bye\n")
    assert not any(alive(tmp_path, f"a{n}") for n in range(4))
    for n in range(4):
        known = status(state, f"a{n}")
        assert known
        assert (known.phase, known.error) == (Phase.INTERRUPTED, "")
    assert os.getpid() != running.pid
