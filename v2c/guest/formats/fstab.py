"""/etc/fstab (fstab(5)): spec, mount point, type, options, dump, pass. Words keep their octal escapes ("\\040")."""

import re

from v2c.guest.formats.lines import Row, Table

_OCTAL = re.compile(r"\\([0-7]{3})")


def plain(word: str) -> str:
    """A word with its octal escapes resolved."""
    return _OCTAL.sub(lambda m: chr(int(m[1], 8)), word)


class Entry:
    """One mount or swap area; views the row, so that setting a field changes the file."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def _word(self, index: int) -> str:
        words = self._row.words
        return words[index] if index < len(words) else ""

    @property
    def spec(self) -> str:
        """What is mounted, quotes removed (UUID="..." is legal)."""
        return self._word(0).replace('"', "")

    @spec.setter
    def spec(self, value: str) -> None:
        self._row.set(0, value)

    @property
    def where(self) -> str:
        """The mount point, "none" or "swap" for swap areas."""
        return plain(self._word(1))

    @property
    def type(self) -> str:
        """The filesystem's type."""
        return self._word(2)

    @property
    def options(self) -> tuple[str, ...]:
        """The mount options, in order."""
        return tuple(self._word(3).split(",")) if self._word(3) else ()

    @options.setter
    def options(self, value: tuple[str, ...]) -> None:
        self._row.set(3, ",".join(value))


class Fstab(Table):
    """The whole file."""

    @property
    def entries(self) -> list[Entry]:
        """Lines that name a device, a mount point and a type, in order."""
        return [Entry(row) for row in self.lines if len(row.words) >= 3]
