"""A snapshot's blocks on disk: one sparse raw file, and beside it which blocks were written, with their digests."""

import os
import struct
import threading
from array import array
from pathlib import Path

BLOCK = 512 * 1024  # bytes: EBS direct's only block size (botocore ebs/2019-11-02)
_RECORD = struct.Struct(">Q32s")


class BlockFile:
    """Blocks of a snapshot. Never in memory: only their digests are. Thread-safe."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._index = path.with_suffix(".blocks")
        self._lock = threading.Lock()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._raw = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._raw).st_size != size:
            os.ftruncate(self._raw, size)
        self._log = os.open(self._index, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._inherited = path.with_suffix(".parent")
        self.digests = _read(self._index)
        self.inherited = _read(self._inherited) if self._inherited.exists() else {}

    @property
    def held(self) -> dict[int, bytes]:
        """Digests of all that it holds, what its parent wrote too."""
        with self._lock:
            return self.inherited | self.digests

    def inherit(self, parent: "BlockFile") -> None:
        """Begins as a copy of what the parent holds; holes stay holes."""
        self.inherited = parent.held
        for index in self.inherited:
            os.pwrite(self._raw, parent.get(index), index * BLOCK)
        self._inherited.write_bytes(b"".join(_RECORD.pack(index, digest) for index, digest in self.inherited.items()))

    def put(self, index: int, data: bytes, digest: bytes) -> None:
        """Writes one block."""
        os.pwrite(self._raw, data, index * BLOCK)
        with self._lock:
            os.write(self._log, _RECORD.pack(index, digest))
            self.digests[index] = digest

    def get(self, index: int) -> bytes:
        """Reads one."""
        return os.pread(self._raw, BLOCK, index * BLOCK)

    def indexes(self) -> "array[int]":
        """The ones written here, ascending."""
        with self._lock:
            return array("Q", sorted(self.digests))

    def close(self) -> None:
        """Closes the files; harmless twice."""
        for descriptor in (self._raw, self._log):
            if descriptor >= 0:
                os.close(descriptor)
        self._raw = self._log = -1

    def remove(self) -> None:
        """Closes and deletes them. Who has the raw file open (a machine that boots from it) keeps it."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._index.unlink(missing_ok=True)
        self._inherited.unlink(missing_ok=True)


def _read(path: Path) -> dict[int, bytes]:
    known = path.read_bytes()
    return dict(_RECORD.unpack_from(known, at) for at in range(0, len(known) - _RECORD.size + 1, _RECORD.size))
