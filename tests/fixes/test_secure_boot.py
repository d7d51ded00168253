"""Whether a repaired guest would start where signatures are verified: judged when all is repaired, along the whole way."""

from dataclasses import replace

import pytest
from fix_trees import MODULES, NEEDS, RECIPES, RELEASE
from signed_files import MODULE, program

from v2c.events import Meter
from v2c.fixes.repair import Repaired, repair
from v2c.guest.ledger import Ledger
from v2c.model import Firmware, Level

TRUSTS = ("Some UEFI CA 2011", "Some UEFI CA 2023")
NEED = replace(NEEDS["azure"], trusts=TRUSTS, tpm=True)
SHIM, GRUB = program(b"by Some UEFI CA 2023", b"shim"), program(b"by the distribution", b"grub")
KERNEL = f"/boot/vmlinuz-{RELEASE}"
STORVSC = f"/lib/modules/{RELEASE}/kernel/drivers/scsi/hv_storvsc.ko"
SIGNED = {
    "/boot/efi/EFI/debian/shimx64.efi": SHIM,
    "/boot/efi/EFI/debian/grubx64.efi": GRUB,
    KERNEL: program(b"by the distribution", b"kernel"),
}


def repaired(changes: dict[str, bytes | None], need: object = NEED, name: str = "debian12-uefi-lvm") -> Repaired:
    """A guest that is signed throughout, but for these."""
    guest = RECIPES[name].guest()
    for path in MODULES:
        guest.write(f"/usr/lib/modules/{RELEASE}/{path}", MODULE)
    for path, data in {**SIGNED, **changes}.items():
        guest.remove(path)
        if data is not None:
            guest.write(path, data)
    return repair(Ledger(guest), need, meter=Meter())  # type: ignore[arg-type]


def told(done: Repaired) -> list[str]:
    return [f.text for f in done.findings if f.id == "boot.unsigned"]


def test_a_guest_that_is_signed_throughout() -> None:
    """The loader that the repair planted is the one that is judged."""
    done = repaired({})
    assert done.caps.secure_boot and told(done) == []
    assert "/boot/efi/EFI/BOOT/BOOTX64.EFI" in [change.path for change in done.changes]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"/boot/efi/EFI/debian/shimx64.efi": program(b"by somebody", b"shim")},
            "/boot/efi/EFI/BOOT/BOOTX64.EFI is not signed by Some UEFI CA 2011 or Some UEFI CA 2023",
        ),
        ({"/boot/efi/EFI/debian/shimx64.efi": None}, "/boot/efi/EFI/BOOT/BOOTX64.EFI is not signed by"),
        ({"/boot/efi/EFI/debian/grubx64.efi": program(b"", b"grub")}, "grubx64.efi, which shim starts, is not signed"),
        ({KERNEL: program(b"", b"kernel")}, f"the kernel {RELEASE} is not signed"),
        ({STORVSC: b"\x7fELF built at home"}, f"the module hv_storvsc of the kernel {RELEASE} is not signed"),
    ],
)
def test_what_is_not_signed_is_told_and_the_guest_moves_all_the_same(changes: dict[str, bytes | None], words: str) -> None:
    done = repaired(changes)
    (text,) = told(done)
    assert words in text and text.endswith(", so the machine starts without secure boot there") and not done.caps.secure_boot
    (found,) = (f for f in done.findings if f.id == "boot.unsigned")
    assert found.level is Level.WARNING and found.remedy


def test_who_does_not_ask_is_not_told() -> None:
    done = repaired({KERNEL: b"no program"}, NEEDS["azure"])
    assert told(done) == [] and not done.caps.secure_boot


def test_a_machine_of_bios_is_verified_by_nobody() -> None:
    done = repaired({}, replace(NEED, firmware=Firmware.BIOS), "debian12-bios")
    assert told(done) == [] and not done.caps.secure_boot and done.caps.firmware is Firmware.BIOS
