"""The source that lies in memory: the family's smallest member, for crash and scale tests and for trying v2c out.

`memory:NAME[?seed=N&disks=N&size=BYTES&lose=N]` is a machine of architecture "memory": its first disk begins with a guest kept
as JSON (`v2c.guest.kept`), a small Debian as it stands on VMware; the rest of the disks is data and zeros drawn from the seed,
the same in every process and run. Its bytes are served by `v2c.nbdserver`. With `lose` its first N captures (of this process)
are gone when they are opened, as a snapshot is that expired.
"""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qsl

from v2c import nbdserver, sockets
from v2c.errors import CaptureLost, UsageError
from v2c.events import Meter
from v2c.guest import kept
from v2c.guest.inspect import inspect
from v2c.guest.memory import MemoryGuest, Tree, file, link
from v2c.journal import Journal, MemoryJournal
from v2c.model import MIB, Disk, Filesystem, Finding, Firmware, Machine, Marks, Nic, Ref
from v2c.nbd import Export, Extent
from v2c.sources import SourceFeatures
from v2c.sources.spec import MachineSpec

ARCHITECTURE = "memory"
GRAIN = MIB  # data and zeros alternate in pieces of this size
_HEAD = 8 * MIB  # kept free for the guest, which grows when it is repaired
_SIZE = 48 * MIB
_LARGEST = 1 << 46
_VERSION = "1"  # of the content: another one is another fingerprint

_lost: Counter[str] = Counter()  # captures that were lost in this process, by locator

RELEASE = "6.1.0-50-amd64"
ROOT = "3b8e7f0c-9f0e-4c3e-8a64-0d9d1f0f5a11"


def open_source(rest: str, spec: MachineSpec | None = None) -> "MemorySource":
    """The source for "NAME[?seed=N&disks=N&size=BYTES&lose=N]". UsageError when that is not understood."""
    name, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    try:
        wanted = (("seed", 0), ("disks", 1), ("size", _SIZE), ("lose", 0))
        seed, disks, size, lose = (int(options.pop(key, default)) for key, default in wanted)
        right = 1 <= disks <= 64 and MIB <= size <= _LARGEST and not size % 512 and not options
    except ValueError:
        right = False
    if not right or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        remedy = "write memory:NAME, with ?seed=N, &disks=N (1 to 64) or &size=BYTES (a multiple of 512, from 1 MiB on)"
        raise UsageError(f'"memory:{rest}" is not understood', remedy=remedy)
    return MemorySource(name, seed=seed, disks=disks, size=size, lose=lose, declared=spec)


@dataclass(frozen=True, slots=True)
class Content:
    """A disk's bytes: `head`, then from `_HEAD` on pieces of GRAIN, four of ten drawn from the seed, the others zeros."""

    size: int
    seed: str
    head: bytes = b""

    def read(self, offset: int, length: int) -> bytes:
        parts = []
        end = offset + length
        while offset < end:
            stop = min(end, offset - offset % GRAIN + GRAIN)
            piece = self._piece(offset // GRAIN)
            start = offset % GRAIN
            parts.append(piece[start : start + stop - offset] if piece else bytes(stop - offset))
            offset = stop
        return b"".join(parts)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            stop = min(end, offset - offset % GRAIN + GRAIN)
            yield Extent(offset, stop - offset, self._holds(offset // GRAIN))
            offset = stop

    def _holds(self, number: int) -> bool:
        if number * GRAIN < _HEAD:
            return number * GRAIN < len(self.head)
        return hashlib.sha256(f"{self.seed}/{number}".encode()).digest()[0] < 102

    def _piece(self, number: int) -> bytes:
        if not self._holds(number):
            return b""
        if number * GRAIN < _HEAD:
            return self.head[number * GRAIN : (number + 1) * GRAIN].ljust(GRAIN, b"\0")
        return _drawn(f"{self.seed}/{number}")


@lru_cache(maxsize=16)
def _drawn(seed: str) -> bytes:
    return random.Random(seed).randbytes(GRAIN)  # noqa: S311 - content, not a secret


@dataclass(frozen=True, slots=True)
class _Opened:
    """The capture: every disk served."""

    exports: dict[str, Export]
    marks: Marks = field(default_factory=Marks)

    def export(self, disk: Disk) -> Export:
        return self.exports[disk.id]


class MemorySource:
    """One machine, made up from its locator."""

    features = SourceFeatures()

    def __init__(
        self, name: str, *, seed: int = 0, disks: int = 1, size: int = _SIZE, lose: int = 0, declared: MachineSpec | None = None
    ) -> None:
        self.name, self.seed, self.disks, self.size, self.lose = name, seed, disks, size, lose
        self.declared = declared or MachineSpec()

    def machines(self) -> Iterator[Machine]:
        yield self.describe("")

    def describe(self, name: str) -> Machine:
        if name not in ("", self.name, self.declared.name):
            raise UsageError(f'the source memory:{self.name} has no machine "{name}"', remedy="leave the name out")
        said = self.declared
        words = (_VERSION, self.name, str(self.seed), str(self.disks), str(self.size))
        return Machine(
            name=name or said.name or self.name,
            disks=tuple(Disk(f"disk-{number}", self.size) for number in range(self.disks)),
            nics=(Nic("00:50:56:8a:10:01"),) if said.nics is None else said.nics,
            memory_mib=said.memory_mib or 512,
            vcpus=said.vcpus or 1,
            firmware=said.firmware or Firmware.BIOS,
            architecture=ARCHITECTURE,
            fingerprint=hashlib.sha256("\0".join(words).encode()).hexdigest()[:32],
        )

    def check(self, machine: Machine) -> Iterator[Finding]:
        """Nothing stands in the way."""
        return iter(())

    def capture(self, machine: Machine, since: Marks | None, journal: Journal) -> Ref:
        before = _lost[machine.fingerprint]
        return Ref.of("capture", f"memory-{machine.fingerprint}{f'-{before}' if before else ''}", name=machine.name)

    @contextmanager
    def open(self, capture: Ref, machine: Machine, workdir: Path) -> Iterator[_Opened]:
        if capture.id == self.capture(machine, None, MemoryJournal()).id and _lost[machine.fingerprint] < self.lose:
            _lost[machine.fingerprint] += 1
        if capture.id != self.capture(machine, None, MemoryJournal()).id:
            raise CaptureLost(f"the capture {capture.id} is not one of {machine.name}", remedy="start it anew with --again")
        with ExitStack() as stack:
            folder = stack.enter_context(sockets.folder(workdir))
            yield _Opened(
                {
                    disk.id: stack.enter_context(nbdserver.serve(self.content(number), sockets.fresh(folder, "memory"), disk.id))
                    for number, disk in enumerate(machine.disks)
                }
            )

    def content(self, number: int) -> Content:
        """The bytes of a disk, by its position."""
        head = kept.image(guest(self.name), self.size) if number == 0 else b""
        return Content(self.size, f"{self.name}/{self.seed}/{number}", head)

    def stop(self, machine: Machine, journal: Journal, meter: Meter) -> None:
        """It never runs."""

    def start(self, machine: Machine, journal: Journal) -> None:
        """It never runs."""

    def find(self, job: str) -> Iterator[Ref]:
        """Nothing is ever left here."""
        return iter(())

    def destroy(self, ref: Ref) -> None:
        """Nothing is ever left here."""


# ---- the guest that it carries ------------------------------------------------------------------------------------------------

# Built into its kernel, so that no program of the guest needs to run for its repair: nothing executes a guest in memory.
_BUILTIN = (
    "block/virtio_blk",
    "block/xen-blkfront",
    "char/virtio_console",
    "hv/hv_storvsc",
    "hv/hv_utils",
    "hv/hv_vmbus",
    "net/e1000",
    "net/e1000e",
    "net/ena",
    "net/gve",
    "net/hv_netvsc",
    "net/mana",
    "net/mlx4_core",
    "net/mlx5_core",
    "net/virtio_net",
    "net/vmxnet3",
    "net/xen-netfront",
    "ata/ahci",
    "ata/ata_piix",
    "ata/libata",
    "nvme/nvme",
    "nvme/nvme-core",
    "pci/pci-hyperv",
    "scsi/sd_mod",
    "scsi/scsi_mod",
    "scsi/virtio_scsi",
    "scsi/vmw_pvscsi",
    "scsi/mptspi",
    "scsi/mptsas",
    "virtio/virtio",
    "virtio/virtio_pci",
    "virtio/virtio_ring",
    "virtio/virtio_balloon",
)

_FILESYSTEMS = (
    Filesystem("/dev/sda1", "ext4", ROOT, disk="disk-0", partition=1),
    Filesystem("/dev/sda5", "swap", "9a1d2c77-55aa-4f5e-b9c1-77e0a1b2c3d4", disk="disk-0", partition=5),
)


def guest(name: str) -> MemoryGuest:
    """A Debian 12 that was installed on VMware: root by /dev/sda1, a fixed address on ens192, open-vm-tools."""
    tree: Tree = {
        "/etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "/etc/hostname": f"{name}\n",
        "/etc/machine-id": hashlib.sha256(name.encode()).hexdigest()[:32] + "\n",
        "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nerp:x:1000:1000:ERP,,,:/srv/erp:/bin/bash\n",
        "/etc/fstab": (
            "/dev/sda1 / ext4 errors=remount-ro 0 1\n/dev/sda5 none swap sw 0 0\n/dev/sr0 /media/cdrom0 udf user,noauto 0 0\n"
        ),
        "/etc/default/grub": 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n',
        "/etc/network/interfaces": (
            "auto lo\niface lo inet loopback\n\nauto ens192\niface ens192 inet static\n"
            "    address 10.20.30.41/24\n    gateway 10.20.30.1\n"
        ),
        "/usr/sbin/ifup": file(b"\x7fELF", 0o755),
        "/usr/sbin/dhclient": file(b"\x7fELF", 0o755),
        "/usr/bin/vmtoolsd": file(b"\x7fELF", 0o755),
        "/usr/lib/systemd/system/open-vm-tools.service": "[Service]\nExecStart=/usr/bin/vmtoolsd\n",
        "/usr/lib/systemd/system/cron.service": "[Service]\nExecStart=/usr/sbin/cron\n",
        "/etc/systemd/system/multi-user.target.wants/open-vm-tools.service": link("/lib/systemd/system/open-vm-tools.service"),
        "/etc/systemd/system/multi-user.target.wants/cron.service": link("/lib/systemd/system/cron.service"),
        "/lib": link("usr/lib"),
        "/sbin": link("usr/sbin"),
        "/boot/grub/i386-pc/normal.mod": b"",
        "/boot/grub/grub.cfg": (
            f"set default=\"0\"\nmenuentry 'Debian' {{\n\tlinux\t/boot/vmlinuz-{RELEASE} root=/dev/sda1 ro quiet\n}}\n"
        ),
        f"/boot/vmlinuz-{RELEASE}": b"kernel",
        f"/usr/lib/modules/{RELEASE}/modules.dep": "",
        f"/usr/lib/modules/{RELEASE}/modules.builtin": "".join(f"kernel/drivers/{name}.ko\n" for name in _BUILTIN),
        "/var/lib/dpkg/status": "Package: base-files\nStatus: install ok installed\nArchitecture: amd64\n\n",
    }
    made = MemoryGuest.from_tree(tree, filesystems=_FILESYSTEMS)
    facts = inspect(made, filesystems=_FILESYSTEMS, root="/dev/sda1")
    return MemoryGuest.from_tree(tree, filesystems=_FILESYSTEMS, facts=facts)
