"""What Compute Engine does with an archive: unpacks `disk.raw` out of a gzip tarball in the old GNU format, or refuses it.

Read by Python's own gzip and tarfile, which know nothing of how v2c wrote it.
"""

import gzip
import tarfile
import zlib
from pathlib import Path
from typing import Any

from v2c.model import GIB

MEMBER = "disk.raw"
STEP = 1024 * 1024
_MAGIC = b"ustar  \0"  # the old GNU format's, at offset 257


class Unfit(Exception):
    """Why the archive makes no image."""


def unpack(archive: Path, raw: Path) -> int:
    """Writes the disk into `raw`, sparse; returns its size in bytes."""
    try:
        with gzip.open(archive) as plain:
            head = plain.read(512)
            if head[257:265] != _MAGIC:
                raise Unfit("The tar archive is not valid: it is not in the oldgnu format.")
            plain.seek(0)
            with tarfile.open(fileobj=plain, mode="r|", bufsize=STEP) as tar:
                size = _member(tar, raw)
                if tar.next() is not None:
                    raise Unfit("The tar archive is not valid: it holds more than disk.raw.")
            while plain.read(STEP):
                pass
        return size
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise Unfit(f"The provided source is not a supported file: {error}") from error


def _member(tar: tarfile.TarFile, raw: Path) -> int:
    member = tar.next()
    if member is None or member.name != MEMBER or not member.isfile():
        raise Unfit("The tar archive is not valid: its member is not a file named disk.raw.")
    size = member.size
    if size % GIB or not size:
        raise Unfit(f"The tar archive is not valid: disk.raw has {size} bytes, which are no whole GiB.")
    pieces: Any = member.sparse if member.type == tarfile.GNUTYPE_SPARSE else [(0, size)]
    stream = tar.fileobj
    assert stream is not None
    with raw.open("wb") as out:
        out.truncate(size)
        for start, length in pieces or ():
            out.seek(start)
            left = length
            while left:
                data = stream.read(min(STEP, left))
                if not data:
                    raise Unfit("The tar archive is not valid: it ends too early.")
                if data.count(0) == len(data):
                    out.seek(len(data), 1)
                else:
                    out.write(data)
                left -= len(data)
    return size
