"""Boot Loader Specification entries (/loader/entries/*.conf): a key and its value per line; `initrd` and `options` may repeat."""

from v2c.guest.formats.cmdline import CommandLine
from v2c.guest.formats.lines import body, split_lines


class _Field:
    def __init__(self, line: str) -> None:
        content = body(line)
        self.end = line[len(content) :]
        stripped = content.lstrip(" \t")
        key = "" if stripped.startswith("#") else stripped.split(" ", 1)[0].split("\t", 1)[0]
        start = len(content) - len(stripped) + len(key)
        rest = content[start:]
        self.key = key
        self.value = rest.lstrip(" \t")
        self.head = content[: len(content) - len(self.value)]

    def __str__(self) -> str:
        return self.head + self.value + self.end


class LoaderEntry:
    """One entry."""

    def __init__(self, text: str) -> None:
        self._fields = [_Field(line) for line in split_lines(text)]

    def __str__(self) -> str:
        return "".join(str(field) for field in self._fields)

    def all(self, key: str) -> list[str]:
        """The values of a key, in order."""
        return [field.value for field in self._fields if field.key == key]

    @property
    def command(self) -> CommandLine:
        """All options as one command line (a copy: set it to change the entry)."""
        return CommandLine(" ".join(self.all("options")))

    @command.setter
    def command(self, value: CommandLine) -> None:
        """Writes the options into the first such line and empties the others."""
        mine = [field for field in self._fields if field.key == "options"]
        if not mine:
            last = self._fields[-1] if self._fields else None
            if last and not last.end:
                last.end = "\n"
            mine = [_Field("options x\n")]
            self._fields.append(mine[0])
        mine[0].value = str(value)
        self._fields = [field for field in self._fields if field.key != "options" or field is mine[0]]
