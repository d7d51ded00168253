"""Platform facts and a machine -> QEMU's arguments. Pure: opens nothing, starts nothing.

Everything that comes from a guest or a user goes in as JSON (`-blockdev`, `-netdev`), where no comma can become an option;
the templates of `drivers/*/platform.toml` are filled with words of ours only.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from v2c.errors import TargetError
from v2c.model import Firmware
from v2c.platforms import Boot, Platform, Shape

NETWORK = "169.254.169.0/24"  # the metadata service must lie inside the user network that forwards to it
GUEST_ADDRESS = "169.254.169.15"
SERVICE = "169.254.169.254:80"
MAX_NICS = 8
LEAST_MIB, MOST_MIB = 512, 2048  # a boot test's memory: enough for any initramfs, little enough for two at a time
# What QEMU may not ask of the kernel: set*id, starting programs, priorities, and calls that nobody uses any more. The metadata
# service is a program that QEMU starts, and slirp calls setsid first, which every "elevateprivileges" but "allow" forbids
# (QEMU 7.2, softmmu/qemu-seccomp.c): there `machine` sets no_new_privs instead, after which no set*id program gains anything.
SANDBOX = "on,obsolete=deny,resourcecontrol=deny,elevateprivileges=deny,spawn=deny"
SANDBOX_SERVICE = "on,obsolete=deny,resourcecontrol=deny,elevateprivileges=allow,spawn=allow"


@dataclass(frozen=True, slots=True)
class DirectKernel:
    """A kernel that QEMU itself loads instead of the firmware's choice: for guests that say nothing on the serial line."""

    image: str
    initrd: str
    append: str


@dataclass(frozen=True, slots=True)
class BootSpec:
    """What to boot and as what. `seed` decides serials, MACs and the UUID, so that a boot is repeatable.

    `memory_mib` and `vcpus` are what QEMU gets: the caller bounds them. `boot_disk` is a disk's id, empty: the first.
    `isolated`: nothing answers but the metadata service. `secure_boot`: the firmware verifies what it starts (UEFI only), `tpm`:
    there is one; either where this host can.
    """

    platform: str
    firmware: Firmware
    seed: str
    name: str = "machine"
    memory_mib: int = 1024
    vcpus: int = 2
    nics: int = 1
    boot_disk: str = ""
    isolated: bool = True
    kernel: DirectKernel | None = None
    secure_boot: bool = False
    tpm: bool = False

    @property
    def uuid(self) -> str:
        """The machine's UUID, in lower case."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"v2c:{self.seed}"))

    def digits(self, what: str, count: int) -> str:
        """`count` hexadecimal digits that depend on the seed and `what` only."""
        return hashlib.sha256(f"{self.seed}:{what}".encode()).hexdigest()[:count]

    def mac(self, index: int) -> str:
        """The hardware address of a NIC: QEMU's own prefix, as no cloud keeps the old one."""
        tail = self.digits(f"nic{index}", 6)
        return f"52:54:00:{tail[0:2]}:{tail[2:4]}:{tail[4:6]}"


def bounded(spec: BootSpec) -> BootSpec:
    """The same machine with the memory and the processors that a boot test gets on this host."""
    memory = max(LEAST_MIB, min(spec.memory_mib, MOST_MIB))
    return replace(spec, memory_mib=memory, vcpus=max(1, min(spec.vcpus, os.cpu_count() or 1)))


@dataclass(frozen=True, slots=True)
class Wiring:
    """What QEMU is connected to: block nodes (JSON-able, in the machine's order, with the disks' ids), firmware nodes
    (UEFI only; `smm`: they need system management mode), character devices, that of a TPM among them (empty: none), descriptors
    to adopt as (set, descriptor), and the metadata service's command line."""

    disks: tuple[tuple[str, dict[str, object]], ...]
    console: str
    monitor: str = ""
    accelerator: str = "tcg"
    code: dict[str, object] | None = None
    variables: dict[str, object] | None = None
    descriptors: tuple[tuple[int, int], ...] = ()
    metadata: str = ""
    smm: bool = False
    tpm: str = ""


def shape_of(platform: Platform, firmware: Firmware) -> tuple[Boot, Shape]:
    """The platform's hardware for the firmware. TargetError when there is none."""
    boot = platform.boot
    shape = None if boot is None else (boot.uefi if firmware is Firmware.UEFI else boot.bios)
    if boot is None or shape is None:
        raise TargetError(
            f"{platform.title} has no virtual hardware for {firmware} machines here",
            remedy=f"see drivers/{platform.name}/platform.toml [boot]",
        )
    return boot, shape


def argv(platform: Platform, spec: BootSpec, wiring: Wiring) -> list[str]:
    """QEMU's command line, every option beside its value. TargetError for what the hardware cannot hold."""
    _, shape = shape_of(platform, spec.firmware)
    return [
        "qemu-system-x86_64",
        *("-name", "v2c"),
        "-nodefaults",
        "-no-user-config",
        *("-sandbox", SANDBOX_SERVICE if wiring.metadata else SANDBOX),
        *("-machine", _machine(shape, wiring)),
        *("-accel", "kvm" if wiring.accelerator == "kvm" else "tcg,thread=multi"),
        # la57 off: five levels of page tables cost an emulated guest time and give it nothing
        *("-cpu", "host" if wiring.accelerator == "kvm" else "max,la57=off"),
        *("-smp", str(spec.vcpus)),
        *("-m", f"{spec.memory_mib}M"),
        *("-rtc", "base=utc"),
        *("-display", "none"),
        *("-device", "VGA,id=video"),
        *(part for number, fd in wiring.descriptors for part in ("-add-fd", f"fd={fd},set={number}")),
        *_firmware(wiring),
        *_kernel(spec),
        *_characters(wiring),
        *_tpm(wiring),
        *_smbios(shape, spec),
        *(("-device", "virtio-rng-pci") if shape.rng else ()),
        *_drives(shape, spec, wiring),
        *_network(shape, spec, wiring),
        *(part for option in shape.extra for part in option),
    ]


def _machine(shape: Shape, wiring: Wiring) -> str:
    # graphics=off lets SeaBIOS, and what GRUB prints through it, show on the serial line as well as on the screen
    flash = ",pflash0=firmware,pflash1=variables" if wiring.code else ",graphics=off"
    return shape.machine + flash + (",smm=on" if wiring.smm else "")


def _firmware(wiring: Wiring) -> Iterator[str]:
    for name, node in (("firmware", wiring.code), ("variables", wiring.variables)):
        if node is not None:
            yield from ("-blockdev", json.dumps({"node-name": name, "read-only": name == "firmware", **node}))
    if wiring.smm:  # only the firmware may write its variables (OVMF, README, "SMM support")
        yield from ("-global", "driver=cfi.pflash01,property=secure,value=on")
        yield from ("-global", "ICH9-LPC.disable_s3=1")


def _kernel(spec: BootSpec) -> Iterator[str]:
    if spec.kernel is not None:
        yield from ("-kernel", spec.kernel.image, "-initrd", spec.kernel.initrd, "-append", spec.kernel.append)


def _characters(wiring: Wiring) -> Iterator[str]:
    yield from ("-chardev", f"{wiring.console},id=console", "-device", "isa-serial,chardev=console")
    if wiring.monitor:
        yield from ("-chardev", f"{wiring.monitor},id=monitor", "-mon", "chardev=monitor,mode=control")


def _tpm(wiring: Wiring) -> Iterator[str]:
    if wiring.tpm:
        yield from ("-chardev", f"{wiring.tpm},id=tpm", "-tpmdev", "emulator,id=tpm0,chardev=tpm")
        yield from ("-device", "tpm-crb,tpmdev=tpm0")


def _smbios(shape: Shape, spec: BootSpec) -> Iterator[str]:
    for text in shape.smbios:
        yield from ("-smbios", text.format(uuid=spec.uuid, tail=spec.uuid[3:]))


def _drives(shape: Shape, spec: BootSpec, wiring: Wiring) -> Iterator[str]:
    drive = shape.drive
    if drive.max_disks and len(wiring.disks) > drive.max_disks:
        raise TargetError(f"this virtual hardware holds {drive.max_disks} disks, and the machine has {len(wiring.disks)}")
    if drive.controller:
        yield from ("-device", drive.controller)
    order = boot_order([id for id, _ in wiring.disks], spec.boot_disk)
    for index, (id, node) in enumerate(wiring.disks):
        name = f"disk{index}"
        yield from ("-blockdev", json.dumps({"node-name": name, **node}))
        serial = spec.digits(f"disk{index}", 16)
        yield from ("-device", drive.device.format(id=name, index=index, boot=order[id], serial=serial, uuid=spec.uuid))


def boot_order(disks: Sequence[str], boot_disk: str) -> dict[str, int]:
    """Each disk's place in the firmware's boot order, from 1: the boot disk, then the others as they stand."""
    first = boot_disk if boot_disk in disks else disks[0] if disks else ""
    ordered = sorted(disks, key=lambda id: (id != first, disks.index(id)))
    return {id: place for place, id in enumerate(ordered, 1)}


def _network(shape: Shape, spec: BootSpec, wiring: Wiring) -> Iterator[str]:
    for index in range(min(spec.nics, MAX_NICS)):
        # no IPv6: QEMU's restrict speaks of both, and what is not there cannot leak
        net: dict[str, object] = {"type": "user", "id": f"net{index}", "restrict": spec.isolated, "ipv6": False}
        if index == 0:
            net |= {"net": NETWORK, "host": "169.254.169.2", "dns": "169.254.169.3", "dhcpstart": GUEST_ADDRESS}
            if wiring.metadata:
                net["guestfwd"] = [{"str": f"tcp:{SERVICE}-cmd:{wiring.metadata}"}]
        else:
            net |= {"net": f"198.18.{index}.0/24"}  # RFC 2544's range: nobody's addresses
        yield from ("-netdev", json.dumps(net))
        # romfile empty: no card tries to boot from a network that answers nothing
        yield from ("-device", f"{shape.nic},netdev=net{index},mac={spec.mac(index)},romfile=")
