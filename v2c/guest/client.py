"""Our end of the appliance: starts the helper, asks, waits no longer than agreed, and leaves nothing behind.

Every appliance gets a temporary folder of its own below the cache, held by a lock; folders whose holder is gone are removed
when the next appliance starts. The appliance's own image is built once and kept (`appliance/` in the cache).
"""

import base64
import contextlib
import fcntl
import json
import math
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from v2c import accelerator
from v2c.errors import GuestError, NoSpaceError, Paused, ToolError
from v2c.events import Meter
from v2c.model import MIB
from v2c.nbd import Export
from v2c.processes import Conversation
from v2c.state import own_folder

PYTHON = "/usr/bin/python3"  # the system's own: python3-guestfs is built for no other
HELPER = Path(__file__).parent / "appliance.py"
LAUNCH_S = 600.0  # emulated and building its image: 25 s here, minutes on a loaded machine
SILENT_S = 120.0  # of a launch, without a word on the console: 5 s was the longest with both processors busy (TCG of QEMU 7.2)
LAUNCHES = 2  # an emulated kernel hangs or panics on its way up now and then, and nothing is written before it is up
CALL_S = 300.0
MEMORY_MIB = 2048  # argon2id of LUKS2 takes up to 1 GiB, an initramfs packed with zstd -19 on two processors 400 MiB
SMALL_MIB = 1280  # libguestfs' own default, when this machine has little
# Words for the appliance's kernel where it is emulated. Four levels of page tables instead of five: 14.7 s of processor time to
# launch instead of 19.4; no self-tests, and no guards against a processor that is a program: 13.8 (TCG of QEMU 7.2). The kernel's
# messages cost nothing that can be measured, and tell one that is slow from one that hangs.
EMULATED = "no5lvl mitigations=off nokaslr cryptomgr.notests loglevel=7"
_GONE_S = 3.0
_SOCKET_PATH = 60  # sun_path holds 108 bytes, of which libguestfs' own names take up to 40

_EISDIR, _ENOENT, _ENOSPC = 21, 2, 28


def cache() -> Path:
    """Where appliances live: $XDG_CACHE_HOME/v2c."""
    return own_folder("XDG_CACHE_HOME", ".cache")


def launch(exports: Sequence[Export], *, writable: bool, meter: Meter) -> "Appliance":
    """An appliance on these exports, in their order; one that hangs or crashes on its way up is started once more, aloud.

    Raises ToolError when this machine cannot run one.
    """
    for left in reversed(range(LAUNCHES)):
        try:
            return Appliance(exports, writable=writable, meter=meter)
        except ToolError as failed:
            if not (left and failed.transient):
                raise
            meter.note(f"{failed}; it is started again")
    raise AssertionError("unreachable")


class Appliance:
    """A running appliance. Not shared between threads: the kernel ends the helper with the thread that started it."""

    def __init__(self, exports: Sequence[Export], *, writable: bool, meter: Meter | None = None) -> None:
        """Launches it on these exports, in their order. Raises ToolError when this machine cannot."""
        self._meter = meter or Meter()
        self._number = 0
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._folder, self._lock = _folder()
        self._talk: Conversation | None = None
        try:
            self._talk = Conversation([PYTHON, "-I", str(HELPER)], env=self._environment())
            threading.Thread(target=self._listen, daemon=True).start()
            self.version: str = self._launch(exports, writable)
        except BaseException:
            self.kill()
            raise

    def _environment(self) -> dict[str, str]:
        image = cache() / "appliance"
        image.mkdir(parents=True, exist_ok=True, mode=0o700)
        environment = {
            "LIBGUESTFS_BACKEND": "direct",
            "LIBGUESTFS_BACKEND_SETTINGS": "" if accelerator.accelerator() == "kvm" else "force_tcg",
            "LIBGUESTFS_CACHEDIR": str(image),
            "LIBGUESTFS_TRACE": "0",
            "LIBGUESTFS_DEBUG": "0",
            "TMPDIR": str(self._folder),
            "LIBGUESTFS_TMPDIR": str(self._folder),
        }
        if len(str(self._folder)) <= _SOCKET_PATH:
            environment["XDG_RUNTIME_DIR"] = str(self._folder)
        return environment

    @staticmethod
    def _built() -> bool:
        """Whether the appliance's image is kept already: it is built in silence."""
        return (cache() / "appliance" / f".guestfs-{os.geteuid()}" / "appliance.d" / "root").exists()

    def _launch(self, exports: Sequence[Export], writable: bool) -> str:
        try:
            result = self.call(
                "launch",
                timeout=LAUNCH_S,
                silence=SILENT_S if self._built() else LAUNCH_S,
                drives=[{"socket": export.socket, "name": export.name} for export in exports],
                readonly=not writable,
                smp=min(len(os.sched_getaffinity(0)), 8),
                memsize=_memory(),
                append="" if accelerator.accelerator() == "kvm" else EMULATED,
            )
        except Failed as failed:
            raise _unlaunched(failed) from None
        return str(result["version"])

    def _listen(self) -> None:
        assert self._talk
        with contextlib.suppress(OSError, ValueError):
            for line in self._talk.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def call(self, verb: str, *, timeout: float = CALL_S, silence: float = math.inf, **args: Any) -> Any:
        """Asks the helper; the result as it comes over JSON.

        Raises the OSError that the guest's path deserves, NoSpaceError, GuestError with guestfs' words, or ToolError when the
        appliance crashed, did not answer within `timeout` seconds or was silent for `silence` seconds: then it is dead, and all
        calls raise ToolError.
        """
        if self._talk is None:
            raise ToolError("the appliance is closed", transient=True)
        self._number += 1
        try:
            self._talk.stdin.write(json.dumps({"id": self._number, "call": verb, "args": args}) + "\n")
            self._talk.stdin.flush()
        except (OSError, ValueError):
            raise self._crashed() from None
        answer = self._answer(verb, timeout, silence)
        if "error" not in answer:
            return answer["result"]
        error = answer["error"]
        raise Failed(error["kind"], int(error["errno"]), str(error["text"]), str(args.get("path", "")))

    def _answer(self, verb: str, timeout: float, silence: float) -> Any:
        deadline = time.monotonic() + timeout
        silent = time.monotonic() + silence
        while True:
            if self._meter.cancelled():
                self.kill()
                raise Paused("stopped; the same command goes on")
            if time.monotonic() >= min(deadline, silent):
                self.kill()
                late = (
                    f"was silent for {silence:.0f} s" if silent < deadline else f"did not answer {verb!r} within {timeout:.0f} s"
                )
                raise Unanswered(f"the appliance {late} and was killed", transient=True)
            try:
                line = self._lines.get(timeout=0.5)
            except queue.Empty:
                continue
            if line is None:
                raise self._crashed()
            answer = json.loads(line)
            if "said" in answer:
                silent = time.monotonic() + silence
            elif answer["id"] == self._number:
                return answer

    def _crashed(self) -> ToolError:
        said = self._talk.words() if self._talk else ""
        self.kill()
        if self._meter.cancelled():
            raise Paused("stopped; the same command goes on")
        return ToolError(f"the appliance ended unexpectedly: {said or 'it said nothing'}", transient=True)

    def close(self) -> None:
        """Unmounts, flushes, ends. Harmless when it is over; raises when what was written may not have arrived."""
        if self._talk is None:
            return
        try:
            self.call("close")
        finally:
            self.kill(grace=10)

    def kill(self, grace: float = 0.0) -> None:
        """Ends the helper and its QEMU at once (they are one process group) and removes their files."""
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.kill(grace)
            _gone(talk.pid)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    @property
    def pid(self) -> int:
        """The helper's process id."""
        return self._talk.pid if self._talk else 0


class Unanswered(ToolError):
    """A call took longer than agreed; the appliance is dead."""


class Failed(Exception):
    """What the helper answered."""

    def __init__(self, kind: str, number: int, text: str, path: str) -> None:
        super().__init__(text)
        self.kind, self.number, self.text, self.path = kind, number, text, path

    def error(self) -> Exception:
        """As the rest of the house knows it."""
        if self.number == _ENOSPC:
            return NoSpaceError(
                f"the guest has no room for {self.path or 'this'}", remedy="free space in the machine and try again"
            )
        if self.kind == "errno" and self.path and self.number:
            return OSError(self.number, os.strerror(self.number), self.path)
        words = " ".join(self.text.split())
        return GuestError(f"{self.path}: {words}" if self.path else words)


def decode(data: str) -> bytes:
    """Bytes as the helper sends them."""
    return base64.b64decode(data)


def encode(data: bytes) -> str:
    """Bytes as the helper takes them."""
    return base64.b64encode(data).decode()


def _folder() -> tuple[Path, IO[str]]:
    """A temporary folder that is ours while its lock is held; removes those of the dead."""
    base = cache() / "run"
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (base / "lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        for old in base.glob("a-*"):
            with contextlib.suppress(OSError), (old / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="a-", dir=base))
        held = (folder / "lock").open("w")
        fcntl.flock(held, fcntl.LOCK_EX)
    return folder, held


def _gone(group: int) -> None:
    """Waits until a killed group has no member: QEMU takes a moment to give its memory and its connections back."""
    deadline = time.monotonic() + _GONE_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.01)


def _memory() -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:") and int(line.split()[1]) * 1024 < 3 * 1024 * MIB:
                return SMALL_MIB
    return MEMORY_MIB


def _unlaunched(failed: Failed) -> ToolError:
    """One sentence out of what libguestfs, supermin and QEMU said, and what to do."""
    if failed.kind == "import":
        return ToolError("the guestfs binding of the system's Python is missing", remedy="apt install python3-guestfs")
    kernels = sorted(Path("/boot").glob("vmlinuz-*"))
    if not kernels:
        return ToolError("there is no kernel in /boot to run the appliance with", remedy="apt install linux-image-amd64")
    if not any(os.access(kernel, os.R_OK) for kernel in kernels):
        return ToolError(
            f"the appliance runs the kernel of this machine, and {kernels[-1]} may only be read by root",
            remedy="chmod a+r /boot/vmlinuz-* (Ubuntu closes them; Debian does not)",
        )
    if "supermin" in failed.text and not shutil.which("supermin"):
        return ToolError("supermin, which builds the appliance, is not installed", remedy="apt install libguestfs-tools")
    lines = [line.strip() for line in failed.text.splitlines() if line.strip()]
    telling = _telling(lines)
    return ToolError(
        f"the appliance did not start: {telling}",
        command="libguestfs-test-tool",
        remedy="`v2c doctor` checks what it needs; apt install libguestfs-tools linux-image-amd64 qemu-system-x86",
        transient=True,
    )


def _telling(lines: Iterable[str]) -> str:
    """The lines that name a cause, before libguestfs' advice on how to debug it."""
    lines = list(lines)
    advice = (
        "This usually means",
        "Do:",
        "export LIBGUESTFS",
        "and run the command",
        "http",
        "You can also run",
        "or bug report",
    )
    plain = [line for line in lines if not line.startswith(advice) and "libguestfs-test-tool" not in line]
    causes = [
        line for line in plain if any(w in line.lower() for w in ("error", "fail", "cannot", "could not", "panic", "no space"))
    ]
    return "; ".join(list(dict.fromkeys(causes or plain))[-4:])[:600] or "it said nothing"
