"""What this machine has of what v2c needs: tools and their versions, KVM, guestfs, a kernel, firmware, room.

Every row is tried, not looked up: a program is asked for its version, the bindings are imported, KVM runs a guest.
"""

import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from v2c.errors import V2cError
from v2c.model import GIB, MIB
from v2c.processes import PACKAGES, run

SYSTEM_PYTHON = "/usr/bin/python3"  # the only Python that sees the distribution's guestfs bindings
REPAIR = (400 + 250) * MIB  # of the work folder, at most, for a machine that is repaired: its overlay, and an appliance
BOOT = GIB  # and what a boot of it must find there
ROOM = 4 * GIB  # of the work folder: both, and a small local instance
OVMF = (  # variable store and code, by the names that Debian, Fedora and Arch give them
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
)


class Health(StrEnum):
    """How a row stands: MISSING fails the examination, WEAK is worth a word."""

    OK = "ok"
    WEAK = "weak"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at: what was seen (a version, a path, words), and the command or sentence that helps."""

    name: str
    health: Health
    seen: str
    remedy: str = ""


# program, what to ask it, what it is for; the first six are needed, the others by some tasks only
NEEDED = (
    ("qemu-img", "--version", "reads and writes disk images"),
    ("qemu-nbd", "--version", "serves disks"),
    ("qemu-io", "--version", "looks into disk images"),
    ("qemu-system-x86_64", "--version", "boots guests"),
    ("setpriv", "--version", "ends tools with v2c"),
    ("supermin", "--version", "builds the appliance"),
)
OPTIONAL = (
    ("swtpm", "--version", "gives a rehearsal a TPM"),
    ("nbdcopy", "--version", "judges the copy in ./run bench"),
    ("mmdebstrap", "--version", "builds the guests of ./run demo"),
)


def examine(state: Path, workdir: Path) -> list[Row]:
    """Every row, in a fixed order; asks programs side by side, about a second in all (some more where KVM is tried)."""
    asks: list[Callable[[], list[Row]]] = [
        lambda: [_python()],
        lambda: list(_distributions()),
        *(_asking(program, Health.MISSING) for program in NEEDED),
        *(_asking(program, Health.WEAK) for program in OPTIONAL),
        lambda: [_guestfs()],
        lambda: [_kernel()],
        lambda: [_firmware()],
        lambda: [_accelerator()],
        lambda: [_memory()],
        lambda: [_room("state folder", state, GIB // 8)],
        lambda: [_room("work folder", workdir, ROOM)],
    ]
    with ThreadPoolExecutor(4) as pool:
        return [row for rows in pool.map(lambda ask: ask(), asks) for row in rows]


def _asking(program: tuple[str, str, str], otherwise: Health) -> Callable[[], list[Row]]:
    return lambda: [_tool(*program, otherwise)]


def _tool(name: str, ask: str, purpose: str, otherwise: Health) -> Row:
    if shutil.which(name) is None:
        return Row(name, otherwise, f"not installed; it {purpose}", f"apt install {PACKAGES.get(name, name)}")
    try:
        said = run([name, ask], timeout=20)
    except V2cError as error:
        return Row(name, otherwise, error.text, f"apt install --reinstall {PACKAGES.get(name, name)}")
    return Row(name, Health.OK, _version(said))


def _version(said: str) -> str:
    found = re.search(r"\d+(\.\d+)+(-\d+)?", said)
    return found.group() if found else said.strip().partition("\n")[0]


def _python() -> Row:
    version = ".".join(map(str, sys.version_info[:3]))
    return Row("Python", Health.OK, f"{version} at {sys.executable}")


def _distributions() -> Iterator[Row]:
    """The Python packages that v2c's own metadata names, extras left out."""
    try:
        wanted = [w for w in importlib.metadata.requires("v2c") or [] if "extra ==" not in w]
    except importlib.metadata.PackageNotFoundError:
        yield Row("Python packages", Health.MISSING, "v2c itself is not installed", "pip install v2c, or use ./run v2c")
        return
    versions = {}
    for want in wanted:
        name = re.split(r"[^A-Za-z0-9._-]", want, maxsplit=1)[0]
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Row(name, Health.MISSING, "the Python package is not installed", f'pip install "{want}"')
    yield Row("Python packages", Health.OK, ", ".join(f"{name} {version}" for name, version in sorted(versions.items())))


def _guestfs() -> Row:
    script = (
        "import guestfs; v = guestfs.GuestFS(python_return_dict=True).version(); print('.'.join(map(str, list(v.values())[:3])))"
    )
    try:
        version = run([SYSTEM_PYTHON, "-I", "-c", script], timeout=20).strip()
    except V2cError as error:
        last = error.text.rpartition(": ")[2]
        return Row("guestfs", Health.MISSING, f"{SYSTEM_PYTHON} cannot import guestfs ({last})", "apt install python3-guestfs")
    return Row("guestfs", Health.OK, f"{version} in {SYSTEM_PYTHON}")


def _kernel() -> Row:
    """The kernel that libguestfs boots as its appliance: supermin takes the newest that has modules."""
    images = sorted(p for p in Path("/boot").glob("vmlinuz-*") if Path("/lib/modules", p.name.removeprefix("vmlinuz-")).is_dir())
    if os.environ.get("SUPERMIN_KERNEL"):
        images = [Path(os.environ["SUPERMIN_KERNEL"])]
    if not images:
        return Row("appliance kernel", Health.MISSING, "/boot has no kernel with modules", "apt install linux-image-amd64")
    readable = [p for p in images if os.access(p, os.R_OK)]
    if not readable:
        return Row("appliance kernel", Health.MISSING, f"{images[-1]} may not be read", f"sudo chmod 0644 {images[-1]}")
    return Row("appliance kernel", Health.OK, str(readable[-1]))


def _firmware() -> Row:
    found = next((path for path in OVMF if Path(path).is_file()), "")
    if not found:
        return Row("UEFI firmware", Health.MISSING, "OVMF is not installed; UEFI machines cannot be booted", "apt install ovmf")
    return Row("UEFI firmware", Health.OK, found)


def _accelerator() -> Row:
    from v2c import accelerator

    seen = accelerator.probe()
    if seen.kvm:
        return Row("KVM", Health.OK, "runs a guest")
    return Row("KVM", Health.WEAK, f"{seen.reason}; guests run emulated, five to twenty times slower", seen.remedy)


def _memory() -> Row:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = free
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    words = f"{available / GIB:.1f} GiB available, {os.cpu_count() or 1} processors"
    if available < 2 * GIB:
        return Row("memory", Health.WEAK, words, "a boot test takes up to 2 GiB and an appliance 1 GiB; end something")
    return Row("memory", Health.OK, words)


def _room(name: str, folder: Path, need: int) -> Row:
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Row(
            name,
            Health.MISSING,
            f"{existing} may not be written",
            f"choose another with --{name.split()[0]}".replace("work", "workdir"),
        )
    free = shutil.disk_usage(existing).free
    words = f"{folder}, {free / GIB:.1f} GiB free"
    if free < need:
        return Row(name, Health.WEAK, words, f"{need / GIB:.1f} GiB or more are advised")
    return Row(name, Health.OK, words)


def healthy(rows: Sequence[Row]) -> bool:
    """Whether nothing needed is missing."""
    return all(row.health is not Health.MISSING for row in rows)
