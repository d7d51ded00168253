"""What an emulator launches is a QEMU that runs, shows its screen, and is gone with the emulator."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from v2c.emulators.machines import Hardware, Machines
from v2c.model import MIB, Firmware

pytestmark = pytest.mark.tool

PRINTER = b"\xbe\x10\x7c\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\xf4\xfa"  # a boot sector: prints what follows on COM1


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path / "machines")
    yield made
    made.close()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    sector = (PRINTER + b"hello from the boot sector\r\n\0").ljust(510, b"\0") + b"\x55\xaa"
    path.write_bytes(sector)
    with path.open("ab") as file:
        file.truncate(16 * MIB)
    return path


@pytest.mark.parametrize("platform", ["kvm", "aws"])
def test_a_disk_is_booted_and_left_alone(machines: Machines, disk: Path, platform: str) -> None:
    before = disk.read_bytes()
    hardware = Hardware(platform, Firmware.BIOS, memory_mib=512, vcpus=1)
    machines.start("i-1", [("root", disk)], hardware)
    machines.start("i-1", [("root", disk)], hardware)
    deadline = time.monotonic() + 60
    while "hello from the boot sector" not in machines.console("i-1"):
        assert machines.alive("i-1") and time.monotonic() < deadline, machines.console("i-1")
        time.sleep(0.1)
    assert machines.screenshot("i-1").startswith(b"\x89PNG")
    machines.stop("i-1")
    machines.stop("i-1")
    assert not machines.alive("i-1") and "hello from the boot sector" in machines.console("i-1")
    assert disk.read_bytes() == before


def test_nothing_outlives_the_emulator(machines: Machines, disk: Path) -> None:
    for id in ("i-1", "i-2"):
        machines.start(id, [("root", disk)], Hardware("kvm", Firmware.BIOS, memory_mib=256, vcpus=1))
    assert machines.alive("i-1") and machines.alive("i-2")
    machines.close()
    assert not machines.alive("i-1") and not machines.alive("i-2") and not machines.alive("i-3")
    assert machines.screenshot("i-3") == b"" and machines.console("i-3") == ""
