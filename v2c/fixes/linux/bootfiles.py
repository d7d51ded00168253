"""Where kernel command lines are written: what boots now (grub.cfg, loader entries) and what the next update makes of it.

Both are edited, in agreement: the first so that no generator has to run (update-grub takes 13 to 22 s in an appliance), the
second so that the next update-grub or kernel-install does not bring the old words back.
"""

from collections.abc import Callable, Iterator

from v2c.fixes.fix import Edit, text
from v2c.guest import Guest
from v2c.guest.formats.cmdline import CommandLine
from v2c.guest.formats.grubcfg import GrubConfig
from v2c.guest.formats.loaderentry import LoaderEntry
from v2c.guest.formats.shellvars import Assignment, ShellVars

ESPS = ("/boot/efi", "/efi", "/boot")
DEFAULTS = "/etc/default/grub"
KERNEL_CMDLINE = "/etc/kernel/cmdline"
Change = Callable[[CommandLine], list[str]]  # edits in place, answers why


def grub_configs(guest: Guest) -> list[str]:
    """The grub.cfg files, those on the EFI system partition too."""
    fixed = [path for path in ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg") if guest.exists(path)]
    return fixed + [p for esp in ESPS[:2] for p in guest.glob(f"{esp}/EFI/*/grub.cfg")]


def loader_entries(guest: Guest) -> list[tuple[str, str]]:
    """(partition's mount point, path) of each Boot Loader Specification entry."""
    return [(esp, path) for esp in ESPS for path in guest.glob(f"{esp}/loader/entries/*.conf")]


def command_lines(guest: Guest, change: Change) -> Iterator[Edit]:
    """The edits that carry a change into every command line that boots, and into what kernel-install takes for the next."""
    for path in grub_configs(guest):
        old = text(guest, path)
        if old is None:
            continue
        config = GrubConfig(old)
        reasons = [f"{why} ({path})" for line in config.kernels for why in change(line.command)]
        if str(config) != old:
            yield Edit(path, "; ".join(dict.fromkeys(reasons)), text=str(config))
    for _, path in loader_entries(guest):
        old = text(guest, path)
        if old is None:
            continue
        entry = LoaderEntry(old)
        if not (entry.all("linux") or entry.all("options")):
            continue
        command = entry.command
        reasons = [f"{why} ({path})" for why in change(command)]
        if str(command) != str(entry.command):
            entry.command = command
            yield Edit(path, "; ".join(dict.fromkeys(reasons)), text=str(entry))
    old = text(guest, KERNEL_CMDLINE)
    if old is not None:
        command = CommandLine(old)
        reasons = [f"{why} ({KERNEL_CMDLINE})" for why in change(command)]
        if str(command) != old:
            yield Edit(KERNEL_CMDLINE, "; ".join(dict.fromkeys(reasons)), text=str(command))


class GrubDefaults:
    """/etc/default/grub and the files of grub.d that are read after it, as one."""

    def __init__(self, guest: Guest) -> None:
        self.files: dict[str, ShellVars] = {}
        self._old: dict[str, str] = {}
        for path in [DEFAULTS, *guest.glob(f"{DEFAULTS}.d/*.cfg")]:
            old = text(guest, path)
            if old is not None:
                self.files[path], self._old[path] = ShellVars(old), old

    def assignments(self, *names: str) -> list[Assignment]:
        """Every assignment of these names, in the order of names, then as they are read."""
        return [a for name in names for vars in self.files.values() for a in vars.all(name)]

    def last(self, name: str) -> str:
        """The file whose plain assignment of a name holds; the first one when none has any."""
        holding = [path for path, vars in self.files.items() if any(not a.adds for a in vars.all(name))]
        return holding[-1] if holding else next(iter(self.files))

    def append(self, name: str, words: list[str]) -> None:
        """Adds words to what a variable holds in the end."""
        file = self.files[self.last(name)]
        command = CommandLine(next((a.inner for a in reversed(file.all(name)) if not a.adds), ""))
        command.append(words)
        file.set(name, str(command))

    def edits(self, why: str) -> Iterator[Edit]:
        """The files that differ from what was read."""
        for path, vars in self.files.items():
            if str(vars) != self._old[path]:
                yield Edit(path, f"{why} ({path})", text=str(vars))
