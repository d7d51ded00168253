"""local: the contract, the folder's files, the script, and what is refused."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from target_contract import JOB, TargetContract

from v2c.errors import TargetError, UsageError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import GIB, MIB, Caps, Disk, DiskPlan, Firmware, Level, Machine, Needs, Placement, Plan, Ref
from v2c.targets import Target, local, open_target
from v2c.targets.local import LocalTarget, default_folder


@pytest.mark.tool
class TestLocal(TargetContract):
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The contract's disks hold no system that would hear the power button."""
        monkeypatch.setattr(local, "POWER_DOWN_S", 0.5)

    def make(self, folder: Path) -> Target:
        return open_target(f"local:kvm?into={folder}")

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        return Path(disk.id)


def plan(name: str = "erp", platform: str = "aws", disks: int = 1, firmware: Firmware = Firmware.BIOS, job: str = JOB) -> Plan:
    machine = Machine(name, tuple(Disk(f"d{n}", MIB, allocated=MIB) for n in range(disks)), memory_mib=8192, firmware=firmware)
    planned = tuple(DiskPlan(f"d{n}", f"{name}-{n}", MIB, GIB) for n in range(disks))
    return Plan(job, machine, f"local:{platform}", platform, planned, Needs(firmware), data_bytes=disks * MIB)


def made(folder: Path, platform: str = "aws", firmware: Firmware = Firmware.BIOS) -> tuple[LocalTarget, Plan, Ref, MemoryJournal]:
    target, journal = LocalTarget(platform, folder), MemoryJournal(JOB)
    mine = plan(platform=platform, firmware=firmware)
    list(target.reserve(mine, journal))
    with target.writer(mine, mine.machine.disks[0], None, journal) as writer:
        writer.expect([0])
        writer.put(0, b"x" * MIB, b"")
        disk = writer.commit()
    return target, mine, target.register(mine, [disk], Caps(firmware, boot_disk="d0"), journal), journal


@pytest.mark.parametrize("locator", ["local:", "local:nowhere", "local:physical", "local:aws?where=x"])
def test_bad_locators(locator: str) -> None:
    with pytest.raises(UsageError, match="write local: and one of aws, azure, gcp, kvm, vmware"):
        open_target(locator)


def test_where_instances_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("V2C_LOCAL", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "v2c" / "local"
    monkeypatch.setenv("V2C_LOCAL", str(tmp_path / "here"))
    assert default_folder() == tmp_path / "here"


@pytest.mark.parametrize("name", ["../../etc", "/abs", ".hidden", "a b\n$(reboot)", ""])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    home = LocalTarget("aws", tmp_path).home(plan(name))
    assert home.parent == tmp_path and home.name.isascii() and home.name.isprintable() and " " not in home.name


@pytest.mark.parametrize(("platform", "firmware"), [(p, f) for p in ("aws", "gcp", "azure", "kvm") for f in Firmware])
@pytest.mark.tool
def test_the_script_is_a_script(tmp_path: Path, platform: str, firmware: Firmware) -> None:
    target, mine, image, _ = made(tmp_path, platform, firmware)
    home = target.home(mine)
    assert Path(image.id) == home and os.access(home / "start", os.X_OK)
    subprocess.run(["shellcheck", str(home / "start")], check=True)
    text = (home / "start").read_text()
    assert str(tmp_path) not in text, "the folder can be moved"
    assert '"restrict": \'"$restricted"\'' in text and "\nrestricted=true\n" in text
    assert "-m 8192M" in text, "the real machine has its own memory, the boot test a bounded one"
    assert (home / "vars.fd").exists() == (firmware is Firmware.UEFI)
    assert (home / "metadata.py").exists() == (platform != "kvm")


@pytest.mark.tool
def test_the_script_starts_qemu_as_it_says(tmp_path: Path) -> None:
    """QEMU takes the command line, the network's variable is filled in, and the disk is the instance's own."""
    target, mine, _, _ = made(tmp_path)
    home = target.home(mine)
    fake = tmp_path / "bin"
    fake.mkdir()
    words = tmp_path / "words"
    (fake / "qemu-system-x86_64").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {words}\ntest -n "$V2C_METADATA_CODE"\n')
    (fake / "qemu-system-x86_64").chmod(0o755)
    env = {**os.environ, "PATH": f"{fake}:{os.environ['PATH']}"}
    subprocess.run([str(home / "start")], check=True, env=env, cwd="/")
    told = words.read_text().splitlines()
    net = json.loads(told[told.index("-netdev") + 1])
    assert net["restrict"] is True
    assert json.loads(told[told.index("-blockdev") + 1])["file"]["filename"] == "disk-0.raw"


@pytest.mark.tool
def test_a_boot_leaves_the_disks_as_they_are(tmp_path: Path) -> None:
    target, mine, image, journal = made(tmp_path)
    home = target.home(mine)
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.name != "instance.json"}
    instance = target.launch(mine, image, Placement(), journal, Meter())
    seen = target.observe(instance)
    assert seen.alive and seen.state == "running"
    assert seen.screenshot == str(home / "screenshot.png")
    target.destroy(instance)
    assert not target.observe(instance).alive
    target.launch(mine, image, Placement(), journal, Meter())
    assert target.observe(instance).alive, "a second boot starts anew"
    target.destroy(instance)
    after = {
        path.name: path.read_bytes()
        for path in home.iterdir()
        if path.name not in ("instance.json", "console.log", "screenshot.png")
    }
    assert after == before


def test_another_folder_of_that_name_is_left_alone(tmp_path: Path) -> None:
    target, mine = LocalTarget("aws", tmp_path), plan()
    target.home(mine).mkdir()
    (target.home(mine) / "letters.txt").write_text("mine")
    assert [f.id for f in target.check(mine) if f.level is Level.BLOCKER] == ["local.exists"]
    with pytest.raises(TargetError, match="carries no tag"):
        target.destroy(Ref.of("folder", str(target.home(mine)), job=JOB))
    assert (target.home(mine) / "letters.txt").read_text() == "mine"


def test_a_tag_elsewhere_is_not_followed(tmp_path: Path) -> None:
    target, mine, _, _ = made(tmp_path / "a", "kvm")
    stranger = LocalTarget("kvm", tmp_path / "b")
    with pytest.raises(TargetError, match="left alone"):
        stranger.destroy(Ref.of("folder", str(target.home(mine)), job=JOB))
    assert target.home(mine).exists()


def test_more_disks_than_the_hardware_holds(tmp_path: Path) -> None:
    target = LocalTarget("azure", tmp_path)
    assert [f.id for f in target.check(plan(platform="azure", disks=7)) if f.level is Level.BLOCKER] == ["local.disks"]
    assert [f for f in target.check(plan(platform="azure", disks=6)) if f.level is Level.BLOCKER] == []


def test_an_unfinished_instance_is_not_launched(tmp_path: Path) -> None:
    target, journal = LocalTarget("aws", tmp_path), MemoryJournal(JOB)
    mine = plan()
    list(target.reserve(mine, journal))
    with pytest.raises(TargetError, match="is gone"):
        target.launch(mine, Ref.of("image", str(target.home(mine)), job=JOB), Placement(), journal, Meter())
