"""Values that look like secrets, which a manifest never holds. What is found is never repeated."""

import re

from v2c.manifest.mistakes import Mistake, written
from v2c.manifest.text import Document, Path

_FORMS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\beyJ[\w-]{10,}\.[\w-]{10,}\.|\bgh[pousr]_\w{30,}"
    r"|\bxox[abp]-\w{10,}|\bAIza[\w-]{35}\b|AccountKey=|[?&]sig=[\w%+/]{20,}|://[^/\s:@]*:[^/\s@]+@"
    r"|(?i:\b(password|passwd|pwd|secret|token|api[_-]?key)\s*[=:]\s*[^\s$]{3,})"
)
_LONG = re.compile(r"(?<![\w+/=])[A-Za-z0-9+/]{40}(?![\w+/=])")  # a secret access key of AWS has 40 such characters
_OPTION = re.compile(r"--?(password|passwd|pass|secret|token|api-?key)", re.IGNORECASE)
_NAME = re.compile(r"(?i)(^|[-_.])(password|passwd|secret|token|api[-_]?key|private[-_]?key|access[-_]?key)s?$")
_REFERENCE = re.compile(r"(file|env):\S+")

TEXT = "this looks like a secret, and a manifest never holds one (it is not repeated here)"
REMEDY = "write file:PATH or env:NAME where a secret is taken; else take it out"


def looks_secret(text: str) -> bool:
    """Whether the text has the form of a secret."""
    if _FORMS.search(text):
        return True
    return any(_mixed(found[0]) for found in _LONG.finditer(text))


def _mixed(word: str) -> bool:
    return bool(re.search(r"[a-z]", word) and re.search(r"[A-Z]", word) and re.search(r"[0-9]", word))


def found(document: Document) -> list[Mistake]:
    """Every value or key that looks like a secret; their paths are left out where the path itself holds it."""
    mistakes: list[Mistake] = []
    for path, node in document.root.walk():
        if node.kind != "scalar" or not node.raw:
            continue
        secret = looks_secret(node.raw) or _after_option(document, path) or _by_name(document, path, node.raw)
        if secret:
            safe = tuple(part for part in path if isinstance(part, int) or not looks_secret(part))
            mistakes.append(Mistake(document.file, node.line, node.column, written(safe), TEXT, REMEDY))
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
