"""What a serial console says of a boot that fails: the table `drivers/console.toml`, read strictly, and matched.

A console is hostile: it is cleaned before it is matched, and what a pattern finds is cut and stripped again before it stands in
a sentence.
"""

import os
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from v2c.errors import UsageError
from v2c.platforms import folders

QUOTED = 100  # characters of a guest's words that a sentence repeats
# CSI sequences (ECMA-48), other escapes (one letter after), and control characters but the newline
_NOISE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_a-z]|[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class Failure(BaseModel):
    """A row: the line that shows it, the sentence it means, whether the boot ends there, and whether the emulator is to blame."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str = Field(pattern=r"^[a-z-]+$")
    pattern: str
    text: str
    final: bool
    emulated: bool = False
    source: str = Field(min_length=1)

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    @field_validator("text")
    @classmethod
    def _is_a_sentence(cls, text: str) -> str:
        if text.endswith(".") or len(text.format("x", "y")) < 10:
            raise ValueError("not a sentence without its full stop")
        return text


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    failure: tuple[Failure, ...] = Field(strict=False, min_length=1)


@dataclass(frozen=True, slots=True)
class Recognised:
    """A failure seen on a console, as a sentence without its full stop."""

    id: str
    text: str
    final: bool
    emulated: bool = False


def clean(console: str) -> str:
    """The console without escape sequences and control characters; every line ends in a newline."""
    return _NOISE.sub("", console.replace("\r\n", "\n").replace("\r", "\n"))


def recognise(console: str) -> Recognised | None:
    """The failure that a console shows: a final one before one that may pass, then the first of the table."""
    text = clean(console)
    for row in sorted(table(), key=lambda row: not row.final):
        match = re.search(row.pattern, text, re.MULTILINE)
        if match:
            words = [_quoted(group or "") for group in match.groups()]
            return Recognised(row.id, row.text.format(*words), row.final, row.emulated)
    return None


def _quoted(words: str) -> str:
    return "".join(letter for letter in words if letter.isprintable())[:QUOTED].strip()


def table() -> tuple[Failure, ...]:
    """The rows in their order; a site's own folder (V2C_DRIVERS) replaces the table."""
    return _load(os.environ.get("V2C_DRIVERS", ""))


@cache
def _load(overlay: str) -> tuple[Failure, ...]:
    for folder in reversed(folders()):
        path = folder / "console.toml"
        if path.is_file():
            return read(path)
    raise UsageError("drivers/console.toml is missing", remedy="install v2c again")


def read(path: Path) -> tuple[Failure, ...]:
    """The rows of one file. UsageError that lists every mistake."""
    try:
        return _Table.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", remedy="correct the file") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise UsageError("; ".join(lines), remedy="correct the file") from error
