"""What every file writer has in common: a `.part` beside the final name, renamed when it is complete.

A `.part` survives a kill and is continued by the next writer for the same name. All of them end their lives here: `publish`
renames one, `discard` removes what a dead attempt left.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from v2c.errors import NoSpaceError, TargetError
from v2c.model import KIB, MIB

CHUNK = 4 * MIB  # bytes per block: large enough for a fast disk, small enough that a kill costs little
GRAIN = 64 * KIB  # what is zero in pieces of this size becomes a hole: qcow2's cluster and VMDK's grain
STEP = 256 * KIB  # bytes per write

_ZEROS = bytes(GRAIN)
_PUNCH_KEEP = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, linux/falloc.h
_libc = ctypes.CDLL(None, use_errno=True)


def part(path: Path) -> Path:
    """The unfinished file that will be `path`."""
    return path.with_name(path.name + ".part")


def leftovers(path: Path) -> tuple[Path, ...]:
    """All that an unfinished `path` may consist of."""
    unfinished = part(path)
    return (unfinished, unfinished.with_name(unfinished.name + ".log"), unfinished.with_name(unfinished.name + ".new"))


def discard(path: Path) -> None:
    """Removes what belongs to an unfinished `path`; absent is success."""
    for leftover in leftovers(path):
        leftover.unlink(missing_ok=True)


def publish(path: Path) -> None:
    """Renames the `.part` to `path`, so that the name survives a power loss; its data was synced before."""
    part(path).replace(path)
    for leftover in leftovers(path):
        leftover.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal to write `path` into the error it is."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(f"no room left to write {path}", remedy="make room there; the same command goes on") from error
        raise TargetError(
            f"{path} cannot be written ({error.strerror})", remedy="correct that; the same command goes on"
        ) from error


def block_range(index: int, length: int, size: int, path: Path) -> int:
    """The offset of a block of `length` bytes; TargetError when it does not lie on the disk."""
    offset = index * CHUNK
    if index < 0 or length > CHUNK or offset + length > size:
        raise TargetError(f"block {index} ({length} bytes) lies beyond the {size} bytes of {path}")
    return offset


def runs(data: bytes | bytearray) -> Iterator[tuple[int, int, bool]]:
    """(start, end, zero) over the block in pieces of GRAIN, neighbours merged."""
    start, zero = 0, None
    for at in range(0, len(data), GRAIN):
        end = min(at + GRAIN, len(data))
        # its ends tell most pieces apart, without a copy of them
        empty = not data[at] and not data[end - 1] and data[at:end] == (_ZEROS if end - at == GRAIN else bytes(end - at))
        if empty is not zero:
            if zero is not None:
                yield start, at, zero
            start, zero = at, empty
    if zero is not None:
        yield start, len(data), zero


def pwrite(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """All of it, in steps that stay in the processor's cache: half the system time of 4 MiB at once (measured on ext4)."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view[:STEP], offset)
        view, offset = view[count:], offset + count


def punch(descriptor: int, offset: int, length: int) -> None:
    """Makes the range a hole; writes zeros where the file system knows none."""
    if _libc.fallocate(descriptor, _PUNCH_KEEP, ctypes.c_int64(offset), ctypes.c_int64(length)) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(number, os.strerror(number))
    for at in range(offset, offset + length, GRAIN):
        pwrite(descriptor, _ZEROS[: min(GRAIN, offset + length - at)], at)
