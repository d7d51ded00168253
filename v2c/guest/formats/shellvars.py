"""Files that a shell reads as assignments: /etc/default/grub, initramfs.conf, dracut.conf.

Understands NAME=value and NAME+=value with quotes and values over several lines; commands, tests and functions are kept and
not understood. A value is edited as it is written between its quotes, so `$(...)` and `$NAME` survive.
"""

import re
from dataclasses import dataclass

_ASSIGNMENT = re.compile(
    r"""(?m)^(?P<head>[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<op>\+?=))"""
    r"""(?P<raw>(?:'[^']*'|"(?:\\.|[^"\\])*"|\$\([^()\n]*\)|\\.|[^\s'"\\;&|()])*)""",
    re.DOTALL,
)
_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def unquote(raw: str) -> str:
    """What the shell makes of a word, without expanding anything."""
    out: list[str] = []
    for part in re.finditer(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|\\(.)|([^'\"\\]+)", raw, re.DOTALL):
        single, double, escaped, bare = part.groups()
        if double is not None:
            out.append(re.sub(r"\\([$`\"\\\n])", lambda m: "" if m[1] == "\n" else m[1], double))
        else:
            out.append(single if single is not None else escaped if escaped is not None else bare)
    return "".join(out)


@dataclass
class Assignment:
    """One assignment; `raw` is the value as written, quotes and all."""

    name: str
    adds: bool
    head: str
    raw: str

    @property
    def value(self) -> str:
        """The value without quotes; `$NAME` unexpanded."""
        return unquote(self.raw)

    @property
    def inner(self) -> str:
        """The text inside the outer quotes, as written; of an unquoted or mixed value, the value."""
        for quote in "\"'":
            if len(self.raw) >= 2 and self.raw[0] == self.raw[-1] == quote and quote not in self.raw[1:-1].replace('\\"', ""):
                return self.raw[1:-1]
        return self.value

    @inner.setter
    def inner(self, text: str) -> None:
        bare = not re.search(r"[\"'\\]", self.raw) and self.raw
        if bare and re.fullmatch(r"[\w@%+=:,./-]+", text):
            self.raw = text
            return
        quote = self.raw[0] if self.raw and self.inner == self.raw[1:-1] and self.raw[0] in "\"'" else '"'
        self.raw = f"{quote}{text}{quote}"


class ShellVars:
    """The whole file, as text and assignments in turns."""

    def __init__(self, text: str) -> None:
        self._parts: list[str | Assignment] = []
        at = 0
        for match in _ASSIGNMENT.finditer(text):
            self._parts.append(text[at : match.start()])
            self._parts.append(Assignment(match["name"], match["op"] == "+=", match["head"], match["raw"]))
            at = match.end()
        self._parts.append(text[at:])

    def __str__(self) -> str:
        return "".join(part if isinstance(part, str) else part.head + part.raw for part in self._parts)

    def all(self, name: str) -> list[Assignment]:
        """The assignments of a name, in order."""
        return [part for part in self._parts if isinstance(part, Assignment) and part.name == name]

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value after the whole file was read: later assignments win, `+=` appends, earlier names are expanded."""
        known: dict[str, str] = {}
        for part in self._parts:
            if isinstance(part, Assignment):
                text = _REFERENCE.sub(lambda m: known.get(m[1] or m[2], ""), part.value)
                known[part.name] = known.get(part.name, "") + text if part.adds else text
        return known.get(name, default)

    def set(self, name: str, text: str) -> None:
        """Gives the last plain assignment this value, or appends one at the end of the file."""
        plain = [a for a in self.all(name) if not a.adds]
        if plain:
            plain[-1].inner = text
            return
        last = str(self)
        if last and not last.endswith("\n"):
            self._parts.append("\n")
        self._parts.append(Assignment(name, False, f"{name}=", f'"{text}"'))
        self._parts.append("\n")

    def comment(self, name: str) -> None:
        """Turns every assignment of a name into a comment (only those that hold on one line)."""
        for part in self.all(name):
            if "\n" not in part.raw:
                self._parts[self._parts.index(part)] = f"#{part.head}{part.raw}"
