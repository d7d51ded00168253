"""Disk files: the contract in every format, names, tags, and what is refused."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from target_contract import CAPS, JOB, TargetContract

from v2c import qemu
from v2c.errors import TargetError, UsageError
from v2c.journal import MemoryJournal
from v2c.model import GIB, MIB, Disk, DiskFormat, DiskPlan, Firmware, Level, Machine, Needs, Plan, Ref
from v2c.targets import Target, open_target
from v2c.targets.file import FileTarget


class FileContract(TargetContract):
    """A file of the format that the class names."""

    locator = ""
    format = DiskFormat.RAW

    def make(self, folder: Path) -> Target:
        return open_target(f"file:{folder}/{self.locator}")

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        raw = folder / "read.raw"
        qemu.convert(Path(disk.id), self.format, raw, DiskFormat.RAW)
        return raw


@pytest.mark.tool
class TestRaw(FileContract):
    locator = "out.raw"


@pytest.mark.tool
class TestQcow2(FileContract):
    locator = "out.qcow2"
    format = DiskFormat.QCOW2


@pytest.mark.tool
class TestVmdk(FileContract):
    locator = "out.vmdk"
    format = DiskFormat.VMDK


@pytest.mark.tool
class TestVhd(FileContract):
    locator = "out.vhd"
    format = DiskFormat.VHD


@pytest.mark.tool
class TestDynamicVhd(FileContract):
    locator = "out.vhd?format=vhd-dynamic"
    format = DiskFormat.VHD


@pytest.mark.tool
class TestVhdx(FileContract):
    locator = "out.vhdx"
    format = DiskFormat.VHDX


@pytest.mark.tool
class TestVdi(FileContract):
    locator = "out.vdi"
    format = DiskFormat.VDI


@pytest.mark.tool
class TestFolder(FileContract):
    locator = "images/"
    format = DiskFormat.QCOW2


@pytest.mark.tool
class TestTarGz(FileContract):
    locator = "out.tar.gz"

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        subprocess.run(["tar", "-xzf", disk.id, "-C", folder], check=True)
        return folder / "disk.raw"


def planned(target: Target, *names: str, size: int = 8 * MIB, machine: str = "erp", data: int = MIB) -> Plan:
    disks = tuple(Disk(f"d{n}", size, allocated=MIB) for n in range(len(names)))
    plans = tuple(DiskPlan(f"d{n}", name, size, size) for n, name in enumerate(names))
    return Plan(JOB, Machine(machine, disks), "file", target.platform, plans, Needs(Firmware.BIOS), data_bytes=data)


def made(locator: str) -> FileTarget:
    target = open_target(locator)
    assert isinstance(target, FileTarget)
    return target


@pytest.mark.parametrize(
    ("locator", "format", "platform"),
    [
        ("out.qcow2", "qcow2", "kvm"),
        ("OUT.RAW", "raw", "kvm"),
        ("disk.img", "raw", "kvm"),
        ("out.tar.gz", "tar.gz", "gcp"),
        ("out.vhd", "vhd", "azure"),
        ("out.vhdx", "vhdx", "hyperv"),
        ("out.vmdk?platform=aws", "vmdk", "aws"),
        ("out.disk?format=vhd", "vhd", "azure"),
        ("images/", "qcow2", "kvm"),
        ("images/?format=vmdk&platform=gcp", "vmdk", "gcp"),
    ],
)
def test_locators(tmp_path: Path, locator: str, format: str, platform: str) -> None:
    target = made(f"file:{tmp_path}/{locator}")
    assert (target.format.name, target.platform) == (format, platform)
    assert not target.features.launches and not target.features.rehearse


@pytest.mark.parametrize(
    "locator", ["file:", "file:out", "file:out.doc", "file:x.raw?format=xyz", "file:x.raw?colour=red", "file:x.raw?platform=moon"]
)
def test_locators_that_make_no_sense(locator: str) -> None:
    with pytest.raises(UsageError):
        open_target(locator)


def test_names_of_several_disks(tmp_path: Path) -> None:
    target = made(f"file:{tmp_path}/erp.tar.gz")
    assert [p.name for p in target.files(planned(target, "a"))] == ["erp.tar.gz"]
    assert [p.name for p in target.files(planned(target, "a", "b"))] == ["erp-0.tar.gz", "erp-1.tar.gz"]
    target = made(f"file:{tmp_path}/out/?format=vhd")
    assert [p.name for p in target.files(planned(target, "erp-0", "erp-1"))] == ["erp-0.vhd", "erp-1.vhd"]


def test_a_hostile_name_stays_in_its_folder(tmp_path: Path) -> None:
    target = made(f"file:{tmp_path}/out/")
    plan = planned(target, "../../etc/passwd", ".bashrc", "a b\n", machine="../../root")
    assert {p.parent for p in (*target.files(plan), target.manifest(plan))} == {tmp_path / "out"}
    assert not any(p.name.startswith(".") for p in target.files(plan))


def blockers(target: Target, plan: Plan) -> list[str]:
    return [f.id for f in target.check(plan) if f.level is Level.BLOCKER]


def test_check_says_what_stands_in_the_way(tmp_path: Path) -> None:
    target = made(f"file:{tmp_path}/missing/out.raw")
    assert blockers(target, planned(target, "a")) == ["file.folder"]
    target = made(f"file:{tmp_path}/out.raw")
    assert blockers(target, planned(target, "a")) == []
    assert blockers(target, planned(target, "a", data=1 << 60)) == ["file.space"]
    (tmp_path / "out.raw").write_text("mine")
    assert blockers(target, planned(target, "a")) == ["file.exists"]
    with pytest.raises(TargetError, match="exists already"):
        list(target.reserve(planned(target, "a"), MemoryJournal(JOB)))
    (tmp_path / "out.raw.v2c.json").write_text("{}")
    assert blockers(target, planned(target, "a")) == ["file.exists", "file.exists"]
    assert (tmp_path / "out.raw").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    target = made(f"file:{tmp_path}/out.raw")
    assert blockers(target, planned(target, "a")) == ["file.folder"]


def test_a_format_that_is_too_small(tmp_path: Path) -> None:
    target = made(f"file:{tmp_path}/out.vhd?format=vhd-dynamic")
    assert blockers(target, planned(target, "a", size=2041 * GIB)) == ["file.size"]
    target = made(f"file:{tmp_path}/out.vhd")
    assert blockers(target, planned(target, "a", size=2041 * GIB)) == []


def test_the_tag_tells_what_was_made(tmp_path: Path) -> None:
    target, journal = made(f"file:{tmp_path}/out.raw"), MemoryJournal(JOB)
    plan = planned(target, "a")
    list(target.reserve(plan, journal))
    with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
        ref = writer.commit()
    target.register(plan, [Ref(ref.kind, ref.id, (*ref.attributes, ("digest", "abc")))], CAPS, journal)
    tag = json.loads((tmp_path / "out.raw.v2c.json").read_text())
    disk = {"disk": "d0", "file": "out.raw", "format": "raw", "size": 8 * MIB, "bytes": 8 * MIB, "digest": "abc"}
    assert tag["disks"] == [disk]
    assert (tag["v2c-job"], tag["machine"], tag["firmware"], tag["platform"]) == (JOB, "erp", "bios", "kvm")


def test_a_writer_without_a_reservation_is_refused(tmp_path: Path) -> None:
    target = made(f"file:{tmp_path}/out.raw")
    plan = planned(target, "a")
    with pytest.raises(TargetError), target.writer(plan, plan.machine.disks[0], None, MemoryJournal(JOB)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_tag_that_points_elsewhere_is_not_followed(tmp_path: Path) -> None:
    """A tag that was tampered with must not make clean-up remove a stranger's file."""
    folder = tmp_path / "out"
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    tag = {"v2c": 1, "v2c-job": JOB, "disks": [{"disk": "d0", "file": "../victim", "format": "raw", "size": 1}]}
    (folder / "out.raw.v2c.json").write_text(json.dumps(tag))
    target = made(f"file:{folder}/out.raw")
    for ref in (Ref.of("disk", str(victim), job=JOB), Ref.of("names", str(folder / "out.raw.v2c.json"), job=JOB)):
        with pytest.raises(TargetError):
            target.destroy(ref)
    assert victim.read_text() == "mine" and list(target.find(JOB)) == []


def test_a_folder_that_we_made_goes_when_it_is_empty(tmp_path: Path) -> None:
    for keep in (False, True):
        target, journal = made(f"file:{tmp_path}/out/"), MemoryJournal(JOB)
        (ref,) = target.reserve(planned(target, "a"), journal)
        if keep:
            (tmp_path / "out" / "other").touch()
        target.destroy(ref)
        assert (tmp_path / "out").exists() is keep
