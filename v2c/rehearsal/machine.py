"""A running QEMU, and nothing of it left behind.

Every file that QEMU needs is opened here and handed over as a descriptor; console and monitor are socket pairs. So QEMU can
run as nobody when we are root, sees no folder of ours, and no socket or throw-away file outlives it: the overlay that takes
the guest's writes has no name any more when the guest starts.

QEMU lives as long as the thread that reads its console (processes.py: a child dies with the thread that started it), and that
thread as long as QEMU. QEMU's own `-runas` is not used: a change of user forgets the parent-death signal (prctl(2)).
"""

import contextlib
import json
import os
import pwd
import selectors
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from v2c import qemu, sockets
from v2c.accelerator import accelerator
from v2c.errors import NoSpaceError, ToolError
from v2c.model import GIB, DiskFormat, Firmware
from v2c.nbd import Export
from v2c.platforms import platform
from v2c.processes import Process
from v2c.rehearsal import metadata, tpm
from v2c.rehearsal.firmware import uefi, verifies
from v2c.rehearsal.qmp import Monitor
from v2c.rehearsal.serial import Console
from v2c.rehearsal.shape import BootSpec, Wiring, argv, shape_of

UNPRIVILEGED = "nobody"
REQUESTS = 2000  # metadata requests remembered
GREETING_S = 60.0  # QEMU answers in about a second; a busy converter takes longer


@dataclass(frozen=True, slots=True)
class BootDisk:
    """A disk to boot from, only read: a file in `format` (only raw and qcow2 are opened by QEMU itself), or an NBD export.
    `size` in bytes."""

    id: str
    size: int
    path: Path | None = None
    format: DiskFormat = DiskFormat.RAW
    export: Export | None = None


class VirtualMachine:
    """One virtual machine: `with VirtualMachine(spec, disks, workdir) as machine:`, or `start` and `close`.

    `workdir` holds the throw-away overlays (its file system bounds them) and must exist. `console` is a file to keep the
    console in. `variables` is the UEFI variables' template: default the firmware's own. Raises ToolError when QEMU does not
    start, NoSpaceError when `workdir` has no room for what a boot writes.
    """

    def __init__(
        self,
        spec: BootSpec,
        disks: Sequence[BootDisk],
        workdir: Path,
        *,
        console: Path | None = None,
        variables: Path | None = None,
    ) -> None:
        self.spec = spec
        self.started = 0.0
        self._disks = tuple(disks)
        self._workdir = workdir
        self._variables = variables
        self._console = Console(console)
        self._requests: deque[str] = deque(maxlen=REQUESTS)
        self._descriptors: dict[int, list[int]] = {}
        self._inherited: list[int] = []
        self._environment: dict[str, str] = {}
        self._process: Process | None = None
        self._failure: BaseException | None = None
        self._begun = threading.Event()
        self._reader: threading.Thread | None = None
        self._monitor: Monitor | None = None
        self._tpm: tpm.Tpm | None = None
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> "VirtualMachine":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Starts QEMU and returns when it runs."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        shape_of(platform(self.spec.platform), self.spec.firmware)
        ours, theirs = self._pair()
        monitor_ours, monitor_theirs = self._pair()
        log = self._log()
        command = self._command(theirs, monitor_theirs, log.getsockname()[1:].decode())
        self._reader = threading.Thread(target=self._run, args=(command, ours, log), name="v2c-console", daemon=True)
        self._reader.start()
        self._begun.wait()
        for descriptor in self._inherited:
            os.close(descriptor)
        self._inherited.clear()
        if self._failure:
            raise self._failure
        try:
            self._monitor = Monitor(monitor_ours, GREETING_S)
        except ToolError as error:
            assert self._process
            self._process.wait(1)
            if said := f"{self._process.words()} {self._tpm.words() if self._tpm else ''}".strip():
                raise ToolError(f"QEMU did not start: {said}", command=" ".join(command)) from error
            raise
        self.started = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the guest runs: it neither powered off nor was ended."""
        return self._process is not None and self._process.alive

    def console(self) -> str:
        """The serial console so far (bounded, hostile)."""
        return self._console.text()

    def requests(self) -> tuple[str, ...]:
        """What the guest asked the metadata service: "GET /path 200"."""
        return tuple(self._requests)

    def screenshot(self, path: Path) -> bool:
        """Writes the screen as PNG; False when there is none to take (the guest is over)."""
        if self._monitor is None or not self.alive:
            return False
        part = path.with_name(path.name + ".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            given = self._monitor.execute("add-fd", descriptor=descriptor)["fdset-id"]
            self._monitor.execute("screendump", filename=f"/dev/fdset/{given}", format="png")
            self._monitor.execute("remove-fd", **{"fdset-id": given})
            part.replace(path)
        except ToolError:
            part.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)
        return True

    def power_down(self, grace: float = 60.0) -> bool:
        """Presses the power button and waits up to `grace` seconds; whether the guest went off by itself."""
        if self._monitor is None or self._process is None:
            return True
        with contextlib.suppress(ToolError):
            self._monitor.execute("system_powerdown")
        return self._process.wait(grace) is not None

    def close(self) -> None:
        """Ends it, however it is, and lets go of everything. Twice is harmless."""
        if self._monitor is not None and self.alive:
            with contextlib.suppress(ToolError):
                self._monitor.execute("quit")
            assert self._process
            self._process.wait(3)
        self._monitor = None
        if self._process is not None:
            self._process.kill()
        if self._reader is not None:
            self._reader.join(5)
        for descriptor in self._inherited:
            os.close(descriptor)
        self._inherited.clear()
        if self._tpm is not None:
            self._tpm.close()
        self._closing.close()
        self._console.close()

    def _command(self, console: int, monitor: int, log: str) -> list[str]:
        facts = platform(self.spec.platform)
        wiring = Wiring(
            disks=tuple((disk.id, self._node(index, disk)) for index, disk in enumerate(self._disks)),
            console=f"socket,fd={console}",
            monitor=f"socket,fd={monitor}",
            accelerator=accelerator(),
        )
        boot = facts.boot
        assert boot is not None
        if boot.metadata != "none" and self.spec.nics:
            self._environment = metadata.environment(boot.metadata, self.spec, log, os.urandom(16).hex())
            wiring = replace(wiring, metadata=metadata.COMMAND)
        if self.spec.tpm and tpm.installed():
            self._tpm = tpm.Tpm(self._workdir, _user())
            wiring = replace(wiring, tpm=f"socket,fd={self._inherit(self._tpm.peer)}")
        if self.spec.firmware is Firmware.UEFI and self.spec.kernel is None:
            found = uefi(secure=self.spec.secure_boot and verifies())
            variables = self._scratch("vars")
            shutil.copyfile(self._variables or found.variables, variables)
            wiring = replace(
                wiring,
                code=_raw({"driver": "file", "filename": str(found.code)}),
                variables=_raw({"driver": "file", "filename": self._adopt(variables, os.O_RDWR)}),
                smm=found.smm,
            )
            variables.unlink()
        spec = self.spec
        if spec.kernel is not None:
            image, initrd = self._readable(spec.kernel.image), self._readable(spec.kernel.initrd)
            spec = replace(spec, kernel=replace(spec.kernel, image=image, initrd=initrd))
        pairs = tuple((number, fd) for number, fds in self._descriptors.items() for fd in fds)
        return [*self._limits(), *argv(facts, spec, replace(wiring, descriptors=pairs))]

    def _limits(self) -> list[str]:
        """No privilege is ever gained, no file of QEMU's grows beyond half of what is free, and no core is dumped with a
        guest's memory in it."""
        free = shutil.disk_usage(self._workdir).free
        if free < GIB:
            raise NoSpaceError(
                f"a boot needs 1 GiB in {self._workdir}, and {free >> 20} MiB are free", remedy="point --workdir at a larger disk"
            )
        return ["setpriv", "--no-new-privs", "--", "prlimit", f"--fsize={free // 2}", "--core=0", "--"]

    def _node(self, index: int, disk: BootDisk) -> dict[str, object]:
        """A throw-away overlay on the disk, without a name on disk."""
        overlay = self._scratch(f"disk{index}")
        qemu.create(overlay, DiskFormat.QCOW2, disk.size)
        node: dict[str, object] = {
            "driver": "qcow2",
            "discard": "unmap",
            "cache": {"direct": False, "no-flush": True},  # it is thrown away: nothing waits for the disk
            "file": {"driver": "file", "filename": self._adopt(overlay, os.O_RDWR)},
            "backing": {**self._layer(disk), "read-only": True},
        }
        overlay.unlink()
        return node

    def _layer(self, disk: BootDisk) -> dict[str, object]:
        """The disk itself, only read."""
        if disk.export is not None:
            return _raw(self._connected(disk.export))
        assert disk.path is not None, "a disk is a file or an export"
        if disk.format not in (DiskFormat.RAW, DiskFormat.QCOW2):
            # it may be several files, by name: qemu-nbd, which runs as we do, finds them
            place = sockets.fresh(self._closing.enter_context(sockets.folder(self._workdir)), "disk")
            export = self._closing.enter_context(qemu.serve(disk.path, disk.format, socket=place))
            return _raw(self._connected(export))
        file = {"driver": "file", "filename": self._adopt(disk.path, os.O_RDONLY), "read-only": True}
        # whatever a qcow2's header names as its backing is not followed
        return {"driver": disk.format.qemu, "file": file, **({"backing": None} if disk.format is DiskFormat.QCOW2 else {})}

    def _connected(self, export: Export) -> dict[str, object]:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(export.socket)
        descriptor = self._inherit(client.detach())
        return {"driver": "nbd", "server": {"type": "fd", "str": str(descriptor)}, "export": export.name}

    def _scratch(self, name: str) -> Path:
        descriptor, path = tempfile.mkstemp(prefix=f".boot-{name}-", dir=self._workdir)
        os.close(descriptor)
        return Path(path)

    def _readable(self, file: str) -> str:
        """A nameless copy that QEMU's user may read: it opens kernels by name only, and this one is a descriptor's."""
        copy = self._scratch("kernel")
        shutil.copyfile(file, copy)
        copy.chmod(0o644)
        descriptor = self._inherit(os.open(copy, os.O_RDONLY | os.O_CLOEXEC))
        copy.unlink()
        return f"/proc/self/fd/{descriptor}"

    def _adopt(self, path: Path, mode: int) -> str:
        """A name by which QEMU opens the file: a set of descriptors, one per way it may want to open it."""
        number = len(self._descriptors) + 1
        ways = {os.O_RDONLY} if mode == os.O_RDONLY else {os.O_RDONLY, os.O_RDWR}
        self._descriptors[number] = [self._inherit(os.open(path, way | os.O_CLOEXEC)) for way in sorted(ways)]
        return f"/dev/fdset/{number}"

    def _inherit(self, descriptor: int) -> int:
        os.set_inheritable(descriptor, True)
        self._inherited.append(descriptor)
        return descriptor

    def _pair(self) -> tuple[socket.socket, int]:
        ours, theirs = socket.socketpair()
        self._closing.callback(ours.close)
        return ours, self._inherit(theirs.detach())

    def _log(self) -> socket.socket:
        log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._closing.callback(log.close)
        log.bind(f"\0v2c-{os.urandom(16).hex()}")
        log.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return log

    def _run(self, command: list[str], console: socket.socket, log: socket.socket) -> None:
        """The console's thread: starts QEMU and stays as long as it lives."""
        try:
            user = _user()
            if self._tpm is not None:
                self._tpm.start()
            kvm = Path("/dev/kvm")
            groups = (kvm.stat().st_gid,) if user and "kvm" in command else ()
            self._process = Process(command, env=self._environment, pass_fds=self._inherited, user=user, groups=groups)
        except BaseException as failure:
            self._failure = failure
            return
        finally:
            self._begun.set()
        with selectors.DefaultSelector() as waiting:
            waiting.register(console, selectors.EVENT_READ)
            waiting.register(log, selectors.EVENT_READ)
            for ready in _events(waiting):
                if ready is log:
                    self._heard(log)
                    continue
                try:
                    data = console.recv(65536)
                except OSError:
                    break
                if not data:
                    break
                self._console.feed(data)
        self._process.wait()

    def _heard(self, log: socket.socket) -> None:
        """A metadata request, told by a process of QEMU's: other users of this host cannot add to the evidence."""
        size = struct.calcsize("3i")
        message, ancillary, _, _ = log.recvmsg(2048, socket.CMSG_SPACE(size))
        senders = {struct.unpack("3i", data[:size])[1] for _, kind, data in ancillary if kind == socket.SCM_CREDENTIALS}
        if not senders <= {os.geteuid(), _nobody()} or not senders:
            return
        with contextlib.suppress(ValueError, TypeError):
            method, path, status = json.loads(message)
            self._requests.append(f"{method} {path} {status}")


def _user() -> str:
    """Whom programs of a boot run as; empty: us."""
    return UNPRIVILEGED if os.geteuid() == 0 else ""


def _raw(file: dict[str, object]) -> dict[str, object]:
    return {"driver": "raw", "file": file}


def _events(waiting: selectors.BaseSelector) -> Iterator[object]:
    while True:
        for key, _ in waiting.select():
            yield key.fileobj


def _nobody() -> int:
    return pwd.getpwnam(UNPRIVILEGED).pw_uid
