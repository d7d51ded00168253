"""Partition tables, judged by sgdisk and sfdisk."""

import os
import random
import subprocess
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2c import gpt
from v2c.model import GIB, MIB, Firmware

LINUX = "8300"


def shell(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, f"{argv}: {done.stdout} {done.stderr}"
    return done.stdout


def disk(path: Path, size: int, *options: str) -> Path:
    """A disk of `size` bytes with the GPT that sgdisk makes of the options."""
    with path.open("wb") as file:
        file.truncate(size)
    shell("sgdisk", *options, str(path))
    return path


def head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(gpt.HEAD)


def lay(path: Path, patches: tuple[gpt.Patch, ...], size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
        for offset, data in patches:
            file.seek(offset)
            file.write(data)


def mbr(*entries: tuple[int, int, int, int], code: bytes = b"") -> bytes:
    """A sector 0: entries are (status, type, first, count)."""
    sector = bytearray(code.ljust(512, b"\0"))
    for number, (status, kind, first, count) in enumerate(entries):
        sector[446 + 16 * number : 462 + 16 * number] = bytes(
            [status, 0, 0, 0, kind, 0, 0, 0, *first.to_bytes(4, "little"), *count.to_bytes(4, "little")]
        )
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


def test_an_mbr_with_boot_code_is_bios() -> None:
    sector = mbr((0x80, 0x83, 2048, 4096), code=b"\xeb\x63\x90")
    assert gpt.firmware(sector) is Firmware.BIOS
    table = gpt.read_mbr(sector)
    assert table and table.partitions == (gpt.Partition(1, "0x83", 2048, 6143),)
    assert not table.protective


def test_a_disk_that_is_not_booted_from_says_nothing() -> None:
    assert gpt.firmware(bytes(gpt.HEAD)) is None
    assert gpt.firmware(b"") is None
    assert gpt.firmware(mbr((0, 0x83, 2048, 4096))) is None
    assert gpt.firmware(mbr(code=b"\xeb\x3c\x90MSDOS5.0")) is None  # a FAT without a table


def test_an_mbr_with_an_efi_partition_and_no_code_is_uefi() -> None:
    assert gpt.firmware(mbr((0, 0xEF, 2048, 4096))) is Firmware.UEFI


@pytest.mark.tool
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-n", "1:2048:+16M", "-t", "1:ef00", "-n", "2:0:0", "-t", f"2:{LINUX}"], Firmware.UEFI),
        (["-n", "1:2048:+1M", "-t", "1:ef02", "-n", "2:0:+16M", "-t", "2:ef00"], Firmware.BIOS),
        (["-n", "1:2048:+1M", "-t", "1:ef02", "-n", "2:0:0"], Firmware.BIOS),
        (["-n", "1:2048:+16M", "-t", "1:ef00", "-n", "2:0:0", "-h", "2"], Firmware.BIOS),
        (["-n", "1:2048:0"], None),
    ],
)
def test_firmware_of_what_sgdisk_makes(tmp_path: Path, options: list[str], expected: Firmware | None) -> None:
    assert gpt.firmware(head(disk(tmp_path / "disk", 64 * MIB, *options))) is expected


@pytest.mark.tool
def test_partitions_are_those_sgdisk_made(tmp_path: Path) -> None:
    made = disk(tmp_path / "disk", 64 * MIB, "-n", "1:2048:4095", "-c", "1:süß", "-n", "3:8192:16383", "-t", "3:8200")
    table = gpt.read_gpt(head(made))
    assert table
    first, second = table.partitions
    assert (first.number, first.first, first.last, first.name) == (1, 2048, 4095, "süß")
    assert (second.number, second.type) == (3, "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f")


@pytest.mark.tool
@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        (64 * MIB, 1 * GIB),
        (64 * MIB + 512, 65 * MIB),
        (64 * MIB, 64 * MIB + 512),  # the new backup overlaps the old one
        (64 * MIB, 64 * MIB + 33 * 512),
        (2100 * GIB + MIB, 2101 * GIB),
        (2040 * GIB, 3000 * GIB),  # past what the protective MBR can count
    ],
)
def test_a_moved_backup_satisfies_sgdisk_and_sfdisk(tmp_path: Path, size: int, new_size: int) -> None:
    made = disk(tmp_path / "disk", size, "-n", "1:2048:+8M", "-t", "1:ef00", "-n", "2:0:0", "-c", "2:root")
    before = gpt.read_gpt(head(made))
    assert "Problem" in broken(made, new_size)
    patches = gpt.moved_backup(head(made), size, new_size)
    ends = [offset + len(data) for offset, data in patches]
    assert all(end <= offset for end, (offset, _) in zip(ends, patches[1:], strict=False)), "patches overlap"
    assert ends[-1] == new_size
    lay(made, patches, new_size)
    assert "No problems found" in shell("sgdisk", "-v", str(made))
    shell("sfdisk", "--verify", str(made))
    after = gpt.read_gpt(head(made))
    assert before and after and after.partitions == before.partitions
    assert gpt.moved_backup(head(made), new_size, new_size) == ()
    with made.open("rb") as file:
        backups = [at for at in (size - 512, new_size - 512) if file.seek(at) == at and file.read(8) == b"EFI PART"]
    assert backups == [new_size - 512]


def broken(path: Path, size: int) -> str:
    """What sgdisk says of the disk grown without care: the proof that the patches matter."""
    copy = path.with_suffix(".grown")
    shell("cp", "--sparse=always", str(path), str(copy))
    with copy.open("r+b") as file:
        file.truncate(size)
    return shell("sgdisk", "-v", str(copy))


@pytest.mark.tool
def test_the_backup_alone_restores_the_table(tmp_path: Path) -> None:
    made = disk(tmp_path / "disk", 64 * MIB, "-n", "1:2048:+8M", "-n", "2:0:0")
    lay(made, gpt.moved_backup(head(made), 64 * MIB, 80 * MIB), 80 * MIB)
    listed = shell("sgdisk", "-p", str(made))
    with made.open("r+b") as file:
        file.seek(512)
        file.write(bytes(33 * 512))
    shell("sgdisk", "-e", str(made))
    assert shell("sgdisk", "-p", str(made)) == listed


def test_a_disk_without_a_gpt_needs_no_patch() -> None:
    assert gpt.moved_backup(mbr((0x80, 0x83, 2048, 4096), code=b"x").ljust(gpt.HEAD, b"\0"), 4 * MIB, 8 * MIB) == ()
    with pytest.raises(ValueError, match="cannot move"):
        gpt.moved_backup(bytes(gpt.HEAD), 8 * MIB, 4 * MIB)


@pytest.mark.tool
def test_one_wrong_bit_is_no_table(tmp_path: Path) -> None:
    data = bytearray(head(disk(tmp_path / "disk", 64 * MIB, "-n", "1:2048:0")))
    assert gpt.read_gpt(bytes(data))
    for at in (512 + 40, 512 + 88, 1024 + 5, 1024 + 127 * 128):
        data[at] ^= 1
        assert gpt.read_gpt(bytes(data)) is None
        data[at] ^= 1


@given(st.binary(max_size=2048), st.integers(0, 3))
@settings(max_examples=300)
def test_no_bytes_make_it_raise(noise: bytes, where: int) -> None:
    data = bytearray(mbr((0, 0xEE, 1, 0xFFFFFFFF)).ljust(4096, b"\0"))
    data[512:520] = b"EFI PART"
    at = (0, 446, 520, 1024)[where]
    data[at : at + len(noise)] = noise
    gpt.firmware(bytes(data))
    gpt.moved_backup(bytes(data), MIB, 2 * MIB)


@pytest.mark.tool
def test_random_tables_stay_valid(tmp_path: Path) -> None:
    """Ten random layouts, sizes to the sector; fixed seed, so a failure can be repeated."""
    dice = random.Random(7)
    for _ in range(10):
        size = dice.randrange(40 * MIB, 400 * MIB) // 512 * 512
        new_size = size + 512 * dice.choice([1, 2, 31, 32, 33, 34, 65, 66, 67, 4096, 100_000])
        starts = sorted(dice.sample(range(2048, size // 512 - 2048, 2048), 4))
        options = [o for n, s in enumerate(starts, 1) for o in ("-n", f"{n}:{s}:{s + dice.randrange(8, 2048)}")]
        made = disk(tmp_path / f"{uuid.uuid4()}", size, *options)
        lay(made, gpt.moved_backup(head(made), size, new_size), new_size)
        assert "No problems found" in shell("sgdisk", "-v", str(made)), (size, new_size, options)
