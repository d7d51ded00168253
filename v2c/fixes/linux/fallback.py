"""The UEFI fallback loader: a machine that moves has no boot entries in its firmware, which then starts EFI/BOOT/BOOTX64.EFI.

shim starts the grubx64.efi beside itself; an fbx64.efi beside it would come first, write boot entries from the CSV files and
restart the machine, so it is set aside (shim, README.fallback).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from v2c.fixes.fix import Edit, Edits, aside
from v2c.fixes.linux.bootfiles import ESPS
from v2c.guest import Guest
from v2c.model import Finding, Firmware, Level, Needs

SUFFIXES = {"x86_64": "x64", "aarch64": "aa64", "i386": "ia32", "i686": "ia32"}


@dataclass(frozen=True, slots=True)
class _Loader:
    """A vendor's folder on the EFI system partition, and what it has; names as they are written there."""

    folder: str
    shim: str = ""
    grub: str = ""
    config: str = ""
    keys: str = ""
    plain: str = ""


def written(guest: Guest, folder: str, name: str) -> str:
    """The name as it is written on a filesystem that ignores case, "" when there is none."""
    return next((n for n in guest.names(folder) if n.lower() == name.lower()), "")


def efi_folder(guest: Guest) -> str:
    """The EFI folder of the system partition, "" when there is none."""
    for esp in ESPS:
        name = written(guest, esp, "EFI")
        if name:
            return f"{esp}/{name}"
    return ""


def _loaders(guest: Guest, efi: str, suffix: str) -> list[_Loader]:
    """Every installed loader; shim before GRUB alone before systemd-boot."""
    found = []
    for vendor in guest.names(efi):
        if vendor.lower() == "boot":
            continue
        folder = f"{efi}/{vendor}"
        names = {n.lower(): n for n in guest.names(folder)}
        grub = names.get(f"grub{suffix}.efi", "")
        loader = _Loader(
            folder,
            shim=names.get(f"shim{suffix}.efi", "") if grub else "",
            grub=grub,
            config=names.get("grub.cfg", ""),
            keys=names.get(f"mm{suffix}.efi", ""),
            plain=names.get(f"systemd-boot{suffix}.efi", ""),
        )
        if loader.grub or loader.plain:
            found.append(loader)
    return sorted(found, key=lambda one: (not one.shim, not one.grub))


def _applies(guest: Guest, need: Needs) -> bool:
    return Firmware.UEFI in (guest.facts.firmware, need.firmware) and bool(efi_folder(guest))


class UefiFallback(Edits):
    """BOOTX64.EFI and what it starts, copied from the installed loader."""

    id = "uefi-fallback"
    title = "the machine starts without firmware boot entries"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        suffix = SUFFIXES.get(guest.facts.architecture, "x64")
        if not _applies(guest, need):
            return
        efi = efi_folder(guest)
        boot = f"{efi}/{written(guest, efi, 'BOOT') or 'BOOT'}"
        loaders = _loaders(guest, efi, suffix)
        have = written(guest, boot, f"boot{suffix}.efi")
        if not loaders:
            return
        loader = loaders[0]
        if not have:
            first = loader.shim or loader.grub or loader.plain
            why = f"the firmware of the target knows no boot entries and finds no EFI/BOOT/BOOT{suffix.upper()}.EFI"
            yield Edit(f"{boot}/BOOT{suffix.upper()}.EFI", why, text=guest.read(f"{loader.folder}/{first}"))
        elif not loader.shim or guest.read(f"{boot}/{have}") != guest.read(f"{loader.folder}/{loader.shim}"):
            return  # another loader stands there and starts by itself
        if loader.shim:
            why = "shim starts what lies beside it"
            for name in filter(None, (loader.grub, loader.keys)):
                if not written(guest, boot, name):
                    yield Edit(f"{boot}/{name}", why, text=guest.read(f"{loader.folder}/{name}"))
            writer = written(guest, boot, f"fb{suffix}.efi")
            if writer:
                why = f"EFI/BOOT/{writer} would write boot entries and restart the machine"
                yield Edit(f"{boot}/{writer}", why, move=aside(guest, f"{boot}/{writer}"))
        if loader.grub and loader.config and not written(guest, boot, "grub.cfg"):
            why = "GRUB started from EFI/BOOT must find its configuration"
            yield Edit(f"{boot}/grub.cfg", why, text=guest.read(f"{loader.folder}/{loader.config}"))

    def findings(self, guest: Guest, need: Needs) -> Iterable[Finding]:
        if not _applies(guest, need):
            return
        suffix = SUFFIXES.get(guest.facts.architecture, "x64")
        efi = efi_folder(guest)
        boot = f"{efi}/{written(guest, efi, 'BOOT') or 'BOOT'}"
        if not _loaders(guest, efi, suffix) and not written(guest, boot, f"boot{suffix}.efi"):
            yield Finding(
                "boot.no-fallback-loader",
                Level.BLOCKER,
                efi,
                "there is no boot loader on the EFI system partition that could be started without firmware boot entries",
                "install GRUB or systemd-boot in the source machine",
            )
