"""The state: private, and plain about what is wrong with it."""

import os
import stat
from pathlib import Path

import pytest

from v2c.engine import status
from v2c.errors import BusyError, UsageError, V2cError
from v2c.state import default_folder, hold, open_state, private_folder


def test_folders_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    monkeypatch.setenv("V2C_STATE", "")
    assert default_folder() == Path("/x/v2c")
    monkeypatch.setenv("V2C_STATE", "/y")
    assert default_folder() == Path("/y")


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
