"""Reads an initramfs image on the host: what the guest's own tool built is opened by us, natively, to prove what is in it.

An image is a row of cpio archives (newc), each plain or compressed, with zero padding between them; the kernel unpacks them
one over the other (initramfs buffer format, Documentation/driver-api/early-userspace/buffer-format.rst).
"""

import bz2
import lzma
import mmap
import posixpath
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import zstandard

from v2c.errors import GuestError
from v2c.guest.formats.modprobe import canonical

_CHUNK = 1 << 20
_PACKED = 4096  # read at once when packed: a hostile image unpacks to at most some 100 MiB per step (zstd, 128 KiB per 4 bytes)
MAX_TOTAL = 4 << 30  # unpacked; the largest distribution images are 0.4 GiB
_MAX_NAME = 4096
_MAX_ENTRIES = 500_000
_KEEP = 256 << 10  # small configuration files are kept with their text
_KEPT = re.compile(r"(?:conf|etc|cryptroot|usr/lib/modprobe\.d|lib/modprobe\.d)/")
_MODULE = re.compile(r"(?:usr/)?lib/modules/([^/]+)/(?:.+/)?([^/]+)\.ko(?:\.(?:gz|xz|zst))?$")
_LZ4 = (b"\x02\x21\x4c\x18", b"\x04\x22\x4d\x18")


class UnknownPacking(GuestError):
    """The image is packed in a way that only the guest's own tools can read (lz4, lzo)."""


@dataclass(slots=True)
class Image:
    """What an image holds: every path (no leading slash), and the text of small configuration files."""

    names: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)

    def modules(self, release: str) -> frozenset[str]:
        """The kernel modules for one kernel, as /proc/modules names them."""
        found = (_MODULE.match(name) for name in self.names)
        return frozenset(canonical(m[2]) for m in found if m and m[1] == release)

    def add(self, other: "Image") -> None:
        """Unpacks another image over this one."""
        self.names |= other.names
        self.files |= other.files


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _decompressor(head: bytes) -> _Decompressor | None:
    """The decompressor for what begins with these bytes; None: a plain cpio archive."""
    if head.startswith((b"070701", b"070702")):
        return None
    if head.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
    if head.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
        return lzma.LZMADecompressor(memlimit=1 << 30)
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor()
    if head.startswith(_LZ4):
        raise UnknownPacking("the initramfs is packed with lz4")
    raise UnknownPacking("the initramfs is packed in a way that is not known here")


class _Stream:
    """Bytes of one archive, from plain or packed data; `end` is where its last byte stood in the image."""

    def __init__(self, data: mmap.mmap, start: int) -> None:
        self._data, self._at = data, start
        self._unpack = _decompressor(data[start : start + 6])
        self._buffer = bytearray()
        self._total = 0

    @property
    def packed(self) -> bool:
        """Whether the archive is compressed."""
        return self._unpack is not None

    def _fill(self) -> bool:
        if self._unpack is not None and self._unpack.eof:
            return False
        chunk = self._data[self._at : self._at + (_CHUNK if self._unpack is None else _PACKED)]
        if not chunk:
            return False
        self._at += len(chunk)
        fresh = chunk if self._unpack is None else self._unpack.decompress(chunk)
        self._buffer += fresh
        self._total += len(fresh)
        if self._total > MAX_TOTAL:
            raise GuestError(f"the initramfs unpacks to more than {MAX_TOTAL >> 20} MiB")
        return True

    def take(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        while len(self._buffer) < count and self._fill():
            pass
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def skip(self, count: int) -> None:
        """Passes over bytes without keeping them; stops at the end."""
        while count:
            if not self._buffer and not self._fill():
                raise GuestError("the initramfs ends in the middle of a file")
            step = min(count, len(self._buffer))
            del self._buffer[:step]
            count -= step

    def padding(self) -> bool:
        """Passes over zeros; whether another archive follows in this stream."""
        while True:
            kept = self._buffer.lstrip(b"\0")
            self._buffer[:] = kept
            if kept or not self._fill():
                return bool(self._buffer)

    def finish(self) -> None:
        """Passes over what follows the last archive; GuestError when a packed stream is cut off."""
        if self._unpack is not None:
            while self._fill():
                self._buffer.clear()
            if not self._unpack.eof:
                raise GuestError("the initramfs is damaged: a packed archive is cut off")

    @property
    def end(self) -> int:
        """Where the image goes on after this stream."""
        unused = len(self._buffer) if self._unpack is None else len(self._unpack.unused_data)
        return self._at - unused


def _archive(stream: _Stream, image: Image) -> None:
    """One cpio archive, up to its trailer or the end of the data."""
    while head := stream.take(110):
        if len(head) < 110 or head[:6] not in (b"070701", b"070702"):
            raise GuestError("the initramfs is damaged: a cpio header is missing")
        try:
            numbers = [int(head[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        except ValueError as error:
            raise GuestError("the initramfs is damaged: a cpio header holds no numbers") from error
        size, name_size = numbers[6], numbers[11]
        if not 0 < name_size <= _MAX_NAME or len(image.names) > _MAX_ENTRIES:
            raise GuestError("the initramfs is damaged: a file name is too long, or there are too many")
        padded = (110 + name_size + 3) // 4 * 4 - 110
        name = stream.take(padded)[: name_size - 1].decode("utf-8", "surrogateescape")
        if name == "TRAILER!!!":
            return
        path = posixpath.normpath(name).lstrip("/")
        image.names.add(path)
        padding = -size % 4
        if size <= _KEEP and _KEPT.match(path):
            image.files[path] = stream.take(size)
            stream.take(padding)
        else:
            stream.skip(size + padding)


def _streams(data: mmap.mmap) -> Iterator[_Stream]:
    at = 0
    while at < len(data):
        window = data[at : at + _CHUNK]
        kept = window.lstrip(b"\0")
        at += len(window) - len(kept)
        if not kept:
            continue
        stream = _Stream(data, at)
        yield stream
        at = stream.end


def read(path: Path) -> Image:
    """Everything in an image. UnknownPacking when only the guest's own tools can open it, GuestError when it is damaged."""
    image = Image()
    if path.stat().st_size == 0:
        raise GuestError("the initramfs is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            for stream in _streams(data):
                _archive(stream, image)
                while stream.packed and stream.padding():
                    _archive(stream, image)
                stream.finish()
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError) as error:
            raise GuestError(f"the initramfs is damaged: {error}") from error
    return image
