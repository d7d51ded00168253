"""What every test may use: the choice of tiers, a clean environment, and the real guests."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conversions import Conversions
    from example_runs import ExampleRuns
    from servers import Server
    from waving import World

    from fixtures.build import BuiltGuest
    from v2c.serve.server import Server as PageServer

pytest.register_assert_rewrite("sameness", "conversions", "target_contract", "target_story")  # shows what they compared
OPTIONAL = {"full": "--full", "soak": "--soak", "live": "--live"}  # marker -> the option that lets its tests run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the matrices too (./run test --full)")
    parser.addoption("--soak", action="store_true", help="run the random kills too (./run soak)")
    parser.addoption("--live", action="store_true", help="run what needs real accounts too (tests/live says how)")


def pytest_configure() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would every program that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out `full`, `soak` and `live` unless asked for. With --dist loadgroup a file's tests stay together, but for those
    that name a group of their own."""
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
    kept = ("V2C_CACHE", "V2C_SOAK_KILLS", "V2C_LIVE_AWS", "V2C_LIVE_AZURE", "V2C_LIVE_GCP")
    for name in [n for n in os.environ if n.startswith("V2C_") and n not in kept]:
        monkeypatch.delenv(name)
    yield home


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "World":
    """A state, a work folder and targets in memory, for waves."""
    from waving import World

    monkeypatch.setenv("V2C_MEMORY", str(tmp_path / "memory"))
    return World(tmp_path)


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real instances in memory are taken to have an address; those of tests have none."""
    from v2c.model import Observation, Ref
    from v2c.targets import open_target
    from v2c.waves import checks, hooks

    class Place:
        def __init__(self, locator: str) -> None:
            self.target = open_target(locator)

        def observe(self, instance: Ref) -> Observation:
            seen = self.target.observe(instance)
            return Observation(seen.state, seen.alive, addresses=("127.0.0.1",) if seen.alive else ())

    for room in (hooks, checks):
        monkeypatch.setattr(room, "open_target", Place)


@pytest.fixture
def runs() -> "ExampleRuns":
    """Runs for the page: one, as it might stand in the middle."""
    from example_runs import ExampleRuns

    return ExampleRuns()


@pytest.fixture
def server(runs: "ExampleRuns") -> "Iterator[PageServer]":
    """The page's server over `runs`."""
    from asking import serving

    with serving(runs) as made:
        yield made


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Server]":
    """A PostgreSQL server of the session's own."""
    from servers import serving

    with serving() as server:
        yield server


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
