"""Values that look like secrets, which a manifest never holds. What is found is never repeated."""

import re

from v2c.manifest.looks import looks_secret
from v2c.manifest.mistakes import Mistake, written
from v2c.manifest.text import Document, Path

_OPTION = re.compile(r"--?(password|passwd|pass|secret|token|api-?key)", re.IGNORECASE)
_NAME = re.compile(r"(?i)(^|[-_.])(password|passwd|secret|token|api[-_]?key|private[-_]?key|access[-_]?key)s?$")
_REFERENCE = re.compile(r"(file|env):\S+")

TEXT = "this looks like a secret, and a manifest never holds one (it is not repeated here)"
REMEDY = "write file:PATH or env:NAME where a secret is taken; else take it out"


def found(document: Document) -> list[Mistake]:
    """Every value or key that looks like a secret."""
    mistakes: list[Mistake] = []
    for path, node in document.root.walk():
        if node.kind != "scalar" or not node.raw:
            continue
        secret = looks_secret(node.raw) or _after_option(document, path) or _by_name(document, path, node.raw)
        if secret:
            mistakes.append(Mistake(document.file, node.line, node.column, written(path), TEXT, REMEDY))
    return mistakes


def _after_option(document: Document, path: Path) -> bool:
    """A word behind --password in a command."""
    if not path or not isinstance(path[-1], int) or path[-1] == 0:
        return False
    before = document.root.at((*path[:-1], path[-1] - 1))[0]
    return before.kind == "scalar" and _OPTION.fullmatch(before.raw) is not None


def _by_name(document: Document, path: Path, raw: str) -> bool:
    """The value of a key that is called password; the key itself is none."""
    if not path or not isinstance(path[-1], str) or not _NAME.search(path[-1]) or raw == path[-1]:
        return False
    return not _REFERENCE.fullmatch(raw)
