"""Bare disk files: one machine whose disks lie here, and of which only the user can say more.

The files are read where they lie, by a read-only qemu-nbd, after `v2c.sources.formats` has looked them over; nothing is ever
written beside them. They are their own capture, as long as they do not change: `capture` and `open` compare the fingerprint.
"""

import fcntl
import hashlib
import os
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from v2c import gpt, nbd, qemu, sockets
from v2c.errors import BusyError, CaptureLost, SourceError, UsageError, V2cError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import KIB, Disk, DiskFormat, Finding, Firmware, Level, Machine, Marks, Nic, Ref
from v2c.nbd import Export
from v2c.sources import SourceFeatures, formats
from v2c.sources.spec import MachineSpec

_EDGE = 64 * KIB  # of each end of a file goes into the fingerprint: boot sector, tables, and a format's footer
_FLOCK = "hhqqi4x"  # struct flock of Linux on 64-bit machines
_QEMU_WRITES = 101  # RAW_LOCK_PERM_BASE + the bit number of BLK_PERM_WRITE
_MEMORY_MIB, _VCPUS = 2048, 2  # what a machine gets of which nobody said; told as a finding


@dataclass(frozen=True, slots=True)
class _Opened:
    """The capture: every disk served."""

    exports: dict[str, Export]
    marks: Marks = Marks()  # noqa: RUF009 - frozen

    def export(self, disk: Disk) -> Export:
        return self.exports[disk.id]


class DiskSource:
    """One machine from files (or block devices) that are named together, its disks in that order."""

    features = SourceFeatures()

    def __init__(self, paths: Sequence[Path], declared: MachineSpec | None = None) -> None:
        self.declared = declared or MachineSpec()
        self.paths = tuple(path.absolute() for path in paths)
        self._seen: tuple[formats.Image, ...] = ()  # by `describe`, for the `check` of what it described

    def machines(self) -> Iterator[Machine]:
        yield self.describe("")

    def describe(self, name: str) -> Machine:
        """Reads headers and tables only. UsageError for what cannot be meant, SourceError for what is broken, BusyError for a
        disk that another process writes to."""
        images = self._seen = self._images()
        disks = []
        said = self.declared
        firmware = said.firmware
        for image, id in zip(images, ids_of(self.paths), strict=True):
            size, head = _look(image)
            if not size:
                raise UsageError(f"{image.path} is empty", remedy="name a disk image")
            disks.append(Disk(id, size, image.format, str(image.path), image.sector_size))
            firmware = firmware or gpt.firmware(head, image.sector_size)  # the first table that says anything
        assumed = [
            field
            for field, value in (
                ("name", name or said.name),
                ("nics", said.nics),
                ("memory_mib", said.memory_mib),
                ("vcpus", said.vcpus),
                ("firmware", firmware),
            )
            if value is None or value == ""
        ]
        return Machine(
            name=name or said.name or _stem(self.paths[0]),
            disks=tuple(disks),
            nics=(Nic(),) if said.nics is None else said.nics,
            memory_mib=said.memory_mib or _MEMORY_MIB,
            vcpus=said.vcpus or _VCPUS,
            firmware=firmware or Firmware.BIOS,
            fingerprint=fingerprint(path for image in images for path in image.files),
            assumed=tuple(assumed),
        )

    def check(self, machine: Machine) -> Iterator[Finding]:
        for image, disk in zip(self._seen or self._images(), machine.disks, strict=True):
            if image.looks_like:
                yield Finding(
                    "disk.format",
                    Level.WARNING,
                    disk.id,
                    f"{image.path} is read as raw, and its first bytes look like {image.looks_like}",
                    f"say --format {image.looks_like} if that is what it is",
                )
            if image.snapshots:
                yield Finding(
                    "disk.snapshots",
                    Level.INFO,
                    disk.id,
                    f"{image.path} holds {image.snapshots} internal snapshots; only the present state moves",
                    "nothing to do",
                )
            if image.format in (DiskFormat.QCOW2, DiskFormat.VMDK) and len(image.files) > 1:
                names = ", ".join(path.name for path in image.files[1:4]) + (", ..." if len(image.files) > 4 else "")
                yield Finding(
                    "disk.files", Level.INFO, disk.id, f"{image.path} is read with its further files ({names})", "nothing to do"
                )
        yield Finding(
            "disk.offline",
            Level.INFO,
            machine.name,
            "whether another program than QEMU or VMware writes to the files cannot be seen; a change is noticed after the copy",
            "see that the machine is shut down",
        )

    def capture(self, machine: Machine, since: Marks | None, journal: Journal) -> Ref:
        """The files as they are. SourceError when they are not what `describe` saw. Twice gives the same."""
        self._unchanged(machine, SourceError)
        return Ref.of("capture", f"files-{machine.fingerprint}", name=machine.name)

    @contextmanager
    def open(self, capture: Ref, machine: Machine, workdir: Path) -> Iterator[_Opened]:
        """Serves every disk read-only. CaptureLost when the files changed since."""
        if capture.id != f"files-{machine.fingerprint}":
            raise CaptureLost(f"the capture {capture.id} is not one of {machine.name}", remedy="start it anew with --again")
        self._unchanged(machine, CaptureLost)
        with ExitStack() as stack:
            folder = stack.enter_context(sockets.folder(workdir))
            exports = {
                disk.id: stack.enter_context(
                    qemu.serve(Path(disk.path), disk.format, socket=sockets.fresh(folder, "disk"), name=disk.id)
                )
                for disk in machine.disks
            }
            yield _Opened(exports)

    def stop(self, machine: Machine, journal: Journal, meter: Meter) -> None:
        """Nothing runs here."""

    def start(self, machine: Machine, journal: Journal) -> None:
        """Nothing runs here."""

    def find(self, job: str) -> Iterator[Ref]:
        """Nothing is ever left here."""
        return iter(())

    def destroy(self, ref: Ref) -> None:
        """Nothing is ever left here."""

    # ---- reading what is there --------------------------------------------------------------------------------------------

    def _images(self) -> tuple[formats.Image, ...]:
        """Every disk, looked over. Names that lead to the same file twice are refused."""
        said = self.declared.formats
        if len(said) not in (0, 1, len(self.paths)):
            raise UsageError(
                f"{len(said)} formats are given for {len(self.paths)} disks", remedy="give one for all, or one for each"
            )
        images = []
        seen: dict[Path, Path] = {}
        for number, path in enumerate(self.paths):
            real = _readable(path)
            format = said[0] if len(said) == 1 else said[number] if said else None
            with _told(path):
                decided = formats.decide(real, format)
                _unlocked(real)
                image = formats.examine(real, decided)
                for file in image.files:
                    _unwritten(_readable(file))
            for file in image.files:
                if file in seen:
                    raise UsageError(f"{file} is given twice ({seen[file]} and {path})", remedy="name each disk once")
            seen.update(dict.fromkeys(image.files, path))
            images.append(image)
        return tuple(images)

    def _unchanged(self, machine: Machine, error: type[SourceError]) -> None:
        now = fingerprint(path for image in self._images() for path in image.files)
        if now != machine.fingerprint:
            raise error(
                f"the disks of {machine.name} changed since they were first read",
                remedy="stop what writes to them and start anew with --again",
            )


def fingerprint(paths: Iterator[Path]) -> str:
    """Changes when the files' data may have: name, size, mtime, inode, first and last block of each."""
    whole = hashlib.sha256()
    for path in paths:
        status = path.stat()
        whole.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\0".encode())
        with path.open("rb") as file:
            whole.update(file.read(_EDGE))
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _EDGE))
            whole.update(file.read(_EDGE))
    return whole.hexdigest()[:32]


def ids_of(paths: Sequence[Path]) -> list[str]:
    """An id for each disk: its file's name, as far as an id may look like it, numbered where two are alike."""
    ids: list[str] = []
    for path in paths:
        base = re.sub(r"[^a-z0-9]+", "-", _stem(path).lower()).strip("-")[:40] or "disk"
        id, number = base, 1
        while id in ids:
            number += 1
            id = f"{base}-{number}"
        ids.append(id)
    return ids


def _stem(path: Path) -> str:
    """The name without the suffix that says its format; a machine's name by default."""
    stem = path.stem if path.suffix.lower() in formats.SUFFIXES else path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:63] or "machine"


def _readable(path: Path) -> Path:
    """The path without links, of a file or block device that we may read. UsageError says why not."""
    try:
        real = path.resolve(strict=True)
        if real.is_dir():
            raise UsageError(f"{path} is a folder", remedy="name the disk files in it")
        if not real.is_file() and not real.is_block_device():
            raise UsageError(f"{path} is neither a file nor a block device", remedy="name a disk image")
        with real.open("rb"):
            pass
    except FileNotFoundError as error:
        raise UsageError(f"{path} is not there", remedy="correct the path") from error
    except PermissionError as error:
        raise UsageError(f"{path} cannot be read: permission denied", remedy="run as a user who may read it") from error
    except (OSError, RuntimeError) as error:  # pathlib tells a loop of links as RuntimeError
        why = error.strerror if isinstance(error, OSError) else "too many symbolic links"
        raise UsageError(f"{path} cannot be read ({why})", remedy="correct the path") from error
    return real


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the operating system refuses while a disk is looked over, as one sentence."""
    try:
        yield
    except V2cError:
        raise
    except PermissionError as error:
        raise UsageError(f"{error.filename} cannot be read: permission denied", remedy="run as a user who may read it") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})", remedy="look at its file system") from error


def _unlocked(path: Path) -> None:
    """VMware keeps NAME.lck (a folder with a file in it, or a file) beside a disk that a running machine has open."""
    lock = path.with_name(path.name + ".lck")
    if lock.is_dir():
        held = sorted(lock.iterdir())
        if not held:
            return
    elif not lock.exists():
        return
    raise BusyError(
        f"{path} is in use: VMware's lock {lock.name} lies beside it",
        remedy="shut the machine down; remove the lock only when nothing runs",
    )


def _unwritten(path: Path) -> None:
    """QEMU says "I write to this file" by a lock on its byte 101 (block/file-posix.c). It would let us read a raw disk that a
    running machine writes to, so it is asked for here."""
    with path.open("rb") as file:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _QEMU_WRITES, 1, 0)
        try:
            told = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))
        except OSError:  # a file system without locks: nobody can have said so
            return
    if told[0] != fcntl.F_UNLCK:
        raise BusyError(
            f"{path} is in use by another process (QEMU holds a lock on it)",
            remedy="shut the machine down, or end what has the image open (lslocks shows it)",
        )


def _look(image: formats.Image) -> tuple[int, bytes]:
    """The virtual size, and the first bytes of the disk itself. BusyError when another process writes to it."""
    with (
        sockets.scratch() as folder,
        qemu.serve(image.path, image.format, socket=sockets.fresh(folder, "look")) as export,
        nbd.connect(export, contexts=()) as client,
    ):
        return client.size, client.pread(0, min(_EDGE, client.size))
