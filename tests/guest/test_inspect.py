"""Inspection of trees in memory: names of devices, enabled units, the kernel that boots, which root is the machine's."""

import base64
from pathlib import Path

import pytest

from v2c.errors import GuestError, UsageError
from v2c.guest import devices, kernels, roots, survey, units
from v2c.guest.inspect import BIOS_BOOT, ESP, inspect, mounts_of
from v2c.guest.keys import parse
from v2c.guest.memory import MemoryGuest, Node, file, link
from v2c.model import Disk, Filesystem

ROOT = Filesystem("/dev/sda1", "ext4", "aaaa-1", "root disk", "p-1", "d0", 1, partlabel="System")
SWAP = Filesystem("/dev/sda5", "swap", "aaaa-5", disk="d0", partition=5)
LUKS = Filesystem("/dev/sdb2", "crypto_LUKS", "bbbb-2", disk="d1", partition=2)
OPENED = Filesystem("/dev/mapper/luks-bbbb-2", "LVM2_member", "pv", disk="d1")
VOLUME = Filesystem("/dev/mapper/erp--vg-root", "ext4", "cccc", disk="d1")
FAR = Filesystem("/dev/sdaa3", "xfs", "dddd", disk="d26", partition=3)
ALL = (ROOT, SWAP, LUKS, OPENED, VOLUME, FAR)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        *((f"/dev/{name}", ROOT) for name in ("sda1", "hda1", "vda1", "xvda1", "nvme0n1p1", "mmcblk0p1", "cciss/c0d0p1")),
        ("/dev/nvme1n1p2", LUKS),
        ("/dev/sdaa3", FAR),
        ("UUID=AAAA-1", ROOT),
        ('UUID="aaaa-1"', ROOT),
        ("LABEL=root disk", ROOT),
        ("/dev/disk/by-label/root\\x20disk", ROOT),
        ("/dev/disk/by-uuid/aaaa-5", SWAP),
        ("PARTUUID=p-1", ROOT),
        ("/dev/disk/by-partuuid/P-1", ROOT),
        ("PARTLABEL=System", ROOT),
        ("/dev/mapper/erp--vg-root", VOLUME),
        ("/dev/erp-vg/root", VOLUME),
        ("/dev/mapper/sdb2_crypt", OPENED),
        ("/dev/sda2", None),
        ("/dev/sdc1", None),
        ("UUID=", None),
        ("LABEL=ROOT DISK", None),
        ("/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1", None),
        ("tmpfs", None),
        ("nas:/export", None),
    ],
)
def test_names_of_the_source_mean_filesystems(spec: str, found: Filesystem | None) -> None:
    assert devices.find(spec, ALL, {"sdb2_crypt": "UUID=bbbb-2"}) == found


def test_letters_are_numbered_as_the_kernel_does() -> None:
    assert [devices.letters(n) for n in (0, 25, 26, 701, 702)] == ["a", "z", "aa", "zz", "aaa"]
    assert all(devices.ordinal(devices.letters(n)) == n for n in range(1500))


def test_a_line_of_fstab_whose_type_is_another_stays_unresolved() -> None:
    text = "/dev/sda1 / xfs defaults 0 1\n/dev/sda5 /x ext4 defaults\n/dev/sda1 /y ext3\n"
    text += "/dev/sda5 none swap sw\n/swapfile none swap sw\n"
    mounts, swaps = mounts_of(text, ALL)
    assert [(m.where, m.device) for m in mounts] == [("/", ""), ("/x", ""), ("/y", "/dev/sda1")]
    assert [(s.spec, s.uuid) for s in swaps] == [("/dev/sda5", "aaaa-5"), ("/swapfile", "")]


def test_units_are_enabled_by_the_rules_of_systemd() -> None:
    wants = "/etc/systemd/system/multi-user.target.wants"
    tree: dict[str, str | bytes | Node] = {
        "/lib": link("usr/lib"),
        f"{wants}/plain.service": link("/lib/systemd/system/plain.service"),
        f"{wants}/elsewhere.service": link("/nonexistent"),
        f"{wants}/gone.service": link("/lib/systemd/system/gone.service"),
        f"{wants}/masked.service": link("/lib/systemd/system/masked.service"),
        f"{wants}/one@two.service": link("/lib/systemd/system/one@.service"),
        f"{wants}/linked.service": link("/opt/linked.service"),
        f"{wants}/empty.service": link("/lib/systemd/system/empty.service"),
        f"{wants}/aliased.service": link("/lib/systemd/system/real.service"),
        f"{wants}/README": "",
        "/etc/systemd/system/sockets.target.requires/s.socket": link("/lib/systemd/system/s.socket"),
        "/etc/systemd/system/sshd.service": link("/lib/systemd/system/ssh.service"),
        "/etc/systemd/system/other.service": link("/lib/systemd/system/silent.service"),
        "/etc/systemd/system/masked.service": link("/dev/null"),
        "/etc/systemd/system/linked.service": link("/opt/linked.service"),
        "/opt/linked.service": "[Service]\n",
        "/usr/lib/systemd/system/plain.service": "[Service]\n",
        "/usr/lib/systemd/system/elsewhere.service": "[Service]\n",
        "/usr/lib/systemd/system/masked.service": "[Service]\n",
        "/usr/lib/systemd/system/one@.service": "[Service]\n",
        "/usr/lib/systemd/system/s.socket": "[Socket]\n",
        "/usr/lib/systemd/system/ssh.service": "[Install]\nAlias=sshd.service\n",
        "/usr/lib/systemd/system/silent.service": "[Install]\nWantedBy=x.target\n",
        "/usr/lib/systemd/system/empty.service": "",
        "/usr/lib/systemd/system/aliased.service": link("real.service"),
        "/usr/lib/systemd/system/real.service": "[Service]\n",
        "/usr/lib/systemd/system/sysinit.target.wants/static.service": link("../static.service"),
        "/usr/lib/systemd/system/static.service": "[Service]\n",
    }
    found = units.enabled(MemoryGuest.from_tree(tree))
    assert found == ("elsewhere.service", "linked.service", "one@.service", "plain.service", "s.socket", "ssh.service")


GRUB = """
set default="{default}"
if [ "${{next_entry}}" ] ; then
   set default="${{next_entry}}"
fi
function load_video {{
  insmod all_video
}}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {{
\tlinux\t/boot/vmlinuz-6.1.0-13-amd64 root=/dev/sda1 ro
}}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {{
\tmenuentry 'Debian, 6.1.0-13' $menuentry_id_option 'gnulinux-13' {{
\t\tlinux\t/boot/vmlinuz-6.1.0-13-amd64 root=/dev/sda1
\t}}
\tmenuentry 'Debian, 6.1.0-9' $menuentry_id_option 'gnulinux-9' {{
\t\tlinux\t/boot/vmlinuz-6.1.0-9-amd64 root=/dev/sda1
\t}}
}}
"""
KERNELS: dict[str, str | bytes | Node] = {f"/boot/vmlinuz-6.1.0-{n}-amd64": b"k" for n in (9, 10, 13)}


@pytest.mark.parametrize(
    ("default", "saved", "release"),
    [
        ("0", "", "6.1.0-13-amd64"),
        ("1>1", "", "6.1.0-9-amd64"),
        ("gnulinux-advanced-1>gnulinux-9", "", "6.1.0-9-amd64"),
        ("Advanced options>Debian, 6.1.0-9", "", "6.1.0-9-amd64"),
        ("${saved_entry}", "gnulinux-advanced-1>gnulinux-9", "6.1.0-9-amd64"),
        ("${saved_entry}", "", "6.1.0-13-amd64"),
        ("7", "", "6.1.0-13-amd64"),
        ("nonsense", "", "6.1.0-13-amd64"),
    ],
)
def test_the_kernel_that_grub_would_boot(default: str, saved: str, release: str) -> None:
    tree = dict(KERNELS)
    tree["/boot/grub/grub.cfg"] = GRUB.format(default=default)
    tree["/boot/grub/grubenv"] = f"# GRUB Environment Block\nsaved_entry={saved}\n####"
    guest = MemoryGuest.from_tree(tree)
    assert kernels.default(guest, kernels.kernels(guest), ("grub2-bios",)) == release


def test_kernels_are_sorted_as_versions_with_their_images() -> None:
    tree = dict(KERNELS) | {
        "/boot/initrd.img-6.1.0-9-amd64": b"i",
        "/boot/initrd.img-6.1.0-9-amd64.v2c-before": b"i",
        "/boot/initramfs-6.1.0-10-amd64.img": b"i",
        "/boot/initramfs-6.1.0-10-amd64kdump.img": b"i",
        "/boot/vmlinuz-0-rescue-abc": b"k",
        "/boot/vmlinuz-6.1.0-13-amd64.dpkg-new": b"k",
        "/lib/modules/6.1.0-13-amd64/modules.dep": "",
    }
    found = kernels.kernels(MemoryGuest.from_tree(tree))
    assert [(k.release, k.initramfs, k.modules) for k in found] == [
        ("6.1.0-9-amd64", "/boot/initrd.img-6.1.0-9-amd64", ""),
        ("6.1.0-10-amd64", "/boot/initramfs-6.1.0-10-amd64.img", ""),
        ("6.1.0-13-amd64", "", "/lib/modules/6.1.0-13-amd64"),
    ]


def test_systemd_boot_takes_the_newest_or_what_its_configuration_says() -> None:
    entry = "title Debian\nversion {0}\nlinux /id/{0}/linux\ninitrd /id/{0}/initrd.img-{0}\noptions root=/dev/sda2\n"
    tree: dict[str, str | bytes | Node] = {}
    for release in ("6.1.0-9-amd64", "6.1.0-13-amd64"):
        tree[f"/boot/efi/loader/entries/id-{release}.conf"] = entry.format(release)
        tree[f"/boot/efi/id/{release}/linux"] = b"k"
        tree[f"/boot/efi/id/{release}/initrd.img-{release}"] = b"i"
    tree["/boot/efi/EFI/systemd/systemd-bootx64.efi"] = b"MZ"
    guest = MemoryGuest.from_tree(tree)
    facts = inspect(guest, filesystems=[Filesystem("/dev/sda1", "vfat", "1", disk="d", partition=1, parttype=ESP)])
    assert facts.bootloaders == ("systemd-boot",) and facts.firmware == "uefi"
    assert facts.default_kernel == "6.1.0-13-amd64" and facts.unified == ()
    assert facts.kernels[0].image == "/boot/efi/id/6.1.0-9-amd64/linux"
    assert facts.kernels[0].initramfs == "/boot/efi/id/6.1.0-9-amd64/initrd.img-6.1.0-9-amd64"
    guest.write("/boot/efi/loader/loader.conf", "timeout 3\ndefault id-6.1.0-9-*\n")
    assert kernels.default(guest, facts.kernels, facts.bootloaders) == "6.1.0-9-amd64"
    guest.write("/boot/efi/EFI/Linux/debian-6.1.0-13-amd64.efi", "MZ")
    assert kernels.unified(guest) == ("/boot/efi/EFI/Linux/debian-6.1.0-13-amd64.efi",)


@pytest.mark.parametrize(("machine", "name"), [(3, "i386"), (62, "x86_64"), (183, "aarch64"), (99, "unknown")])
def test_the_shell_tells_the_architecture(machine: int, name: str) -> None:
    elf = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + machine.to_bytes(2, "little")
    tree = dict(KERNELS) | {"/bin/sh": file(elf, 0o755)}
    assert inspect(MemoryGuest.from_tree(tree)).architecture == name, "whatever the kernel is built for"


@pytest.mark.parametrize(
    ("release", "family", "version"),
    [
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID='24.04'\n", "debian", "24.04"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n', "redhat", "9.4"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\n', "suse", "15.6"),
        ("ID=arch\n", "unknown", ""),
        ("", "unknown", ""),
    ],
)
def test_families_are_known_by_their_own_word(release: str, family: str, version: str) -> None:
    facts = inspect(MemoryGuest.from_tree({"/etc/os-release": release}))
    assert (facts.family, facts.version) == (family, version)


def test_static_addresses_are_read_from_every_kind_of_file() -> None:
    tree: dict[str, str | bytes | Node] = {
        "/etc/network/interfaces": "iface ens192 inet static\n  address 10.0.0.1\n  netmask 255.255.255.0\n",
        "/etc/network/interfaces.d/b": "iface ens224 inet static\n  address 10.0.1.1/16\n",
        "/etc/netplan/a.yaml": "network:\n  ethernets:\n    e:\n      addresses: [10.0.2.1/24, {10.0.2.2/24: {label: x}}]\n",
        "/etc/systemd/network/a.network": "[Network]\nAddress=10.0.3.1/24\n[Address]\nAddress=10.0.3.2/24\n",
        "/etc/NetworkManager/system-connections/a.nmconnection": "[ipv4]\naddress1=10.0.4.1/24,10.0.4.254\nmethod=manual\n",
        "/etc/sysconfig/network-scripts/ifcfg-a": "IPADDR=10.0.5.1\nPREFIX=24\n",
    }
    facts = inspect(MemoryGuest.from_tree(tree))
    assert set(facts.addresses) == {
        *("10.0.0.1/24", "10.0.1.1/16", "10.0.2.1/24", "10.0.2.2/24", "10.0.3.1/24", "10.0.3.2/24", "10.0.4.1/24", "10.0.5.1/24")
    }
    assert len(facts.network) == 6


def test_a_hybrid_disk_boots_by_bios_until_a_loader_lies_on_its_esp() -> None:
    both = [Filesystem("/dev/sda14", "", parttype=BIOS_BOOT), Filesystem("/dev/sda15", "vfat", parttype=ESP)]
    assert inspect(MemoryGuest.from_tree({}), filesystems=both).firmware == "bios"
    loader: dict[str, str | bytes | Node] = {"/boot/efi/EFI/debian/grubx64.efi": b"MZ"}
    assert inspect(MemoryGuest.from_tree(loader), filesystems=both).firmware == "uefi"


SURVEY = """[dm-0]
V2C_PATH=/sys/devices/virtual/block/dm-0
V2C_SECTORS=2048
V2C_DM_NAME=vg-root
V2C_SLAVES=sdb2 sdc
DEVNAME=/dev/dm-0
UUID=u-root
LABEL=my\\ root
TYPE=xfs
[sda]
V2C_PATH=/sys/devices/pci0000:00/0000:00:02.0/virtio1/host2/target2:0:2/2:0:2:0/block/sda
V2C_SECTORS=4096
TYPE=ext2
[sdb]
V2C_PATH=/sys/devices/pci0000:00/0000:00:02.0/virtio1/host2/target2:0:0/2:0:0:0/block/sdb
V2C_SECTORS=8192
PTTYPE=gpt
V2C_GRUB=yes
[sdb2]
V2C_PATH=/sys/devices/pci0000:00/0000:00:02.0/virtio1/host2/target2:0:0/2:0:0:0/block/sdb/sdb2
V2C_SECTORS=4096
V2C_PARTITION=2
TYPE=LVM2_member
UUID=u-pv
PART_ENTRY_UUID=pu
PART_ENTRY_TYPE=E6D6D379-F507-44C2-A23C-238F2A3DF928
[sdc]
V2C_PATH=/sys/devices/pci0000:00/0000:00:02.0/virtio1/host2/target2:0:1/2:0:1:0/block/sdc
V2C_SECTORS=1024
TYPE=LVM2_member
V2C_EXT_STATE=3
V2C_EXT_INCOMPAT=706
"""


def test_devices_belong_to_the_drive_whose_target_they_are_not_to_their_letter() -> None:
    found = survey.blocks(SURVEY, 2)
    assert [(b.name, b.device, b.drives) for b in found] == [
        ("sdb", "/dev/sda", (0,)),
        ("sdb2", "/dev/sda2", (0,)),
        ("sdc", "/dev/sdb", (1,)),
        ("dm-0", "/dev/mapper/vg-root", (0, 1)),
    ], "the third drive is the appliance's own"
    assert found[0].grub and (found[2].errors, found[2].unclean) == (True, False)
    told = survey.filesystems(found, [Disk("one", 1), Disk("two", 1)])
    assert [(f.device, f.type, f.disk, f.label) for f in told] == [
        ("/dev/sda2", "LVM2_member", "one", ""),
        ("/dev/sdb", "LVM2_member", "two", ""),
        ("/dev/mapper/vg-root", "xfs", "", "my root"),
    ]
    assert told[0].partuuid == "pu" and told[0].parttype == "e6d6d379-f507-44c2-a23c-238f2a3df928" and told[0].size == 4096 * 512


def look(*entries: tuple[str, dict[str, str]]) -> str:
    """What the helper's look prints."""
    lines = []
    for name, values in entries:
        lines.append(f"[{name}]")
        for key, value in values.items():
            plain = key in ("linux", "boot", "windows")
            lines.append(f"{key}={value if plain else base64.b64encode(value.encode()).decode()}")
    return "\n".join(lines)


ONE = Filesystem("/dev/sda1", "ext4", "u-1", disk="one", partition=1)
TWO = Filesystem("/dev/sdb1", "ext4", "u-2", disk="two", partition=1)
BLOCKS = [survey.Block("sda1", "/dev/sda1", (0,)), survey.Block("sdb1", "/dev/sdb1", (1,))]


def linux(fstab: str, **more: str) -> dict[str, str]:
    return {"linux": "yes", "fstab": fstab, "release": 'PRETTY_NAME="Debian 12"', **more}


@pytest.mark.parametrize(
    ("first", "second", "grub", "chosen"),
    [
        ("UUID=u-1 / ext4\n", "UUID=u-9 / ext4\n", [], "/dev/sda1"),
        ("UUID=u-1 / ext4\n", "UUID=u-1 / ext4\n", [], "/dev/sda1"),
        ("UUID=u-1 / ext4\n", "UUID=u-2 / ext4\n", ["two"], "/dev/sdb1"),
        ("UUID=u-1 / ext4\n", "UUID=u-2 / ext4\n", ["one", "two"], ""),
        ("UUID=u-1 / ext4\n", "UUID=u-2 / ext4\n", [], ""),
    ],
)
def test_of_several_roots_one_is_chosen_by_rule_or_the_user_must_say(
    first: str, second: str, grub: list[str], chosen: str
) -> None:
    seen = roots.looked(look(("sda1", linux(first)), ("sdb1", linux(second))), BLOCKS, [ONE, TWO])
    if chosen:
        assert roots.choose(seen, [ONE, TWO], "", grub).name == chosen
        return
    with pytest.raises(GuestError) as caught:
        roots.choose(seen, [ONE, TWO], "", grub)
    assert "/dev/sda1 (Debian 12), /dev/sdb1 (Debian 12)" in caught.value.text and "--root" in caught.value.remedy
    for wanted in ("/dev/sdb1", "UUID=u-2", "/dev/vdb1"):
        assert roots.choose(seen, [ONE, TWO], wanted, grub).filesystem == TWO
    with pytest.raises(GuestError, match="no operating system of this machine"):
        roots.choose(seen, [ONE, TWO], "/dev/sdc1", grub)


def test_of_subvolumes_the_default_one_is_the_root() -> None:
    fs = Filesystem("/dev/sda1", "btrfs", "u-1", disk="one", partition=1)
    text = look(("sda1", linux("", subvolume="@old")), ("sda1", linux("UUID=u-1 / btrfs subvol=@\n", subvolume="@")))
    assert roots.choose(roots.looked(text, BLOCKS, [fs]), [fs], "", []).name == "/dev/sda1:@", "its own fstab says so"
    text = look(("sda1", {"default": "@old"}), ("sda1", linux("", subvolume="@old")), ("sda1", linux("", subvolume="@")))
    assert roots.choose(roots.looked(text, BLOCKS, [fs]), [fs], "", []).name == "/dev/sda1:@old"


@pytest.mark.parametrize(
    ("filesystems", "text", "words"),
    [
        ([], "", "the disks (they are empty)"),
        ([ONE], "", "/dev/sda1 ext4"),
        ([LUKS], "", "/dev/sdb2 (UUID bbbb-2) is encrypted, and no key opens it"),
        ([Filesystem("/dev/sda2", "BitLocker")], "", "BitLocker"),
        ([ONE], look(("sda1", {"error": "bad superblock"})), "/dev/sda1 cannot be read: bad superblock"),
    ],
)
def test_no_root_is_one_sentence_with_a_remedy(filesystems: list[Filesystem], text: str, words: str) -> None:
    with pytest.raises(GuestError) as caught:
        roots.choose(roots.looked(text, BLOCKS, filesystems), filesystems, "", [])
    assert words in caught.value.text and caught.value.remedy


def test_keys_are_read_late_and_belong_to_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "key:1"
    secret.write_text("pass phrase\n")
    monkeypatch.setenv("DISK_KEY", "other")
    by_uuid, by_device, everywhere = parse([f"BBBB-2:file:{secret}", "/dev/sdb2:env:DISK_KEY", f"all:file:{secret}"])
    assert by_uuid.secret() == "pass phrase" and by_device.secret() == "other"
    for key in (by_uuid, by_device, everywhere):
        assert key.fits(LUKS, ALL)
    assert not by_uuid.fits(ROOT, ALL) and not by_device.fits(ROOT, ALL)
    monkeypatch.delenv("DISK_KEY")
    secret.write_bytes(b"\x00\xff")
    for key in (by_uuid, by_device, parse(["all:file:/no/such"])[0]):
        with pytest.raises(UsageError):
            key.secret()
