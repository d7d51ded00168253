"""A machine whose root is encrypted (LUKS2, argon2id), made without root and without a loop device: a few seconds, 140 MiB.

qemu-img encrypts only in LUKS1; the cipher text is the same in LUKS2, so it gets a new header with the old volume key.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from luks_images import luks1

from v2c.model import MIB

SECTOR = 512
HEADER = 4 * MIB  # of LUKS2, before the data
BOOT_AT, BOOT, ROOT = MIB, 24 * MIB, 96 * MIB
RELEASE = "6.1.0-1-amd64"
BUILTIN = ("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "nvme", "nvme_core", "sd_mod", "ahci")
_EMPTY_CPIO = b"070701" + b"0" * 40 + b"00000001" + b"0" * 40 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0\0\0\0"
_PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00\x01\x00\x00\x00" + bytes(64)  # the head of one for x86-64


@dataclass(frozen=True)
class Locked:
    """The disk, the LUKS volume's UUID, and the passphrase."""

    disk: Path
    uuid: str
    passphrase: str


def locked(folder: Path, passphrase: str) -> Locked:
    """Builds it. Its kernel has all drivers built in, so that a repair runs none of the guest's programs."""
    system, boot = folder / "system", folder / "boot"
    _write(system, SYSTEM)
    _write(boot, BOOT_FILES)
    for name in ("boot", "dev", "proc", "sys", "run", "tmp", "var/tmp"):
        (system / name).mkdir(parents=True, exist_ok=True)
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(BOOT_AT + BOOT + HEADER + ROOT + MIB)
    table = f"label: dos\nstart={BOOT_AT // SECTOR}, size={BOOT // SECTOR}, type=83, bootable\ntype=83\n"
    subprocess.run(["sfdisk", "--quiet", disk], input=table, text=True, check=True, capture_output=True)
    luks = _luks(folder, _ext4(folder / "root.img", ROOT, system), passphrase)
    _put(disk, BOOT_AT, _ext4(folder / "boot.img", BOOT, boot))
    _put(disk, BOOT_AT + BOOT, luks)
    uuid = subprocess.run(["cryptsetup", "luksUUID", luks], check=True, capture_output=True, text=True).stdout.strip()
    return Locked(disk, uuid, passphrase)


def _luks(folder: Path, plain: Path, passphrase: str) -> Path:
    key, old, new, volume_key = (folder / name for name in ("passphrase", "luks1", "luks2", "volume-key"))
    key.write_text(passphrase)
    luks1(old, plain, passphrase)
    dump = [
        "cryptsetup",
        "luksDump",
        "--batch-mode",
        "--dump-volume-key",
        "--volume-key-file",
        volume_key,
        "--key-file",
        key,
        old,
    ]
    subprocess.run([str(word) for word in dump], check=True, capture_output=True)
    with new.open("wb") as file:
        file.truncate(HEADER + plain.stat().st_size)
    pbkdf = ["--pbkdf", "argon2id", "--pbkdf-memory", "32768", "--pbkdf-force-iterations", "4", "--pbkdf-parallel", "1"]
    cipher = ["--cipher", "aes-xts-plain64", "--key-size", "512", "--sector-size", "512", "--offset", str(HEADER // SECTOR)]
    form = ["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--volume-key-file", volume_key, *cipher, *pbkdf]
    subprocess.run([*map(str, form), "--key-file", str(key), str(new)], check=True, capture_output=True)
    payload = int.from_bytes(old.read_bytes()[104:108], "big") * SECTOR  # LUKS1's header, "payload-offset"
    _put(new, HEADER, old, payload)
    for path in (key, volume_key):
        path.unlink()
    return new


def _ext4(image: Path, size: int, content: Path) -> Path:
    with image.open("wb") as file:
        file.truncate(size)
    argv = ["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", str(content), str(image)]
    subprocess.run(argv, check=True, capture_output=True)
    return image


def _put(target: Path, at: int, source: Path, skip: int = 0) -> None:
    with target.open("r+b") as out, source.open("rb") as data:
        out.seek(at)
        data.seek(skip)
        while piece := data.read(MIB):
            out.write(piece)


def _write(folder: Path, files: dict[str, bytes | str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if "bin/" in name:
            path.chmod(0o755)


BOOT_FILES: dict[str, bytes | str] = {
    f"vmlinuz-{RELEASE}": b"kernel",
    f"initrd.img-{RELEASE}": _EMPTY_CPIO,
    f"config-{RELEASE}": "CONFIG_MODULES=y\n",
    "grub/i386-pc/normal.mod": b"\x7fELF",
    "grub/grub.cfg": f"menuentry 'Debian' {{\n\tlinux /vmlinuz-{RELEASE} root=/dev/mapper/sda2_crypt ro quiet\n"
    f"\tinitrd /initrd.img-{RELEASE}\n}}\n",
}
SYSTEM: dict[str, bytes | str] = {
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "etc/debian_version": "12.5\n",
    "etc/fstab": "/dev/mapper/sda2_crypt / ext4 errors=remount-ro 0 1\n/dev/sda1 /boot ext4 defaults 0 2\n",
    "etc/crypttab": "sda2_crypt /dev/sda2 none luks\n",
    "etc/hostname": "locked\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "etc/default/grub": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n',
    "etc/initramfs-tools/modules": "",
    "etc/network/interfaces": "auto lo\niface lo inet loopback\n",
    "var/lib/dpkg/status": "Package: base-files\nStatus: install ok installed\nArchitecture: amd64\n\n",
    "bin/ls": _PROGRAM,
    "bin/sh": _PROGRAM,
    "usr/bin/dpkg": _PROGRAM,
    "usr/lib/systemd/systemd": _PROGRAM,
    "usr/sbin/update-initramfs": "#!/bin/sh\n",
    f"lib/modules/{RELEASE}/modules.dep": "",
    f"lib/modules/{RELEASE}/modules.builtin": "".join(f"kernel/drivers/{name}.ko\n" for name in BUILTIN),
}
