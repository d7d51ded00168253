"""Folders for sockets that several processes use at once."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from v2c import sockets

BINDS = """
import socket, sys
from pathlib import Path
from v2c import sockets
for _ in range(400):
    with sockets._private(Path(sys.argv[1])) as folder, socket.socket(socket.AF_UNIX) as one:
        path = sockets.fresh(folder, "look")
        one.bind(str(path))
        path.unlink()
"""


def test_nobody_removes_the_folder_that_another_is_about_to_use(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", BINDS, str(tmp_path / "s")]
    running = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    words = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], words
    assert not (tmp_path / "s").exists()


def test_what_the_dead_left_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir(mode=0o700)
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in ("hold", "look"):
        (folder / f"{name}.{gone.pid}.1.sock").touch()
    (folder / f"look.{os.getppid()}.1.sock").touch()
    with sockets._private(folder):
        assert {p.name.split(".")[0] for p in folder.iterdir()} == {"hold", "look"}
        assert not list(folder.glob(f"*.{gone.pid}.*"))


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir(mode=0o755)
    with pytest.raises(Exception, match="only we can reach"), sockets._private(folder):
        socket.socket()
