"""The whole repair on real disks: it holds, it is the same the second time, and the image says what was promised."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from v2c import plan, qemu
from v2c.events import Meter
from v2c.fixes.repair import repair
from v2c.guest.ledger import Ledger
from v2c.guest.opening import open_guest
from v2c.model import Disk, DiskFormat, Firmware, Machine, Repair
from v2c.platforms import platform, platforms


@pytest.mark.guest
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("debian12-two-disks", "azure"),  # NetworkManager, LVM over both disks
        pytest.param("debian12-bios", "aws", marks=pytest.mark.full),  # ifupdown without a DHCP client
        pytest.param("debian12-uefi-lvm", "gcp", marks=pytest.mark.full),  # netplan, shim
    ],
)
def test_a_real_guest_is_repaired_once(
    guest_disks: Callable[[str], tuple[Path, ...]], tmp_path: Path, name: str, target: str
) -> None:
    with ExitStack() as stack:
        disks = []
        for number, path in enumerate(guest_disks(name)):
            size = qemu.info(path, DiskFormat.VMDK).size
            below = stack.enter_context(qemu.serve(path, DiskFormat.VMDK, socket=tmp_path / f"below-{number}"))
            overlay = tmp_path / f"{number}.qcow2"
            qemu.create(overlay, DiskFormat.QCOW2, size)
            socket = tmp_path / f"above-{number}"
            above = qemu.serve(overlay, DiskFormat.QCOW2, socket=socket, read_only=False, backing=below)
            disks.append((Disk(f"disk-{number}", size, DiskFormat.VMDK, str(path)), stack.enter_context(above)))
        machine = Machine(name, tuple(disk for disk, _ in disks))
        arrival = platform(target)
        needs = plan.needs(machine, arrival, platforms(), Repair(), Firmware.BIOS, None)
        with open_guest(machine, disks, writable=True, leave=needs.leave) as guest:
            done = repair(Ledger(guest), needs, meter=Meter())
            again = repair(Ledger(guest), needs, meter=Meter())
            fstab = guest.text("/etc/fstab")
    assert {"fstab", "kernel-words", "initramfs"} <= dict(done.reasons).keys()
    assert (again.reasons, again.changes, again.caps) == ((), (), done.caps)
    assert all(done.caps.drives(module) for module in arrival.arrive.initramfs.required)
    assert "/dev/sd" not in fstab
