"""Where sockets lie: in the work folder, or, when its path is too long for one, in a short folder that stands for it."""

import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from v2c.errors import UsageError

_LONGEST = 107  # bytes in sockaddr_un.sun_path, unix(7), without the final zero
_NAME = 40  # room for a socket's own name

_numbers = itertools.count(1)


def fresh(folder: Path, stem: str) -> Path:
    """A path in the folder that no other socket of this process or of another has."""
    return folder / f"{stem[:16]}.{os.getpid()}.{next(_numbers)}.sock"


def folder(workdir: Path) -> AbstractContextManager[Path]:
    """A folder of mode 0700 for sockets; what dead processes left in it is removed, and the folder when it is empty."""
    path = workdir.absolute() / "sockets"
    if len(os.fsencode(path)) > _LONGEST - _NAME:
        return _private(_short(hashlib.sha256(os.fsencode(path)).hexdigest()[:12]))
    return _private(path)


def scratch() -> AbstractContextManager[Path]:
    """The same for whoever has no work folder: a short look into an image."""
    return _private(_short("scratch"))


def _short(name: str) -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if not base or not Path(base).is_dir() or len(os.fsencode(base)) > 30:
        base = "/tmp"  # noqa: S108 - checked below to be ours alone
    return Path(base) / f"v2c-{os.getuid()}-{name}"


@contextmanager
def _private(path: Path) -> Iterator[Path]:
    hold = _held(path)
    try:
        _sweep(path)
        yield path
    finally:
        hold.unlink(missing_ok=True)
        with suppress(OSError):
            path.rmdir()


def _held(path: Path) -> Path:
    """Makes the folder and a file in it that keeps others, who use it too, from removing it before our first socket is there."""
    while True:
        with suppress(FileNotFoundError):  # one of them removed it in between: it is made again
            with suppress(FileExistsError):  # not exist_ok: it looks again, and fails when the folder is gone by then
                path.mkdir(mode=0o700, parents=True)
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise UsageError(
                    f"{path} is not a folder that only we can reach", remedy="remove it, or choose another --workdir"
                )
            hold = fresh(path, "hold")
            hold.touch(mode=0o600, exist_ok=False)
            return hold


def _sweep(path: Path) -> None:
    for leftover in path.glob("*.sock"):
        pid = leftover.name.split(".")[-3] if leftover.name.count(".") >= 3 else ""
        if pid.isdigit() and not Path("/proc", pid).exists():
            leftover.unlink(missing_ok=True)
