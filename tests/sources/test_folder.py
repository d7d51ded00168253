"""Machines in a folder of disk files: which files belong together, and which are no disks of their own."""

import shutil
import subprocess
from pathlib import Path

import pytest

from v2c.errors import UsageError
from v2c.model import Firmware
from v2c.sources.folder import Found, machines

pytestmark = pytest.mark.tool


def disk(path: Path, *options: str) -> Path:
    """An empty disk in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {"img": "raw", "vhd": "vpc"}.get(path.suffix[1:], path.suffix[1:])
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, path, "4M"], check=True)
    return path


def found(folder: Path) -> dict[str, Found]:
    return {one.name: one for one in machines(folder)}


def names(folder: Path) -> dict[str, list[str]]:
    return {one.name: [str(path.relative_to(folder)) for path in one.files] for one in machines(folder)}


def test_a_folder_below_is_a_machine(tmp_path: Path) -> None:
    """As a datastore has it: the disk called as the machine is the first one, the others follow by number."""
    for name in (
        "erp/erp_2.vmdk",
        "erp/erp_10.vmdk",
        "erp/erp.vmdk",
        "web/Virtual Hard Disks/a.vhdx",
        "web/Virtual Hard Disks/b.vhdx",
    ):
        disk(tmp_path / name)
    assert names(tmp_path) == {
        "erp": ["erp/erp.vmdk", "erp/erp_2.vmdk", "erp/erp_10.vmdk"],
        "web": ["web/Virtual Hard Disks/a.vhdx", "web/Virtual Hard Disks/b.vhdx"],
    }


def test_files_side_by_side_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for name in ("web-01.qcow2", "web-02.qcow2", "erp.vmdk", "erp_1.vmdk", "db-disk2.vmdk", "db-disk1.vmdk", "lone_1.raw"):
        disk(tmp_path / name)
    assert names(tmp_path) == {
        "db": ["db-disk1.vmdk", "db-disk2.vmdk"],
        "erp": ["erp.vmdk", "erp_1.vmdk"],
        "lone_1": ["lone_1.raw"],
        "web-01": ["web-01.qcow2"],
        "web-02": ["web-02.qcow2"],
    }


def test_parts_of_an_image_are_no_machines(tmp_path: Path) -> None:
    """Extents of a split VMDK, and what a qcow2 lies on."""
    disk(tmp_path / "split.vmdk", "-o", "subformat=twoGbMaxExtentSparse")
    disk(tmp_path / "flat.vmdk", "-o", "subformat=monolithicFlat")
    base = disk(tmp_path / "base.qcow2")
    disk(tmp_path / "top.qcow2", "-b", base.name, "-F", "qcow2")
    assert sorted(path.name for path in tmp_path.iterdir())[-3:] == ["split-s001.vmdk", "split.vmdk", "top.qcow2"]
    assert names(tmp_path) == {"flat": ["flat.vmdk"], "split": ["split.vmdk"], "top": ["top.qcow2"]}


def test_extents_of_a_broken_descriptor_are_none_either(tmp_path: Path) -> None:
    disk(tmp_path / "erp.vmdk", "-o", "subformat=monolithicFlat")
    (tmp_path / "erp.vmdk").write_text("# Disk DescriptorFile\nnothing of use\n")
    one = found(tmp_path)["erp"]
    assert len(found(tmp_path)) == 1 and one.machine is None and one.error


def test_a_machine_file_says_more(tmp_path: Path) -> None:
    disk(tmp_path / "erp/boot.img")
    disk(tmp_path / "erp/data.img")
    (tmp_path / "erp/machine.toml").write_text('name = "erp-prod"\nmemory_mib = 4096\nfirmware = "uefi"\n')
    disk(tmp_path / "web.img")
    (tmp_path / "web.toml").write_text("vcpus = 8\n")
    erp, web = found(tmp_path)["erp"].machine, found(tmp_path)["web"].machine
    assert erp and web
    assert (erp.name, erp.memory_mib, erp.firmware, len(erp.disks)) == ("erp-prod", 4096, Firmware.UEFI, 2)
    assert (web.name, web.vcpus) == ("web", 8) and "vcpus" not in web.assumed
    assert names(tmp_path / "erp") == {"erp": ["boot.img", "data.img"]}  # the folder itself is the machine


def test_one_that_cannot_be_read_is_told_and_harms_nobody(tmp_path: Path) -> None:
    disk(tmp_path / "good.qcow2")
    whole = disk(tmp_path / "cut.qcow2")
    with whole.open("r+b") as file:
        file.truncate(80)
    assert found(tmp_path)["good"].machine
    broken = found(tmp_path)["cut"]
    assert broken.machine is None and "ends" in str(broken.error)


def test_links_and_hidden_folders_are_left(tmp_path: Path) -> None:
    outside = disk(tmp_path / "outside/secret.img")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link").symlink_to(outside.parent)
    shutil.copytree(outside.parent, folder / ".snapshots")
    assert names(folder) == {}
    with pytest.raises(UsageError, match="is no folder"):
        list(machines(outside))
