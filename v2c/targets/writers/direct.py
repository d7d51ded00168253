"""Writes that go past the page cache (O_DIRECT), where the file system can do that.

A disk's image is written once and is larger than the cache: through it each byte costs another copy and a fresh page, and pushes
out what is of use. 4 GiB by four threads, with digests, on ext4: 3.6 s instead of 7.8 s.
"""

import ctypes
import errno
import mmap
import os
from contextlib import suppress
from pathlib import Path

from v2c.blocks import Block

ALIGN = 4096  # bytes; offsets, lengths and addresses are multiples of it: the largest sector there is
_NOT_HERE = (errno.EINVAL, errno.EOPNOTSUPP)  # what file systems without it answer, at the open (tmpfs) or at a write


class DirectFile:
    """A file that is there, for aligned writes by several threads at once. `longest`: write, in bytes."""

    def __init__(self, path: Path, longest: int) -> None:
        self._longest = longest
        self._descriptor = -1
        self._able = True
        self._buffers: list[mmap.mmap] = []  # aligned; given back after each write
        with suppress(OSError):
            self._descriptor = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)

    def close(self) -> None:
        """When no thread writes any more; harmless twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        self._buffers.clear()

    def write(self, data: Block, start: int, end: int, offset: int) -> bool:
        """`data[start:end]` at `offset` of the file. False when that does not go past the cache: then the caller writes it by the
        way that always goes. OSError as from pwrite."""
        length = end - start
        if self._descriptor < 0 or not self._able or length > self._longest or offset % ALIGN or length % ALIGN:
            return False
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = mmap.mmap(-1, self._longest)
        try:
            _copy(buffer, data, start, length)
            done = 0
            while done < length:
                done += os.pwrite(self._descriptor, memoryview(buffer)[done:length], offset + done)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            self._able = False
            return False
        finally:
            self._buffers.append(buffer)
        return True


def _copy(buffer: mmap.mmap, data: Block, start: int, length: int) -> None:
    """As `buffer[:length] = data[start:start+length]`, while other threads run; a slice would keep them waiting."""
    if isinstance(data, bytearray):
        address = ctypes.addressof(ctypes.c_char.from_buffer(data))
    else:
        address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
    ctypes.memmove(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), address + start, length)
