"""The whole repair on real disks: it holds, it is the same the second time, and the image says what was promised."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from v2c import plan, qemu
from v2c.events import Meter
from v2c.fixes.repair import Repaired, repair
from v2c.guest import initrd
from v2c.guest.formats.loaderentry import LoaderEntry
from v2c.guest.ledger import Ledger
from v2c.guest.opening import OpenGuest, open_guest
from v2c.model import Disk, DiskFormat, Firmware, Machine, Needs, Repair
from v2c.platforms import platform, platforms

Disks = Callable[[str], tuple[Path, ...]]


@contextmanager
def opened(paths: tuple[Path, ...], name: str, target: str, folder: Path) -> Iterator[tuple[OpenGuest, Needs]]:
    """A guest on overlays, and what the target asks of it."""
    with ExitStack() as stack:
        disks = []
        for number, path in enumerate(paths):
            size = qemu.info(path, DiskFormat.VMDK).size
            below = stack.enter_context(qemu.serve(path, DiskFormat.VMDK, socket=folder / f"below-{number}"))
            overlay = folder / f"{number}.qcow2"
            qemu.create(overlay, DiskFormat.QCOW2, size)
            socket = folder / f"above-{number}"
            above = qemu.serve(overlay, DiskFormat.QCOW2, socket=socket, read_only=False, backing=below)
            disks.append((Disk(f"disk-{number}", size, DiskFormat.VMDK, str(path)), stack.enter_context(above)))
        machine = Machine(name, tuple(disk for disk, _ in disks))
        needs = plan.needs(machine, platform(target), platforms(), Repair(), Firmware.BIOS, None)
        yield stack.enter_context(open_guest(machine, disks, writable=True, leave=needs.leave)), needs


def repaired(guest: OpenGuest, needs: Needs) -> Repaired:
    return repair(Ledger(guest), needs, meter=Meter())


@pytest.mark.guest
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("debian12-two-disks", "azure"),  # NetworkManager, LVM over both disks
        pytest.param("debian12-bios", "aws", marks=pytest.mark.full),  # ifupdown without a DHCP client
        pytest.param("debian12-uefi-lvm", "gcp", marks=pytest.mark.full),  # netplan, shim
        pytest.param("debian12-sdboot", "azure", marks=pytest.mark.full),  # systemd-boot, dracut with a list of drivers
    ],
)
def test_a_real_guest_is_repaired_once(guest_disks: Disks, tmp_path: Path, name: str, target: str) -> None:
    with opened(guest_disks(name), name, target, tmp_path) as (guest, needs):
        done, again = repaired(guest, needs), repaired(guest, needs)
        fstab = guest.text("/etc/fstab")
    assert {"fstab", "kernel-words", "initramfs"} <= dict(done.reasons).keys()
    assert (again.reasons, again.changes, again.caps) == ((), (), done.caps)
    assert all(done.caps.drives(module) for module in platform(target).arrive.initramfs.required)
    assert "/dev/sd" not in fstab


@pytest.mark.guest
@pytest.mark.full
def test_a_host_only_guest_without_a_list_of_drivers_is_repaired(guest_disks: Disks, tmp_path: Path) -> None:
    """Host-only dracut asks the hardware it runs on, which is the appliance's: the image must hold the target's drivers all the
    same, and those that it held before."""
    conf = "/etc/dracut.conf.d/vmware.conf"
    with opened(guest_disks("debian12-sdboot"), "debian12-sdboot", "gcp", tmp_path) as (guest, needs):
        kept = [line for line in guest.text(conf).splitlines(keepends=True) if not line.startswith("drivers")]
        guest.write(conf, "".join(kept))
        done, again = repaired(guest, needs), repaired(guest, needs)
        (kernel,) = guest.facts.kernels
        guest.fetch(kernel.initramfs, str(tmp_path / "image"))
    assert again.reasons == () and all(done.caps.drives(module) for module in needs.initramfs_required)
    assert "vmw_pvscsi" in initrd.read(tmp_path / "image").modules(kernel.release)


@pytest.mark.guest
@pytest.mark.full
@pytest.mark.timeout(2400)
def test_the_next_kernel_gets_what_this_one_got(guest_disks: Disks, tmp_path: Path) -> None:
    """The hooks that a kernel's package runs make image and entry anew, from what the repair left as configuration."""
    with opened(guest_disks("debian12-sdboot"), "debian12-sdboot", "aws", tmp_path) as (guest, needs):
        done = repaired(guest, needs)
        (kernel,) = guest.facts.kernels
        (path,) = guest.glob("/boot/efi/loader/entries/*.conf")
        entry = LoaderEntry(guest.text(path))
        for file in (path, kernel.initramfs, f"/boot/efi{entry.all('initrd')[0]}"):
            guest.remove(file)
        hooks = ["run-parts", "--exit-on-error", f"--arg={kernel.release}", f"--arg={kernel.image}", "/etc/kernel/postinst.d"]
        guest.run(["env", "SYSTEMD_RELAX_ESP_CHECKS=1", *hooks])  # no udev here that would tell bootctl what a partition is
        made = LoaderEntry(guest.text(path))
        again = repaired(guest, needs)
    assert sorted(made.command.words) == sorted(entry.command.words)
    assert made.command.values("console") == entry.command.values("console") == ("tty0", "ttyS0,115200n8")
    assert made.all("initrd") == entry.all("initrd")
    assert (again.reasons, again.caps) == ((), done.caps)
