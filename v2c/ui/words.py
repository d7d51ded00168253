"""Values as words: sizes, seconds, findings; and text of strangers made harmless for a terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from v2c.model import Finding

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def clean(text: str) -> str:
    """`text` without characters that steer a terminal (guests choose host names, kernels print escapes): each becomes "?".

    Newlines and tabs stay.
    """
    return "".join(c if c in "\n\t" or c.isprintable() else "?" for c in text)


def size(count: float) -> str:
    """Bytes for people, in powers of 1024: "1.5 GiB"."""
    for unit in UNITS:
        if abs(count) < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"


def span(seconds: float) -> str:
    """Seconds for people: "0.4 s", "83 s", "12 min 34 s", "3 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def finding(found: "Finding") -> str:
    """A finding as one line: "warning: disk-1: text: remedy"; without its subject where the text names it."""
    subject = "" if found.subject in found.text else f"{found.subject}: "
    remedy = f": {found.remedy}" if found.remedy else ""
    return clean(f"{found.level}: {subject}{found.text}{remedy}")
