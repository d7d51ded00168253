"""modprobe.d(5): `blacklist`, `install`, `alias`, `options` lines. A dash and an underscore in a module's name are the same."""

import re

from v2c.guest.formats.lines import Row, Table


def canonical(module: str) -> str:
    """A module's name as /proc/modules shows it."""
    return module.replace("-", "_")


class Modprobe(Table):
    """One file."""

    @staticmethod
    def _blocks(row: Row) -> str:
        words = row.words
        if len(words) >= 2 and words[0] == "blacklist":
            return canonical(words[1])
        if len(words) >= 3 and words[0] == "install" and re.fullmatch(r"(?:/usr)?/s?bin/(?:true|false)|:|true|false", words[2]):
            return canonical(words[1])
        return ""

    @property
    def blocked(self) -> set[str]:
        """The modules that this file keeps from being loaded."""
        return {name for row in self.lines if (name := self._blocks(row))}

    def allow(self, modules: set[str]) -> None:
        """Turns the lines that block these modules into comments."""
        self.lines = [Row("#" + str(row)) if self._blocks(row) in modules else row for row in self.lines]
