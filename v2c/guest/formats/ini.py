"""Sections of key=value lines: systemd-networkd's .network and .link files, systemd units, NetworkManager's keyfiles.

Keys may repeat (Address=, DNS=); an empty value resets a list (systemd.syntax(7)). Comments begin with "#" or ";".
"""

from v2c.guest.formats.lines import body, split_lines


class Line:
    """One line and the section it stands in."""

    def __init__(self, text: str, section: str) -> None:
        self.text = text
        self.section = section
        content = body(text).strip()
        self.key, self.value = "", ""
        if content and content[0] not in "#;[" and "=" in content:
            key, _, value = content.partition("=")
            self.key, self.value = key.strip(), value.strip()


class Ini:
    """The whole file."""

    def __init__(self, text: str) -> None:
        self.lines: list[Line] = []
        section = ""
        for line in split_lines(text):
            content = body(line).strip()
            if content.startswith("[") and content.endswith("]"):
                section = content[1:-1]
            self.lines.append(Line(line, section))

    def __str__(self) -> str:
        return "".join(line.text for line in self.lines)

    def all(self, section: str, key: str) -> list[str]:
        """The values of a key, in order."""
        return [line.value for line in self.lines if line.section == section and line.key == key]

    def get(self, section: str, key: str) -> str:
        """The last value of a key, "" when there is none."""
        return (self.all(section, key) or [""])[-1]

    def drop(self, section: str, *keys: str) -> None:
        """Removes the lines of these keys."""
        self.lines = [line for line in self.lines if line.section != section or line.key not in keys]

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections' names, in order, each once."""
        return tuple(dict.fromkeys(line.section for line in self.lines if line.section))
