"""Doubles of the clouds, for rehearsing without an account and for tests: `v2c emulate aws|gcp|azure`.

Each validates every request against its vendor's own published schema, keeps what it is given on disk, and boots what is
launched on virtual hardware shaped like that cloud's, so that the console it shows is the guest's own. SDK clients are pointed
at it by the public settings in `environment`; a target knows nothing of it.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from v2c.emulators.faults import Faults
from v2c.emulators.ledger import Requests
from v2c.errors import UsageError

CLOUDS = ("aws", "gcp", "azure")


class Emulator(Protocol):
    """One cloud, from `__enter__` to `__exit__`. Its state lies in a folder and outlives it: opened there again it is the same
    cloud, with the same things in it and the same `environment`, but for its ports where none were given."""

    faults: Faults
    requests: Requests

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that point the cloud's SDK here, credentials included."""
        ...

    @property
    def locator(self) -> str:
        """The target locator of a place here that has all that a migration needs ("aws:eu-west-1?subnet=...")."""
        ...

    def left(self) -> list[str]:
        """All that exists here beyond what a fresh one holds, one line each: what clean-up forgot."""
        ...

    def disk(self, id: str) -> Path:
        """The raw file that holds a disk (snapshot, managed disk, image) of this cloud."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def open_emulator(cloud: str, folder: Path, *, port: int = 0) -> Emulator:
    """The double of a cloud over what `folder` holds (made if need be), at `port` of the loopback address (0: any)."""
    if cloud not in CLOUDS:
        raise UsageError(f'there is no emulator of "{cloud}"', remedy=f"choose one of {', '.join(CLOUDS)}")
    try:
        opener: Callable[..., Emulator] = import_module(f"v2c.emulators.{cloud}").open_emulator
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", remedy="pip install 'v2c[rehearse]'") from error
    return opener(folder, port=port)
