"""Bare disk files as a source: the contract, what is assumed, what is refused, and what changes under us."""

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from source_contract import SourceContract

from v2c import qemu
from v2c.errors import BusyError, CaptureLost, SourceError, UsageError
from v2c.journal import MemoryJournal
from v2c.model import MIB, DiskFormat, Firmware, Nic
from v2c.processes import run
from v2c.sources import open_source
from v2c.sources.disk import DiskSource
from v2c.sources.spec import MachineSpec

pytestmark = pytest.mark.tool


def content(seed: int, size: int = 6 * MIB) -> bytes:
    data = random.Random(seed).randbytes(MIB)
    return data + bytes(size - 2 * MIB) + data


def image(path: Path, data: bytes, format: DiskFormat) -> Path:
    raw = path.with_suffix(".tmp")
    raw.write_bytes(data)
    qemu.convert(raw, DiskFormat.RAW, path, format, options={"force_size": "on"} if format is DiskFormat.VHD else None)
    raw.unlink()
    return path


class TestDisks(SourceContract):
    """Two disks, of different formats."""

    def make(self, folder: Path) -> DiskSource:
        if not list(folder.iterdir()):
            image(folder / "ERP server.vmdk", content(1), DiskFormat.VMDK)
            (folder / "data.raw").write_bytes(content(2))
        return DiskSource([folder / "ERP server.vmdk", folder / "data.raw"])

    def disks(self, folder: Path) -> list[bytes]:
        return [content(1), content(2)]


@pytest.mark.parametrize("format", DiskFormat)
def test_every_format_shows_its_disk(format: DiskFormat, tmp_path: Path) -> None:
    source = DiskSource([image(tmp_path / f"disk.{format}", content(3), format)])
    machine = source.describe("")
    assert machine.disks[0].format is format
    assert machine.disks[0].size == 6 * MIB
    with source.open(source.capture(machine, None, MemoryJournal()), machine, tmp_path / "w") as opened:
        back = tmp_path / "back.raw"
        qemu.convert(opened.export(machine.disks[0]), DiskFormat.RAW, back, DiskFormat.RAW)
        assert back.read_bytes() == content(3)


def bare(tmp_path: Path, name: str = "boot.raw", data: bytes = bytes(MIB)) -> Path:
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def test_what_nobody_said_is_assumed(tmp_path: Path) -> None:
    machine = DiskSource([bare(tmp_path, "My ERP (1).raw")]).describe("")
    assert machine.name == "My-ERP-1"
    assert machine.disks[0].id == "my-erp-1"
    assert set(machine.assumed) == {"name", "nics", "memory_mib", "vcpus", "firmware"}
    assert (machine.memory_mib, machine.vcpus, machine.nics, machine.firmware) == (2048, 2, (Nic(),), Firmware.BIOS)
    said = MachineSpec("erp", 4096, 8, Firmware.UEFI, (Nic("00:50:56:00:00:01"), Nic()))
    machine = DiskSource([tmp_path / "My ERP (1).raw"], said).describe("")
    assert machine.assumed == ()
    assert (machine.name, machine.memory_mib, machine.vcpus, len(machine.nics)) == ("erp", 4096, 8, 2)
    assert machine.firmware is Firmware.UEFI
    assert DiskSource([tmp_path / "My ERP (1).raw"], MachineSpec(nics=())).describe("web").nics == ()


@pytest.mark.parametrize("format", [DiskFormat.RAW, DiskFormat.QCOW2])
@pytest.mark.parametrize("firmware", list(Firmware))
def test_the_firmware_is_read_from_the_partition_table(firmware: Firmware, format: DiskFormat, tmp_path: Path) -> None:
    raw = bare(tmp_path, "d.raw", bytes(64 * MIB))
    label, kind = ("gpt", "U") if firmware is Firmware.UEFI else ("dos", "83")
    import subprocess

    subprocess.run(["sfdisk", "-q", raw], input=f"label: {label}\ntype={kind}\n", text=True, check=True, capture_output=True)
    if firmware is Firmware.BIOS:  # boot code
        raw.write_bytes(b"\xeb\x63\x90" + bytes(range(100)) + raw.read_bytes()[103:])
    disk = image(tmp_path / "e.qcow2", raw.read_bytes(), format) if format is DiskFormat.QCOW2 else raw
    empty = bare(tmp_path, "a.raw")
    machine = DiskSource([empty, disk]).describe("")
    assert machine.firmware is firmware
    assert "firmware" not in machine.assumed


def test_alike_names_get_different_ids(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        bare(tmp_path / folder, "disk.raw")
    machine = DiskSource([tmp_path / f / "disk.raw" for f in "abc"]).describe("")
    assert [disk.id for disk in machine.disks] == ["disk", "disk-2", "disk-3"]


def refused(paths: Sequence[Path], spec: MachineSpec | None = None) -> str:
    with pytest.raises(UsageError) as error:
        DiskSource(paths, spec).describe("")
    assert error.value.remedy
    return error.value.text


def test_what_cannot_be_a_disk(tmp_path: Path) -> None:
    good = bare(tmp_path)
    assert "is not there" in refused([tmp_path / "nothing.raw"])
    assert "is a folder" in refused([tmp_path])
    assert "is empty" in refused([bare(tmp_path, "empty.raw", b"")])
    assert "neither a file nor a block device" in refused([Path("/dev/null")])
    assert "twice" in refused([good, good])
    (tmp_path / "link.raw").symlink_to("boot.raw")
    assert "twice" in refused([good, tmp_path / "link.raw"])
    assert "2 formats are given for 3 disks" in refused([good] * 3, MachineSpec(formats=(DiskFormat.RAW, DiskFormat.RAW)))
    made = image(tmp_path / "x.qcow2", bytes(MIB), DiskFormat.QCOW2)
    assert "is vmdk by --format, and its content is qcow2" in refused([made], MachineSpec(formats=(DiskFormat.VMDK,)))
    (tmp_path / "loop.raw").symlink_to("loop.raw")
    assert "cannot be read" in refused([tmp_path / "loop.raw"])


def test_a_format_may_be_said(tmp_path: Path) -> None:
    made = image(tmp_path / "x.qcow2", content(1), DiskFormat.QCOW2).rename(tmp_path / "x.img")
    machine = DiskSource([made]).describe("")
    assert machine.disks[0].format is DiskFormat.RAW
    (found,) = [f for f in DiskSource([made]).check(machine) if f.id == "disk.format"]
    assert "look like qcow2" in found.text
    said = DiskSource([made], MachineSpec(formats=(DiskFormat.QCOW2,)))
    assert said.describe("").disks[0].size == 6 * MIB
    assert not [f for f in said.check(said.describe("")) if f.id == "disk.format"]


def test_snapshots_and_backing_files_are_told(tmp_path: Path) -> None:
    image(tmp_path / "base.qcow2", content(1), DiskFormat.QCOW2)
    top = tmp_path / "top.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", str(top)])
    run(["qemu-img", "snapshot", "-c", "before", str(top)])
    source = DiskSource([top])
    machine = source.describe("")
    assert machine.disks[0].size == 6 * MIB
    assert {"disk.snapshots", "disk.files", "disk.offline"} <= {f.id for f in source.check(machine)}
    with source.open(source.capture(machine, None, MemoryJournal()), machine, tmp_path / "w") as opened:
        qemu.convert(opened.export(machine.disks[0]), DiskFormat.RAW, tmp_path / "b.raw", DiskFormat.RAW)
    assert (tmp_path / "b.raw").read_bytes() == content(1)
    (tmp_path / "base.qcow2").touch()
    assert DiskSource([top]).describe("").fingerprint != machine.fingerprint


def test_a_disk_in_use_by_qemu(tmp_path: Path) -> None:
    disk = image(tmp_path / "x.qcow2", bytes(MIB), DiskFormat.QCOW2)
    raw = bare(tmp_path)
    vmdk = image(tmp_path / "y.vmdk", bytes(MIB), DiskFormat.VMDK)
    for path, format in ((disk, DiskFormat.QCOW2), (raw, DiskFormat.RAW), (vmdk, DiskFormat.VMDK)):
        used = qemu.serve(path, format, socket=tmp_path / "s", read_only=False)
        with used, pytest.raises(BusyError, match="in use"):
            DiskSource([path]).describe("")
        with qemu.serve(path, format, socket=tmp_path / "s"):
            assert DiskSource([path]).describe("")


@pytest.mark.parametrize("kind", ["folder", "file", "empty folder"])
def test_a_disk_in_use_by_vmware(kind: str, tmp_path: Path) -> None:
    disk = image(tmp_path / "x.vmdk", bytes(MIB), DiskFormat.VMDK)
    lock = tmp_path / "x.vmdk.lck"
    if kind == "file":
        lock.touch()
    else:
        lock.mkdir()
    if kind == "folder":
        (lock / "M12345.lck").touch()
    if kind == "empty folder":
        assert DiskSource([disk]).describe("")
    else:
        with pytest.raises(BusyError, match=r"VMware's lock x\.vmdk\.lck"):
            DiskSource([disk]).describe("")


def test_a_change_is_noticed(tmp_path: Path) -> None:
    disk = bare(tmp_path, "d.raw", content(1))
    source = DiskSource([disk])
    machine = source.describe("")
    capture = source.capture(machine, None, MemoryJournal())
    status = disk.stat()
    with disk.open("r+b") as file:
        file.write(b"boot sector")
    os.utime(disk, ns=(status.st_atime_ns, status.st_mtime_ns))  # even when the time is set back
    with pytest.raises(SourceError, match="changed since"):
        source.capture(machine, None, MemoryJournal())
    lost = source.open(capture, machine, tmp_path / "w")
    with pytest.raises(CaptureLost, match="changed since"), lost:
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a loop device")
def test_a_block_device(tmp_path: Path) -> None:
    disk = bare(tmp_path, "d.raw", content(1))
    try:
        device = run(["losetup", "--find", "--show", "--read-only", str(disk)]).strip()
    except Exception as error:
        pytest.skip(f"no loop devices here: {error}")
    try:
        source = DiskSource([Path(device)])
        machine = source.describe("")
        assert machine.disks[0].size == 6 * MIB
        with source.open(source.capture(machine, None, MemoryJournal()), machine, tmp_path / "w") as opened:
            qemu.convert(opened.export(machine.disks[0]), DiskFormat.RAW, tmp_path / "b.raw", DiskFormat.RAW)
        assert (tmp_path / "b.raw").read_bytes() == content(1)
    finally:
        run(["losetup", "--detach", device])


def test_locators(tmp_path: Path) -> None:
    disk = bare(tmp_path, "memory:x.raw")
    assert isinstance(open_source(str(disk)), DiskSource)
    assert isinstance(open_source([str(disk), str(bare(tmp_path))], MachineSpec("erp")), DiskSource)
    for words, says in (([], "no source"), (["moon:base"], "names no source"), (["memory:a", str(disk)], "whole machine")):
        with pytest.raises(UsageError, match=says):
            open_source(words)
