"""The words of a manifest: durations, sizes, rates, times, references to secrets. Each is text that a person writes, becomes a
plain number (seconds, bytes, bytes per second) or stays text, and is written back in one way only."""

import base64
import re
from datetime import datetime
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from v2c.model.plan import OURS

T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Field(strict=False)]

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
DURATION = r"^([0-9]+(\.[0-9]+)?(s|min|m|h|d|w))+$"
_PART = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)")
SIZE = r"^[0-9]+(\.[0-9]+)?\s*(B|[KMGTP]i?B)$"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)B")
RATE = r"^[0-9]+(\.[0-9]+)?\s*(B|[KMGT]i?B|[kKMGT]?bit)/s$"
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)(B|bit)/s")
LOCAL = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?([+-][0-9]{2}:[0-9]{2}|Z)?$"
CLOCK = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
SECRET = r"^(file|env):\S+$"  # noqa: S105 - the form of a reference
ZONE = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"
ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
CIDR = r"^(keep|dhcp|[0-9a-fA-F:]*[.:][0-9a-fA-F:.]+(/[0-9]{1,3})?)$"
HOST_KEY = r"^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,2}( .*)?$"
MAC = r"^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def wrong(kind: str, text: str) -> PydanticCustomError:
    """A mistake in our own words; "{" has no meaning in it."""
    return PydanticCustomError(kind, "{text}", {"text": text})


def seconds(value: Any) -> int:
    """ "90s", "1h30m", "7d" as seconds."""
    if isinstance(value, str) and re.match(DURATION, value):
        return round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value)))
    raise wrong("duration", "a duration is written like 90s, 30m, 1h30m or 7d")


def duration(value: int) -> str:
    """Seconds in the largest units that are exact: 5400 is "1h30m"."""
    words = ""
    for unit in ("d", "h", "m", "s"):
        count, value = divmod(value, _UNITS[unit])
        words += f"{count}{unit}" if count else ""
    return words or "0s"


def bytes_of(value: Any) -> int:
    """ "40GiB", "1.5 TiB", "100GB" as bytes."""
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise wrong("size", "a size is written with its unit, like 40GiB or 8192MiB")
    return round(float(found[1]) * float((1024 if found[3] else 1000) ** _POWERS[found[2]]))


def size(count: int) -> str:
    """Bytes in the largest binary unit that is exact: "40GiB", "1500000B"."""
    for unit in ("P", "T", "G", "M", "K"):
        whole, rest = divmod(count, 1024 ** _POWERS[unit])
        if whole and not rest:
            return f"{whole}{unit}iB"
    return f"{count}B"


def rate_of(value: Any) -> int:
    """ "20MiB/s", "100Mbit/s" as bytes per second."""
    found = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found or not float(found[1]):
        raise wrong("rate", "a rate is written like 20MiB/s or 100Mbit/s")
    bits = found[4] == "bit"
    return max(1, int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].upper()] / (8 if bits else 1)))


def _moment(value: str) -> str:
    try:
        datetime.fromisoformat(value.replace(" ", "T").replace("Z", "+00:00"))
    except ValueError:
        raise wrong("moment", f"{value} is no day and time of the calendar") from None
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        if not available_timezones():
            raise wrong("zone", "this machine has no time zones: install the package tzdata") from None
        raise wrong("zone", f'"{value[:64]}" is no time zone, which is written like Europe/Berlin or UTC') from None
    return value


def _reference(value: Any) -> str:
    """Never repeats what it refuses: it may be the secret."""
    if isinstance(value, str) and re.fullmatch(SECRET, value):
        return value
    raise wrong("secret", "a secret is a reference, never the value: write file:PATH or env:NAME")


def _host_key(value: str) -> str:
    """As a line of ssh_host_*_key.pub: its kind stands in it twice, the second time in what is encoded."""
    try:
        kind, blob = value.split(" ")[:2]
        length = int.from_bytes((whole := base64.b64decode(blob, validate=True))[:4], "big")
        good = re.fullmatch(HOST_KEY, value) and whole[4 : 4 + length] == kind.encode()
    except ValueError:
        good = False
    if not good:
        raise wrong(
            "host-key", "a host key is a line of the machine's /etc/ssh/ssh_host_ed25519_key.pub, like ssh-ed25519 AAAA..."
        )
    return value


def _text(pattern: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, **more})


Duration = Annotated[int, BeforeValidator(seconds), PlainSerializer(duration), _text(DURATION, examples=["30m", "7d"])]


def _tags(value: dict[str, str]) -> dict[str, str]:
    """Keys and values that every cloud takes, by their lengths. The least of each limit: AWS's keys, AWS's and Azure's values."""
    for key, said in value.items():
        if key.casefold().startswith(OURS):
            raise wrong("tag", f'the tag "{key}" is one of v2c itself: choose another name')
        if not 0 < len(key) <= 128 or len(said) > 256:
            raise wrong("tag", f'the tag "{key[:40]}" is too long: 128 characters, and 256 for its value')
    return value


Tags = Annotated[dict[str, str], AfterValidator(_tags)]
Size = Annotated[int, BeforeValidator(bytes_of), PlainSerializer(size), _text(SIZE, examples=["40GiB"])]
Rate = Annotated[int, BeforeValidator(rate_of), PlainSerializer(lambda value: f"{size(value)}/s"), _text(RATE)]
Moment = Annotated[str, Field(pattern=LOCAL, examples=["2026-12-05T22:00"]), AfterValidator(_moment)]
Clock = Annotated[str, Field(pattern=CLOCK, examples=["08:00"])]
Zone = Annotated[str, Field(pattern=ZONE, examples=["Europe/Berlin"]), AfterValidator(_zone)]
Secret = Annotated[str, BeforeValidator(_reference), _text(SECRET, examples=["env:VC_PASSWORD"])]
Id = Annotated[str, Field(pattern=ID)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Words = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
HostKey = Annotated[str, AfterValidator(_host_key), _text(HOST_KEY, examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA..."])]
Address = Annotated[str, Field(pattern=CIDR, examples=["keep", "dhcp", "10.0.0.5/24"])]
Mac = Annotated[str, Field(pattern=MAC)]
