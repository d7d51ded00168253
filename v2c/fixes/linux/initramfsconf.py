"""What the next kernel's initramfs is made of: the target's drivers are kept in it by configuration."""

from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.modules import ModuleTree
from v2c.guest import Guest
from v2c.guest.formats.lines import Row, Table
from v2c.guest.formats.modprobe import canonical
from v2c.guest.formats.shellvars import ShellVars
from v2c.model import Needs

LIST = "/etc/initramfs-tools/modules"
DRACUT = "/etc/dracut.conf.d/zz-v2c.conf"  # read last: a later file could take back what it says


def tool(guest: Guest) -> str:
    """The guest's own builder: "initramfs-tools", "dracut", or "" when it has neither."""
    known = guest.facts.initramfs_tool
    if known in ("initramfs-tools", "dracut"):
        return known
    if any(map(guest.exists, ("/usr/sbin/update-initramfs", "/sbin/update-initramfs"))):
        return "initramfs-tools"
    return "dracut" if any(map(guest.exists, ("/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut"))) else ""


def drivers(need: Needs) -> tuple[str, ...]:
    """What the image shall hold, each once, required ones first."""
    return tuple(dict.fromkeys((*need.initramfs_required, *need.initramfs_wanted)))


def _known(guest: Guest, need: Needs) -> tuple[str, ...]:
    """Those that any installed kernel has as a file: others would only make the tools complain."""
    trees = [ModuleTree.of(guest, k.release, k.modules) for k in guest.facts.kernels if k.modules]
    return tuple(m for m in drivers(need) if any(tree.needed(m) for tree in trees))


def dracut_says(guest: Guest, name: str) -> bool:
    """Whether the guest's own configuration of dracut gives a variable a value."""
    paths = ["/etc/dracut.conf", *guest.glob("/etc/dracut.conf.d/*.conf"), *guest.glob("/usr/lib/dracut/dracut.conf.d/*.conf")]
    return any((ShellVars(text(guest, path) or "").get(name) or "").split() for path in paths if path != DRACUT)


class InitramfsConfig(Edits):
    """initramfs-tools' list of modules (read whatever MODULES= says), or a file of dracut.conf.d."""

    id = "initramfs-config"
    title = "the next kernel's initramfs keeps the target's drivers"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        builder, wanted = tool(guest), _known(guest, need)
        if not wanted:
            return
        if builder == "initramfs-tools":
            old = text(guest, LIST) or ""
            listed = {canonical(row.words[0]) for row in Table(old).lines if row.words}
            missing = [m for m in wanted if canonical(m) not in listed]
            if missing:
                lines = [Row("# drivers of the machine's new home, added by v2c\n"), *(Row(f"{m}\n") for m in missing)]
                new = old if not old or old.endswith("\n") else old + "\n"
                why = f"{LIST} lacks {', '.join(missing)}"
                yield Edit(LIST, why, text=new + "".join(map(str, lines)))
        elif builder == "dracut":
            # a list of modules and no others: add_drivers cannot widen that (dracut.conf(5))
            variable = "drivers" if dracut_says(guest, "drivers") else "add_drivers"
            # a host-only image looks at the hardware it is built on, which is not what it will start on
            new = f'# drivers of the machine\'s new home, added by v2c\nhostonly="no"\n{variable}+=" {" ".join(wanted)} "\n'
            if text(guest, DRACUT) != new:
                yield Edit(DRACUT, f"dracut is not told to take {', '.join(wanted)}", text=new)
