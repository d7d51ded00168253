"""What every test may use: the choice of tiers, a clean environment, and the real guests."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

OPTIONAL = {"full": "--full", "soak": "--soak"}  # marker -> the option that lets its tests run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the matrices too (./run test --full)")
    parser.addoption("--soak", action="store_true", help="run the random kills too (./run soak)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out `full` and `soak` unless asked for."""
    dropped = [item for item in items if any(item.get_closest_marker(m) and not config.getoption(o) for m, o in OPTIONAL.items())]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in set(dropped)]


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No test touches the user's own state: the XDG folders and the temporary folder of v2c lie in a folder of the test."""
    home = tmp_path_factory.mktemp("home")
    for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    for name in [n for n in os.environ if n.startswith("V2C_") and n not in ("V2C_CACHE", "V2C_SOAK_KILLS")]:
        monkeypatch.delenv(name)
    yield home


@pytest.fixture(scope="session")
def guest_disks() -> Callable[[str], tuple[Path, ...]]:
    """`guest_disks("debian12-bios")`: the disks of a real guest, built by fixtures/build.py when the cache lacks it."""
    built: dict[str, tuple[Path, ...]] = {}

    def disks(name: str) -> tuple[Path, ...]:
        if name not in built:
            argv = [sys.executable, str(ROOT / "fixtures" / "build.py"), name]
            done = subprocess.run(argv, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False)
            assert done.returncode == 0, f"{' '.join(argv)} failed with {done.returncode}"
            built[name] = tuple(Path(line) for line in done.stdout.split("\n") if line)
            assert built[name], f"{' '.join(argv)} printed no disk"
        return built[name]

    return disks
