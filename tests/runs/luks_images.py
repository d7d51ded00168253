"""Encrypted images that tests need, made without root and without the device mapper."""

import subprocess
from pathlib import Path

from v2c.model import MIB

HEADER = 2 * MIB  # of LUKS1 with a key of 512 bits, before the data
# The rounds are given: to choose them, qemu-img and cryptsetup measure the processor, and qemu-img fails on a busy one.
ROUNDS = ["--pbkdf-force-iterations", "1000"]
CIPHER = ["--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256"]


def luks1(image: Path, plain: Path, passphrase: str) -> Path:
    """Makes `image`: the bytes of `plain` (a raw image) in a LUKS1 container."""
    key = image.with_name(f"{image.name}.key")
    key.write_text(passphrase)
    header(image, plain.stat().st_size, key)
    secret = ["--object", f"secret,id=key,file={key}"]
    into = f"driver=luks,key-secret=key,file.driver=file,file.filename={image}"
    argv = ["qemu-img", "convert", *secret, "-f", "raw", "-n", "--target-image-opts", str(plain), into]
    subprocess.run(argv, check=True, capture_output=True)
    key.unlink()
    return image


def header(image: Path, size: int, key: Path) -> None:
    """Makes `image`: a LUKS1 container for `size` bytes, whose data nobody wrote."""
    with image.open("wb") as file:
        file.truncate(HEADER + size)
    form = ["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", *CIPHER, *ROUNDS, "--key-file", str(key), str(image)]
    subprocess.run(form, check=True, capture_output=True)
