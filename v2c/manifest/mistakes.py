"""What is wrong in a file that a user wrote, each mistake with its place; all of them are told at once."""

from collections.abc import Iterable
from dataclasses import dataclass

from v2c.errors import UsageError
from v2c.manifest.looks import looks_secret


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake: file, line and column (both from 1), what is meant ("waves[1].machines[3].disks[0].type", or a table's
    column), what is wrong and what to do. `row`: the file is a table, so a line is a row and `path` is a column's name."""

    file: str
    line: int
    column: int
    path: str
    text: str
    remedy: str = ""
    row: bool = False

    def __str__(self) -> str:
        if self.row:
            where = f"{self.file}: row {self.line}" + (f', column "{self.path}"' if self.path else "")
        else:
            where = f"{self.file}:{self.line}:{self.column}" + (f": {self.path}" if self.path else "")
        return f"{where}: {self.text}" + (f": {self.remedy}" if self.remedy else "")


class ManifestError(UsageError):
    """A manifest or a table is wrong; `mistakes` holds every one of them in the file's order, the sentence the first."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        first, more = self.mistakes[0], len(self.mistakes) - 1
        counted = f" (and {more} more mistake{'s' if more > 1 else ''}: see `v2c manifest check`)" if more else ""
        super().__init__(f"{first}{counted}")


def written(path: Iterable[int | str]) -> str:
    """A path as users read it: ("waves", 1, "machines", 3) is waves[1].machines[3]. A key that looks like a secret is "..."."""
    words = (f"[{part}]" if isinstance(part, int) else ".(...)" if looks_secret(part) else f".{part}" for part in path)
    return "".join(words).removeprefix(".")
