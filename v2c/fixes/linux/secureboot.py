"""Whether a target that verifies what it starts would start the repaired guest: shim has a signature that its firmware trusts;
what shim starts, the kernels, and their drivers have one.

What is not signed so is no blocker: such a machine is started unverified, and is told of.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import replace

from v2c.fixes.linux.fallback import SUFFIXES, efi_folder, written
from v2c.fixes.linux.modules import ModuleTree
from v2c.guest import Guest
from v2c.guest.formats.modprobe import canonical
from v2c.guest.formats.module import signed
from v2c.guest.formats.pe import signature
from v2c.model import Caps, Finding, Firmware, Level, Needs

_REMEDY = "have shim, GRUB and kernels as the distribution signed them in the source machine, and remove other kernels"


def judged(guest: Guest, need: Needs, caps: Caps) -> tuple[Caps, list[Finding]]:
    """The caps with whether it can be verified, and a finding of why it cannot. Nothing where nobody asks (`need.trusts`)."""
    if not need.trusts or caps.firmware is not Firmware.UEFI:
        return caps, []
    why = next(_lacking(guest, need, caps), "")
    if not why:
        return replace(caps, secure_boot=True), []
    text = f"{why}, so the machine starts without secure boot there"
    return caps, [Finding("boot.unsigned", Level.WARNING, "guest", text, _REMEDY)]


def _lacking(guest: Guest, need: Needs, caps: Caps) -> Iterator[str]:
    """What is not signed as it should be, in the order in which it is started."""
    suffix = SUFFIXES.get(guest.facts.architecture, "x64")
    efi = efi_folder(guest)
    boot = f"{efi}/{written(guest, efi, 'BOOT') or 'BOOT'}"
    first, second = (written(guest, boot, f"{name}{suffix}.efi") for name in ("boot", "grub"))
    shim = signature(_bytes(guest, f"{boot}/{first}")) if first else b""
    if not any(name.encode() in shim for name in need.trusts):
        yield f"{boot}/{first or f'BOOT{suffix.upper()}.EFI'} is not signed by {' or '.join(need.trusts)}"
    if not second or not signature(_bytes(guest, f"{boot}/{second}")):
        yield f"{boot}/{second or f'grub{suffix}.efi'}, which shim starts, is not signed"
    kernels = {kernel.release: kernel for kernel in guest.facts.kernels}
    for release in (kernel.release for kernel in caps.kernels):
        if not signature(_bytes(guest, kernels[release].image)):
            yield f"the kernel {release} is not signed"
        tree = ModuleTree.of(guest, release, kernels[release].modules)
        for name in dict.fromkeys(below for module in need.initramfs_required for below in tree.needed(module)):
            path = posixpath.join(kernels[release].modules, tree.paths[canonical(name)])
            if not signed(path, _bytes(guest, path)):
                yield f"the module {name} of the kernel {release} is not signed"


def _bytes(guest: Guest, path: str) -> bytes:
    """A file; empty where there is none."""
    try:
        return guest.read(path)
    except OSError:
        return b""
