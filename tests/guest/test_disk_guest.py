"""Real guests behind the appliance: the contract on a small ext4 image; LVM inside LUKS; and the ways it can go wrong."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import lvm_image
import pytest
from guest_contract import TREE, GuestContract, content
from luks_images import luks1

from v2c import qemu
from v2c.errors import GuestError, ToolError, UsageError
from v2c.events import Event, Meter, Noted
from v2c.guest import FileKind, Guest, client
from v2c.guest.client import Appliance
from v2c.guest.disk import DiskGuest, open_guest
from v2c.guest.mounting import mount_all, open_root
from v2c.model import MIB, Disk, DiskFormat, LeaveTool
from v2c.nbd import Export

if TYPE_CHECKING:
    from fixtures.build import BuiltGuest

pytestmark = pytest.mark.appliance


def plant(folder: Path) -> Path:
    """TREE as a directory of the host, with a shell of the host's to run its programs."""
    root = folder / "tree"
    for path, node in content(TREE).items():
        where = root / path[1:]  # a surrogate in it is a byte that is not UTF-8
        where.parent.mkdir(parents=True, exist_ok=True)
        if node.kind is FileKind.SYMLINK:
            where.symlink_to(node.data.decode())
        elif node.kind is FileKind.DIRECTORY:
            where.mkdir(exist_ok=True)
        else:
            where.write_bytes(node.data)
            where.chmod(node.mode)
    for name in ("dev", "proc", "sys", "tmp", "work"):
        (root / name).mkdir(exist_ok=True)
    shell = Path("/bin/sh").resolve()
    shutil.copy(shell, root / "usr/bin/sh")
    for word in subprocess.run(["ldd", shell], check=True, capture_output=True, text=True).stdout.split():
        if word.startswith("/"):
            (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, root / word[1:])
    return root


def ext4(image: Path, size: int, tree: Path | None = None, *options: str) -> Path:
    with image.open("wb") as file:
        file.truncate(size)
    source = ["-d", str(tree)] if tree else []
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", *source, *options, str(image)], check=True)
    return image


@contextmanager
def served(folder: Path, *images: Path, read_only: bool = False) -> Iterator[list[tuple[Disk, Export]]]:
    with ExitStack() as stack:
        disks = []
        for number, image in enumerate(images):
            export = stack.enter_context(
                qemu.serve(image, DiskFormat.RAW, socket=folder / f"s{number}", name=f"d{number}", read_only=read_only)
            )
            disks.append((Disk(f"disk-{number}", export.size), export))
        yield disks


@pytest.fixture(scope="module")
def small_guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskGuest]:
    """One appliance for the whole contract; at its end the filesystem is sound, and what was written has arrived."""
    folder = tmp_path_factory.mktemp("disk")
    image = ext4(folder / "root.img", 256 * MIB, plant(folder))
    with served(folder, image) as disks, open_guest(disks, writable=True) as guest:
        yield guest
        guest.trim()
        assert not guest.findings
    checked = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    said = subprocess.run(["debugfs", "-R", "cat /etc/said", image], capture_output=True, text=True, check=True)
    assert said.stdout == "hello world\n", "what was written has arrived"


class TestDiskGuest(GuestContract):
    @pytest.fixture
    def guest(self, small_guest: DiskGuest) -> Guest:
        return small_guest


@dataclass
class Encrypted:
    """A machine with LVM inside LUKS, as an installer makes it."""

    disk: Path
    uuid: str
    passphrase: str = "correct horse canary"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Encrypted:
    folder = tmp_path_factory.mktemp("luks")
    tree = plant(folder)
    (tree / "etc/fstab").write_text("/dev/mapper/erp--vg-root / ext4 defaults 0 1\n/dev/sda1 /boot ext4 defaults 0 2\n")
    (tree / "etc/crypttab").write_text("sda2_crypt /dev/sda2 none luks\n")
    kernels = folder / "boot"
    (tree / "boot").rename(kernels)
    (tree / "boot").mkdir()
    root = ext4(folder / "root.img", 128 * MIB, tree)
    boot = ext4(folder / "boot.img", 32 * MIB, kernels)
    volume = lvm_image.physical_volume(folder / "pv.img", "erp-vg", "root", root)
    machine = Encrypted(folder / "disk.img", "")
    luks = luks1(folder / "luks.img", volume, machine.passphrase)
    machine.uuid = luks.read_bytes()[168:208].rstrip(b"\0").decode()  # LUKS1's header
    lvm_image.partitioned(machine.disk, boot, luks)
    return machine


def test_a_key_opens_the_root_and_stays_secret(encrypted: Encrypted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One appliance: what is inside, by the names that crypttab and LVM give it; and the key is in no process and no file."""
    monkeypatch.setenv("CANARY_KEY", encrypted.passphrase)
    tools = [LeaveTool("x", "say-tools", ("/usr/bin/say",)), LeaveTool("x", "other-tools", ("/usr/bin/other",))]
    with (
        served(tmp_path, encrypted.disk, read_only=True) as disks,
        open_guest(disks, writable=False, keys=[f"{encrypted.uuid}:env:CANARY_KEY"], platforms_tools=tools) as guest,
    ):
        facts = guest.facts
        assert facts.root == "/dev/mapper/erp--vg-root" and facts.root_type == "ext4" and facts.boot_disk == "disk-0"
        assert guest.mounted == {"/": "/dev/mapper/erp--vg-root", "/boot": "/dev/sda1"}
        by_device = {fs.device: fs for fs in facts.filesystems}
        assert by_device["/dev/sda2"].type == "crypto_LUKS" and by_device["/dev/sda2"].uuid == encrypted.uuid
        assert by_device["/dev/mapper/sda2_crypt"].type == "LVM2_member", "opened under crypttab's own name"
        assert by_device["/dev/mapper/erp--vg-root"].disk == "disk-0"
        assert [k.release for k in facts.kernels] == ["6.1.0-9-amd64", "6.1.0-13-amd64"]
        assert facts.tools == ("say-tools",)
        assert not guest.findings
        with pytest.raises((GuestError, OSError)):
            guest.write("/etc/hostname", "x")  # the root is mounted read-only
        assert encrypted.passphrase.encode() not in argv_and_files(guest)


def argv_and_files(guest: DiskGuest) -> bytes:
    """The command lines of the appliance's processes, and every small file it keeps."""
    seen = b""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == guest._appliance.pid:
                seen += (process / "cmdline").read_bytes()
        except OSError:
            continue
    for file in guest._appliance._folder.rglob("*"):
        if file.is_file() and file.stat().st_size < MIB:
            seen += file.read_bytes()
    assert b"qemu-system" in seen
    return seen


def test_without_the_key_the_error_names_the_device_and_the_option(encrypted: Encrypted, tmp_path: Path) -> None:
    with (
        served(tmp_path, encrypted.disk, read_only=True) as disks,
        pytest.raises(GuestError) as caught,
        open_guest(disks, writable=False),
    ):
        pass
    assert "/dev/sda2" in caught.value.text and encrypted.uuid in caught.value.text
    assert f"--key {encrypted.uuid}:file:PATH" in caught.value.remedy


def test_filesystems_that_were_not_left_in_order(tmp_path: Path) -> None:
    """One appliance, three disks: an unclean one is told, one with recorded errors is refused before it is mounted."""
    tree = plant(tmp_path)
    (tree / "etc/fstab").write_text("/dev/sda / ext4\n/dev/sdb /srv ext4\n/dev/sdc /work ext4\n/dev/sdd /tmp ext4 nofail\n")
    root = ext4(tmp_path / "root.img", 128 * MIB, tree)
    unclean, broken = (ext4(tmp_path / name, 32 * MIB) for name in ("unclean.img", "broken.img"))
    for image, order in ((unclean, "feature needs_recovery"), (broken, "set_super_value state 2")):
        subprocess.run(["debugfs", "-w", "-R", order, image], check=True, capture_output=True)
    with served(tmp_path, root, unclean, broken) as disks:
        appliance = Appliance([export for _, export in disks], writable=False)
        try:
            opened = open_root(appliance, [disk for disk, _ in disks], (), "")
            with pytest.raises(GuestError, match=r"/work \(/dev/sdc\) has recorded errors"):
                mount_all(appliance, opened, writable=False)
            appliance.call("unmount")
            sound = replace(opened, blocks=tuple(replace(block, errors=False) for block in opened.blocks))
            mounted, findings = mount_all(appliance, sound, writable=False)
        finally:
            appliance.kill()
    assert mounted == {"/": "/dev/sda", "/srv": "/dev/sdb", "/work": "/dev/sdc"}
    assert sorted((f.id, f.subject) for f in findings) == [("guest.not-mounted", "/tmp"), ("guest.unclean", "/srv")]


def test_a_key_that_cannot_be_read_launches_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    for keys in (["all"], ["hunter2"], ["all:stdin:x"]):
        with pytest.raises(UsageError) as caught, open_guest([], writable=False, keys=keys):
            pass
        assert "hunter2" not in str(caught.value)
    assert time.monotonic() - began < 1


def test_an_appliance_that_dies_or_hangs_ends_alone(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    image = ext4(tmp_path / "root.img", 128 * MIB, plant(folder))
    with served(tmp_path, image) as disks:
        with pytest.raises(ToolError, match="the appliance is closed"), open_guest(disks, writable=True) as guest:
            pid = guest._appliance.pid
            assert members(pid)
            os.kill(pid, signal.SIGSTOP)  # a helper that hangs
            with pytest.raises(ToolError, match="did not answer 'exists'"):
                guest._appliance.call("exists", timeout=1, path="/")
            assert not members(pid), "its QEMU went with it"
            guest.exists("/")
        assert disks[0][1].size == 128 * MIB
    assert not list((Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "v2c" / "run").glob(f"*/{pid}"))


def test_an_appliance_that_falls_silent_on_its_way_up_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENT_S", 30.0)
    folder = tmp_path / "t"
    folder.mkdir()
    said: list[Event] = []
    with served(tmp_path, ext4(tmp_path / "root.img", 128 * MIB, plant(folder))) as disks:
        stopped: list[int] = []
        watcher = threading.Thread(daemon=True, target=lambda: stopped.append(stop_first_emulator(disks[0][1].socket)))
        watcher.start()
        with open_guest(disks, writable=True, meter=Meter("launch", listener=said.append)) as guest:
            assert guest.exists("/etc/hostname")
        watcher.join()
    notes = [event.text for event in said if isinstance(event, Noted)]
    assert notes == ["the appliance was silent for 30 s and was killed; it is started again"]
    assert not Path(f"/proc/{stopped[0]}").exists()


def stop_first_emulator(socket: str) -> int:
    """Stops the first QEMU that has this socket for a disk, in the middle of its start."""
    while True:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes()
                if b"qemu-system" in words.partition(b"\0")[0] and socket.encode() in words:
                    time.sleep(1)
                    os.kill(int(process.name), signal.SIGSTOP)
                    return int(process.name)
        time.sleep(0.05)


def members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if os.getsid(int(process.name)) == session and state != "Z":
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.guest
@pytest.mark.parametrize(
    ("name", "tool", "loader"),
    [
        ("debian12-bios", "initramfs-tools", "grub2-bios"),
        ("debian12-uefi-lvm", "initramfs-tools", "grub2-efi"),
        ("debian12-two-disks", "initramfs-tools", "grub2-bios"),
        pytest.param("debian12-sdboot", "dracut", "systemd-boot", marks=pytest.mark.full),
    ],
)
def test_the_facts_of_a_real_guest(
    name: str, tool: str, loader: str, guests: "Callable[[str], BuiltGuest]", tmp_path: Path
) -> None:
    built = guests(name)
    with ExitStack() as stack:
        disks = []
        for number, path in enumerate(built.disks):
            export = stack.enter_context(
                qemu.serve(path, DiskFormat.VMDK, socket=tmp_path / f"s{number}", name=f"d{number}", read_only=True)
            )
            disks.append((Disk(f"disk-{number}", export.size, DiskFormat.VMDK), export))
        guest = stack.enter_context(open_guest(disks, writable=False))
        facts, known = guest.facts, built.facts
        assert facts.hostname == known["hostname"] and facts.machine_id == known["machine_id"]
        assert facts.firmware == known["firmware"]
        assert sorted(facts.enabled_units) == sorted(known["units"])
        assert [u.name for u in facts.users] == known["users"]
        assert [k.release for k in facts.kernels] == known["kernels"]
        assert all(k.initramfs and k.modules for k in facts.kernels) and facts.default_kernel == known["kernels"][-1]
        uuids = {m.where: m.uuid for m in facts.mounts if m.uuid}
        assert uuids | {"swap": facts.swaps[0].uuid} == known["uuids"]
        assert set(facts.addresses) == set(known["addresses"])
        assert set(guest.mounted) == set(known["uuids"]) - {"swap"}
        assert facts.architecture == "x86_64" and facts.initramfs_tool == tool and facts.bootloaders[0] == loader
