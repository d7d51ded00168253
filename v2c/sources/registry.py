"""Which locators belong to which source. Each is imported when it is asked for: some need SDKs or programs."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from v2c.errors import UsageError
from v2c.sources import Source
from v2c.sources.spec import MachineSpec


@dataclass(frozen=True, slots=True)
class Scheme:
    """A scheme of source locators: the module whose `open_source(rest, spec)` knows them, and how one is written."""

    name: str
    module: str
    usage: str


SCHEMES = (Scheme("memory", "v2c.sources.memory", "memory:NAME[?seed=N&disks=N&size=BYTES]"),)
_SCHEME = re.compile(r"([a-z][a-z0-9+]*):(.*)", re.DOTALL)


def open_source(locators: str | Sequence[str], spec: MachineSpec | None = None) -> Source:
    """The source for "SCHEME:REST", or for the disk files of one machine. UsageError lists the schemes when nobody knows it.

    A path that looks like a locator is written with its folder: "./memory:x".
    """
    names = [locators] if isinstance(locators, str) else list(locators)
    if not names:
        raise UsageError("no source is named", remedy="name the machine's disk files")
    for name in names:
        found = _SCHEME.fullmatch(name)
        if not found:
            continue
        scheme = next((s for s in SCHEMES if s.name == found[1]), None)
        if scheme is None:
            if Path(name).exists():
                continue
            written = "; ".join(s.usage for s in SCHEMES)
            raise UsageError(f'"{name}" names no source that v2c knows', remedy=f"name disk files, or write {written}")
        if len(names) > 1:
            raise UsageError(f'"{name}" stands for a whole machine', remedy="name it alone")
        opener: Callable[[str, MachineSpec | None], Source] = import_module(scheme.module).open_source
        return opener(found[2], spec)
    from v2c.sources.disk import DiskSource

    return DiskSource([Path(name) for name in names], spec)
