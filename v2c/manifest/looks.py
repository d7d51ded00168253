"""What has the form of a secret. Mistakes ask before they repeat anything."""

import re

_FORMS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\beyJ[\w-]{10,}\.[\w-]{10,}\.|\bgh[pousr]_\w{30,}"
    r"|\bxox[abp]-\w{10,}|\bAIza[\w-]{35}\b|AccountKey=|[?&]sig=[\w%+/]{20,}|://[^/\s:@]*:[^/\s@]+@"
    r"|(?i:\b(password|passwd|pwd|secret|token|api[_-]?key)\s*[=:]\s*[^\s$]{3,})"
)
_LONG = re.compile(r"(?<![\w+/=])[A-Za-z0-9+/]{40}(?![\w+/=])")  # a secret access key of AWS has 40 such characters


def looks_secret(text: str) -> bool:
    """Whether the text has the form of a secret."""
    if _FORMS.search(text):
        return True
    return any(_mixed(found[0]) for found in _LONG.finditer(text))


def _mixed(word: str) -> bool:
    return bool(re.search(r"[a-z]", word) and re.search(r"[A-Z]", word) and re.search(r"[0-9]", word))
