"""ifupdown's interfaces(5): stanzas of options; a backslash at a line's end continues it; comments stand on their own lines."""

from v2c.guest.formats.lines import body, split_lines

_OPENERS = ("iface", "mapping", "auto", "source", "source-directory", "rename", "no-auto-down", "no-scripts", "template")


class Stanza:
    """An opening line and the option lines that follow, as written."""

    def __init__(self, words: tuple[str, ...], text: str) -> None:
        self.words = words
        self.text = text
        self.options: list[tuple[str, str]] = []

    @property
    def kind(self) -> str:
        """ "iface", "auto", "source", ..., or "" for what stands before the first stanza."""
        return self.words[0] if self.words else ""

    def option(self, name: str) -> str:
        """The first value of an option, or ""."""
        return next((value for key, value in self.options if key == name), "")


class Interfaces:
    """The whole file."""

    def __init__(self, text: str) -> None:
        self.stanzas: list[Stanza] = [Stanza((), "")]
        lines = split_lines(text)
        while lines:
            whole = lines.pop(0)
            logical = body(whole)
            while logical.endswith("\\") and lines and not logical.lstrip().startswith("#"):
                following = lines.pop(0)
                whole += following
                logical = logical[:-1] + body(following)
            words = tuple(logical.split())
            if words and (words[0] in _OPENERS or words[0].startswith("allow-")):
                self.stanzas.append(Stanza(words, whole))
                continue
            self.stanzas[-1].text += whole
            if words and not words[0].startswith("#"):
                self.stanzas[-1].options.append((words[0], logical.strip()[len(words[0]) :].strip()))

    def __str__(self) -> str:
        return "".join(stanza.text for stanza in self.stanzas)

    @property
    def sources(self) -> list[tuple[str, str]]:
        """(keyword, pattern) of each `source` and `source-directory`, in order."""
        return [(s.words[0], word) for s in self.stanzas if s.kind in ("source", "source-directory") for word in s.words[1:]]

    @property
    def interfaces(self) -> list[Stanza]:
        """The `iface` stanzas with a name, a family and a method, the loopback's left out."""
        return [s for s in self.stanzas if s.kind == "iface" and len(s.words) >= 4 and s.words[3] != "loopback"]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of real interfaces that are configured or brought up, sorted."""
        named = {s.words[1] for s in self.interfaces}
        for s in self.stanzas:
            if s.kind == "auto" or s.kind.startswith("allow-"):
                named |= set(s.words[1:])
        return tuple(sorted(named - {"lo"}))
