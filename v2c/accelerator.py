"""Whether KVM really runs a guest here, found out by running one.

/dev/kvm that opens proves little: in clouds without nested virtualization, and under emulated ones, QEMU starts and dies at
its first MSR, or a kernel hangs as soon as it turns paging on (both seen: 7.2 on an Ice Lake guest, "failed to set MSR 0x10a",
and a stock 6.1 kernel that never printed a line while a 16-bit boot sector ran). So the trial is a boot sector that turns on
paging and long mode, asks CPUID, writes 1 MiB with SSE and locked increments, and says so on QEMU's debug-exit port. With KVM
it takes 0.1 to 0.4 s; what takes longer than `PATIENCE` would be slower than TCG.
"""

import base64
import contextlib
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from v2c import processes
from v2c.errors import ToolError
from v2c.state import own_folder

KVM = Path("/dev/kvm")
PATIENCE = 2.0  # seconds
_RAN = 33  # isa-debug-exit ends QEMU with (value << 1) | 1; the sector writes 0x10

# as --64 sector.s; ld -Ttext=0x7c00 --oformat binary:
#   cli; segments 0; stack 0x7c00; A20 by port 0x92; PML4/PDPT/PD at 0x1000/0x2000/0x3000 map 2 MiB;
#   cr4 |= PAE|OSFXSR|OSXMMEXCPT; EFER |= LME; cr0 |= PG|MP|PE, not EM; lgdt; far jump to 64-bit code:
#   cpuid; 1: movups %xmm0,(%rdi); lock incl (%rdi); loop 1b; mov $0xf4,%dx; mov $0x10,%al; out %al,%dx; hlt
_SECTOR = (
    "+jHAjtiOwI7QvAB85JIMAuaSZr8AEAAADyLfZjHAZrkADAAA/Gbzq2bHBgAQAyAAAGbHBgAgAzAAAGbHBgAwgwAAAA8g4GYNIAYAAA8i4Ga5gAAAwA8y"
    "Zg0AAQAADzAPIMBmg+D7Zg0DAACADyLAZg8BFrB8Zup9fAAACAAxwA+ivwAAEAC5AAAEAA9XwA8RB/D/B+L4Zrr0ALAQ7vTr/QAAAAAAAAAAAAAAAACa"
    "IAAPAKB8"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the trial showed: "kvm" or "tcg"; for "tcg" the reason, and what to do about it where something can be done."""

    accelerator: str
    reason: str = ""
    remedy: str = ""

    @property
    def kvm(self) -> bool:
        """Whether KVM ran the trial guest."""
        return self.accelerator == "kvm"


@cache
def accelerator() -> str:
    """ "kvm" or "tcg": what QEMU shall use. Tried once per boot of this machine, user and QEMU; then read from the cache."""
    note = _cache()
    key = _key()
    with contextlib.suppress(OSError):
        kept = note.read_text().split("\n")
        if kept[0] == key and kept[1] in ("kvm", "tcg"):
            return kept[1]
    seen = probe()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs the trial again, nothing else
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = note.with_name(f"{note.name}.{os.getpid()}")
        part.write_text(f"{key}\n{seen.accelerator}\n{seen.reason}\n")
        part.replace(note)
    return seen.accelerator


def probe() -> Seen:
    """The trial itself, not cached. Never raises: what goes wrong is a reason to use TCG."""
    if not KVM.exists():
        return Seen(
            "tcg",
            "there is no /dev/kvm",
            "turn virtualization on in the firmware, or nested virtualization in the cloud, and modprobe kvm",
        )
    if not os.access(KVM, os.R_OK | os.W_OK):
        return Seen("tcg", "/dev/kvm may not be opened by this user", "adduser YOU kvm, and log in again")
    sector = base64.b64decode(_SECTOR).ljust(510, b"\0") + b"\x55\xaa"
    with tempfile.NamedTemporaryFile(prefix="v2c-kvm-", suffix=".img") as disk:
        disk.write(sector)
        disk.flush()
        argv = [
            "qemu-system-x86_64",
            *("-accel", "kvm"),
            *("-cpu", "max"),  # what libguestfs asks for: a processor that KVM cannot give fails here and not there
            *("-machine", "pc"),
            *("-m", "64"),
            *("-nodefaults", "-display", "none", "-no-reboot"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
            *("-drive", f"file={disk.name},format=raw,if=ide,snapshot=on"),
        ]
        try:
            process = processes.Process(argv)
        except ToolError as missing:
            return Seen("tcg", missing.text, missing.remedy)
        code = process.wait(PATIENCE)
        if code is None:
            process.kill()
            return Seen("tcg", f"a trial guest did not run within {PATIENCE:.0f} s under KVM")
        if code != _RAN:
            return Seen("tcg", f"a trial guest failed under KVM: {process.words() or f'QEMU ended with {code}'}")
    return Seen("kvm")


def _cache() -> Path:
    return own_folder("XDG_CACHE_HOME", ".cache") / "accelerator"


def _key() -> str:
    """Changes with what the answer depends on: this boot, the user's access, the QEMU that is installed."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    qemu = ""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        with contextlib.suppress(OSError):
            qemu = str((Path(folder) / "qemu-system-x86_64").stat().st_mtime_ns)
            break
    return f"{boot} {os.access(KVM, os.R_OK | os.W_OK)} {qemu}"
