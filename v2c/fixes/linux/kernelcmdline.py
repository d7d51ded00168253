"""/etc/kernel/cmdline: kernel-install writes the running kernel's words into a loader entry when it has no file to take them
from, and in an appliance those are the appliance's (kernel-install(8), 90-loaderentry.install)."""

from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits, present
from v2c.fixes.linux.bootfiles import KERNEL_CMDLINE
from v2c.guest import Guest, kernels
from v2c.guest.formats.cmdline import key
from v2c.guest.formats.loaderentry import LoaderEntry
from v2c.model import Needs


class KernelCommandLineKept(Edits):
    """Writes down what the best entry says, before any hook runs."""

    id = "kernel-cmdline"
    title = "kernel-install knows the machine's command line"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        if any(present(guest, path) for path in (KERNEL_CMDLINE, "/usr/lib/kernel/cmdline")):
            return
        if not any(map(guest.exists, ("/usr/bin/kernel-install", "/bin/kernel-install"))):
            return
        for entry in kernels.entries(guest):
            command = LoaderEntry(guest.text(entry.path)).command
            command.drop(lambda word: key(word) == "systemd.machine_id")
            if command.words:
                why = "the next kernel-install would write the words of whatever machine it runs on"
                yield Edit(KERNEL_CMDLINE, why, text=f"{str(command).strip()}\n", mode=0o644)
                return
