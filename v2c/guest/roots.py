"""Which of the filesystems is the machine's root: by rule or by `--root`, never by asking."""

from collections.abc import Sequence
from dataclasses import dataclass

from v2c.errors import GuestError
from v2c.guest import devices
from v2c.guest.formats.crypttab import Crypttab
from v2c.guest.formats.shellvars import ShellVars
from v2c.guest.inspect import mounts_of
from v2c.guest.keys import LOCKED
from v2c.guest.survey import Block, plain, sections
from v2c.model import Filesystem, Mount


@dataclass(frozen=True, slots=True)
class Root:
    """A filesystem (or a subvolume of one) that holds an operating system, seen before anything is mounted for good."""

    filesystem: Filesystem
    subvolume: str = ""
    title: str = ""
    fstab: str = ""
    crypttab: str = ""
    windows: bool = False
    hibernated: bool = False

    @property
    def name(self) -> str:
        """How it is told, and how `--root` takes it."""
        return self.filesystem.device + (f":{self.subvolume}" if self.subvolume else "")

    def names(self) -> dict[str, str]:
        """crypttab: the name of an opened volume -> the device below it."""
        return {v.name: v.device for v in Crypttab(self.crypttab).volumes}


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at every filesystem showed: the roots, and why others could not be read."""

    roots: tuple[Root, ...]
    errors: tuple[tuple[str, str], ...]


def looked(text: str, found: Sequence[Block], filesystems: Sequence[Filesystem]) -> Looked:
    """From the helper's `look`. A root has /etc and programs; of btrfs subvolumes the default one stands for its filesystem."""
    device = {block.name: block.device for block in found}
    by_device = {fs.device: fs for fs in filesystems}
    roots: list[Root] = []
    errors = []
    defaults = {name: plain(values["default"]) for name, values in sections(text) if values.get("default")}
    for name, values in sections(text):
        filesystem = by_device.get(device.get(name, ""))
        if filesystem is None:
            continue
        if "error" in values:
            errors.append((filesystem.device, " ".join(plain(values["error"]).split())))
        elif "linux" in values or "windows" in values:
            release = ShellVars(plain(values.get("release", "")))
            hiber = plain(values.get("hiberfil", "")).lower()
            roots.append(
                Root(
                    filesystem,
                    plain(values.get("subvolume", "")),
                    release.get("PRETTY_NAME") or ("Windows" if "windows" in values else ""),
                    plain(values.get("fstab", "")),
                    plain(values.get("crypttab", "")),
                    "linux" not in values,
                    hiber in ("hibr", "wake"),
                )
            )
    preferred = {device[name]: subvolume for name, subvolume in defaults.items() if name in device}
    chosen = [r for r in roots if preferred.get(r.filesystem.device, r.subvolume) == r.subvolume]
    whole = {r.filesystem.device for r in chosen}
    chosen += [r for r in roots if r.filesystem.device not in whole]
    return Looked(tuple(chosen), tuple(errors))


def choose(seen: Looked, filesystems: Sequence[Filesystem], wanted: str, grub: Sequence[str]) -> Root:
    """The root. `wanted` is the user's word for it; `grub` the ids of the disks whose boot sector is GRUB's.

    Of several: the one whose own fstab mounts itself as "/"; of several of those the one whose /boot lies on the disk that
    boots. Still several: GuestError names the choices, and `--root`.
    """
    roots = seen.roots
    if wanted:
        return _wanted(roots, filesystems, wanted)
    if not roots:
        raise nothing(seen, filesystems)
    if len(roots) > 1:
        roots = tuple(r for r in roots if _itself(r, filesystems)) or roots
    if len(roots) > 1:
        roots = tuple(r for r in roots if (_boot_partition(r, filesystems) or r.filesystem.disk) in grub) or roots
    if len(roots) > 1:
        choices = ", ".join(f"{r.name} ({r.title})" if r.title else r.name for r in roots)
        raise GuestError(
            f"the disks hold {len(roots)} operating systems: {choices}", remedy=f"choose one with --root {roots[0].name}"
        )
    return roots[0]


def boot_disk(root: Root, filesystems: Sequence[Filesystem], grub: Sequence[str]) -> str:
    """The id of the disk that the firmware starts: that of /boot or of the EFI system partition; else GRUB's; else the root's."""
    named = _boot_partition(root, filesystems)
    if named:
        return named
    if root.filesystem.disk and (not grub or root.filesystem.disk in grub):
        return root.filesystem.disk
    return grub[0] if grub else ""


def _boot_partition(root: Root, filesystems: Sequence[Filesystem]) -> str:
    """The disk of the EFI system partition or /boot that its fstab names, "" when it names none."""
    mounts, _ = mounts_of(root.fstab, filesystems, root.names())
    where = {mount.where: mount.device for mount in mounts if mount.device}
    for path in ("/boot/efi", "/efi", "/boot"):
        found = next((fs for fs in filesystems if fs.device == where.get(path)), None)
        if found is not None and found.disk:
            return found.disk
    return ""


def nothing(seen: Looked, filesystems: Sequence[Filesystem]) -> GuestError:
    """Why there is no root: encrypted, unreadable, or nothing there."""
    locked = [fs for fs in filesystems if fs.type in LOCKED and not _opened(fs, filesystems)]
    if locked:
        fs = locked[0]
        many = f" (and {len(locked) - 1} more)" if len(locked) > 1 else ""
        selector = fs.uuid or fs.device
        if fs.type == "BitLocker":
            return GuestError(
                f"{fs.device} is encrypted with BitLocker{many}", remedy="decrypt it in the machine first (manage-bde -off)"
            )
        return GuestError(
            f"{fs.device} (UUID {fs.uuid}) is encrypted{many}, and no key opens it",
            remedy=f"give one with --key {selector}:file:PATH or --key {selector}:env:NAME",
        )
    if seen.errors:
        device, text = seen.errors[0]
        return GuestError(
            f"no operating system was found, and {device} cannot be read: {text}", remedy="check it with fsck in the machine"
        )
    types = ", ".join(f"{fs.device} {fs.type}" for fs in filesystems if fs.type)
    return GuestError(
        f"no operating system was found on the disks ({types or 'they are empty'})",
        remedy="give all disks of the machine, the one that boots among them",
    )


def _wanted(roots: Sequence[Root], filesystems: Sequence[Filesystem], wanted: str) -> Root:
    found = [r for r in roots if r.name == wanted]
    if not found:
        named = devices.find(wanted, filesystems)
        found = [r for r in roots if r.filesystem == named]
    if len(found) == 1:
        return found[0]
    choices = ", ".join(r.name for r in roots) or "none"
    raise GuestError(f"--root {wanted} is no operating system of this machine", remedy=f"there are: {choices}")


def _itself(root: Root, filesystems: Sequence[Filesystem]) -> bool:
    mounts: tuple[Mount, ...]
    mounts, _ = mounts_of(root.fstab, filesystems, root.names())
    mount = next((m for m in mounts if m.where == "/"), None)
    if mount is None or mount.device != root.filesystem.device:
        return False
    options = dict(o.partition("=")[::2] for o in mount.options.split(","))
    return not root.subvolume or options.get("subvol", root.subvolume).strip("/") == root.subvolume


def _opened(locked: Filesystem, filesystems: Sequence[Filesystem]) -> bool:
    return any(fs.device == f"/dev/mapper/{devices.luks_name(locked.uuid)}" for fs in filesystems)
