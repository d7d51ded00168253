"""What line-based formats share: lines with their ends, and rows of words with the blanks between them."""

import re

_BLANK = re.compile(r"([ \t]+)")


def split_lines(text: str) -> list[str]:
    """The lines with their newlines. Only "\\n" ends a line: `str.splitlines` would also split at form feeds and the like."""
    lines = text.split("\n")
    ended = [line + "\n" for line in lines[:-1]]
    return [*ended, lines[-1]] if lines[-1] else ended


def body(line: str) -> str:
    """The line without its end."""
    return line.removesuffix("\n").removesuffix("\r")


class Row:
    """One line as words and the blanks between them; setting a word keeps the blanks, the end and the other words."""

    def __init__(self, line: str) -> None:
        content = body(line)
        self._end = line[len(content) :]
        self._parts = _BLANK.split(content)

    def __str__(self) -> str:
        return "".join(self._parts) + self._end

    @property
    def words(self) -> tuple[str, ...]:
        """The words; none for a blank line or a comment."""
        words = tuple(part for part in self._parts if part and not part.isspace())
        return () if words and words[0].startswith("#") else words

    def set(self, index: int, word: str) -> None:
        """Replaces word `index`, or appends it when it is the first one missing."""
        places = [i for i, part in enumerate(self._parts) if part and not part.isspace()]
        if index < len(places):
            self._parts[places[index]] = word
        elif index == len(places):
            while self._parts and (not self._parts[-1] or self._parts[-1].isspace()):
                self._parts.pop()
            self._parts += [" ", word]
        else:
            raise IndexError(index)


class Table:
    """A file of rows, as fstab and crypttab are."""

    def __init__(self, text: str) -> None:
        self.lines = [Row(line) for line in split_lines(text)]

    def __str__(self) -> str:
        return "".join(str(line) for line in self.lines)
