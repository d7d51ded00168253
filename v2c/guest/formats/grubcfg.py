"""grub.cfg: the kernel lines, edited in place; all else is kept as it is.

Entries that other systems on the disk were given by os-prober (between its BEGIN and END marks) are not ours.
"""

import re

from v2c.guest.formats.cmdline import CommandLine
from v2c.guest.formats.lines import body, split_lines

_KERNEL = re.compile(r"^(\s*linux(?:16|efi)?[ \t]+)(\S+)(.*)$", re.DOTALL)
_BEGIN = re.compile(r"^### BEGIN (\S+) ###")
_END = re.compile(r"^### END (\S+) ###")
FOREIGN = ("os-prober", "memtest")


class KernelLine:
    """One `linux` line: the image as grub sees it, and its command line."""

    def __init__(self, line: str, match: re.Match[str]) -> None:
        self._end = line[len(body(line)) :]
        self._head = match[1]
        self.image = match[2]
        self.command = CommandLine(match[3])

    def __str__(self) -> str:
        return f"{self._head}{self.image}{self.command}{self._end}"


class GrubConfig:
    """The whole file."""

    def __init__(self, text: str) -> None:
        self._lines: list[str | KernelLine] = []
        section = ""
        for line in split_lines(text):
            if begin := _BEGIN.match(line):
                section = begin[1]
            elif _END.match(line):
                section = ""
            match = _KERNEL.match(body(line))
            ours = match and not any(word in section for word in FOREIGN) and "linu" in match[2].rpartition("/")[2]
            self._lines.append(KernelLine(line, match) if match and ours else line)

    def __str__(self) -> str:
        return "".join(str(line) for line in self._lines)

    @property
    def kernels(self) -> list[KernelLine]:
        """The kernel lines of this system, in order."""
        return [line for line in self._lines if isinstance(line, KernelLine)]
