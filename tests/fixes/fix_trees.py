"""Small guests as trees: how machines stand on VMware before they move. Used by the tests of the fixes."""

import gzip
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import dropwhile

from v2c.fixes.fix import text
from v2c.guest.formats.lines import Table
from v2c.guest.formats.modprobe import canonical
from v2c.guest.formats.shellvars import ShellVars
from v2c.guest.inspect import inspect
from v2c.guest.memory import MemoryGuest, Node, Tree, link
from v2c.model import AddressNeed, Filesystem, Firmware, LeaveTool, Needs, ProbeNeed

RELEASE = "6.1.0-50-amd64"
ROOT = "3b8e7f0c-9f0e-4c3e-8a64-0d9d1f0f5a11"
SWAP = "9a1d2c77-55aa-4f5e-b9c1-77e0a1b2c3d4"
ESP = "7C41-19F2"
PV = "Wm1zTq-0000-1111-2222-3333-4444-aBcDeF"
ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"

# module -> what it needs, as modules.dep of a Debian kernel has it (shortened)
MODULES = {
    "kernel/drivers/nvme/host/nvme.ko": ["kernel/drivers/nvme/host/nvme-core.ko"],
    "kernel/drivers/nvme/host/nvme-core.ko": [],
    "kernel/drivers/net/ethernet/amazon/ena/ena.ko": [],
    "kernel/drivers/net/ethernet/google/gve/gve.ko": [],
    "kernel/drivers/block/xen-blkfront.ko": [],
    "kernel/drivers/net/xen-netfront.ko": [],
    "kernel/drivers/scsi/sd_mod.ko": ["kernel/drivers/scsi/scsi_mod.ko"],
    "kernel/drivers/scsi/scsi_mod.ko": [],
    "kernel/drivers/scsi/virtio_scsi.ko": ["kernel/drivers/virtio/virtio.ko", "kernel/drivers/scsi/scsi_mod.ko"],
    "kernel/drivers/scsi/vmw_pvscsi.ko": ["kernel/drivers/scsi/scsi_mod.ko"],
    "kernel/drivers/virtio/virtio.ko": [],
    "kernel/drivers/virtio/virtio_pci.ko": ["kernel/drivers/virtio/virtio.ko"],
    "kernel/drivers/block/virtio_blk.ko": ["kernel/drivers/virtio/virtio.ko"],
    "kernel/drivers/net/virtio_net.ko": ["kernel/drivers/virtio/virtio.ko"],
    "kernel/drivers/hv/hv_vmbus.ko": [],
    "kernel/drivers/scsi/hv_storvsc.ko": ["kernel/drivers/hv/hv_vmbus.ko", "kernel/drivers/scsi/scsi_mod.ko"],
    "kernel/drivers/net/hyperv/hv_netvsc.ko": ["kernel/drivers/hv/hv_vmbus.ko"],
    "kernel/drivers/pci/controller/pci-hyperv.ko": ["kernel/drivers/hv/hv_vmbus.ko"],
    "kernel/drivers/ata/ata_piix.ko": [],
    "kernel/drivers/ata/ahci.ko": [],
}
BUILTIN = "kernel/fs/ext4/ext4.ko\nkernel/drivers/tty/serial/8250/8250.ko\n"


def cpio(files: dict[str, bytes]) -> bytes:
    """A newc archive."""
    out = bytearray()
    for number, (name, data) in enumerate([*files.items(), ("TRAILER!!!", b"")]):
        fields = [number, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % value for value in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4)
        out += data + b"\0" * (-len(data) % 4)
    return bytes(out)


def image(modules: Sequence[str], texts: dict[str, str] | None = None, release: str = RELEASE) -> bytes:
    """An initramfs: an early plain archive, padding, then a packed one."""
    files = {f"usr/lib/modules/{release}/{path}": b"\x7fELF" for path in modules}
    files |= {path: content.encode() for path, content in (texts or {}).items()}
    early = cpio({"kernel/x86/microcode/AuthenticAMD.bin": b"\0" * 64})
    return early + b"\0" * (-len(early) % 512) + gzip.compress(cpio({"init": b"#!/bin/sh\n", **files}), mtime=0)


def closure(names: Sequence[str]) -> list[str]:
    """Paths of modules and of all below them."""
    found: dict[str, None] = {}
    for path, below in MODULES.items():
        if canonical(posixpath.basename(path).removesuffix(".ko")) in {canonical(n) for n in names}:
            found |= dict.fromkeys([path, *below])
    return list(found)


def update_initramfs(guest: MemoryGuest, argv: Sequence[str]) -> str:
    """What initramfs-tools does: takes the listed modules and the configuration of the guest."""
    release = argv[argv.index("-k") + 1]
    listed = [row.words[0] for row in Table(guest.text("/etc/initramfs-tools/modules")).lines if row.words]
    copied = {"conf/conf.d": "/etc/initramfs-tools/conf.d", "etc/modprobe.d": "/etc/modprobe.d"}
    texts = {f"{to}/{n}": text(guest, f"{folder}/{n}") or "" for to, folder in copied.items() for n in guest.names(folder)}
    texts["cryptroot/crypttab"] = text(guest, "/etc/crypttab") or ""
    guest.write(f"/boot/initrd.img-{release}", image(closure(listed), texts, release))
    for path in guest.glob("/boot/efi/*/*/initrd.img-*"):  # post-update.d/systemd-boot
        guest.write(path, image(closure(listed), texts, release))
    return ""


def dracut(guest: MemoryGuest, argv: Sequence[str]) -> str:
    """What dracut does with add_drivers and an exclusive drivers list, which the command line takes the place of."""
    names = argv[argv.index("--drivers") + 1].split() if "--drivers" in argv else []
    for path in ["/etc/dracut.conf", *guest.glob("/etc/dracut.conf.d/*.conf")]:
        vars = ShellVars(guest.text(path)) if guest.exists(path) else ShellVars("")
        for name in ("add_drivers",) if "--drivers" in argv else ("drivers", "add_drivers"):
            names += (vars.get(name) or "").split()
    guest.write(argv[-2], image(closure(names), release=argv[-1]))
    return ""


def cp(guest: MemoryGuest, argv: Sequence[str]) -> str:
    """Copies one file."""
    guest.write(argv[-1], guest.read(argv[-2]))
    return ""


def env(guest: MemoryGuest, argv: Sequence[str]) -> str:
    """Runs what stands after the assignments."""
    return guest.run(list(dropwhile(lambda word: "=" in word, argv[1:])))


PROGRAMS: dict[str, Callable[[MemoryGuest, Sequence[str]], str]] = {
    "update-initramfs": update_initramfs,
    "dracut": dracut,
    "cp": cp,
    "env": env,
}

COMMON: Tree = {
    "/etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "/etc/hostname": "erp\n",
    "/etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "/lib": link("usr/lib"),
    "/sbin": link("usr/sbin"),
    f"/boot/vmlinuz-{RELEASE}": b"kernel",
    f"/boot/initrd.img-{RELEASE}": image(closure(["vmw_pvscsi", "sd_mod"])),
    f"/usr/lib/modules/{RELEASE}/modules.dep": "".join(f"{path}: {' '.join(below)}\n" for path, below in MODULES.items()),
    f"/usr/lib/modules/{RELEASE}/modules.builtin": BUILTIN,
    "/usr/bin/vmtoolsd": b"\x7fELF",
    "/usr/lib/systemd/system/open-vm-tools.service": "[Service]\nExecStart=/usr/bin/vmtoolsd\n",
    "/usr/lib/systemd/system/vgauth.service": "[Service]\nExecStart=/usr/bin/VGAuthService\n",
    "/etc/systemd/system/multi-user.target.wants/open-vm-tools.service": link("/lib/systemd/system/open-vm-tools.service"),
    "/etc/systemd/system/vmtoolsd.service": link("/lib/systemd/system/open-vm-tools.service"),
    "/etc/systemd/system/open-vm-tools.service.requires/vgauth.service": link("/lib/systemd/system/vgauth.service"),
}
INITRAMFS_TOOLS: Tree = {
    "/usr/sbin/mkinitramfs": "#!/bin/sh\n",
    "/usr/sbin/update-initramfs": "#!/bin/sh\n",
    "/etc/kernel/postinst.d/initramfs-tools": "#!/bin/sh\n",
    "/etc/initramfs-tools/initramfs.conf": "MODULES=list\nCOMPRESS=zstd\n",
    "/etc/initramfs-tools/modules": "# what VMware has\nvmw_pvscsi\nsd_mod\n",
}
GRUB_DEFAULT = 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=-1\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n'


def grub(root: str, words: str = "") -> str:
    """A grub.cfg with the default entry and the recovery one."""
    entries = "".join(
        f"menuentry 'Debian{name}' {{\n\tsearch --no-floppy --fs-uuid --set=root {ROOT}\n"
        f"\tlinux\t/boot/vmlinuz-{RELEASE} root={root} ro {extra}\n\tinitrd\t/boot/initrd.img-{RELEASE}\n}}\n"
        for name, extra in (("", f" {words}quiet"), (", recovery", f"single {words}".rstrip()))
    )
    head = 'set default="0"\nif true; then\n  set timeout=-1\nfi\n'
    return f"{head}### BEGIN /etc/grub.d/10_linux ###\n{entries}### END /etc/grub.d/10_linux ###\n"


@dataclass(frozen=True)
class Recipe:
    """A guest to be."""

    tree: dict[str, str | bytes | Node]
    filesystems: tuple[Filesystem, ...]
    capacity: int = 1 << 30
    programs: dict[str, Callable[[MemoryGuest, Sequence[str]], str]] = field(default_factory=lambda: dict(PROGRAMS))

    def guest(self, **more: str | bytes | Node | None) -> MemoryGuest:
        """A fresh one; `more` are further paths ("/" as given), None removes one."""
        given: dict[str, str | bytes | Node | None] = {**self.tree, **more}
        tree = {path: entry for path, entry in given.items() if entry is not None}
        make = partial(MemoryGuest.from_tree, tree, programs=self.programs, capacity=self.capacity)
        # whoever mounts a disk knows which filesystem is the root, whatever fstab calls it
        root = next(f.device for f in self.filesystems if f.type == "ext4")
        return make(facts=inspect(make(), filesystems=self.filesystems, root=root))


PLAIN = (
    Filesystem("/dev/sda1", "ext4", ROOT, disk="disk-0", partition=1, parttype="0x83"),
    Filesystem("/dev/sda5", "swap", SWAP, disk="disk-0", partition=5, parttype="0x82"),
)
EFI = (
    Filesystem("/dev/sda1", "vfat", ESP, disk="disk-0", partition=1, parttype=ESP_TYPE),
    Filesystem("/dev/sda2", "LVM2_member", PV, disk="disk-0", partition=2),
    Filesystem("/dev/mapper/vg-root", "ext4", ROOT),
    Filesystem("/dev/mapper/vg-swap", "swap", SWAP),
)
EFI_PLAIN = (
    Filesystem("/dev/sda1", "vfat", ESP, disk="disk-0", partition=1, parttype=ESP_TYPE),
    Filesystem("/dev/sda2", "ext4", ROOT, disk="disk-0", partition=2),
)
DHCLIENT = {"/usr/sbin/ifup": b"", "/usr/sbin/dhclient": b""}

RECIPES = {
    "debian12-bios": Recipe(
        {
            **COMMON,
            **INITRAMFS_TOOLS,
            **DHCLIENT,
            "/boot/grub/i386-pc/normal.mod": b"",
            "/boot/grub/grub.cfg": grub("/dev/sda1", "resume=/dev/sda5 "),
            "/boot/grub/device.map": "(hd0)\t/dev/sda\n",
            "/etc/default/grub": GRUB_DEFAULT.replace('LINUX=""', 'LINUX="resume=/dev/sda5"') + "GRUB_DISABLE_LINUX_UUID=true\n",
            "/etc/fstab": (
                "# <file system> <mount point> <type> <options> <dump> <pass>\n/dev/sda1\t/\text4\terrors=remount-ro 0 1\n"
                "/dev/sda5  none swap sw 0 0\n/dev/sdb1 /backup xfs defaults 0 2\n"
                "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n"
                "files:/export /srv/files nfs _netdev 0 0\ntmpfs /tmp tmpfs nosuid 0 0\n"
            ),
            "/etc/initramfs-tools/conf.d/resume": "RESUME=/dev/sda5\n",
            "/etc/network/interfaces": (
                "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n\nauto ens192\niface ens192 inet static\n"
                "    address 10.20.30.41/24\n    gateway 10.20.30.1\n"
            ),
            "/etc/network/interfaces.d/storage": "auto ens224\niface ens224 inet static\n    address 10.99.0.5/24\n",
            "/etc/udev/rules.d/70-persistent-net.rules": (
                '# x\nSUBSYSTEM=="net", ACTION=="add", ATTR{address}=="00:50:56:8a:10:01", NAME="ens192"\n'
            ),
            "/etc/modprobe.d/hardening.conf": "blacklist nvme\nblacklist usb-storage\ninstall virtio_scsi /bin/true\n",
            "/etc/resolv.conf": "search corp.example\nnameserver 10.20.30.2\n",
            "/etc/nftables.conf": "iifname ens192 tcp dport 22 accept\n",
            "/etc/modules": "loop\nvmw_balloon\n",
        },
        PLAIN,
    ),
    "debian12-uefi-lvm": Recipe(
        {
            **COMMON,
            **INITRAMFS_TOOLS,
            "/usr/sbin/netplan": b"",
            "/boot/grub/x86_64-efi/normal.mod": b"",
            "/boot/grub/grub.cfg": grub("/dev/mapper/vg-root"),
            "/boot/efi/EFI/debian/shimx64.efi": b"MZshim",
            "/boot/efi/EFI/debian/grubx64.efi": b"MZgrub",
            "/boot/efi/EFI/debian/mmx64.efi": b"MZmm",
            "/boot/efi/EFI/debian/fbx64.efi": b"MZfb",
            "/boot/efi/EFI/debian/grub.cfg": f"search.fs_uuid {ROOT} root\nset prefix=($root)'/boot/grub'\nconfigfile x\n",
            "/etc/default/grub": GRUB_DEFAULT,
            "/etc/fstab": "/dev/mapper/vg-root / ext4 defaults 0 1\n"
            f"/dev/sda1 /boot/efi vfat umask=0077 0 1\nUUID={SWAP} none swap sw 0 0\n"
            "UUID=dead-beef /gone ext4 defaults 0 2\n",
            "/etc/lvm/lvm.conf": 'devices {\n\tfilter = [ "a|^/dev/sd.*|", "r|.*|" ]\n}\n',
            "/etc/lvm/devices/system.devices": "IDTYPE=sys_wwid\n",
            "/etc/netplan/01-netcfg.yaml": (
                "network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    ens192:\n      addresses: [10.20.30.42/24]\n"
            ),
            "/usr/bin/cloud-init": b"",
            "/etc/cloud/cloud.cfg": "users:\n  - default\n",
            "/etc/cloud/cloud.cfg.d/90_dpkg.cfg": "# to update this file\ndatasource_list: [ VMware, None ]\n",
            "/etc/cloud/cloud.cfg.d/99-installer.cfg": "datasource_list:\n- None\ndatasource:\n  None: {}\n",
            "/etc/cloud/ds-identify.cfg": "datasource: VMware\n",
        },
        EFI,
    ),
    "debian12-systemd-boot": Recipe(
        {
            **COMMON,
            **INITRAMFS_TOOLS,
            "/usr/bin/kernel-install": b"",
            "/boot/efi/EFI/systemd/systemd-bootx64.efi": b"MZsd",
            f"/boot/efi/loader/entries/0123-{RELEASE}.conf": (
                f"title Debian\nversion {RELEASE}\noptions root=/dev/sda2 ro quiet systemd.machine_id=0123\n"
                f"linux /0123/{RELEASE}/linux\n"
                f"initrd /0123/{RELEASE}/initrd.img-{RELEASE}\n"
            ),
            f"/boot/efi/0123/{RELEASE}/linux": b"kernel",
            f"/boot/efi/0123/{RELEASE}/initrd.img-{RELEASE}": image(closure(["vmw_pvscsi"])),
            "/etc/fstab": "/dev/sda2 / ext4 defaults 0 1\nUUID=7c41-19f2 /boot/efi vfat umask=0077 0 1\n",
            "/usr/lib/systemd/system/systemd-networkd.service": "",
            "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service": link(
                "/lib/systemd/system/systemd-networkd.service"
            ),
            "/etc/systemd/network/10-ens192.network": "[Match]\nMACAddress=00:50:56:8a:10:02\n[Network]\nAddress=10.0.0.43/24\n",
            "/etc/systemd/network/10-ens192.link": "[Match]\nMACAddress=00:50:56:8a:10:02\n[Link]\nName=lan0\n",
            "/etc/systemd/network/50-wg0.network": "[Match]\nName=wg0\n",
        },
        EFI_PLAIN,
    ),
    "debian12-dracut": Recipe(
        {
            **COMMON,
            "/usr/bin/dracut": "#!/bin/sh\n",
            "/etc/dracut.conf.d/host.conf": 'hostonly="yes"\ndrivers="vmw_pvscsi sd_mod"\n',
            "/boot/grub/i386-pc/normal.mod": b"",
            "/boot/grub/grub.cfg": grub("/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1"),
            "/etc/default/grub": GRUB_DEFAULT,
            "/etc/default/grub.d/50-site.cfg": 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX audit=1"\n',
            "/etc/fstab": "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1 / ext4 defaults 0 1\n",
            "/usr/sbin/NetworkManager": b"",
            "/etc/systemd/system/multi-user.target.wants/NetworkManager.service": link(
                "/lib/systemd/system/NetworkManager.service"
            ),
            "/etc/NetworkManager/system-connections/ens192.nmconnection": (
                "[connection]\nid=ens192\ntype=ethernet\ninterface-name=ens192\n[ethernet]\nmac-address=00:50:56:8A:10:03\n"
                "[ipv4]\nmethod=manual\naddress1=10.20.30.44/24,10.20.30.1\n"
            ),
            "/etc/selinux/config": "SELINUX=enforcing\n",
        },
        PLAIN,
    ),
}
# As fixtures/guests/debian12-sdboot stands, but for the list of drivers: host-only and no more
RECIPES["debian12-systemd-boot-dracut"] = Recipe(
    {
        # initramfs-tools was there before, and its hook, its configuration and mkinitramfs (of initramfs-tools-core) still are
        **{p: e for p, e in RECIPES["debian12-systemd-boot"].tree.items() if p != "/usr/sbin/update-initramfs"},
        "/usr/bin/dracut": "#!/bin/sh\n",
        "/etc/kernel/postinst.d/dracut": "#!/bin/sh\n",
        "/etc/dracut.conf.d/host.conf": 'hostonly="yes"\n',
        "/etc/kernel/cmdline": "root=/dev/sda2 ro quiet\n",
        "/boot/efi/loader/loader.conf": "default 0123-*\ntimeout menu-force\n",
    },
    EFI_PLAIN,
)

VMTOOLS = LeaveTool(
    "vmware",
    "open-vm-tools",
    ("/usr/bin/vmtoolsd",),
    ("open-vm-tools.service", "vmtoolsd.service", "vgauth.service", "run-vmblock\\x2dfuse.mount"),
    ("vmw_balloon",),
)
PROBE = ProbeNeed(
    "00ff00ff00ff00ff",
    "ttyS0",
    "#!/bin/sh\necho probe\n",
    "[Unit]\nDescription=probe\n[Service]\nType=oneshot\nExecStart=/etc/v2c/probe.sh\n[Install]\nWantedBy=multi-user.target\n",
)
NEEDS = {
    "aws": Needs(
        Firmware.BIOS,
        initramfs_required=("nvme",),
        initramfs_wanted=("nvme_core", "ena", "xen-blkfront", "xen-netfront"),
        modules_present=("ena",),
        kernel_add=("nvme_core.io_timeout=4294967295",),
        datasources=("Ec2", "None"),
        leave=(VMTOOLS,),
        probe=PROBE,
    ),
    "gcp": Needs(
        Firmware.BIOS,
        initramfs_required=("virtio_pci", "virtio_scsi", "sd_mod", "virtio_net"),
        initramfs_wanted=("nvme", "gve"),
        datasources=("GCE", "None"),
        leave=(VMTOOLS,),
        addresses=(AddressNeed(address="192.0.2.10/24", gateway="192.0.2.1", dns=("192.0.2.53",)),),
    ),
    "azure": Needs(
        Firmware.BIOS,
        initramfs_required=("hv_vmbus", "hv_storvsc", "hv_netvsc", "sd_mod"),
        initramfs_wanted=("ahci", "ata_piix", "nvme", "pci-hyperv", "mlx5_core"),
        kernel_add=("rootdelay=300",),
        kernel_remove=("quiet",),
        consoles=("tty1", "ttyS0,115200n8"),
        datasources=("Azure", "None"),
        leave=(VMTOOLS,),
    ),
}
