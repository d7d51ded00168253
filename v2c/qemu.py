"""QEMU's tools for disk images: qemu-img, and qemu-nbd while a context lasts.

No format is ever probed: each call names it. Paths are absolute when QEMU sees them, so that a name never reads as a
protocol ("nbd:...", "json:..."). Check a source's image with `v2c.sources.formats` before anything here opens it.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from v2c import nbd
from v2c.errors import BusyError, NoSpaceError, Paused, SourceError, ToolError, V2cError
from v2c.events import Meter
from v2c.model import MIB, DiskFormat
from v2c.nbd import Export
from v2c.processes import Process, run
from v2c.rawfile import at_hand

CLIENTS = 16  # connections to one export: transfer, appliance, boot and their neighbours
RECONNECT = 60  # seconds an overlay waits for its source to come back
_START = 30.0  # seconds; qemu-nbd answers in 20 ms, on a machine that swaps in several seconds
_END = 60.0  # seconds to write out what qcow2 holds in its caches

# glibc gives each buffer of a request back to the kernel and takes it anew, a fault for each page: two thirds of qemu-nbd's time
_KEEPS = {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={32 * MIB}:glibc.malloc.trim_threshold={256 * MIB}"}

_LOCKED = re.compile(r'Failed to get (shared )?"\w+" lock|Is another process using the image')
_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_DENIED = re.compile(r"Permission denied")


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What qemu-img says of an image: virtual size in bytes, format, and the name of its backing file or empty."""

    size: int
    format: DiskFormat
    backing: str = ""


def failure(error: ToolError, path: Path) -> V2cError:
    """A tool's complaint about an image, as the error it is: in use, no room, no permission, broken."""
    text = error.text
    if _LOCKED.search(text):
        return BusyError(
            f"{path} is in use by another process (QEMU holds a lock on it)",
            remedy="shut the machine down, or end what has the image open (lslocks shows it)",
        )
    if _FULL.search(text):
        return NoSpaceError(f"no room to write {path}", remedy="make room, or choose another --workdir")
    if _DENIED.search(text):
        return SourceError(f"{path} cannot be opened: permission denied", remedy="run as a user who may read it")
    return error


def _img(argv: list[str], path: Path, *, timeout: float | None = None) -> str:
    try:
        return run(["qemu-img", *argv], timeout=timeout)
    except ToolError as error:
        raise failure(error, path) from error


def _opts(path: Path, format: DiskFormat, backing: Export | None = None) -> str:
    """--image-opts: the whole chain said outright, nothing left to probe."""
    words = {"driver": format.qemu, "file.driver": "file", "file.filename": str(path.absolute())}
    if path.is_block_device():
        words["file.driver"] = "host_device"
    if format is DiskFormat.VHD:
        # By the footer's size, not its cylinders, heads and sectors, which may say less: QEMU goes by the creator otherwise.
        words["force_size_calc"] = "current_size"
    if backing is not None:
        words |= {
            "backing.driver": "nbd",
            "backing.server.type": "unix",
            "backing.server.path": backing.socket,
            "backing.export": backing.name,
            "backing.reconnect-delay": str(RECONNECT),
        }
    return _words(words)


def _words(words: Mapping[str, str]) -> str:
    """A comma in a value is doubled; what is empty is left out."""
    return ",".join(f"{key}={value.replace(',', ',,')}" for key, value in words.items() if value)


def info(path: Path, format: DiskFormat) -> ImageInfo:
    """Size and backing name. BusyError when another process writes to the image; ToolError when QEMU cannot read it."""
    told = json.loads(_img(["info", "--output=json", "--image-opts", _opts(path, format)], path, timeout=120))
    backing = told.get("full-backing-filename") or told.get("backing-filename") or ""
    return ImageInfo(int(told["virtual-size"]), format, str(backing))


def create(path: Path, format: DiskFormat, size: int, options: Mapping[str, str] | None = None) -> None:
    """Makes an empty image of `size` bytes; an earlier file of that name is overwritten."""
    words = [word for key, value in (options or {}).items() for word in ("-o", f"{key}={value}")]
    _img(["create", "-q", "-f", format.qemu, *words, str(path.absolute()), str(size)], path, timeout=120)


def resize(path: Path, format: DiskFormat, size: int) -> None:
    """Grows the image to `size` bytes; what is new reads as zeros."""
    _img(["resize", "-q", "-f", format.qemu, str(path.absolute()), str(size)], path, timeout=120)


def compare(a: Path, format_a: DiskFormat, b: Path, format_b: DiskFormat) -> bool:
    """Whether both hold the same bytes; where one is longer, the rest of it must be zeros."""
    process = Process(["qemu-img", "compare", "-q", "--image-opts", _opts(a, format_a), _opts(b, format_b)])
    code = process.wait()
    if code not in (0, 1):
        raise failure(ToolError(f"qemu-img compare failed ({code}): {process.words()}"), a)
    return code == 0


def check(path: Path, format: DiskFormat) -> None:
    """Raises SourceError when the image's own tables are inconsistent. Formats without a check pass. Repairs nothing."""
    process = Process(["qemu-img", "check", "-q", "--image-opts", _opts(path, format)])
    code = process.wait()
    words = process.words() or " ".join(process.output.split())
    if code in (0, 3, 63):  # 3: leaked clusters, harmless; 63: the format has no check
        return
    if code == 2:
        raise SourceError(f"{path} is damaged: qemu-img check finds errors in its tables", remedy="repair or copy it anew")
    raise failure(ToolError(f"qemu-img check failed ({code}): {words}"), path)


def convert(
    source: Path | Export,
    format: DiskFormat,
    out: Path,
    out_format: DiskFormat,
    *,
    options: Mapping[str, str] | None = None,
    compress: bool = False,
    meter: Meter | None = None,
) -> None:
    """Writes `source` (a file, or an export, which is raw) to `out` in another format; zeros are not written.

    Not resumable: write to a temporary name and rename. Raises Paused when the meter is cancelled.
    """
    if isinstance(source, Export):
        words = {"driver": "nbd", "server.type": "unix", "server.path": source.socket, "export": source.name}
        origin = ["--image-opts", _words(words)]
    else:
        origin = ["--image-opts", _opts(source, format)]
    words_out = [word for key, value in (options or {}).items() for word in ("-o", f"{key}={value}")]
    # Out of order (-W) only where blocks lie anywhere: a streamOptimized VMDK must be written from front to back.
    order = ["-W"] if out_format in (DiskFormat.RAW, DiskFormat.QCOW2) else []
    argv = ["qemu-img", "convert", "-q", "-m", "8", *order, *(["-c"] if compress else []), *origin]
    argv += ["-O", out_format.qemu, *words_out, str(out.absolute())]
    process = Process(argv)
    while (code := process.wait(0.2)) is None:
        if meter is not None and meter.cancelled():
            process.kill()
            raise Paused("paused while an image was being written")
    if code:
        raise failure(ToolError(f"qemu-img convert failed ({code}): {process.words()}"), out)


@contextmanager
def serve(
    path: Path,
    format: DiskFormat,
    *,
    socket: Path,
    name: str = "",
    read_only: bool = True,
    backing: Export | None = None,
    depth: bool = False,
    cache: str = "writeback",
) -> Iterator[Export]:
    """Serves an image by qemu-nbd until the context ends; leaving it raises ToolError when qemu-nbd died meanwhile.

    `backing` is what a qcow2 overlay without a backing name lies on: given at each open, reconnected to when its server
    restarts. `depth` adds the context `qemu:allocation-depth`. A writable image takes trims and turns zeros into holes.
    `cache`: with "unsafe" a flush hands everything to the kernel and does not wait for the disk.
    """
    argv = ["qemu-nbd", "--persistent", f"--shared={CLIENTS}", "--socket", str(socket), "--export-name", name]
    argv += ["--read-only"] if read_only else ["--discard=unmap", "--detect-zeroes=unmap"]
    argv += ["--allocation-depth"] if depth else []
    argv += [f"--cache={cache}"]
    argv += ["--image-opts", _opts(path, format, backing)]
    socket.unlink(missing_ok=True)
    process = Process(argv, env=_KEEPS)
    try:
        size = _answer(process, socket, name, path)
        yield Export(str(socket), name, size, at_hand(path) if read_only and format is DiskFormat.RAW else "")
        process.kill(grace=_END)
        if code := process.code:  # it ends with 0 when it is told to
            process.wait()
            words = process.words() or "it said nothing"
            raise ToolError(f"qemu-nbd, which served {path}, ended with {code}: {words}", transient=True)
    finally:
        process.kill()
        socket.unlink(missing_ok=True)


def _answer(process: Process, socket: Path, name: str, path: Path) -> int:
    """Waits until the export answers; its size."""
    deadline = time.monotonic() + _START
    pause = 0.002
    while True:
        if not process.alive:
            process.wait()
            words = re.sub(r"^qemu-nbd: ", "", process.words()) or "it said nothing"
            raise failure(ToolError(f"qemu-nbd cannot serve {path}: {words}"), path)
        if socket.exists():
            try:
                with nbd.connect(Export(str(socket), name, 0), contexts=()) as client:
                    return client.size
            except ToolError as error:
                if not error.transient:
                    raise
        if time.monotonic() > deadline:
            raise ToolError(f"qemu-nbd did not answer for {path} within {_START:.0f} s", transient=True)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
