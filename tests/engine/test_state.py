"""The state: private, and plain about what is wrong with it."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from v2c.engine import status
from v2c.errors import BusyError, UsageError, V2cError
from v2c.state import default_folder, held, hold, open_state, private_folder


def test_folders_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    monkeypatch.setenv("V2C_STATE", "")
    assert default_folder() == Path("/x/v2c")
    monkeypatch.setenv("V2C_STATE", "/y")
    assert default_folder() == Path("/y")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become a user without a name")
def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number; a child becomes that user, so that this process stays who it is."""
    for name in ("HOME", "V2C_STATE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    heard, told = os.pipe()
    if not (child := os.fork()):
        os.setuid(54321)
        try:
            os.write(told, str(default_folder()).encode())
        except UsageError as error:
            os.write(told, str(error).encode())
        finally:
            os._exit(0)
    os.close(told)
    with os.fdopen(heard, encoding="utf-8") as said:
        words = said.read()
    os.waitpid(child, 0)
    assert words.startswith("HOME is not set, and user 54321 has no home") and "set HOME" in words


def test_a_folder_open_to_others_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    private_folder(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_what_is_no_folder_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "file/below"):
        with pytest.raises(UsageError, match=name):
            private_folder(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(UsageError, match="another user"):
        private_folder(tmp_path)


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_database_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    state = open_state(tmp_path)
    (tmp_path / "v2c.db").write_bytes(content)
    with pytest.raises(V2cError, match=r"the state .*v2c\.db cannot be used .*--state") as caught:
        status(state, "a1")
    assert "\n" not in str(caught.value)


def test_a_lock_dies_with_its_holder_and_is_taken_once(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with hold(lock, "it"), pytest.raises(BusyError, match=f"it is being worked on by pid {os.getpid()} since"), hold(lock, "it"):
        pass
    with hold(lock, "it"):
        pass


def test_a_lock_is_free_though_a_program_is_just_being_started(tmp_path: Path) -> None:
    """Between fork and exec it has our descriptors, the lock's among them."""
    lock = tmp_path / "lock"
    with hold(lock, "it"):
        starting = os.fork()
        if starting == 0:
            time.sleep(60)
            os._exit(0)
    try:
        assert not held(lock)
        with hold(lock, "it", 0.0):
            assert held(lock)
    finally:
        os.kill(starting, signal.SIGKILL)
        os.waitpid(starting, 0)


def test_who_looks_whether_a_lock_is_held_takes_it_from_nobody(tmp_path: Path) -> None:
    lock, over = tmp_path / "lock", threading.Event()
    assert not held(lock) and not lock.exists()

    def look() -> None:
        while not over.is_set():
            held(lock)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    try:
        for looker in lookers:
            looker.start()
        for _ in range(200):
            with hold(lock, "it"):
                pass
    finally:
        over.set()
        for looker in lookers:
            looker.join()


def test_a_second_opening_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """A process that ends must not take itself for the last one while another one has the database open."""
    first = open_state(tmp_path / "state")
    with first.database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a)")
    first.durable.connect().close()
    open_state(tmp_path / "state").database.connect().close()
    code = (
        "import sys; from v2c.state import open_state\n"
        "state = open_state(sys.argv[1])\n"
        "with state.database.begin() as c: c.exec_driver_sql('INSERT INTO t VALUES (1)')\n"
        "state.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "state")], check=True)
    assert (tmp_path / "state" / "v2c.db-wal").exists(), "the log was removed under the connections of this process"
    with first.database.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 1
