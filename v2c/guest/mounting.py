"""From bare disks to a mounted machine: unlock, find the root, check that it may be touched, mount by its own fstab."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from v2c.errors import GuestError
from v2c.guest import devices, roots, survey
from v2c.guest.client import Appliance, Failed
from v2c.guest.inspect import ESP, mounts_of
from v2c.guest.keys import LOCKED, Key
from v2c.guest.roots import Root
from v2c.guest.survey import Block
from v2c.model import Disk, Filesystem, Finding, Level

_ELSEWHERE = {  # filesystems that no disk of ours holds
    *("tmpfs", "ramfs", "proc", "sysfs", "devpts", "devtmpfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs"),
    *("nfs", "nfs4", "cifs", "smbfs", "smb3", "sshfs", "fuse.sshfs", "glusterfs", "ceph", "9p", "virtiofs", "vmhgfs", "vboxsf"),
    *(
        "fuse.vmhgfs-fuse",
        "overlay",
        "autofs",
        "iso9660",
        "udf",
        "none",
        "swap",
        "binfmt_misc",
        "configfs",
        "hugetlbfs",
        "mqueue",
    ),
}
_NEEDED = ("/", "/usr", "/var", "/boot", "/boot/efi", "/efi")  # without them a repair would write beside the mark


@dataclass(frozen=True, slots=True)
class Opened:
    """The machine before it is mounted."""

    root: Root
    filesystems: tuple[Filesystem, ...]
    boot_disk: str
    blocks: tuple[Block, ...]
    findings: tuple[Finding, ...] = ()


def open_root(appliance: Appliance, disks: Sequence[Disk], keys: Sequence[Key], wanted: str) -> Opened:
    """Unlocks what the keys open, looks at every filesystem, and chooses the root. GuestError when there is none to take."""
    found = _unlocked(appliance, disks, keys)
    filesystems = survey.filesystems(found, disks)
    for filesystem in filesystems:
        if filesystem.type == "swsuspend":
            raise GuestError(
                f"the machine is hibernated: {filesystem.device} holds its memory",
                remedy="start it, shut it down completely and try again",
            )
    seen = roots.looked(appliance.call("look", devices=[[b.name, b.type] for b in found if b.type]), found, filesystems)
    grub = [disks[block.drives[0]].id for block in found if block.grub]
    root = roots.choose(seen, filesystems, wanted, grub)
    if root.hibernated:
        raise GuestError(
            f"Windows on {root.filesystem.device} is hibernated, or was shut down with Fast Startup",
            remedy="shut it down with `shutdown /s /t 0` and try again",
        )
    findings = tuple(_locked(filesystems))
    names = _own_names(appliance, root, filesystems)
    filesystems = tuple(replace(fs, device=names.get(fs.device, fs.device)) for fs in filesystems)
    root = replace(root, filesystem=replace(root.filesystem, device=names.get(root.filesystem.device, root.filesystem.device)))
    return Opened(root, filesystems, roots.boot_disk(root, filesystems, grub), tuple(found), findings)


def mount_all(appliance: Appliance, opened: Opened, *, writable: bool) -> tuple[dict[str, str], list[Finding]]:
    """Mounts the root and what its fstab says, shorter paths first; path -> device, and what was passed over."""
    root = opened.root
    findings = list(opened.findings)
    wanted: dict[str, tuple[Filesystem, str]] = {}
    wanted["/"] = (root.filesystem, f"subvol={root.subvolume}" if root.subvolume else "")
    mounts, _ = mounts_of(root.fstab, opened.filesystems, root.names())
    for mount in mounts:
        choices = mount.options.split(",")
        if mount.where == "/" or set(mount.type.split(",")) <= _ELSEWHERE or "bind" in choices or "rbind" in choices:
            continue
        filesystem = next((fs for fs in opened.filesystems if fs.device == mount.device), None)
        if filesystem is None:
            if mount.where in _NEEDED:
                raise GuestError(
                    f"{mount.where} of the machine is {mount.spec} in /etc/fstab, and no disk given here holds it",
                    remedy="give all disks of the machine, in their order",
                )
            if "noauto" not in choices:
                findings.append(_passed(mount.where, f"{mount.spec} is on none of the disks given here"))
        else:
            subvolume = next((w for w in choices if w.startswith(("subvol=", "subvolid="))), "")
            wanted[mount.where] = (filesystem, subvolume if filesystem.type == "btrfs" else "")
    mounted: dict[str, str] = {}
    for where in sorted(wanted, key=lambda path: (path.count("/"), path)):
        filesystem, subvolume = wanted[where]
        findings += _usable(filesystem, where, opened.blocks)
        try:
            appliance.call(
                "mount", device=filesystem.device, where=where, options=_options(filesystem, subvolume, root, writable)
            )
            mounted[where] = filesystem.device
        except Failed as failed:
            words = " ".join(failed.text.split())
            if where in _NEEDED:
                raise GuestError(
                    f"{filesystem.device} ({where}) cannot be mounted: {words}", remedy="check it with fsck in the machine"
                ) from None
            findings.append(_passed(where, f"{filesystem.device} cannot be mounted ({words})"))
    _mount_esp(appliance, opened, mounted, writable)
    return mounted, findings


def _options(filesystem: Filesystem, subvolume: str, root: Root, writable: bool) -> str:
    """`writable` or not, a journal is replayed: what is not to be written is a snapshot."""
    words = [subvolume] if subvolume else []
    if not writable or root.windows:
        words.append("ro")
    if filesystem.type == "xfs":
        words.append("nouuid")  # a copy of a disk beside it is no reason to refuse
    return ",".join(words)


def _mount_esp(appliance: Appliance, opened: Opened, mounted: dict[str, str], writable: bool) -> None:
    """systemd mounts the EFI system partition without a line of fstab (systemd-gpt-auto-generator(8)), at /efi or /boot."""
    esp = next(
        (fs for fs in opened.filesystems if fs.parttype == ESP and fs.disk == opened.boot_disk and fs.type == "vfat"), None
    )
    if esp is None or opened.root.windows or esp.device in mounted.values():
        return
    for where in ("/boot/efi", "/efi", "/boot"):
        try:
            if where not in mounted and not appliance.call("names", path=where):
                appliance.call("mount", device=esp.device, where=where, options="" if writable else "ro")
                mounted[where] = esp.device
                return
        except Failed:
            continue


def _unlocked(appliance: Appliance, disks: Sequence[Disk], keys: Sequence[Key]) -> list[Block]:
    """The survey, after every encrypted device for which there is a key was opened; also one on a volume that was inside one."""
    tried: set[str] = set()
    while True:
        found = survey.blocks(appliance.call("survey"), len(disks))
        filesystems = survey.filesystems(found, disks)
        locked = [fs for fs in filesystems if fs.type == "crypto_LUKS" and fs.device not in tried]
        fitting = [(fs, [key for key in keys if key.fits(fs, filesystems)]) for fs in locked]
        fitting = [(fs, some) for fs, some in fitting if some]
        if not fitting:
            return found
        for fs, some in fitting:
            tried.add(fs.device)
            if not any(_opens(appliance, fs, key) for key in some) and any(key.selector != "all" for key in some):
                raise GuestError(
                    f"the key given for {fs.device} (UUID {fs.uuid}) does not open it",
                    remedy="try it with cryptsetup open --test-passphrase",
                )
        appliance.call("volumes")


def _opens(appliance: Appliance, filesystem: Filesystem, key: Key) -> bool:
    try:
        appliance.call("unlock", device=filesystem.device, name=devices.luks_name(filesystem.uuid), key=key.secret())
    except Failed as failed:
        if "No key available" in failed.text or "passphrase" in failed.text.lower():
            return False
        raise GuestError(
            f"{filesystem.device} (UUID {filesystem.uuid}) cannot be opened: {' '.join(failed.text.split())}",
            remedy="try it with cryptsetup open in the machine",
        ) from None
    return True


def _own_names(appliance: Appliance, root: Root, filesystems: Sequence[Filesystem]) -> dict[str, str]:
    """Renames what we opened to what crypttab calls it: the guest's own tools look for it by that name. Old -> new device."""
    names = {}
    for name, below in root.names().items():
        under = devices.find(below, filesystems)
        if under is None or under.type != "crypto_LUKS":
            continue
        opened = f"/dev/mapper/{devices.luks_name(under.uuid)}"
        if any(fs.device == opened for fs in filesystems) and name != devices.luks_name(under.uuid):
            try:
                appliance.call("rename_mapping", old=devices.luks_name(under.uuid), new=name)
            except Failed:
                continue  # a name that device mapper refuses: the machine's own boot would not use it either
            names[opened] = f"/dev/mapper/{name}"
    return names


def _usable(filesystem: Filesystem, where: str, found: Sequence[Block]) -> list[Finding]:
    """Refuses a filesystem that has recorded errors; tells of one that was not unmounted."""
    block = next((b for b in found if (b.tags.get("UUID"), b.size) == (filesystem.uuid, filesystem.size)), None)
    if block is None:
        return []
    if block.errors:
        raise GuestError(
            f"the filesystem of {where} ({filesystem.device}) has recorded errors",
            remedy="start the machine, let fsck repair it, shut it down and try again",
        )
    if block.unclean:
        text = f"{where} ({filesystem.device}) was not unmounted: the machine was not shut down cleanly; its journal was replayed"
        return [Finding("guest.unclean", Level.WARNING, where, text, "shut the machine down before it is copied")]
    return []


def _locked(filesystems: Sequence[Filesystem]) -> list[Finding]:
    opened = {fs.device for fs in filesystems}
    found = []
    for fs in filesystems:
        if fs.type in LOCKED and f"/dev/mapper/{devices.luks_name(fs.uuid)}" not in opened:
            text = f"{fs.device} (UUID {fs.uuid}) is encrypted and stays closed: nothing on it is looked at or changed"
            found.append(Finding("guest.locked", Level.INFO, fs.device, text, f"open it with --key {fs.uuid}:file:PATH"))
    return found


def _passed(where: str, text: str) -> Finding:
    return Finding("guest.not-mounted", Level.WARNING, where, f"{where} was not mounted: {text}", "give all disks of the machine")
