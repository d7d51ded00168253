"""What a person does in a terminal: Ctrl-C, the same command again, another command beside it."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

from clocks import slowness
from worlds import WALKER, World

PATIENCE_S = 120  # a busy machine takes its time to start a process


def _start(folder: Path, slow: float, name: str = "x", world: str = "world") -> "subprocess.Popen[bytes]":
    argv = [sys.executable, str(WALKER), *(str(folder / part) for part in ("state", "work", world)), str(slow), name]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, start_new_session=True)


def _await_blocks(folder: Path, count: int, world: str = "world") -> None:
    log = folder / world / "log"
    deadline = time.monotonic() + PATIENCE_S
    while not (log.exists() and log.read_text().count("block") >= count):
        assert time.monotonic() < deadline, "no block came"
        time.sleep(0.02)


def _stay(folder: Path, count: int, world: str = "world") -> Path:
    """The copy stays at that block until the file that this returns is gone."""
    (folder / world).mkdir()
    (folder / world / "stay").write_text(str(count))
    return folder / world / "stay"


def test_ctrl_c_pauses_within_two_seconds(tmp_path: Path) -> None:
    stay = _stay(tmp_path, 3)
    walk = _start(tmp_path, slow=0)
    _await_blocks(tmp_path, 3)
    began = time.monotonic()
    walk.send_signal(signal.SIGINT)
    assert walk.wait(PATIENCE_S) == 130
    assert time.monotonic() - began < 2 * slowness()
    assert walk.stderr
    assert walk.stderr.read() == b""
    world = World(tmp_path)
    assert world.running() == []
    assert "step register" not in world.counts
    stay.unlink()
    assert _start(tmp_path, slow=0).wait(PATIENCE_S) == 0
    counts = World(tmp_path).counts
    assert (counts["step scratch"], counts["step reserve"], counts["step copy"]) == (1, 1, 2)
    assert max(count for what, count in counts.items() if what.startswith("block")) == 1
    assert world.left() == ["disk", "image", "log", "pids", "result"]


def test_ctrl_c_does_not_wait_for_a_step_that_does_not_listen(tmp_path: Path) -> None:
    walk = _start(tmp_path, slow=60)
    _await_blocks(tmp_path, 1)
    began = time.monotonic()
    walk.send_signal(signal.SIGINT)
    assert walk.wait(PATIENCE_S) == 130
    assert time.monotonic() - began < 2 * slowness()
    assert World(tmp_path).running() == []


def test_ctrl_c_typed_into_a_terminal(tmp_path: Path) -> None:
    """The terminal signals the whole group; our programs are in sessions of their own, and nothing is printed."""
    _stay(tmp_path, 2)
    argv = [sys.executable, str(WALKER), *(str(tmp_path / part) for part in ("state", "work", "world")), "0"]
    pid, terminal = pty.fork()
    if not pid:
        os.execv(argv[0], argv)
    _await_blocks(tmp_path, 2)
    began = time.monotonic()
    os.write(terminal, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert time.monotonic() - began < 2 * slowness()
    said = os.read(terminal, 1000)
    os.close(terminal)
    assert said.replace(b"\r\n", b"") == b"^C"
    assert World(tmp_path).running() == []


def test_two_terminals_on_one_state(tmp_path: Path) -> None:
    """Different jobs at the same time; the first ends early, and takes nothing of the second's with it."""
    stay = _stay(tmp_path, 1, "slow")
    slow = _start(tmp_path, slow=0, name="slow", world="slow")
    _await_blocks(tmp_path, 1, world="slow")
    assert _start(tmp_path, slow=0, name="fast", world="fast").wait(PATIENCE_S) == 0
    assert slow.poll() is None
    stay.unlink()
    assert slow.wait(PATIENCE_S) == 0
    for world in ("slow", "fast"):
        log = (tmp_path / world / "log").read_text().splitlines()
        assert len(log) == len(set(log)), "something was done twice"
        assert (tmp_path / world / "result").exists()


def test_a_killed_job_is_not_taken_by_another_terminal(tmp_path: Path) -> None:
    """One is killed; another is started and running while the first one's command is typed again."""
    stay = _stay(tmp_path, 2, "first")
    first = _start(tmp_path, slow=0, name="first", world="first")
    _await_blocks(tmp_path, 2, world="first")
    first.kill()
    first.wait()
    stay.unlink()
    stay = _stay(tmp_path, 2, "other")
    other = _start(tmp_path, slow=0, name="other", world="other")
    _await_blocks(tmp_path, 2, world="other")
    assert (tmp_path / "first" / "log").read_text().count("step copy") == 1  # nobody went on with it
    assert _start(tmp_path, slow=0, name="first", world="first").wait(PATIENCE_S) == 0
    assert other.poll() is None
    stay.unlink()
    assert other.wait(PATIENCE_S) == 0
    for world, copies in (("first", 2), ("other", 1)):
        log = (tmp_path / world / "log").read_text().splitlines()
        assert log.count("step copy") == copies
        assert log.count("made image") == 1
        assert sorted(line for line in log if line.startswith("block")) == sorted({f"block {n}" for n in range(12)})


def test_the_same_job_in_two_terminals(tmp_path: Path) -> None:
    _stay(tmp_path, 1)
    walk = _start(tmp_path, slow=0)
    _await_blocks(tmp_path, 1)
    second = _start(tmp_path, slow=0)
    assert second.stderr
    said = second.stderr.read().decode()
    assert second.wait(PATIENCE_S) == 1
    assert f"is being worked on by pid {walk.pid} since" in said
    walk.send_signal(signal.SIGINT)
    assert walk.wait(PATIENCE_S) == 130


def test_the_switch_in_the_environment(tmp_path: Path) -> None:
    at = 9
    argv = [sys.executable, str(WALKER), *(str(tmp_path / part) for part in ("state", "work", "world"))]
    env = os.environ | {"V2C_CRASH_AT": str(at), "V2C_CRASH_LOG": str(tmp_path / "boundaries")}
    assert subprocess.run(argv, env=env, check=False).returncode == -signal.SIGKILL
    assert len((tmp_path / "boundaries").read_text().splitlines()) == at
    assert subprocess.run(argv, check=False).returncode == 0
