"""A raw file, sparse; and the fixed VHD, which is one with 512 bytes behind it."""

import os
import struct
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from v2c.blocks import Block, BlockMap
from v2c.errors import TargetError
from v2c.model import MIB, Ref
from v2c.targets.writers.direct import DirectFile
from v2c.targets.writers.part import CHUNK, block_range, discard, part, publish, punch, pwrite, runs, writing

FOOTER = 512
_VHD_EPOCH = 946684800  # 2000-01-01 00:00:00 UTC
_VHD_MOST = 65535 * 16 * 255  # sectors that cylinders, heads and sectors can count; larger disks say the most


def blocks_of(path: Path, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Blocks of a committed raw file, `CHUNK` bytes each, the last one as long as the file goes."""
    with path.open("rb") as file:
        for index in indexes:
            file.seek(index * CHUNK)
            yield index, file.read(CHUNK)


class RawWriter:
    """Blocks into `PATH.part`, by several threads at once; `commit` makes it PATH. What is zero becomes a hole.

    After a kill everything that was put is there (in the page cache or on the disk); after a power loss all up to the
    last `flush`. A PATH that is complete already is opened again by the first `put`.
    """

    chunk = CHUNK

    def __init__(self, path: Path, size: int, ref: Ref) -> None:
        self.path, self.size, self.ref = path, size, ref
        self._descriptor = -1
        self._direct: DirectFile | None = None
        self._fresh = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if part(self.path).exists() or not self.path.exists():
            self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _anew(self) -> None:
        """The map knows of no block, so what the file holds is of another life and may be anything."""
        self._close()
        discard(self.path)
        self._open(reuse=False)

    def _open(self, *, reuse: bool = True) -> None:
        with writing(self.path):
            unfinished = part(self.path)
            if reuse and not unfinished.exists() and self.path.exists():
                self.path.rename(unfinished)
            self._fresh = not unfinished.exists()
            self._descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._descriptor, self.size)
            self._direct = DirectFile(unfinished, self.chunk)

    def _close(self) -> None:
        if self._direct is not None:
            self._direct.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def expect(self, indexes: Sequence[int]) -> None:
        """Nothing to prepare."""

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        written = list(blocks.written())
        if not written and not self._fresh:
            self._anew()
        return iter(written if self._fresh else ())

    def put(self, index: int, data: Block, digest: bytes) -> None:
        offset = block_range(index, len(data), self.size, self.path)
        if self._descriptor < 0:
            self._open()
        with writing(self.path):
            for start, end, zero in runs(data):
                if not zero and self._direct is not None and self._direct.write(data, start, end, offset + start):
                    continue
                # One at a time: writers through the cache wait for each other in the kernel anyway, and there they spin.
                with self._lock:
                    if zero:
                        punch(self._descriptor, offset + start, end - start)
                    else:
                        pwrite(self._descriptor, memoryview(data)[start:end], offset + start)

    def flush(self) -> None:
        if self._descriptor >= 0:
            with writing(self.path):
                os.fdatasync(self._descriptor)

    def commit(self) -> Ref:
        if self._descriptor >= 0:
            with writing(self.path):
                pwrite(self._descriptor, self.tail_bytes(), self.size)
                os.fsync(self._descriptor)
                publish(self.path)
            self._close()
        found = self.path.stat().st_size
        if found != self.size + len(self.tail_bytes()):
            raise TargetError(f"{self.path} has {found} bytes where {self.size} were written", remedy="remove it and use --again")
        return self.ref

    def tail_bytes(self) -> bytes:
        """What follows the disk's bytes in the file."""
        return b""

    def abandon(self) -> None:
        self._close()
        discard(self.path)


class FixedVhdWriter(RawWriter):
    """A fixed VHD: the raw bytes and a footer. The size is a whole MiB, as Azure wants it, of any size (qemu-img refuses to
    write VHDs above 2040 GiB)."""

    def __init__(self, path: Path, size: int, ref: Ref) -> None:
        if size % MIB:
            raise TargetError(f"a VHD has whole MiB, and {path.name} would have {size} bytes")
        super().__init__(path, size, ref)
        self._footer = b""

    def tail_bytes(self) -> bytes:
        if not self._footer:
            self._footer = vhd_footer(self.size, uuid.uuid5(uuid.NAMESPACE_URL, self.path.absolute().as_uri()), int(time.time()))
        return self._footer


def vhd_footer(size: int, id: uuid.UUID, written: int, *, dynamic: bool = False) -> bytes:
    """The 512 bytes behind a VHD of `size` bytes, a fixed one unless `dynamic`; `written` in seconds since the Unix epoch.

    Virtual Hard Disk Image Format Specification 1.0. The creator is "win ", so that QEMU takes the size and not the geometry
    (qemu block/vpc.c).
    """
    stamp = max(0, written - _VHD_EPOCH) & 0xFFFFFFFF
    header = 512 if dynamic else 0xFFFFFFFFFFFFFFFF
    head = struct.pack(">8sIIQI4sI4sQQ", b"conectix", 2, 0x00010000, header, stamp, b"win ", 0x00010000, b"Wi2k", size, size)
    disk = struct.pack(">HBBI", *vhd_geometry(size), 3 if dynamic else 2)
    footer = (head + disk + bytes(4) + id.bytes).ljust(FOOTER, b"\0")
    checksum = ~sum(footer) & 0xFFFFFFFF
    return footer[:64] + struct.pack(">I", checksum) + footer[68:]


def vhd_geometry(size: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track, by the specification's appendix."""
    total = min(size // 512, _VHD_MOST)
    if total >= 65535 * 16 * 63:
        return total // 255 // 16, 16, 255
    sectors = 17
    tracks = total // sectors
    heads = max(4, -(-tracks // 1024))
    if tracks >= heads * 1024 or heads > 16:
        sectors, heads = 31, 16
        tracks = total // sectors
    if tracks >= heads * 1024:
        sectors, heads = 63, 16
        tracks = total // sectors
    return tracks // heads, heads, sectors
