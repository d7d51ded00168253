"""Text of strangers, made harmless for a document: no control characters, nothing that XML or UTF-8 cannot hold, nothing that
turns the order of what is read around (Unicode's bidirectional controls; CVE-2021-42574)."""

import dataclasses
import re
from enum import Enum
from typing import TypeVar

from v2c import consoles

# C0 and C1 controls but tab and newline, the bidirectional controls, and XML's non-characters (XML 1.0, production 2)
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff]"
)
T = TypeVar("T")


def text(value: str) -> str:
    """One string: unfit characters become U+FFFD, bytes that were no UTF-8 become "\\udc80"."""
    whole = value.encode("utf-8", "backslashreplace").decode()
    return _UNFIT.sub("\ufffd", whole.replace("\r\n", "\n"))


def console(value: str) -> str:
    """A serial console without escape sequences; blank lines in a row are one."""
    return re.sub(r"\n\s*\n+", "\n\n", text(consoles.clean(value))).strip("\n")


def every(value: T) -> T:
    """The same value with `text` applied to every string in it: dataclasses, tuples and dicts are walked."""
    made: object
    if isinstance(value, str) and not isinstance(value, Enum):
        made = text(value)
    elif isinstance(value, tuple):
        made = tuple(every(each) for each in value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: every(getattr(value, field.name)) for field in dataclasses.fields(value)}
        made = dataclasses.replace(value, **fields)
    else:
        return value
    return made  # type: ignore[return-value]
