"""Reads what a guest is from a few of its files: our own inspection, 1 s where libguestfs' inspect_os takes 9 s (emulated).

`inspect` takes any mounted guest, so a tree in memory is inspected by the same lines as a disk. It writes nothing and never
raises for what a guest lacks: unknown is "" or "unknown", and plan and fixes make findings of it.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from v2c.guest import Guest, devices, kernels, units
from v2c.guest.formats.crypttab import Crypttab
from v2c.guest.formats.fstab import Fstab
from v2c.guest.formats.ini import Ini
from v2c.guest.formats.interfaces import Interfaces
from v2c.guest.formats.netplan import KINDS, Netplan
from v2c.guest.formats.shellvars import ShellVars
from v2c.model import Facts, Filesystem, Firmware, KernelFacts, LeaveTool, Mount, Swap, User

ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"  # UEFI specification 2.10, table 5.7
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"  # "Hah!IdontNeedEFI", where GRUB's core lies on GPT
MBR_ESP = "0xef"

# e_machine of elf(5)
_MACHINES = {3: "i386", 40: "arm", 21: "ppc64le", 22: "s390x", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_KERNEL_WORDS = (("amd64", "x86_64"), ("x86_64", "x86_64"), ("arm64", "aarch64"), ("aarch64", "aarch64"), ("i686", "i386"))
_SHELLS = ("/bin/sh", "/usr/bin/sh", "/bin/bash", "/usr/bin/bash", "/sbin/init")
_NETWORK = (
    "/etc/network/interfaces",
    "/etc/network/interfaces.d/*",
    "/etc/netplan/*.yaml",
    "/etc/systemd/network/*.network",
    "/etc/systemd/network/*.link",
    "/etc/systemd/network/*.netdev",
    "/etc/NetworkManager/system-connections/*",
    "/etc/sysconfig/network-scripts/ifcfg-*",
    "/etc/sysconfig/network/ifcfg-*",
    "/etc/udev/rules.d/*persistent-net.rules",
)


def inspect(
    guest: Guest,
    *,
    filesystems: Sequence[Filesystem] = (),
    root: str = "",
    boot_disk: str = "",
    tools: Iterable[LeaveTool] = (),
) -> Facts:
    """What the guest is. `filesystems` are all that the disks hold; `root` is the device that "/" was mounted from and
    `boot_disk` the disk with the boot loader (both found through fstab when empty); `tools` are what to look for."""
    filesystems = tuple(filesystems)
    names = crypt_names(guest)
    mounts, swaps = mounts_of(_text(guest, "/etc/fstab"), filesystems, names)
    if not root:
        root = next((m.device for m in mounts if m.where == "/"), filesystems[0].device if len(filesystems) == 1 else "")
    home = next((fs for fs in filesystems if fs.device == root), None)
    if not boot_disk:
        boot = {m.where: m.device for m in mounts}
        device = boot.get("/boot") or root
        boot_disk = next((fs.disk for fs in filesystems if fs.device == device), "")
    family, distribution, version, title = _distribution(guest)
    installed = kernels.kernels(guest)
    firmware = _firmware(guest, filesystems)
    loaders = _bootloaders(guest, firmware)
    return Facts(
        family=family,
        distribution=distribution,
        version=version,
        title=title,
        architecture=_architecture(guest, installed),
        root=root,
        root_uuid=home.uuid if home else "",
        root_type=home.type if home else "",
        boot_disk=boot_disk,
        firmware=firmware.value,
        hostname=_hostname(guest),
        machine_id=_machine_id(guest),
        package_format=_packages(guest),
        initramfs_tool=_initramfs_tool(guest),
        bootloaders=loaders,
        filesystems=filesystems,
        mounts=mounts,
        swaps=swaps,
        kernels=installed,
        default_kernel=kernels.default(guest, installed, loaders),
        unified=kernels.unified(guest),
        enabled_units=units.enabled(guest),
        users=tuple(_users(_text(guest, "/etc/passwd"))),
        network=tuple(path for pattern in _NETWORK for path in guest.glob(pattern)),
        addresses=tuple(dict.fromkeys(_addresses(guest))),
        tools=tuple(t.name for t in tools if any(guest.exists(path) for path in t.paths)),
    )


def mounts_of(
    fstab: str, filesystems: Sequence[Filesystem], names: Mapping[str, str] | None = None
) -> tuple[tuple[Mount, ...], tuple[Swap, ...]]:
    """The lines of fstab, resolved. A name bound to a controller that now means another type of filesystem stays unresolved."""
    mounts, swaps = [], []
    for entry in Fstab(fstab).entries:
        found = devices.find(entry.spec, filesystems, names)
        if found is not None and not devices.fits(found, entry.type):
            found = None
        if entry.type == "swap":
            swaps.append(Swap(entry.spec, found.uuid if found else ""))
        elif entry.where.startswith("/"):
            options = ",".join(entry.options)
            mounts.append(
                Mount(entry.spec, entry.where, entry.type, options, found.device if found else "", found.uuid if found else "")
            )
    return tuple(mounts), tuple(swaps)


def crypt_names(guest: Guest) -> dict[str, str]:
    """crypttab: the name of an opened volume -> the device below it, as written."""
    return {volume.name: volume.device for volume in Crypttab(_text(guest, "/etc/crypttab")).volumes}


def _text(guest: Guest, path: str) -> str:
    try:
        return guest.text(path)
    except OSError:
        return ""


def _distribution(guest: Guest) -> tuple[str, str, str, str]:
    """Family, id, version and title by os-release(5); by the older release files where there is none."""
    release = ShellVars(_text(guest, "/etc/os-release") or _text(guest, "/usr/lib/os-release"))
    distribution = release.get("ID") or ""
    version = release.get("VERSION_ID") or ""
    title = release.get("PRETTY_NAME") or distribution
    like = {distribution, *(release.get("ID_LIKE") or "").split()}
    old: Callable[[str], bool] = guest.exists
    if like & {"debian", "ubuntu"} or (not distribution and old("/etc/debian_version")):
        version = version or _text(guest, "/etc/debian_version").strip()
        return "debian", distribution or "debian", version, title or f"Debian {version}"
    if like & {"rhel", "fedora", "centos"} or (not distribution and old("/etc/redhat-release")):
        return "redhat", distribution or "redhat", version, title or _text(guest, "/etc/redhat-release").strip()
    if any(word.startswith(("suse", "opensuse", "sles")) for word in like) or (not distribution and old("/etc/SuSE-release")):
        return "suse", distribution or "suse", version, title
    return "unknown", distribution, version, title


def _architecture(guest: Guest, installed: Sequence[KernelFacts]) -> str:
    """What the userland is built for, by the ELF header of its shell: a 64-bit kernel says nothing about it."""
    for path in _SHELLS:
        try:
            head = guest.read(path)[:20]
        except OSError:
            continue
        if len(head) == 20 and head.startswith(b"\x7fELF"):
            order = "<" if head[5] == 1 else ">"
            return _MACHINES.get(struct.unpack(f"{order}H", head[18:20])[0], "unknown")
    for kernel in installed:
        for word, architecture in _KERNEL_WORDS:
            if word in kernel.release:
                return architecture
    return ""


def _firmware(guest: Guest, filesystems: Sequence[Filesystem]) -> Firmware:
    """UEFI when there is an EFI system partition and the machine does not boot from a BIOS boot partition or an MBR's GRUB.

    Hybrid images have both; what the source's own description says goes before this guess."""
    types = {fs.parttype for fs in filesystems}
    if ESP in types:
        return Firmware.BIOS if BIOS_BOOT in types and not _esp_loaders(guest) else Firmware.UEFI
    if MBR_ESP in types and _esp_loaders(guest):
        return Firmware.UEFI
    if not types - {""} and _esp_loaders(guest):
        return Firmware.UEFI
    return Firmware.BIOS


def _esp_loaders(guest: Guest) -> list[str]:
    return [path for base in kernels.ESPS for path in guest.glob(f"{base}/EFI/*/*.[eE][fF][iI]")]


def _bootloaders(guest: Guest, firmware: Firmware) -> tuple[str, ...]:
    """Those installed; the one that this firmware starts first."""
    efi = [path.rsplit("/", 1)[-1].lower() for path in _esp_loaders(guest)]
    found = []
    if any(guest.exists(f"{folder}/i386-pc") for folder in kernels.GRUBS):
        found.append("grub2-bios")
    if any(name.startswith(("grub", "shim")) for name in efi):
        found.append("grub2-efi")
    if any(name.startswith("systemd-boot") for name in efi):
        found.append("systemd-boot")
    if firmware is Firmware.UEFI:
        found.sort(key=lambda loader: loader == "grub2-bios")
    return tuple(found)


def _hostname(guest: Guest) -> str:
    lines = (line.strip() for line in _text(guest, "/etc/hostname").split("\n"))
    name = next((line for line in lines if line and not line.startswith("#")), "")
    return name or ShellVars(_text(guest, "/etc/sysconfig/network")).get("HOSTNAME") or ""


def _machine_id(guest: Guest) -> str:
    text = _text(guest, "/etc/machine-id").strip()
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else ""


def _packages(guest: Guest) -> str:
    if guest.exists("/var/lib/dpkg/status"):
        return "deb"
    return "rpm" if any(guest.exists(p) for p in ("/var/lib/rpm", "/usr/lib/sysimage/rpm")) else ""


def _initramfs_tool(guest: Guest) -> str:
    """What the kernel packages' own hook calls; else what is installed.

    Debian's dracut takes the place of initramfs-tools, which leaves its hook (a configuration file) and mkinitramfs (of
    initramfs-tools-core) behind: what the hook calls is gone.
    """
    hooks = guest.names("/etc/kernel/postinst.d")
    tools = {
        "initramfs-tools": ("/usr/sbin/update-initramfs", "/sbin/update-initramfs"),
        "dracut": ("/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut"),
        "mkinitcpio": ("/usr/bin/mkinitcpio",),
        "mkinitrd": ("/sbin/mkinitrd", "/usr/sbin/mkinitrd"),
    }
    there = [tool for tool, programs in tools.items() if any(guest.exists(p) for p in programs)]
    return next((tool for tool in there if tool in hooks), there[0] if there else "")


def _users(passwd: str) -> Iterator[User]:
    for line in passwd.split("\n"):
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdigit() and fields[3].isdigit():
            yield User(fields[0], int(fields[2]), int(fields[3]), fields[5], fields[6])


def _addresses(guest: Guest) -> Iterator[str]:
    """The static addresses that the guest gives its NICs, CIDR where the file says the length."""
    for pattern in _NETWORK:
        for path in guest.glob(pattern):
            text = _text(guest, path)
            if path.startswith("/etc/network/"):
                for stanza in Interfaces(text).interfaces:
                    address, mask = stanza.option("address"), stanza.option("netmask")
                    if address:
                        yield address if "/" in address or not mask else f"{address}/{_length(mask)}"
            elif path.startswith("/etc/netplan/"):
                plan = Netplan(text)
                for kind in KINDS:
                    for device in plan.devices(kind).values():
                        for address in device.get("addresses") or ():
                            yield str(next(iter(address)) if isinstance(address, dict) else address)
            elif path.endswith(".network"):
                ini = Ini(text)
                yield from (a for a in ini.all("Network", "Address") + ini.all("Address", "Address") if a)
            elif path.startswith("/etc/NetworkManager/"):
                ini = Ini(text)
                for section in ("ipv4", "ipv6"):
                    for line in ini.lines:
                        if line.section == section and re.fullmatch(r"address(?:es)?[0-9]*", line.key) and line.value:
                            yield line.value.split(",")[0].strip()
            elif "/ifcfg-" in path:
                values = ShellVars(text)
                address, mask = values.get("IPADDR") or "", values.get("NETMASK") or ""
                length = values.get("PREFIX") or values.get("PREFIXLEN") or (_length(mask) if mask else "")
                if address:
                    yield f"{address}/{length}" if length and "/" not in address else address


def _length(mask: str) -> str:
    """ "255.255.255.0": "24"."""
    parts = mask.split(".")
    if len(parts) == 4 and all(p.isdigit() and int(p) < 256 for p in parts):
        return str(sum(int(p).bit_count() for p in parts))
    return mask
