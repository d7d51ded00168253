"""root= and resume= on the kernel's command line, and what writes them the next time."""

from collections.abc import Iterator

from v2c.errors import GuestError
from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.bootfiles import GrubDefaults, command_lines
from v2c.fixes.linux.devices import bound, here, resolve, stable
from v2c.guest import Guest
from v2c.guest.formats.cmdline import CommandLine, key, value
from v2c.guest.formats.devicemap import DeviceMap
from v2c.guest.formats.shellvars import ShellVars
from v2c.model import Facts, Needs

DEVICE_MAPS = ("/boot/grub/device.map", "/boot/grub2/device.map")


def _root(facts: Facts) -> str:
    """The root's own stable name. What this guest boots is this root, whatever its disk was called."""
    if facts.root_uuid:
        return f"UUID={facts.root_uuid}"
    found = next((f for f in facts.filesystems if f.device == facts.root), None)
    if found and stable(found):
        return stable(found)
    raise GuestError(
        f"the root filesystem on {facts.root} has no UUID, so the kernel cannot be told where it is on other hardware",
        remedy="give it one in the source machine (tune2fs -U random, xfs_admin -U generate)",
    )


def _renamed(word: str, facts: Facts) -> str:
    """The word with a name that stays; "" when it names a swap area that does not come along."""
    name = key(word)
    if name == "root" and bound(value(word)):
        return f"root={_root(facts)}"
    if name == "resume":
        if bound(value(word)):
            found = resolve(facts, value(word))
            return f"resume={stable(found)}" if found and stable(found) else ""
        if here(facts, value(word)) is False:
            return ""  # the initramfs would wait for it before it mounts the root
    return word


def _rename(command: CommandLine, facts: Facts) -> list[str]:
    reasons = []
    for word in command.words:
        if _renamed(word, facts) != word:
            reasons.append(f"the kernel is told {word}, and that name changes")
    if reasons:
        command.swap(lambda word: _renamed(word, facts))
    return reasons


class KernelRoot(Edits):
    """The kernel finds its root by UUID, now and after the next update-grub."""

    id = "kernel-root"
    title = "the kernel finds its root by UUID"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        facts = guest.facts
        yield from command_lines(guest, lambda command: _rename(command, facts))
        yield from self._defaults(guest)

    @staticmethod
    def _defaults(guest: Guest) -> Iterator[Edit]:
        defaults = GrubDefaults(guest)
        for assignment in defaults.assignments("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"):
            command = CommandLine(assignment.inner)
            if _rename(command, guest.facts):
                assignment.inner = str(command)
        for vars in defaults.files.values():
            # grub-mkconfig: either of these makes 10_linux write the device's name instead of its UUID
            if (vars.get("GRUB_DISABLE_LINUX_UUID") or "").lower() == "true":
                vars.comment("GRUB_DISABLE_LINUX_UUID")
            if bound(vars.get("GRUB_DEVICE") or ""):
                vars.comment("GRUB_DEVICE")
        yield from defaults.edits("the next update-grub would bring the old device name back")


class DeviceMaps(Edits):
    """GRUB 2 does without a device.map, and a stale one makes grub-install look at a disk that is not there."""

    id = "device-map"
    title = "no stale device.map"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        for path in DEVICE_MAPS:
            names = [name for name in DeviceMap(text(guest, path) or "").devices.values() if bound(name)]
            if names:
                yield Edit(path, f"{path} says {', '.join(names)}, and those names change", move=f"{path}.v2c-before")


class Resume(Edits):
    """RESUME= of initramfs-tools: a swap area that is not there costs half a minute at every boot."""

    id = "resume"
    title = "the initramfs resumes from swap by UUID"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        paths = ["/etc/initramfs-tools/initramfs.conf", *guest.glob("/etc/initramfs-tools/conf.d/*")]
        for path in paths:
            vars = ShellVars(text(guest, path) or "")
            reasons = []
            for assignment in vars.all("RESUME"):
                name = assignment.value
                found = resolve(guest.facts, name) if bound(name) else None
                if bound(name):
                    assignment.raw = stable(found) if found and stable(found) else "none"
                elif here(guest.facts, name) is False:
                    assignment.raw = "none"
                else:
                    continue
                reasons.append(f"{path} resumes from {name}, which the target does not show by that name")
            if reasons:
                yield Edit(path, "; ".join(reasons), text=str(vars))
