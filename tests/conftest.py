"""What every test may use: the choice of tiers, a clean environment, and the real guests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conversions import Conversions

    from fixtures.build import BuiltGuest

OPTIONAL = {"full": "--full", "soak": "--soak"}  # marker -> the option that lets its tests run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the matrices too (./run test --full)")
    parser.addoption("--soak", action="store_true", help="run the random kills too (./run soak)")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out `full` and `soak` unless asked for. With --dist loadgroup a file's tests stay together, but for those that name
    a group of their own."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.name))
    dropped = [item for item in items if any(item.get_closest_marker(m) and not config.getoption(o) for m, o in OPTIONAL.items())]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in set(dropped)]


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No test touches the user's own state: the XDG folders and the temporary folder of v2c lie in a folder of the test."""
    home = tmp_path_factory.mktemp("home")
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    for name in [n for n in os.environ if n.startswith("V2C_") and n not in ("V2C_CACHE", "V2C_SOAK_KILLS")]:
        monkeypatch.delenv(name)
    yield home


@pytest.fixture(scope="session")
def guests() -> "Callable[[str], BuiltGuest]":
    """`guests("debian12-bios")`: a real guest as it stands on VMware; built when the cache lacks it (minutes)."""
    from fixtures.build import build

    return build


@pytest.fixture(scope="session")
def guest_disks(guests: "Callable[[str], BuiltGuest]") -> Callable[[str], tuple[Path, ...]]:
    """`guest_disks("debian12-bios")`: the disks of a real guest, in the machine's order."""
    return lambda name: guests(name).disks


@pytest.fixture(scope="session")
def conversions(guests: "Callable[[str], BuiltGuest]", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Conversions]":
    """`conversions("debian12-bios", "aws")`: a real guest converted by the command line, once in a session (minutes)."""
    from conversions import Conversions

    made = Conversions(tmp_path_factory.mktemp("guests"), guests)
    yield made
    made.close()
