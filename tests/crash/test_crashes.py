"""Killed at every boundary and gone on with by the same command: nothing is done twice, nothing is left."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from worlds import KILLED, Walker, World, walking

STEPS = ("scratch", "reserve", "copy", "register", "release", "clean")


@pytest.fixture(scope="module")
def walker() -> Iterator[Walker]:
    with walking() as found:
        yield found


def test_every_boundary(walker: Walker, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    log = tmp_path / "boundaries"
    assert walker(tmp_path / "whole", log=log) == 0
    whole = World(tmp_path / "whole")
    names = log.read_text().splitlines()
    assert {f"{when} {step}" for step in STEPS for when in ("before", "done", "remembered")} <= set(names)
    assert {"intent hold", "made image", "ref image", "undone hold", "told", "concluded", "moved copy"} <= set(names)

    cut_s = resumed_s = 0.0
    blocks = [at for at, name in enumerate(names, 1) if name == "moved copy"]
    skipped = set(blocks[1:-1]) - {blocks[len(blocks) // 2]}  # the first, one in the middle and the last stand for all
    for at, name in enumerate(names, 1):
        if at in skipped:
            continue
        folder = tmp_path / str(at)
        folder.mkdir()
        began = time.monotonic()
        assert walker(folder, at=at) == KILLED, name
        cut_s += (killed := time.monotonic()) - began
        assert walker(folder) == 0, name
        resumed_s += time.monotonic() - killed
        world = World(folder)
        assert world.result == whole.result, name
        assert world.left() == whole.left(), name
        assert world.running() == [], name
        counts = world.counts
        assert max(counts[f"made {kind}"] for kind in ("hold", "image")) == 1, (name, counts)
        assert max(count for what, count in counts.items() if what.startswith("block")) == 1, (name, counts)
        twice = [step for step in STEPS if counts[f"step {step}"] > 1]
        when, _, cut = name.partition(" ")
        if cut.startswith("intent"):
            assert twice == ["reserve" if "hold" in cut else "register"], (name, counts)
        elif when in ("before", "launched", "remembered", "told", "concluded"):
            assert twice == [], (name, counts)  # nothing had begun, or all that had was remembered
        elif when == "done":
            assert twice == [cut], (name, counts)
        else:
            assert len(twice) <= 1, (name, counts)
    assert resumed_s < 5 * cut_s, "both do half of the work; who goes on waits for nobody"


def test_killed_again_and_again(walker: Walker, tmp_path: Path) -> None:
    """Every second run gets one boundary further than the last; it arrives all the same."""
    for twice in range(8, 120):
        code = walker(tmp_path, at=twice // 2)
        if code == 0:
            break
        assert code == KILLED
    else:
        pytest.fail("it never arrived")
    counts = World(tmp_path).counts
    assert counts["step copy"] > 2
    assert (counts["made hold"], counts["made image"], counts["block 11"]) == (1, 1, 1)
    assert World(tmp_path).running() == []
