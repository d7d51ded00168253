"""Where v2c remembers: one folder per user, with one SQLite database in it (or a PostgreSQL URL), and locks.

The engine, the journal and the jobs share the database. The folder is 0700 and the database 0600: requests and journals name
machines, accounts and addresses. Keep it on a local disk: SQLite's locks do not hold on NFS.
"""

import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2c.errors import BusyError, NoSpaceError, UsageError, V2cError

if TYPE_CHECKING:
    import sqlalchemy

DATABASE = "v2c.db"
_MAKING = 7_623_001  # the advisory lock of who makes tables
_CONNECTIONS = 90  # beyond the five that stay open: a worker with many machines has a thread for each
LOOK_S = 0.25  # how long a lock may be held by who only looks whether it is held
BUSY_MS = 30_000  # how long a writer waits for another process's transaction

_MEND = "move it away, or name another folder with --state; jobs that it knew begin anew"
_BROKEN: tuple[tuple[str, type[V2cError], str], ...] = (  # words of SQLite that no retry helps against
    ("not a database", V2cError, _MEND),
    ("malformed", V2cError, _MEND),
    ("disk I/O error", V2cError, "see what the kernel says of that disk (dmesg); " + _MEND),
    ("disk is full", NoSpaceError, "make room there, and the same command goes on"),
    ("readonly database", V2cError, "make it writable, or name another folder with --state"),
    ("unable to open", V2cError, "make it readable and writable, or name another folder with --state"),
)


def own_folder(variable: str, otherwise: str) -> Path:
    """The user's folder of ours: $VARIABLE/v2c, else ~/OTHERWISE/v2c. UsageError when nobody knows where the home folder is."""
    base = os.environ.get(variable, "")
    try:
        return (Path(base) if base else Path.home() / otherwise) / "v2c"
    except RuntimeError as error:
        raise UsageError(
            f"HOME is not set, and user {os.geteuid()} has no home folder that this machine knows of",
            remedy=f"set HOME to a folder of your own, or {variable}",
        ) from error


def default_folder() -> Path:
    """$V2C_STATE, else $XDG_STATE_HOME/v2c, else ~/.local/state/v2c."""
    named = os.environ.get("V2C_STATE", "")
    if named:
        return Path(named)
    return own_folder("XDG_STATE_HOME", ".local/state")


def private_folder(path: Path) -> Path:
    """Makes `path` (and its parents) if need be, and closes it to other users. UsageError when it is not ours to use."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise UsageError(f"the folder {path} cannot be used ({error.strerror})", remedy="name another one") from error
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{path} is not a folder (a symbolic link is not followed)", remedy="name another one")
    if status.st_uid != os.geteuid():
        raise UsageError(f"the folder {path} belongs to another user", remedy="name one of your own")
    if stat.S_IMODE(status.st_mode) & 0o077:
        path.chmod(0o700)
    return path


@contextmanager
def hold(path: Path, subject: str, patience: float = LOOK_S) -> Iterator[None]:
    """Holds the lock file `path` while the body runs; the kernel lets it go when the process dies, however it dies.

    BusyError when another process holds it, and not just for a look: "SUBJECT is being worked on by pid N since ...". The file
    stays.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            _lock(descriptor, patience)
        except BlockingIOError as taken:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise BusyError(
                f"{subject} is being worked on by {holder}", remedy="wait for it, or stop it there with Ctrl-C", transient=True
            ) from taken
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode(), 0)
        yield
    finally:
        # A program that another thread is just starting has the descriptor, too, until it is one: closing alone would not do.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(descriptor: int, patience: float) -> None:
    """BlockingIOError when it is not free so many seconds long."""
    until = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def held(path: Path) -> bool:
    """Whether a process holds the lock file `path` at this moment."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _make_file(file: Path) -> None:
    """Makes the database's file for us alone (-wal and -shm take its mode) unless it is there.

    One that is there is not opened: a close of any descriptor ends all POSIX locks that this process has on the file, SQLite's
    too, and another process that ends would take itself for the last one and remove the log under us (sqlite.org/howtocorrupt,
    2.2)."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return
    except FileExistsError:
        why = "" if file.is_file() else "Is a directory" if file.is_dir() else "it is no file"
        why = why or ("" if os.access(file, os.R_OK | os.W_OK) else "Permission denied")
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise UsageError(f"the state {file} cannot be opened ({why})", remedy="name another folder")


@dataclass(frozen=True)
class State:
    """An opened state: `folder` holds the locks, and the database unless `url` names a PostgreSQL one."""

    folder: Path
    url: str

    @property
    def sqlite(self) -> bool:
        """Whether the database is the file in the folder."""
        return self.url.startswith("sqlite")

    @cached_property
    def database(self) -> "sqlalchemy.Engine":
        """Connections for the engine: the last commits may be lost with the power, never with the process."""
        return self._connect("NORMAL")

    @cached_property
    def durable(self) -> "sqlalchemy.Engine":
        """Connections for the journal: a commit outlives the power too, because what it announces happens outside.

        In WAL mode a FULL commit syncs everything that was committed before it, by whomever.
        """
        return self._connect("FULL") if self.sqlite else self.database

    def table(self, table: "sqlalchemy.Table") -> None:
        """Makes a table and its indexes unless they are there; once in a process. Harmless from several processes at once."""
        import sqlalchemy
        from sqlalchemy.schema import CreateIndex, CreateTable

        made: set[str] = self.__dict__.setdefault("_made", set())
        if table.name in made:
            return
        with self.durable.begin() as connection:
            if not self.sqlite:  # two at once would collide in the catalogue
                connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_MAKING})"))
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
        made.add(table.name)

    def close(self) -> None:
        """Closes the connections. The state can be used again."""
        self.__dict__.pop("_made", None)
        for name in ("database", "durable"):
            made = self.__dict__.pop(name, None)
            if made is not None:
                made.dispose()

    def _connect(self, synchronous: str) -> "sqlalchemy.Engine":
        import sqlalchemy

        if not self.sqlite:
            return sqlalchemy.create_engine(self.url, pool_pre_ping=True, max_overflow=_CONNECTIONS)
        file = self.folder / DATABASE
        _make_file(file)
        engine = sqlalchemy.create_engine(self.url, max_overflow=_CONNECTIONS)

        def prepare(connection: Any, _record: Any) -> None:
            connection.isolation_level = "IMMEDIATE"  # writers queue up instead of failing on an upgrade of their lock
            for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", f"busy_timeout={BUSY_MS}", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")
            if sqlite3.sqlite_version_info < (3, 42):
                # dbos's schema on Python >= 3.12 says unixepoch('subsec'), which older SQLite answers with NULL
                connection.create_function("unixepoch", -1, lambda *_: time.time())

        def explain(context: Any) -> None:
            words = str(context.original_exception)
            for part, kind, remedy in _BROKEN:
                if part in words:
                    raise kind(f"the state {file} cannot be used ({words})", remedy=remedy) from context.original_exception

        sqlalchemy.event.listen(engine, "connect", prepare)
        sqlalchemy.event.listen(engine, "handle_error", explain)
        return engine


def open_state(where: "State | Path | str | None" = None, folder: Path | None = None) -> State:
    """The state in a folder (made if need be; default: `default_folder`), or in the database of a postgresql:// URL.

    With a URL the locks stay in `folder` (default: the default one): they are per host.
    """
    if isinstance(where, State):
        return where
    if isinstance(where, str) and where.startswith(("postgresql://", "postgresql+psycopg://")):
        folder = private_folder(folder or default_folder())
        return State(folder, where.replace("postgresql://", "postgresql+psycopg://", 1))
    folder = private_folder(Path(where) if where else folder or default_folder())
    return State(folder, f"sqlite:///{folder.resolve() / DATABASE}")
