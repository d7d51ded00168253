"""A real conversion killed in the middle of its long steps, and gone on with by the same command: the machine is the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conversions import UNDISTURBED, Conversions, Event, House, Watch, convert
from sameness import arrived_the_same, steps

# Three conversions, each cut off: over ten minutes under emulation, so not in every run. The same kills at every boundary of a
# machine in memory are in tests/crash.
pytestmark = [pytest.mark.guest, pytest.mark.full, pytest.mark.timeout(3000), pytest.mark.xdist_group("-".join(UNDISTURBED))]

# How to know that the middle of a step is reached, and how long to wait then: deep in the repair the guest's own
# update-initramfs runs, deep in the boot its kernel.
MIDDLE: dict[str, tuple[Callable[[Event], bool], float]] = {
    "fix": (lambda event: event["event"] == "began" and event.get("phase") == "initramfs", 8.0),
    "upload": (lambda event: event["event"] == "moved" and event["step"] == "upload" and event["done"] > event["total"] // 8, 0),
    "boot": (lambda event: event["event"] == "noted" and "Loading initial ramdisk" in event["text"], 10.0),
}


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(("fix", "upload", "boot"), id="each"),
        *(pytest.param((step,) * 2, id=f"{step}-twice", marks=pytest.mark.full) for step in MIDDLE),
    ],
)
def test_killed_and_gone_on_with(kills: tuple[str, ...], conversions: Conversions, tmp_path: Path) -> None:
    whole = conversions(*UNDISTURBED)
    house = House(tmp_path / "house")
    done: set[str] = set()
    for step in kills:
        watch = Watch(house, *convert(whole.guest, whole.platform))
        reached, pause = MIDDLE[step]
        assert watch.until(reached), watch.words
        watch.wait(pause)
        watch.kill()
        assert watch.process.returncode == -9
        assert house.gone() == [], f"after the kill in {step}"
        assert done & steps(watch.events, "began") == set(), "a finished step is not done again"
        done |= steps(watch.events, "ended")
    watch = Watch(house, *convert(whole.guest, whole.platform))
    assert watch.finish() == 0, watch.words
    assert watch.out.read_text().splitlines()[-1] == "PASS"
    assert done & steps(watch.events, "began") == set()
    assert {"describe", "plan", "capture"} <= done

    arrived_the_same(whole, house, tmp_path, cut=kills.count("upload"))
