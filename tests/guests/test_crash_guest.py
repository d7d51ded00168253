"""A real conversion killed in the middle of its long steps, and gone on with by the same command: the machine is the same."""

import shutil
import tomllib
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from conversions import UNDISTURBED, Conversion, Conversions, Event, House, Watch, convert, digests, disks, told
from trees import Entry, tree

from v2c.blocks import _BODY, _DATA, _SIZE  # the records are the only witness of what was written when
from v2c.guest import initrd

# Three conversions, each cut off: over ten minutes under emulation, so not in every run. The same kills at every boundary of a
# machine in memory are in tests/crash.
pytestmark = [pytest.mark.guest, pytest.mark.full, pytest.mark.timeout(3000), pytest.mark.xdist_group("-".join(UNDISTURBED))]

ROOT = 2048 * 512  # bytes before the root filesystem, recipe.toml
ALLOWED = tomllib.loads(Path(__file__).with_name("allowed.toml").read_text(encoding="utf-8"))["differs"]
# How to know that the middle of a step is reached, and how long to wait then: deep in the repair the guest's own
# update-initramfs runs, deep in the boot its kernel.
MIDDLE: dict[str, tuple[Callable[[Event], bool], float]] = {
    "fix": (lambda event: event["event"] == "began" and event.get("phase") == "initramfs", 8.0),
    "upload": (lambda event: event["event"] == "moved" and event["step"] == "upload" and event["done"] > event["total"] // 8, 0),
    "boot": (lambda event: event["event"] == "noted" and "Loading initial ramdisk" in event["text"], 10.0),
}
IN_FLIGHT = 2  # `parallel` of local: targets: blocks that may have been under way when the process died


def _written(house: House) -> Counter[int]:
    """How often each block was written, by the block map as it grew: a record follows each write."""
    (path,) = house.kept.glob("*.blocks")
    raw = path.read_bytes()
    records = (_BODY.unpack(raw[at : at + _BODY.size]) for at in range(0, len(raw) - _SIZE + 1, _SIZE))
    return Counter(index for kind, index, _, _ in records if kind == _DATA)


def _steps(events: list[Event], what: str) -> set[str]:
    return {event["step"] for event in events if event["event"] == what and not event["phase"] and not event.get("error")}


def _same(report: dict[str, Any]) -> Any:
    """What a report says of the machine, whatever happened on the way."""
    return (
        report["verdict"],
        [(check["id"], check["expectation"], check["expected"], check["verdict"]) for check in report["checks"]],
        [(change["fix"], change["kind"], change["path"]) for change in report["changes"]],
        report["reasons"],
        [step["name"] for step in report["steps"]],
        [(disk["disk"], disk["target_size"]) for disk in report["plan"]["disks"]],
    )


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
        assert done & _steps(watch.events, "began") == set(), "a finished step is not done again"
        done |= _steps(watch.events, "ended")
    watch = Watch(house, *convert(whole.guest, whole.platform))
    assert watch.finish() == 0, watch.words
    assert watch.out.read_text().splitlines()[-1] == "PASS"
    assert done & _steps(watch.events, "began") == set()
    assert {"describe", "plan", "capture"} <= done

    report = told(house)
    assert report and _same(report) == _same(whole.report)
    written, undisturbed = _written(house), _written(whole.house)
    assert max(undisturbed.values()) == 1 and len(undisturbed) > 100
    again = sum(count - 1 for count in written.values())
    assert again <= IN_FLIGHT * kills.count("upload"), "blocks written twice"
    assert abs(len(written) - len(undisturbed)) <= len(undisturbed) // 100, "as many blocks, but for where files came to lie"

    assert house.gone() == [] and house.temporary() == []
    assert {path.name for path in (house.work / report["job"]).rglob("*")} == {"report.html", "report.json", "report.junit.xml"}
    assert digests(whole.guest.folder) == whole.sources
    home = Path(report["image"]["id"])
    assert {path.name for path in home.iterdir()} == _instance(whole)
    _compare(whole, disks(home)[0], tmp_path)
    assert house.run("cleanup", report["job"], "--yes").returncode == 0
    assert list(house.local.rglob("*")) == [] and list(house.work.rglob("*")) == []
    shutil.rmtree(tmp_path)


def _instance(whole: Conversion) -> set[str]:
    names = {"instance.json", "start", "console.log", "screenshot.png", "metadata.py", "metadata.json"}
    return names | {disk.name for disk in whole.disks}


def _compare(whole: Conversion, disk: Path, folder: Path) -> None:
    """Path, mode, owner, attributes and content of every file, but for what allowed.toml lists."""
    one, other = folder / "undisturbed", folder / "resumed"
    first, second = tree(whole.disks[0], ROOT, one), tree(disk, ROOT, other)
    assert len(first) > 10_000 and set(first) == set(second)
    wrong = []
    for path in first:
        if first[path] != second[path]:
            wrong += [f"{path}: {what}" for what in _forbidden(path, first[path], second[path], one, other)]
    assert wrong == []
    for row in ALLOWED:
        assert any(fnmatch(path, row["path"]) for path in first), f"allowed.toml: {row['path']} is not there"


def _forbidden(path: str, first: Entry, second: Entry, one: Path, other: Path) -> list[str]:
    differs = first.differs(second)
    rows = [row for row in ALLOWED if fnmatch(path, row["path"])]
    found = [what for what in differs if not any(what in row["what"] for row in rows)]
    if any(row.get("same") == "initramfs" for row in rows):
        images = [initrd.read(folder / path[1:]) for folder in (one, other)]
        if images[0] != images[1]:
            found.append("files of the image")
    return found
