"""The real journey, from a memory: source to a memory: target, killed at every boundary and gone on with by the same command.

Everything but the guest's programs and the cloud is the real thing: engine, journal, overlays, qemu-nbd, NBD client, block maps,
writers, repair, probe, report.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import journeys
import pytest
from clocks import slowness
from journeys import CONVERT, IN_FLIGHT
from worlds import KILLED, Walker, programs, walking

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def walker() -> Iterator[Walker]:
    with walking("v2c.verbs", "v2c.cli.convert") as found:
        yield found


def test_every_boundary_of_the_journey(walker: Walker, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    log = tmp_path / "boundaries"
    assert walker.v2c(whole, *CONVERT, log=log) == 0
    names = log.read_text().splitlines()
    steps = [step["name"] for step in journeys.told(whole)["steps"]]
    assert {f"{when} {step}" for step in steps for when in ("before", "done", "remembered")} <= set(names)
    assert "moved upload" in names

    moved = [at for at, name in enumerate(names, 1) if name == "moved upload"]
    skipped = set(moved[1:-1]) - {moved[len(moved) // 2]}  # the first, one in the middle and the last stand for all
    essence, left = journeys.essence(whole), journeys.left(whole)
    for at, name in enumerate(names, 1):
        if at in skipped or name.startswith("remembered"):  # which is where the next "before" is
            continue
        folder = tmp_path / str(at)
        folder.mkdir()
        assert walker.v2c(folder, *CONVERT, at=at) == KILLED, name
        assert programs(folder) == [], name
        assert walker.v2c(folder, *CONVERT) == 0, name
        assert journeys.essence(folder) == essence, name
        assert journeys.left(folder) == left, name
        assert programs(folder) == [], name
        assert journeys.twice(folder) == [], name
        again = journeys.again(folder)
        in_upload = name.startswith(("moved upload", "done upload", "noted blocks", "ref disk", "made disk", "intent disk"))
        assert again <= (IN_FLIGHT if in_upload else 0), (name, again)


def test_starting_anew_is_cut_off_anywhere(walker: Walker, tmp_path: Path) -> None:
    """Killed while the old attempt is undone: though it is not asked for again, what comes is a whole machine."""
    folder, saved, log = tmp_path / "here", tmp_path / "saved", tmp_path / "boundaries"
    folder.mkdir()
    assert walker.v2c(folder, *CONVERT) == 0
    essence = journeys.essence(folder)
    shutil.copytree(folder, saved)
    assert walker.v2c(folder, *CONVERT, "--again", log=log) == 0
    names = log.read_text().splitlines()
    until = names.index("before describe")
    assert next(name for name in names if name.startswith("undone")) == "undone instance"
    for at in range(1, until + 2):
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        assert walker.v2c(folder, *CONVERT, "--again", at=at) == KILLED
        assert walker.v2c(folder, *CONVERT, *(("--again",) if at == until // 2 else ())) == 0, names[at - 1]
        assert journeys.essence(folder) == essence, names[at - 1]


def test_lost_captures_are_taken_again(walker: Walker, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "lossy").mkdir()
    assert walker.v2c(tmp_path / "whole", *CONVERT) == 0
    source = CONVERT[1]
    assert walker.v2c(tmp_path / "lossy", CONVERT[0], f"{source}&lose=3", *CONVERT[2:]) == 0
    assert journeys.essence(tmp_path / "lossy") == journeys.essence(tmp_path / "whole")
    assert journeys.twice(tmp_path / "lossy") == []


def test_an_overlay_that_is_gone_is_made_again(walker: Walker, tmp_path: Path) -> None:
    """As for a converter that takes over the job of another one whose disk it does not see."""
    whole, folder = tmp_path / "whole", tmp_path / "gone"
    whole.mkdir()
    folder.mkdir()
    log = tmp_path / "boundaries"
    assert walker.v2c(whole, *CONVERT, log=log) == 0
    moved = [at for at, name in enumerate(log.read_text().splitlines(), 1) if name == "moved upload"]
    assert walker.v2c(folder, *CONVERT, at=moved[len(moved) // 2]) == KILLED
    scratch = [path for pattern in ("*.qcow2", "*.blocks") for path in (folder / "work").glob(f"*/{pattern}")]
    assert len(scratch) == 4
    for path in scratch:
        path.unlink()
    assert walker.v2c(folder, *CONVERT) == 0
    assert journeys.essence(folder) == journeys.essence(whole) and journeys.twice(folder) == []


def test_ctrl_c_of_the_command_line(tmp_path: Path) -> None:
    """It stops in mid-upload within two seconds, says so, and leaves nothing running; the same command goes on."""
    env = os.environ | {"V2C_MEMORY": str(tmp_path / "memory")}
    events = tmp_path / "memory" / "targets" / "cloud" / "events"
    argv = journeys.command(tmp_path, "--bandwidth", "1M", "--progress", "plain")
    argv.remove("--quiet")
    convert = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (events.exists() and '"put"' in events.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    began = time.monotonic()
    convert.send_signal(signal.SIGINT)
    assert convert.wait(120) == 130
    assert time.monotonic() - began < 2 * slowness()
    assert convert.stderr
    assert "paused: everything is kept, and the same command goes on" in convert.stderr.read()
    assert programs(tmp_path) == []
    assert subprocess.run(journeys.command(tmp_path), env=env, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert journeys.again(tmp_path) <= IN_FLIGHT
    assert journeys.told(tmp_path)["verdict"] == "pass"
