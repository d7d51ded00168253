"""A request that was found in order, and the answer to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from v2c.emulators.gcp.store import Thing


@dataclass(frozen=True, slots=True)
class Call:
    """`params`: of the path; `body`: the JSON document; `headers` in lower case; `stream` holds `length` bytes of a body that is
    no JSON; `base`: the double's own URL; `fault`: how the answer should go wrong, empty: it should not."""

    params: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Thing = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: BinaryIO | None = None
    length: int = 0
    base: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """`json`, or `length` bytes of `file` from `start` on, or nothing."""

    json: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    start: int = 0
    length: int = 0


Verb = Callable[[Call], Answer | Thing]
