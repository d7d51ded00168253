"""Real boots through the firmware, in a second each: shapes, boot order, local: instances, rehearsals, and sudden ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from telling import probe_text, telling_disk

from v2c import qemu
from v2c.errors import ProofError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import (
    MIB,
    Caps,
    Disk,
    DiskFormat,
    DiskPlan,
    Firmware,
    Machine,
    Needs,
    Placement,
    Plan,
    ProbeNeed,
)
from v2c.platforms import platforms
from v2c.rehearsal.machine import BootDisk, VirtualMachine
from v2c.rehearsal.rehearse import rehearse
from v2c.rehearsal.shape import BootSpec
from v2c.targets import local
from v2c.targets.local import LocalTarget
from v2c.validate.boot import Evidence, await_probe

pytestmark = pytest.mark.tool

NONCE = "00ff00ff00ff00ff"
SIZE = 4 * MIB
WAIT_S = 60.0
BOOTABLE = sorted(p.name for p in platforms().values() if p.boot and p.boot.bios)


def spec(platform: str, firmware: Firmware = Firmware.BIOS, boot_disk: str = "") -> BootSpec:
    return BootSpec(platform, firmware, seed="0123", memory_mib=256, vcpus=1, boot_disk=boot_disk)


def until(machine: VirtualMachine, said: Callable[[str], bool]) -> str:
    deadline = time.monotonic() + WAIT_S
    while not said(machine.console()):
        assert machine.alive and time.monotonic() < deadline, machine.console()
        time.sleep(0.05)
    return machine.console()


@pytest.mark.parametrize("platform", BOOTABLE)
def test_the_firmware_starts_the_boot_disk(platform: str, tmp_path: Path) -> None:
    wrong = telling_disk(tmp_path / "a.raw", "this is the wrong disk")
    right = telling_disk(tmp_path / "b.raw", "this is the right disk")
    disks = [BootDisk("a", SIZE, wrong), BootDisk("b", SIZE, right)]
    with VirtualMachine(spec(platform, boot_disk="b"), disks, tmp_path) as machine:
        console = until(machine, lambda text: " disk" in text)
    assert "this is the right disk" in console and "wrong" not in console


@pytest.mark.parametrize("format", [DiskFormat.QCOW2, DiskFormat.VMDK])
def test_other_formats_boot_too(format: DiskFormat, tmp_path: Path) -> None:
    raw = telling_disk(tmp_path / "a.raw", "told by an image")
    image = tmp_path / f"a.{format.value}"
    qemu.convert(raw, DiskFormat.RAW, image, format)
    with VirtualMachine(spec("kvm"), [BootDisk("a", SIZE, image, format)], tmp_path) as machine:
        until(machine, lambda text: "told by an image" in text)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.raw", image.name])


def test_an_images_backing_file_is_not_followed(tmp_path: Path) -> None:
    secret = telling_disk(tmp_path / "secret.raw", "read from elsewhere")
    image = tmp_path / "a.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(image)], check=True)
    with VirtualMachine(spec("kvm"), [BootDisk("a", SIZE, image, DiskFormat.QCOW2)], tmp_path) as machine:
        assert "elsewhere" not in until(machine, lambda text: "No bootable device" in text)


def test_uefi_without_a_loader_says_so(tmp_path: Path) -> None:
    disk = telling_disk(tmp_path / "a.raw", "only a BIOS reads this")
    with VirtualMachine(spec("kvm", Firmware.UEFI), [BootDisk("a", SIZE, disk)], tmp_path) as machine:
        until(machine, lambda text: "BdsDxe" in text)
    assert [path.name for path in tmp_path.iterdir()] == ["a.raw"]


# ---- local: instances --------------------------------------------------------------------------------------------------------


def plan_of(platform: str, nonce: str = NONCE) -> Plan:
    machine = Machine("erp", (Disk("d0", SIZE, allocated=MIB),), memory_mib=256, vcpus=1)
    needs = Needs(Firmware.BIOS, probe=ProbeNeed(nonce, "ttyS0", "", ""))
    return Plan("0123456789abcdef", machine, f"local:{platform}", platform, (DiskPlan("d0", "erp-0", SIZE, SIZE),), needs)


def launched(folder: Path, text: str, platform: str = "aws") -> tuple[Evidence, LocalTarget, Plan]:
    """Converted, launched, and waited for: as the journey does it."""
    plan, target, journal = plan_of(platform), LocalTarget(platform, folder / "instances"), MemoryJournal("0123456789abcdef")
    list(target.reserve(plan, journal))
    data = telling_disk(folder / "source.raw", text).read_bytes()
    with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
        writer.expect([0])
        writer.put(0, data, b"")
        disk = writer.commit()
    image = target.register(plan, [disk], Caps(Firmware.BIOS, boot_disk="d0"), journal)
    instance = target.launch(plan, image, Placement(), journal, Meter())
    try:
        assert target.launch(plan, image, Placement(), journal, Meter()) == instance, "a running one is adopted"
        return await_probe(lambda: target.observe(instance), NONCE, WAIT_S, Meter(), poll_s=0.1, grace_s=0.2), target, plan
    finally:
        target.stop(instance, journal)
        assert Path(disk.id).read_bytes() == data


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A boot sector hears no power button."""
    monkeypatch.setattr(local, "POWER_DOWN_S", 0.2)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("platform", ["aws", "gcp", "azure", "kvm"])
def test_a_local_instance_tells_what_it_is(platform: str, tmp_path: Path) -> None:
    evidence, target, plan = launched(tmp_path, probe_text(NONCE, hostname="erp\n", kernel="6.1\n"), platform)
    assert evidence.probe is not None and evidence.probe["hostname"] == "erp\n"
    home = target.home(plan)
    assert evidence.observation.screenshot == str(home / "screenshot.png")
    assert (home / "screenshot.png").read_bytes().startswith(b"\x89PNG")
    assert NONCE in (home / "console.log").read_text(errors="replace")


@pytest.mark.usefixtures("impatient")
def test_a_local_instance_that_fails_says_why(tmp_path: Path) -> None:
    text = "Begin: Waiting for root file system ... \r\nALERT!  /dev/sda1 does not exist.  Dropping to a shell!\r\n(initramfs) "
    evidence, _, _ = launched(tmp_path, text)
    assert evidence.probe is None
    assert evidence.failure == "the initramfs never found the root device /dev/sda1 and dropped to a shell"


@pytest.mark.usefixtures("impatient")
def test_the_start_script_starts_it_for_good(tmp_path: Path) -> None:
    _, target, plan = launched(tmp_path, probe_text(NONCE) + "hello from the machine itself")
    started = subprocess.Popen(
        [str(target.home(plan) / "start")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/"
    )
    assert started.stdout is not None
    heard, deadline = b"", time.monotonic() + WAIT_S
    try:
        while b"machine itself" not in heard:
            data = os.read(started.stdout.fileno(), 4096)
            heard += data
            assert data and time.monotonic() < deadline, heard.decode(errors="replace")
    finally:
        started.kill()
        started.wait()


# ---- rehearsals --------------------------------------------------------------------------------------------------------------


def test_a_rehearsal_boots_an_export_and_leaves_it_alone(tmp_path: Path) -> None:
    disk = telling_disk(tmp_path / "d0.raw", probe_text(NONCE, hostname="erp\n"))
    before, plan = disk.read_bytes(), plan_of("gcp")
    with qemu.serve(disk, DiskFormat.RAW, socket=tmp_path / "nbd.sock", name="d0") as export:
        seen = rehearse(
            [(plan.machine.disks[0], export)],
            plan,
            Caps(Firmware.BIOS, boot_disk="d0"),
            workdir=tmp_path,
            timeout_s=WAIT_S,
            meter=Meter(),
        )
    assert seen.screenshot == str(tmp_path / "rehearsal.png") and NONCE in seen.console
    assert disk.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d0.raw", "rehearsal.log", "rehearsal.png"]


def test_a_rehearsal_that_fails_says_why(tmp_path: Path) -> None:
    disk = tmp_path / "d0.raw"
    disk.write_bytes(bytes(SIZE))
    plan = plan_of("kvm")
    with (
        qemu.serve(disk, DiskFormat.RAW, socket=tmp_path / "nbd.sock", name="d0") as export,
        pytest.raises(ProofError, match=r"erp did not come up on hardware like QEMU/KVM's: the BIOS found nothing to boot from"),
    ):
        rehearse([(plan.machine.disks[0], export)], plan, Caps(Firmware.BIOS), workdir=tmp_path, timeout_s=WAIT_S, meter=Meter())


# ---- sudden ends -------------------------------------------------------------------------------------------------------------

_STARTS = """
import sys, time
from pathlib import Path
from v2c.model import Firmware
from v2c.rehearsal.machine import BootDisk, VirtualMachine
from v2c.rehearsal.shape import BootSpec
folder = Path(sys.argv[1])
spec = BootSpec("aws", Firmware.BIOS, seed="1", memory_mib=256)
machine = VirtualMachine(spec, [BootDisk("a", 4194304, folder / "a.raw")], folder)
machine.start()
print(machine._process.pid, flush=True)
time.sleep(600)
"""


def test_a_kill_takes_qemu_along_and_leaves_no_file(tmp_path: Path) -> None:
    telling_disk(tmp_path / "a.raw", "up")
    ours = subprocess.Popen([sys.executable, "-c", _STARTS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert ours.stdout is not None
    theirs = int(ours.stdout.readline())
    assert Path(f"/proc/{theirs}").exists()
    os.kill(ours.pid, signal.SIGKILL)
    ours.wait()
    deadline = time.monotonic() + 5
    while _runs(theirs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(theirs)
    assert [path.name for path in tmp_path.iterdir()] == ["a.raw"]


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give away")
def test_qemu_is_nobody_when_we_are_root(tmp_path: Path) -> None:
    telling_disk(tmp_path / "a.raw", "up")
    with VirtualMachine(spec("aws"), [BootDisk("a", SIZE, tmp_path / "a.raw")], tmp_path) as machine:
        assert machine._process is not None
        status = Path(f"/proc/{machine._process.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == {"65534"} and fields["Groups"].strip() == ""
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"
