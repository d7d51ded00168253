"""A machine as its source describes it: disks, NICs, memory, firmware."""

from dataclasses import dataclass, field
from enum import StrEnum

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class Firmware(StrEnum):
    """What starts the boot loader."""

    BIOS = "bios"
    UEFI = "uefi"


class DiskFormat(StrEnum):
    """A disk image format, by the name the field uses."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vhd"
    VHDX = "vhdx"
    VDI = "vdi"

    @property
    def qemu(self) -> str:
        """The name of QEMU's block driver for the format."""
        return "vpc" if self is DiskFormat.VHD else self.value


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk of a machine.

    `id` is stable between passes (never a position that may move); `size` is the virtual size in bytes; `path` is where the
    source finds it (a file, or a name that only the source understands); `allocated`: bytes that its store holds, 0 unknown.
    """

    id: str
    size: int
    format: DiskFormat = DiskFormat.RAW
    path: str = ""
    sector_size: int = 512
    allocated: int = 0


@dataclass(frozen=True, slots=True)
class Nic:
    """One network card; `mac` in lower case with colons, None when the source does not say."""

    mac: str | None = None
    network: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine to migrate; disks in the source's order.

    `fingerprint` changes when the source's data may have changed (size, mtime, inode, first and last block of each disk);
    `assumed` names the fields that nobody told us, each becomes a finding.
    """

    name: str
    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...] = ()
    memory_mib: int = 2048
    vcpus: int = 2
    firmware: Firmware | None = None
    architecture: str = "x86_64"
    fingerprint: str = ""
    assumed: tuple[str, ...] = field(default=())

    def disk(self, id: str) -> Disk:
        """The disk with this id; KeyError when there is none."""
        for disk in self.disks:
            if disk.id == id:
                return disk
        raise KeyError(id)
