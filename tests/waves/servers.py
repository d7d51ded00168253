"""A PostgreSQL server of a test's own: in a temporary folder, on a socket there, without a network."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
USER = "postgres"


@dataclass(frozen=True)
class Server:
    """A running server; `database` makes an empty one in it."""

    folder: Path

    def database(self) -> str:
        """The URL of a new database."""
        name = f"v2c_{uuid.uuid4().hex[:12]}"
        _run(["psql", "-h", str(self.folder), "-U", USER, "-d", "postgres", "-qc", f"CREATE DATABASE {name}"])
        return f"postgresql://{USER}@/{name}?host={self.folder}"


@contextmanager
def serving() -> Iterator[Server]:
    """A server as long as the body runs. PostgreSQL refuses root, who then lets the package's user run it."""
    bin = PROGRAMS[-1]
    folder = Path(tempfile.mkdtemp(prefix="v2c-pg-"))  # not pytest's: another user must reach it, and a socket's path is short
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data = folder / "data"
        _run([str(bin / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"], as_user=True)
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=200"
        _run(
            [str(bin / "pg_ctl"), "-D", str(data), "-w", "-t", "120", "-l", str(folder / "log"), "-o", options, "start"],
            as_user=True,
        )
        try:
            yield Server(folder)
        finally:
            _run([str(bin / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"], as_user=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(argv: list[str], *, as_user: bool = False) -> None:
    if as_user and os.geteuid() == 0:
        argv = ["runuser", "-u", USER, "--", *argv]
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/")
    assert done.returncode == 0, f"{argv}: {done.stderr}"
