"""The overlays of a machine: qcow2 files that take all that a repair writes, so that the source never is.

A new overlay is `disk-ID.ATTEMPT.part.qcow2`; sealed, it is `disk-ID.GENERATION.qcow2` and read-only from then on. None carries a
backing name: what it lies on is given at each open. A part whose attempt is dead (nobody holds its flock) is removed by the
next one who opens; `GENERATION` "none" means that there is no overlay and the source is read as it is.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from v2c import nbd, qemu, sockets
from v2c.errors import NoSpaceError, ToolError, WorkLost
from v2c.model import Disk, DiskFormat, Machine
from v2c.nbd import Export

NONE = "none"


class Capture(Protocol):
    """What of `v2c.sources.Capture` is needed here: this room lies below the sources."""

    def export(self, disk: Disk) -> Export:
        """The disk as a read-only export."""
        ...


class Overlays:
    """The disks of a machine as they are (or will be) after the repair, each an NBD export."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.generation = ""
        self._servers = ExitStack()
        self._served: list[tuple[Disk, Export, Export | None, Path | None]] = []

    @property
    def exports(self) -> tuple[tuple[Disk, Export], ...]:
        """Every disk with its export, in the machine's order. Gone after `seal`."""
        return tuple((disk, export) for disk, export, _, _ in self._served)

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """(disk id, path) of the overlays; empty where there are none."""
        return tuple((disk.id, str(path)) for disk, _, _, path in self._served if path)

    def export(self, disk: Disk) -> Export:
        """The disk's export. KeyError when it is not ours."""
        return {d.id: export for d, export, _, _ in self._served}[disk.id]

    def below(self, disk: Disk) -> Export | None:
        """What the disk's overlay lies on; None where there is no overlay, or it is still being written."""
        return {d.id: below for d, _, below, _ in self._served}[disk.id]

    def seal(self) -> str:
        """Ends writing: flushes, ends qemu-nbd, syncs file and folder, renames. Returns the generation, 16 hex digits.

        Nobody may have the exports open any more. Overlays of earlier generations are removed. Raises ToolError when
        qemu-nbd did not write everything out: the overlay is then as lost as after a failed repair.
        """
        if self.generation:
            raise ToolError("these overlays are sealed already")
        for _, export in self.exports:
            with nbd.connect(export, contexts=()) as client:
                client.flush()
        self._servers.close()
        generation = secrets.token_hex(8)
        for disk, _, _, part in self._served:
            assert part is not None
            _sync(part)
            part.rename(_sealed(self.folder, disk, generation))
        _sync(self.folder)
        self.generation = generation
        self._served = [(d, e, b, _sealed(self.folder, d, generation)) for d, e, b, _ in self._served]
        for disk, *_ in self._served:
            for old in self.folder.glob(f"disk-{disk.id}.*.qcow2"):
                if not old.name.endswith(".part.qcow2") and old != _sealed(self.folder, disk, generation):
                    old.unlink()
        return generation


@contextmanager
def open_overlays(
    folder: Path, machine: Machine, capture: Capture, *, generation: str | None, writable: bool
) -> Iterator[Overlays]:
    """Serves every disk of the machine through its overlay until the context ends.

    `generation` None with `writable`: new, empty overlays; without `seal` they are removed at the end. A generation, not
    writable: the sealed ones, as they are. A generation and writable: throw-away overlays on top of the sealed ones (or, with
    "none", of the source), for a boot that must leave no trace; they cannot be sealed. WorkLost when a sealed one is gone.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    overlays = Overlays(folder)
    overlays.generation = generation or ""
    attempt = secrets.token_hex(4)
    parts: list[Path] = []
    with ExitStack() as stack:
        at = stack.enter_context(sockets.folder(folder))
        stack.callback(_remove, parts)
        stack.enter_context(overlays._servers)
        serving = overlays._servers
        for disk in machine.disks:
            _sweep(folder, disk)
            export = capture.export(disk)
            below: Export | None = None
            path: Path | None = None
            if generation and generation != NONE:
                path, below = _sealed(folder, disk, generation), export
                if not path.exists():
                    raise WorkLost(f"the repaired overlay {path} is gone", step="fix")
                export = serving.enter_context(
                    qemu.serve(path, DiskFormat.QCOW2, socket=sockets.fresh(at, "sealed"), backing=below, depth=True)
                )
            if writable:
                path, below, base = folder / f"disk-{disk.id}.{attempt}.part.qcow2", None, export
                parts.append(path)
                stack.callback(os.close, _create(path, base.size))
                export = serving.enter_context(
                    qemu.serve(
                        path,
                        DiskFormat.QCOW2,
                        socket=sockets.fresh(at, "part"),
                        read_only=False,
                        backing=base,
                        cache="unsafe",  # scrap until `seal`, which syncs the file itself
                    )
                )
            overlays._served.append((disk, export, below, path))
        yield overlays


def _sealed(folder: Path, disk: Disk, generation: str) -> Path:
    return folder / f"disk-{disk.id}.{generation}.qcow2"


def _create(path: Path, size: int) -> int:
    """Makes an empty overlay; returns a descriptor whose flock says that its attempt lives."""
    qemu.create(path, DiskFormat.QCOW2, size)
    path.chmod(0o600)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # QEMU's own locks are of another kind (fcntl) and do not meet it
    return descriptor


def _sweep(folder: Path, disk: Disk) -> None:
    """Removes the parts of dead attempts."""
    for part in folder.glob(f"disk-{disk.id}.*.part.qcow2"):
        with suppress(FileNotFoundError, BlockingIOError):
            descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
            finally:
                os.close(descriptor)


def _remove(parts: list[Path]) -> None:
    for part in parts:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise NoSpaceError(f"{path} could not be written out ({error.strerror})", remedy="look at its file system") from error
    finally:
        os.close(descriptor)
