"""What a guest must be able to do where it goes. The fixes read this and nothing about any cloud."""

from dataclasses import dataclass, replace

from v2c.model.machine import Firmware


@dataclass(frozen=True, slots=True)
class AddressNeed:
    """What one NIC must come up with: DHCP (address None), or this address.

    `address` is CIDR ("192.0.2.10/24"); `mac` says which NIC by hardware address, None means by position.
    """

    mac: str | None = None
    address: str | None = None
    gateway: str | None = None
    dns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaveTool:
    """Tools of the hypervisor that is left: recognised by any of `paths`, silenced by disabling `units`."""

    platform: str
    name: str
    paths: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbeNeed:
    """The validation probe: its nonce (hex), the serial device it prints on ("ttyS0"), the script and its systemd unit."""

    nonce: str
    device: str
    script: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """All that the repaired guest must have or lose.

    `initramfs_required`: module names the image must hold (or the kernel has built in), else the machine cannot find its root
    disk, or has no network card at all. `initramfs_wanted`: put in where the kernel has them. `modules_present`: must exist for
    the running kernel (a NIC driver). `kernel_add` / `kernel_remove`: words of the kernel command line (`remove` matches "quiet"
    or "rd.x="). `consoles`: in order, the last one is /dev/console. `datasources`: cloud-init's list; empty leaves cloud-init
    alone. `staying`: device names and UUIDs that do not come along. `keep_network`: do not touch network configuration. `system`:
    the family that the guest must be of ("windows"); empty: whatever can be repaired. `trusts`: whose signatures (by the names of
    certificates) the target's firmware takes, where it verifies what it starts of a guest that is signed so; empty: it never
    does. `tpm`: the machine gets one.
    """

    firmware: Firmware
    initramfs_required: tuple[str, ...] = ()
    initramfs_wanted: tuple[str, ...] = ()
    modules_present: tuple[str, ...] = ()
    kernel_add: tuple[str, ...] = ()
    kernel_remove: tuple[str, ...] = ()
    consoles: tuple[str, ...] = ("tty0", "ttyS0,115200n8")
    datasources: tuple[str, ...] = ()
    addresses: tuple[AddressNeed, ...] = ()
    leave: tuple[LeaveTool, ...] = ()
    staying: tuple[str, ...] = ()
    keep_network: bool = False
    probe: ProbeNeed | None = None
    system: str = ""
    trusts: tuple[str, ...] = ()
    tpm: bool = False

    def driving(self, *modules: str) -> "Needs":
        """The same, and these drivers too: without one, its repair refuses the guest."""
        more = (module for module in modules if module not in self.initramfs_required)
        return replace(self, initramfs_required=(*self.initramfs_required, *more))
