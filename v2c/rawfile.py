"""Reads of an export whose bytes lie in a file as they are, from the file: without a server's read and a copy through a socket.

Its server stays in charge: it holds the image's lock, and it alone tells where data is.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from v2c.errors import SourceError
from v2c.nbd import Export, Scattered, wire

SECTOR = 512  # bytes
# File systems whose server is another machine or program, by their names in mountinfo, those of FUSE by the beginning
ELSEWHERE = ("nfs", "cifs", "smb", "ceph", "9p", "afs", "glusterfs", "lustre", "davfs", "gpfs", "virtiofs", "vboxsf", "fuse")


def at_hand(path: Path) -> str:
    """The file as `Export.raw`; empty where its file system lies behind a network or a program: a read that waits for those can
    neither be stopped nor given up, the silence of a server of ours can."""
    type = _type(path.stat().st_dev, Path("/proc/self/mountinfo").read_text())
    return "" if type.startswith(ELSEWHERE) else str(path.absolute())


def _type(device: int, mounts: str) -> str:
    """The file system that a device number stands for in a mountinfo (proc_pid_mountinfo(5)), empty when it is not listed."""
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = (line.split() for line in mounts.splitlines())
    return next((words[words.index("-") + 1] for words in lines if words[2] == number), "")


class RawFile:
    """The file below an export that has one (`Export.raw`). A context manager. SourceError when it cannot be opened."""

    def __init__(self, export: Export) -> None:
        self._path = export.raw
        try:
            self._file = os.open(export.raw, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"{self._path} cannot be opened: {error.strerror}") from error

    def __enter__(self) -> "RawFile":
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._file)

    def read_into(self, requests: Iterable[Scattered], in_flight: int = 8, ahead: int = 0) -> Iterator[int]:
        """As `nbd.Client.read_into`: a request fills its buffers from its offset on, and yields where it ended; the kernel
        fetches the one after it meanwhile. SourceError when the file cannot be read or ends too early."""
        asked = iter(requests)
        now = next(asked, None)
        while now is not None:
            if (after := next(asked, None)) is not None:
                os.posix_fadvise(self._file, after[0], sum(map(len, after[1])), os.POSIX_FADV_WILLNEED)
            yield self._fill(*now)
            now = after

    def _fill(self, offset: int, views: Sequence[memoryview]) -> int:
        while views:
            try:
                got = os.preadv(self._file, views, offset)
            except OSError as error:
                raise self._unread(offset, error.strerror or str(error)) from error
            if not got:
                left = sum(map(len, views))
                if left >= SECTOR:
                    raise self._unread(offset, "the file ends before")
                views[-1][-left:] = bytes(left)  # a server rounds the size up to whole sectors
                return offset + left
            offset, views = offset + got, list(wire.cut(views, got))
        return offset

    def _unread(self, offset: int, why: str) -> SourceError:
        return SourceError(f"{self._path} cannot be read at byte {offset}: {why}", remedy="look at the disk and its storage")
