"""What inspection reads from a guest that is off. Also the expectation that validation compares the booted machine with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A filesystem or other content found on a device, as blkid names it ("ext4", "swap", "crypto_LUKS", "LVM2_member").

    `device` is the appliance's name for it, `disk` the id of our disk it lies on (empty for LVM that spans several),
    `partition` its number there (0: the whole disk). `parttype` is GPT's type GUID in lower case or MBR's ("0x83"), `size` in
    bytes (0: unknown)."""

    device: str
    type: str
    uuid: str = ""
    label: str = ""
    partuuid: str = ""
    disk: str = ""
    partition: int = 0
    partlabel: str = ""
    parttype: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of fstab that mounts something: spec as written, resolved device or empty when nothing here matches."""

    spec: str
    where: str
    type: str
    options: str = ""
    device: str = ""
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Swap:
    """A swap area of fstab."""

    spec: str
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """An account of /etc/passwd."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """An installed kernel: its release, image, initramfs (empty: none) and whether its modules are there."""

    release: str
    image: str
    initramfs: str = ""
    modules: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """A guest as inspected offline. Paths are the guest's own; `root` is the appliance's name of the root device; `unified` are
    unified kernel images, which systemd-boot starts as they are."""

    family: str
    distribution: str
    version: str
    title: str
    architecture: str
    root: str
    root_uuid: str = ""
    root_type: str = ""
    boot_disk: str = ""
    firmware: str = ""
    hostname: str = ""
    machine_id: str = ""
    package_format: str = ""
    initramfs_tool: str = ""
    bootloaders: tuple[str, ...] = ()
    filesystems: tuple[Filesystem, ...] = ()
    mounts: tuple[Mount, ...] = ()
    swaps: tuple[Swap, ...] = ()
    kernels: tuple[KernelFacts, ...] = ()
    default_kernel: str = ""
    unified: tuple[str, ...] = ()
    enabled_units: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    network: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
