"""Formats that QEMU writes at random: qcow2, VHDX, dynamic VHD, VDI; blocks go to a writable qemu-nbd over NBD."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from v2c import nbd, qemu, sockets, state
from v2c.blocks import Block, BlockMap
from v2c.errors import TargetError
from v2c.model import DiskFormat, Ref
from v2c.targets.writers.part import CHUNK, block_range, discard, part, publish, runs, writing


class ImageWriter:
    """Blocks into `PATH.part` through qemu-nbd; `commit` makes it PATH.

    Every `put` ends with an NBD flush under cache=unsafe: QEMU then hands its tables to the kernel without waiting for the
    disk, so that what was put survives the death of qemu-nbd at any moment. `flush` waits for the disk.
    """

    chunk = CHUNK

    def __init__(self, path: Path, size: int, ref: Ref, format: DiskFormat, options: Mapping[str, str] | None = None) -> None:
        self.path, self.size, self.ref = path, size, ref
        self._format, self._options = format, dict(options or {})
        self._fresh = False
        self._client: nbd.Client | None = None
        self._stack = ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if part(self.path).exists() or not self.path.exists():
            self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client = None
        self._stack.__exit__(kind, error, trace)

    def _anew(self) -> None:
        """The map knows of no block, so what the file holds is of another life and may be anything."""
        self.abandon()
        self._open(reuse=False)

    def _open(self, *, reuse: bool = True) -> nbd.Client:
        unfinished = part(self.path)
        with writing(self.path):
            if reuse and not unfinished.exists() and self.path.exists():
                self.path.rename(unfinished)
        if not unfinished.exists():
            self._fresh = True
            new = unfinished.with_name(unfinished.name + ".new")  # a kill in the midst of qemu-img must not leave a .part
            with writing(self.path):
                new.unlink(missing_ok=True)
                os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            qemu.create(new, self._format, self.size, self._options)
            new.rename(unfinished)
        folder = self._stack.enter_context(sockets.folder(state.private_folder(state.default_folder())))
        socket = sockets.fresh(folder, self.path.stem)
        export = self._stack.enter_context(qemu.serve(unfinished, self._format, socket=socket, read_only=False, cache="unsafe"))
        if export.size != self.size:
            raise TargetError(
                f"{unfinished} holds a disk of {export.size} bytes where {self.size} are wanted", remedy=f"remove {unfinished}"
            )
        self._client = self._stack.enter_context(nbd.connect(export))
        return self._client

    def expect(self, indexes: Sequence[int]) -> None:
        """Nothing to prepare."""

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        written = list(blocks.written())
        if not written and not self._fresh:
            self._anew()
        return iter(written if self._fresh else ())

    def put(self, index: int, data: Block, digest: bytes) -> None:
        offset = block_range(index, len(data), self.size, self.path)
        with self._lock:
            client = self._client or self._open()
            for start, end, zero in runs(data):
                if zero:
                    self._clear(client, offset + start, end - start)
                else:
                    client.pwrite(offset + start, memoryview(data)[start:end])
            client.flush()

    @staticmethod
    def _clear(client: nbd.Client, offset: int, length: int) -> None:
        """Zeroes what is not zero yet: formats without zero blocks would write the zeros out."""
        for extent in list(client.extents(offset, length)):
            if extent.data:
                client.zero(extent.offset, extent.length)

    def flush(self) -> None:
        with self._lock:
            if self._client is None:
                return
            self._client.flush()
        self._sync()

    def _sync(self) -> None:
        with writing(self.path):
            descriptor = os.open(part(self.path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def commit(self) -> Ref:
        with self._lock:
            if self._client is not None:
                self._client.flush()
                self._client = None
                self._stack.close()  # qemu-nbd writes its last tables and ends
                self._sync()
                found = qemu.info(part(self.path), self._format).size
                if found == self.size:
                    with writing(self.path):
                        publish(self.path)
            else:
                found = qemu.info(self.path, self._format).size
        if found != self.size:
            raise TargetError(
                f"{self.path} holds {found} bytes where {self.size} were written", remedy="remove it and use --again"
            )
        return self.ref

    def abandon(self) -> None:
        self._client = None
        self._stack.close()
        discard(self.path)
