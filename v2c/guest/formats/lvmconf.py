"""lvm.conf(5): the device filters. Only assignments of `filter` and `global_filter` are understood, all else is kept."""

import re

_FILTER = re.compile(
    r"(?m)^(?P<blank>[ \t]*)(?P<name>filter|global_filter)(?P<eq>[ \t]*=[ \t]*)"
    r"(?P<list>\[[^\]\"]*(?:\"[^\"]*\"[^\]\"]*)*\]|\"[^\"]*\")"
)
_PATTERN = re.compile(r'"([^"]*)"')


def accepts(patterns: list[str], device: str) -> bool:
    """Whether a list of patterns ("a|/dev/sd.*|", "r|.*|") lets a device through: the first match decides, none accepts."""
    for pattern in patterns:
        if len(pattern) < 3 or pattern[0] not in "ar":
            continue
        closing = {"(": ")", "[": "]", "{": "}"}.get(pattern[1], pattern[1])
        expression = pattern[2:].removesuffix(closing)
        try:
            if re.search(expression, device):
                return pattern[0] == "a"
        except re.error:
            continue
    return True


class LvmConf:
    """The whole file."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    @property
    def filters(self) -> list[tuple[str, list[str]]]:
        """(name, patterns) of each filter in force, in order."""
        return [(m["name"], _PATTERN.findall(m["list"])) for m in _FILTER.finditer(self._text)]

    def comment(self, harmful: set[str]) -> None:
        """Turns the assignments of these names into comments, on all their lines."""

        def out(match: re.Match[str]) -> str:
            return match[0] if match["name"] not in harmful else "\n".join("#" + line for line in match[0].split("\n"))

        self._text = _FILTER.sub(out, self._text)
