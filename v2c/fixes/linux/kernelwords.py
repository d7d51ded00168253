"""Words of the kernel's command line: the serial console, what the platform asks for, what it must not have."""

from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits
from v2c.fixes.linux.bootfiles import GrubDefaults, command_lines
from v2c.guest import Guest
from v2c.guest.formats.cmdline import CommandLine, key, value
from v2c.guest.formats.modprobe import canonical
from v2c.model import Needs

BLACKLISTS = ("modprobe.blacklist", "module_blacklist", "rd.driver.blacklist")
DATASOURCE = ("ds", "ci.ds", "ci.datasource")  # cloud-init's ds-identify takes these before it looks


def drivers(need: Needs) -> set[str]:
    """Every module that the target asks for."""
    return {canonical(m) for m in (*need.initramfs_required, *need.initramfs_wanted, *need.modules_present)}


def _unwanted(word: str, need: Needs) -> bool:
    if need.datasources and key(word) in DATASOURCE:
        return True
    return any(key(word) == key(r) if r.endswith("=") else word == r for r in need.kernel_remove)


def _unblocked(word: str, need: Needs) -> str:
    """The word without the drivers that it would keep from loading."""
    if key(word) not in {key(name) for name in BLACKLISTS}:
        return word
    kept = [m for m in value(word).split(",") if canonical(m) not in drivers(need)]
    return word if len(kept) == len(value(word).split(",")) else f"{word.partition('=')[0]}={','.join(kept)}" if kept else ""


def _device(console: str) -> str:
    return console.partition(",")[0]


def _clean(command: CommandLine, need: Needs) -> list[str]:
    """Removes what must not be there."""
    reasons = []
    for word in command.words:
        if _unwanted(word, need):
            reasons.append(f'the kernel is told "{word}", which the target must not have')
        elif _unblocked(word, need) != word:
            reasons.append(f'the kernel is told "{word}", which keeps a driver of the target from loading')
    if reasons:
        command.drop(lambda word: _unwanted(word, need))
        command.swap(lambda word: _unblocked(word, need))
    return reasons


def _missing(command: CommandLine, need: Needs) -> tuple[list[str], list[str]]:
    """(words to add, why): those with another value, and the consoles when they are not the last ones in their order."""
    words, reasons = [w for w in need.kernel_add if w not in command.words], []
    if words:
        reasons.append(f'the kernel lacks "{" ".join(words)}"')
    have = command.values("console")
    if need.consoles and have[-len(need.consoles) :] != need.consoles:
        reasons.append(f"the kernel does not speak on {' and '.join(map(_device, need.consoles))}")
        words += [f"console={c}" for c in need.consoles]
    return words, reasons


def _replaced(word: str, words: list[str], need: Needs) -> bool:
    """Whether new words take this one's place."""
    if key(word) == "console":
        return any(w.startswith("console=") for w in words) and _device(value(word)) in map(_device, need.consoles)
    return any(key(word) == key(w) for w in words)


def amend(command: CommandLine, need: Needs) -> list[str]:
    """Makes one whole command line right; answers why it was not."""
    reasons = _clean(command, need)
    words, missing = _missing(command, need)
    if words:
        command.drop(lambda word: _replaced(word, words, need))
        command.append(words)
    return reasons + missing


class KernelWords(Edits):
    """The kernel speaks on the serial port, and has the words that the target asks for."""

    id = "kernel-words"
    title = "the kernel's words and consoles fit the target"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        yield from command_lines(guest, lambda command: amend(command, need))
        yield from self._defaults(guest, need)

    @staticmethod
    def _defaults(guest: Guest, need: Needs) -> Iterator[Edit]:
        """GRUB_CMDLINE_LINUX comes first on the line and _DEFAULT after it, so consoles must stand in one of them only."""
        defaults = GrubDefaults(guest)
        if not defaults.files:
            return
        assignments = defaults.assignments("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")
        lines = [(assignment, CommandLine(assignment.inner)) for assignment in assignments]
        for _, command in lines:
            _clean(command, need)
        words, _ = _missing(CommandLine(" ".join(str(command) for _, command in lines)), need)
        if any(word.startswith("console=") for word in words):
            later = [c for _, command in lines for c in command.values("console")]
            others = [c for c in later if _device(c) not in map(_device, need.consoles)]
            consoles = [f"console={c}" for c in dict.fromkeys((*others, *need.consoles))]
            words = [w for w in words if not w.startswith("console=")] + consoles
            for _, command in lines:
                command.drop(lambda word: key(word) == "console")
        for assignment, command in lines:
            command.drop(lambda word: key(word) != "console" and any(key(word) == key(w) for w in words))
            if str(command) != assignment.inner:
                assignment.inner = str(command)
        if words:
            defaults.append("GRUB_CMDLINE_LINUX", words)
        yield from defaults.edits("the next update-grub would lose the words of the target")
