"""A boot with a TPM, and with firmware that verifies what it starts: an unsigned program is not started there."""

import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from signed_files import program

from v2c.model import MIB, Firmware, Needs
from v2c.rehearsal.machine import BootDisk, VirtualMachine
from v2c.rehearsal.rehearse import unproven
from v2c.rehearsal.shape import BootSpec

pytestmark = pytest.mark.tool
WAIT_S = 600.0  # firmware with system management mode takes its time where it is emulated


def esp(path: Path, loader: bytes) -> Path:
    """A disk that is one FAT file system, with a program where firmware looks for one."""
    with path.open("wb") as file:
        file.truncate(48 * MIB)
    source = path.with_suffix(".efi")
    source.write_bytes(loader)
    for command in (["mformat", "-i", path, "-F", "::"], ["mmd", "-i", path, "::EFI", "::EFI/BOOT"]):
        subprocess.run([*map(str, command)], check=True)
    subprocess.run(["mcopy", "-i", str(path), str(source), "::EFI/BOOT/BOOTX64.EFI"], check=True)
    source.unlink()
    return path


def spec(**more: bool) -> BootSpec:
    return BootSpec("azure", Firmware.UEFI, seed="0123", memory_mib=256, vcpus=1, nics=0, **more)  # type: ignore[arg-type]


def kernel() -> bytes:
    """This host's kernel is a program for UEFI, too; signed by Debian, whom the firmware's own keys do not know."""
    images = sorted(Path("/boot").glob("vmlinuz-*"))
    if not images:
        pytest.skip("this host has no kernel in /boot")
    return images[-1].read_bytes()


def said(machine: VirtualMachine, *words: str) -> str:
    """The console, once it has one of the words."""
    deadline = time.monotonic() + WAIT_S
    while not any(word in machine.console() for word in words):
        assert machine.alive and time.monotonic() < deadline, machine.console()
        time.sleep(0.1)
    return machine.console()


def test_a_tpm_is_there_and_goes_with_the_machine(tmp_path: Path) -> None:
    disk = esp(tmp_path / "a.raw", program(b"", b"nothing"))
    with VirtualMachine(spec(tpm=True), [BootDisk("a", disk.stat().st_size, disk)], tmp_path) as machine:
        assert machine._monitor and machine._tpm and machine._tpm._process
        (found,) = machine._monitor.execute("query-tpm")
        assert found["model"] == "tpm-crb"
        pid = machine._tpm._process.pid
        (folder,) = tmp_path.glob(".boot-tpm-*")
        said(machine, "BdsDxe")
        assert [file.name for file in folder.iterdir() if file.name.endswith("permall")], "the firmware has begun with it"
    assert [path.name for path in tmp_path.iterdir()] == ["a.raw"] and not Path(f"/proc/{pid}/exe").exists()


def test_without_one_installed_the_boot_goes_on_and_the_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = Needs(Firmware.UEFI, trusts=("a",), tpm=True)
    assert unproven(needs) == () == unproven(Needs(Firmware.UEFI))
    disk = esp(tmp_path / "a.raw", program(b"", b"nothing"))
    with TemporaryDirectory() as folder:  # where whoever QEMU runs as may look, too
        Path(folder).chmod(0o755)
        for name in ("setpriv", "prlimit", "qemu-img", "qemu-system-x86_64"):
            (Path(folder) / name).symlink_to(str(shutil.which(name)))
        monkeypatch.setenv("PATH", folder)
        assert [text.partition(":")[0] for text in unproven(needs, (tmp_path,))] == ["secure boot", "the TPM"]
        with VirtualMachine(spec(tpm=True), [BootDisk("a", disk.stat().st_size, disk)], tmp_path) as machine:
            assert machine._monitor and machine._monitor.execute("query-tpm") == []


def test_firmware_without_secure_boot_starts_a_stranger(tmp_path: Path) -> None:
    disk = esp(tmp_path / "a.raw", kernel())
    with VirtualMachine(spec(), [BootDisk("a", disk.stat().st_size, disk)], tmp_path) as machine:
        assert "Access Denied" not in said(machine, "starting Boot0001", "Access Denied")


@pytest.mark.full
@pytest.mark.timeout(900)
def test_firmware_with_secure_boot_does_not(tmp_path: Path) -> None:
    disk = esp(tmp_path / "a.raw", kernel())
    with VirtualMachine(spec(secure_boot=True), [BootDisk("a", disk.stat().st_size, disk)], tmp_path) as machine:
        assert "starting Boot0001" not in said(machine, "starting Boot0001", "Access Denied")
