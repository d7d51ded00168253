"""Kernel modules as files: whether one is signed. Guests are hostile: unpacking one is bounded, and keeps only its end."""

import gzip
import io
import lzma
import zlib
from typing import Protocol

import zstandard

SIGNED = b"~Module signature appended~\n"  # how it ends (kernel documentation, admin-guide/module-signing)
MOST = 64 << 20  # bytes of a module, unpacked
_PIECE = 1 << 20


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def signed(path: str, data: bytes) -> bool:
    """Whether a signature is appended to the module; what cannot be unpacked, or is larger than any module, is not signed."""
    try:
        return _end(_opened(path, data)) == SIGNED
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError):
        return False


def _opened(path: str, data: bytes) -> _Reader:
    packed = io.BytesIO(data)
    if path.endswith(".gz"):
        return gzip.GzipFile(fileobj=packed)
    if path.endswith(".xz"):
        return lzma.LZMAFile(packed)
    if path.endswith(".zst"):
        return zstandard.ZstdDecompressor().stream_reader(packed)
    return packed


def _end(reader: _Reader) -> bytes:
    end, length = b"", 0
    while piece := reader.read(_PIECE):
        end, length = (end + piece)[-len(SIGNED) :], length + len(piece)
        if length > MOST:
            return b""
    return end
