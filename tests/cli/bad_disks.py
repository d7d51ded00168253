"""Disks with something wrong, made in milliseconds and without root: mke2fs fills a filesystem from a folder."""

import os
import struct
import subprocess
from pathlib import Path

MIB = 1024 * 1024
START = MIB  # where the only partition begins

OS_RELEASE = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
FSTAB = "/dev/sda1 / ext4 errors=remount-ro 0 1\n"


def elf(machine: int = 62, bits: int = 64) -> bytes:
    """The head of a Linux program: 62 is x86-64, 3 is i386."""
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    return ident + struct.pack("<HHI", 2, machine, 1) + bytes(64)


def tree(folder: Path, *, os_release: str = OS_RELEASE, program: bytes = elf()) -> Path:
    """What an inspection looks for in a small Debian: enough to be known, not enough to boot."""
    files: dict[str, bytes | str] = {
        "etc/os-release": os_release,
        "etc/fstab": FSTAB,
        "etc/hostname": "erp\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "etc/debian_version": "12.5\n",
        "var/lib/dpkg/status": "Package: base-files\nStatus: install ok installed\nArchitecture: amd64\n\n",
        "bin/ls": program,
        "bin/sh": program,
        "usr/bin/dpkg": program,
        "usr/sbin/update-initramfs": "#!/bin/sh\n",
        "boot/grub/grub.cfg": "linux /boot/vmlinuz-6.1.0-1-amd64 root=/dev/sda1 ro quiet\n",
        "boot/vmlinuz-6.1.0-1-amd64": b"kernel",
        "boot/initrd.img-6.1.0-1-amd64": b"",
        "lib/modules/6.1.0-1-amd64/modules.dep": "",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if name.startswith(("bin/", "usr/")):
            path.chmod(0o755)
    for name in ("dev", "proc", "sys", "run", "tmp", "root", "home"):
        (folder / name).mkdir(exist_ok=True)
    return folder


def blank(path: Path, size: int = 64 * MIB) -> Path:
    """An empty disk."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def partitioned(path: Path, size: int = 64 * MIB, kind: str = "83") -> Path:
    """A disk with one partition, by MBR."""
    blank(path, size)
    script = f"label: dos\nstart={START // 512}, type={kind}, bootable\n"
    subprocess.run(["sfdisk", "--quiet", path], input=script, text=True, check=True, capture_output=True)
    return path


def with_system(path: Path, content: Path, size: int = 64 * MIB, *, options: tuple[str, ...] = ()) -> Path:
    """A disk whose partition is an ext4 filled from a folder, all owned by root."""
    partitioned(path, size)
    blocks = (size - START) // 1024
    argv = [
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-b",
        "1024",
        "-F",
        "-E",
        f"offset={START},root_owner=0:0",
        "-d",
        content,
        *options,
        path,
        str(blocks),
    ]
    subprocess.run([str(a) for a in argv], check=True, capture_output=True)
    return path


def put(path: Path, offset: int, data: bytes) -> None:
    """Overwrites bytes of a file."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


def image(path: Path, raw: Path, format: str, *options: str) -> Path:
    """The raw disk as a qcow2, vmdk, ..."""
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", format, *options, str(raw), str(path)], check=True, capture_output=True
    )
    return path
