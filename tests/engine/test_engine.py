"""The engine: memos, failures, attempts, redone steps, status, and what it must not do."""

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from v2c import errors
from v2c.engine import Engine, Phase, Steps, attempts, cancel, forget, status, statuses, story
from v2c.engine.memory import Redo, serializer
from v2c.events import Began, Ended, Event, Meter, Moved
from v2c.model import Ref
from v2c.state import State, open_state


@dataclass(frozen=True, slots=True)
class Ask:
    """What the test story is told: steps to do, and the one that fails as long as its file is there."""

    log: str
    steps: tuple[str, ...] = ("one", "two", "three")
    fails: str = ""
    flag: str = ""
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    refs: tuple[Ref, ...]
    seconds: tuple[str, ...]


def _note(log: str, text: str) -> int:
    with Path(log).open("a") as file:
        return file.write(f"{text}\n")


def _lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


@story("test")
def walk(steps: Steps, ask: Ask, journal: object) -> Answer:
    def make(name: str) -> Callable[[Meter], Ref]:
        def do(meter: Meter) -> Ref:
            _note(ask.log, name)
            with meter.phase("work", 10):
                meter.moved(10)
            if name == ask.fails and Path(ask.flag).exists():
                raise errors.TargetError(f"{name} is refused", remedy="remove the file", transient=bool(ask.retries))
            return Ref.of("thing", name, job=steps.attempt)

        return do

    refs = tuple(steps(name, make(name), returns=Ref, retries=ask.retries) for name in ask.steps)
    return Answer(refs, tuple(record.name for record in steps.records()))


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(tmp_path / "state")


def test_a_finished_job_answers_from_its_memo(state: State, tmp_path: Path) -> None:
    log = tmp_path / "log"
    heard: list[Event] = []
    with Engine(state, "a1", listener=heard.append) as engine:
        first = engine.run("a1", walk, Ask(str(log)))
    assert first.refs[1] == Ref.of("thing", "two", job="a1")
    assert first.seconds == ("one", "two", "three")
    assert [type(e) for e in heard if e.step == "one"] == [Began, Began, Moved, Ended, Ended]
    with Engine(state, "a1") as engine:
        assert engine.run("a1", walk, Ask(str(log))) == first
    assert _lines(log) == ["one", "two", "three"]


def test_again_is_a_new_attempt(state: State, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Engine(state, "a1") as engine:
        engine.run("a1", walk, Ask(str(log)))
        second = engine.run("a1", walk, Ask(str(log)), again=True)
        assert second.refs[0]["job"] == "a1.2"
        assert engine.run("a1", walk, Ask(str(log))) == second
        assert engine.run("a1", walk, Ask(str(log)), again=True).refs[0]["job"] == "a1.3"
    assert len(_lines(log)) == 9
    assert [s.attempt for s in statuses(state)] == ["a1", "a1.2", "a1.3"]


def test_a_forgotten_job_begins_from_nothing(state: State, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Engine(state, "a1") as engine:
        engine.run("a1", walk, Ask(str(log)))
        engine.run("a1", walk, Ask(str(log)), again=True)
        assert attempts(state, "a1") == ("a1", "a1.2")
        with pytest.raises(errors.BusyError):
            forget(state, "a1")
    forget(state, "a1")
    assert (attempts(state, "a1"), status(state, "a1")) == ((), None)
    with Engine(state, "a1") as engine:
        assert engine.run("a1", walk, Ask(str(log))).refs[0]["job"] == "a1"
    assert len(_lines(log)) == 9


def test_a_listener_that_fails_fails_no_step(state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise BrokenPipeError("closed")

    with Engine(state, "a1", listener=broken) as engine:
        engine.run("a1", walk, Ask(str(tmp_path / "log")))
    assert caplog.messages == ["progress is no longer shown: closed"]


def test_the_same_command_redoes_only_the_failed_step_and_later(state: State, tmp_path: Path) -> None:
    log, flag = tmp_path / "log", tmp_path / "flag"
    flag.touch()
    ask = Ask(str(log), fails="two", flag=str(flag))
    for _ in range(2):
        with Engine(state, "a1") as engine, pytest.raises(errors.TargetError, match="two is refused") as caught:
            engine.run("a1", walk, ask)
        assert caught.value.remedy == "remove the file"
    known = status(state, "a1")
    assert known
    assert (known.phase, known.error) == (Phase.FAILED, "two is refused: remove the file")
    assert [s.name for s in known.steps] == ["one"]
    flag.unlink()
    with Engine(state, "a1") as engine:
        assert engine.run("a1", walk, ask).seconds == ("one", "two", "three")
    assert _lines(log) == ["one", "two", "two", "two", "three"]


def test_a_failed_job_goes_on_in_the_same_engine_and_with_the_new_request(state: State, tmp_path: Path) -> None:
    log, flag = tmp_path / "log", tmp_path / "flag"
    flag.touch()
    with Engine(state, "a1") as engine:
        with pytest.raises(errors.TargetError):
            engine.run("a1", walk, Ask(str(log), fails="three", flag=str(flag)))
        engine.run("a1", walk, Ask(str(log)))  # no step fails by this request
    assert _lines(log) == ["one", "two", "three", "three"]


def test_transient_errors_are_tried_again(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v2c.engine.BACKOFF_S", 0.01)
    log, flag = tmp_path / "log", tmp_path / "flag"
    flag.touch()
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        if len(_lines(log)) == 3:
            flag.unlink(missing_ok=True)

    with Engine(state, "a1", listener=listener) as engine:
        engine.run("a1", walk, Ask(str(log), fails="one", flag=str(flag), retries=4))
        known = engine.status("a1")
    assert known
    assert known.steps[0].attempts == len([line for line in _lines(log) if line == "one"]) >= 3
    assert known.steps[0].phases[0][0] == "work"
    assert known.steps[0].bytes == 10


def test_other_steps_than_the_job_began_with_are_refused(state: State, tmp_path: Path) -> None:
    log, flag = tmp_path / "log", tmp_path / "flag"
    flag.touch()
    with Engine(state, "a1") as engine:
        with pytest.raises(errors.TargetError):
            engine.run("a1", walk, Ask(str(log), fails="two", flag=str(flag)))
        with pytest.raises(errors.V2cError, match="--again"):
            engine.run("a1", walk, Ask(str(log), steps=("zero", "one", "two")))


@dataclass(frozen=True, slots=True)
class Trip:
    log: str
    lost: int


@story("test-redo")
def trip(steps: Steps, ask: Trip, journal: object) -> int:
    def use(_: Meter) -> int:
        _note(ask.log, "use")
        if Path(ask.log).read_text().count("use") <= ask.lost:
            raise errors.CaptureLost("the capture is gone")
        return 7

    steps("plan", lambda _: _note(ask.log, "plan"), returns=int)
    steps("capture", lambda _: _note(ask.log, "capture"), returns=int)
    try:
        return steps("use", use, returns=int)
    except errors.CaptureLost as lost:
        raise steps.redo("capture", str(lost)) from lost


def test_a_story_can_ask_for_an_earlier_step_again(state: State, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Engine(state, "a1") as engine:
        assert engine.run("a1", trip, Trip(str(log), 2)) == 7
    assert _lines(log) == ["plan", "capture", "use", "capture", "use", "capture", "use"]


def test_redoing_has_an_end(state: State, tmp_path: Path) -> None:
    with Engine(state, "a1") as engine, pytest.raises(Redo, match="the capture is gone"):
        engine.run("a1", trip, Trip(str(tmp_path / "log"), 100))


@story("test-journal")
def keeper(steps: Steps, ask: int, journal: list[str]) -> list[str]:
    return steps("keep", lambda _: [*journal, str(ask)], returns=list[str])


def test_the_story_gets_the_journal_of_its_attempt(state: State) -> None:
    with Engine(state, "a1", journal=lambda attempt: [attempt]) as engine:
        assert engine.run("a1", keeper, 1) == ["a1", "1"]
        assert engine.run("a1", keeper, 2, again=True) == ["a1.2", "2"]


@story("test-wait")
def waiter(steps: Steps, ask: int, journal: threading.Event) -> int:
    def wait(meter: Meter) -> int:
        journal.set()
        while not meter.cancelled():
            threading.Event().wait(0.01)
        raise errors.Paused("stopped")

    return steps("wait", wait, returns=int)


def test_cancel_from_elsewhere_ends_a_running_job(state: State) -> None:
    running = threading.Event()

    def cancel_it() -> None:
        running.wait(10)
        known = status(state, "a1")
        assert known
        assert (known.phase, known.progress is not None) == (Phase.RUNNING, True)
        assert cancel(state, "a1")

    with Engine(state, "a1", journal=lambda _: running) as engine:
        other = threading.Thread(target=cancel_it)
        other.start()
        with pytest.raises(errors.V2cError, match="cancelled"):
            engine.run("a1", waiter, 1)
        other.join()
        with pytest.raises(errors.V2cError, match="--again"):
            engine.run("a1", waiter, 1)
    known = status(state, "a1")
    assert known
    assert known.phase is Phase.CANCELLED
    assert not cancel(state, "a1")


def test_one_process_per_executor(state: State) -> None:
    with (
        Engine(state, "a1"),
        pytest.raises(errors.BusyError, match=r"job a1 is being worked on by pid \d+ since "),
        Engine(state, "a1"),
    ):
        pass


def test_the_state_is_private_and_in_wal_mode(state: State, tmp_path: Path) -> None:
    with Engine(state, "a1") as engine:
        engine.run("a1", walk, Ask(str(tmp_path / "log")))
    files = [f for f in state.folder.rglob("*") if f.is_file()]
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700
    with sqlite3.connect(state.folder / "v2c.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_nothing_is_pickled(state: State, tmp_path: Path) -> None:
    with Engine(state, "a1") as engine:
        engine.run("a1", walk, Ask(str(tmp_path / "log")))
    with sqlite3.connect(state.folder / "v2c.db") as database:
        formats = database.execute("SELECT serialization FROM operation_outputs UNION SELECT serialization FROM workflow_status")
        assert formats.fetchall() == [("v2c-json",)]
        assert database.execute("SELECT output FROM operation_outputs").fetchone()[0].startswith('{"value": ')


@pytest.mark.parametrize(
    "error",
    [
        errors.TargetError("a", remedy="b", transient=True),
        errors.ToolError("a", command="qemu-img x", remedy="b"),
        Redo("gone", step="capture"),
    ],
)
def test_errors_survive_the_database(error: errors.V2cError) -> None:
    back = serializer().deserialize(serializer().serialize(error))
    assert (type(back), vars(back), str(back)) == (type(error), vars(error), str(error))


def test_a_foreign_error_comes_back_named() -> None:
    back = serializer().deserialize(serializer().serialize(ValueError("boo")))
    assert isinstance(back, errors.V2cError)
    assert "ValueError: boo" in str(back)


def test_a_value_cannot_pose_as_an_error() -> None:
    hostile = {"error": {"type": "TargetError", "text": "x"}}
    assert serializer().deserialize(serializer().serialize(hostile)) == hostile


def test_importing_the_engine_does_not_import_dbos() -> None:
    code = "import sys, v2c.engine; print([m for m in ('dbos', 'sqlalchemy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_job_may_come_back_while_the_engine_still_launches(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the queue hands the job over before `launch` returns; it must find its engine."""
    import dbos

    log, flag = tmp_path / "log", tmp_path / "flag"
    flag.touch()
    ask = Ask(str(log), fails="two", flag=str(flag))
    with Engine(state, "a1") as engine, pytest.raises(errors.TargetError):
        engine.run("a1", walk, ask)
    flag.unlink()
    launch = dbos.DBOS.launch

    def slow() -> None:
        launch()
        threading.Event().wait(0.5)

    monkeypatch.setattr(dbos.DBOS, "launch", slow)
    with Engine(state, "a1") as engine:
        assert engine.run("a1", walk, ask).seconds == ("one", "two", "three")
