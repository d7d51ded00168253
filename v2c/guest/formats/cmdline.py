"""Words of the kernel's command line: parted by blanks, double quotes hold blanks together (kernel-parameters.txt).

The text may stand inside a shell or grub string, so words are never requoted: what is not touched stays as it was written.
"""

import re
from collections.abc import Callable, Iterable

_TOKEN = re.compile(r'[ \t\r\n]+|(?:[^ \t\r\n"]|"[^"]*(?:"|\Z))+')


def key(word: str) -> str:
    """The name of a parameter, with dashes as underscores as the kernel compares them; quotes removed."""
    return word.strip("\"'").partition("=")[0].replace("-", "_")


def value(word: str) -> str:
    """What follows the first "=", quotes removed."""
    return word.partition("=")[2].replace('\\"', "").replace('"', "").strip("'")


class CommandLine:
    """The words, with the blanks between them."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = _TOKEN.findall(text)

    def __str__(self) -> str:
        return "".join(self._tokens)

    @property
    def words(self) -> tuple[str, ...]:
        """The words in order."""
        return tuple(token for token in self._tokens if not token.isspace())

    def values(self, name: str) -> tuple[str, ...]:
        """All values of a parameter, in order ("" for a bare word)."""
        return tuple(value(word) for word in self.words if key(word) == key(name))

    def drop(self, unwanted: Callable[[str], bool]) -> None:
        """Removes the words for which `unwanted` is true, each with the blank before it (or, first of all, after it)."""
        kept: list[str] = []
        skip = False
        for token in self._tokens:
            if token.isspace():
                if not skip or "\n" in token:
                    kept.append(token)
                skip = False
            elif not unwanted(token):
                kept.append(token)
            elif kept and kept[-1].isspace():
                kept.pop()
            else:
                skip = True
        self._tokens = kept

    def swap(self, change: Callable[[str], str]) -> None:
        """Replaces each word by `change(word)`; an empty answer removes it."""
        self._tokens = [token if token.isspace() else change(token) for token in self._tokens]
        self.drop(lambda word: word == "")

    def append(self, words: Iterable[str]) -> None:
        """Adds words at the end, before a last newline."""
        for word in words:
            tail = self._tokens.pop() if self._tokens and self._tokens[-1].isspace() else ""
            if self.words:
                self._tokens.append(" ")
            self._tokens.append(word)
            if "\n" in tail:
                self._tokens.append("\n")
