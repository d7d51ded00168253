"""Places at the double of Google Cloud for tests: one double per folder, kept while the tests of a module run."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from v2c.emulators.gcp import GcpEmulator, open_emulator
from v2c.emulators.gcp.store import Thing
from v2c.targets.gcp import GcpTarget, open_target
from v2c.targets.gcp.session import Endpoints, Session


class Places:
    """Doubles by folder."""

    def __init__(self) -> None:
        self.doubles: dict[Path, GcpEmulator] = {}
        self._stack = ExitStack()

    def at(self, folder: Path) -> GcpEmulator:
        """The double that lies in the folder, running."""
        if folder not in self.doubles:
            self.doubles[folder] = self._stack.enter_context(open_emulator(folder))
        return self.doubles[folder]

    def close(self) -> None:
        self._stack.close()


def target_at(double: GcpEmulator, more: str = "", locator: str = "") -> GcpTarget:
    """The target that a new process would open there; impatient with what fails."""
    with environment(double):
        target = open_target((locator or double.locator).removeprefix("gcp:") + more)
        target.place.session.account()  # credentials are looked for now, while the environment says where
    target.place.session.patience.first_s = 0.01
    target.place.session.patience.most_s = 0.1
    return target


def impatient(double: GcpEmulator, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session with the double, which is the environment's from now on; it asks nothing twice."""
    for name, value in double.environment.items():
        monkeypatch.setenv(name, value)
    session = Session("rehearsal-1", Endpoints.chosen({}))
    session.patience.limit_s = 0.0
    return session


@contextmanager
def environment(double: GcpEmulator) -> Iterator[None]:
    """The double's settings, for as long as the body runs."""
    before = dict(os.environ)
    os.environ.update(double.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def things(double: GcpEmulator) -> dict[str, Thing]:
    """All that exists there but operations and sessions, each without what its reading changes."""
    return {key: dict(thing) for key, thing in double.store.under("") if "/operations/" not in key and key[:2] != "u/"}
