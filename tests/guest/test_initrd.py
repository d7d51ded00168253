"""Boot images, opened on the host: every packing, several archives in a row, damage and bombs."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from v2c.errors import GuestError
from v2c.guest import initrd
from v2c.guest.initrd import UnknownPacking, read

RELEASE = "6.1.0-50-amd64"


def cpio(files: dict[str, bytes], *, magic: bytes = b"070701") -> bytes:
    out = bytearray()
    for number, (name, data) in enumerate([*files.items(), ("TRAILER!!!", b"")]):
        fields = [number, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += magic + b"".join(b"%08x" % value for value in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out) + b"\0" * (-len(out) % 512)


EARLY = cpio({"kernel/x86/microcode/AuthenticAMD.bin": b"m" * 3000})
MAIN = cpio(
    {
        "./usr/lib/modules/6.1.0-50-amd64/kernel/drivers/nvme/host/nvme-core.ko": b"k" * 10_001,
        "usr/lib/modules/6.1.0-50-amd64/kernel/drivers/nvme/host/nvme.ko.xz": b"k",
        "lib/modules/6.1.0-50-amd64/updates/dkms/ena.ko.zst": b"k",
        "usr/lib/modules/5.10.0-1-amd64/kernel/other.ko": b"k",
        "conf/conf.d/resume": b"RESUME=none\n",
        "etc/modprobe.d/x.conf": b"blacklist x\n",
        "usr/share/doc/readme": b"not kept",
    }
)
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor(level=3).compress,
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("early", [b"", EARLY, EARLY + EARLY])
def test_every_packing_is_read(tmp_path: Path, packing: str, early: bytes) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(early + PACKINGS[packing](MAIN))
    image = read(path)
    assert image.modules(RELEASE) == {"nvme_core", "nvme", "ena"}
    assert image.files == {"conf/conf.d/resume": b"RESUME=none\n", "etc/modprobe.d/x.conf": b"blacklist x\n"}
    assert ("kernel/x86/microcode/AuthenticAMD.bin" in image.names) == bool(early)


def test_archives_go_on_after_and_inside_a_packed_one(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    more = cpio({"conf/conf.d/resume": b"RESUME=UUID=1\n", "last": b""})
    path.write_bytes(gzip.compress(EARLY + MAIN) + b"\0" * 700 + zstandard.ZstdCompressor().compress(more) + more)
    image = read(path)
    assert image.files["conf/conf.d/resume"] == b"RESUME=UUID=1\n"
    assert "last" in image.names


@pytest.mark.parametrize("magic", [b"\x02\x21\x4c\x18", b"\x04\x22\x4d\x18", b"\x89LZO\x00\x0d"])
def test_what_cannot_be_opened_here_is_told_apart_from_damage(tmp_path: Path, magic: bytes) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(EARLY + magic + b"x" * 100)
    with pytest.raises(UnknownPacking):
        read(path)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        EARLY[:50],
        EARLY[:2000],
        b"070701" + b"z" * 200,
        gzip.compress(MAIN)[:-20] + b"\0" * 4,
        gzip.compress(MAIN)[:300],
        zstandard.ZstdCompressor().compress(MAIN)[:40] + b"garbage" * 20,
        lzma.compress(MAIN)[:60] + b"\xff" * 60,
        b"070701" + b"0" * 88 + b"ffffffff" + b"00000000" + b"x" * 20,
        b"070701" + b"0" * 48 + b"ffffffff" + b"0" * 32 + b"00000004" + b"00000000" + b"abc\0",
    ],
)
def test_damage_is_one_sentence(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(damage)
    with pytest.raises(GuestError) as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [b"00000000", b"fffffff0"])
def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: bytes) -> None:
    """Zeros, packed well: between archives, and as one file."""
    monkeypatch.setattr(initrd, "MAX_TOTAL", 8 << 20)
    path = tmp_path / "initrd"
    header = cpio({"x": b""})[:112]
    path.write_bytes(zstandard.ZstdCompressor().compress(header[:54] + size + header[62:] + cpio({})[:124] + bytes(1 << 26)))
    assert path.stat().st_size < 20_000
    with pytest.raises(GuestError, match="more than 8 MiB"):
        read(path)
