"""When two conversions of a real guest are the same: what their reports say, what their disks hold, which blocks were written."""

import shutil
import tomllib
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from conversions import Conversion, Event, House, digests, disks, told
from trees import Entry, tree

from v2c.blocks import _BODY, _DATA, _SIZE  # the records are the only witness of what was written when
from v2c.guest import initrd

ROOT = 2048 * 512  # bytes before the root filesystem, recipe.toml
ALLOWED = tomllib.loads(Path(__file__).with_name("allowed.toml").read_text(encoding="utf-8"))["differs"]
IN_FLIGHT = 2  # `parallel` of local: targets: blocks that may have been under way when the process died


def arrived_the_same(whole: Conversion, house: House, folder: Path, cut: int) -> int:
    """Compares what came of a conversion that was cut off, `cut` times while blocks were sent, with one that was not: report,
    blocks, processes, files, and the whole tree of the guest. Removes `folder`; how many blocks were written again."""
    report = told(house)
    assert report and essence(report) == essence(whole.report)
    blocks, undisturbed = written(house), written(whole.house)
    assert max(undisturbed.values()) == 1 and len(undisturbed) > 100
    again = sum(count - 1 for count in blocks.values())
    assert again <= IN_FLIGHT * cut, "blocks written twice"
    assert abs(len(blocks) - len(undisturbed)) <= len(undisturbed) // 100, "as many blocks, but for where files came to lie"

    assert house.gone() == [] and house.temporary() == []
    assert {path.name for path in (house.work / report["job"]).rglob("*")} == {"report.html", "report.json", "report.junit.xml"}
    assert digests(whole.guest.folder) == whole.sources
    home = Path(report["image"]["id"])
    assert {path.name for path in home.iterdir()} == instance(whole)
    compare(whole, disks(home)[0], folder)
    assert house.run("cleanup", report["job"], "--yes").returncode == 0
    assert list(house.local.rglob("*")) == [] and list(house.work.rglob("*")) == []
    shutil.rmtree(folder)
    return again


def written(house: House) -> Counter[int]:
    """How often each block was written, by the block map as it grew: a record follows each write."""
    (path,) = house.kept.glob("*.blocks")
    raw = path.read_bytes()
    records = (_BODY.unpack(raw[at : at + _BODY.size]) for at in range(0, len(raw) - _SIZE + 1, _SIZE))
    return Counter(index for kind, index, _, _ in records if kind == _DATA)


def steps(events: list[Event], what: str) -> set[str]:
    return {event["step"] for event in events if event["event"] == what and not event["phase"] and not event.get("error")}


def essence(report: dict[str, Any]) -> Any:
    """What a report says of the machine, whatever happened on the way. How many blocks were sent varies with where files came to
    lie when the repair was done again; the blocks themselves are compared apart."""
    return (
        report["verdict"],
        [(check["id"], check["expectation"], _expected(check), check["verdict"]) for check in report["checks"]],
        [(change["fix"], change["kind"], change["path"]) for change in report["changes"]],
        report["reasons"],
        [step["name"] for step in report["steps"]],
        [(disk["disk"], disk["target_size"]) for disk in report["plan"]["disks"]],
    )


def _expected(check: dict[str, Any]) -> str:
    expected = str(check["expected"])
    return expected.lstrip("0123456789") if check["expectation"] == "sent" else expected


def instance(whole: Conversion) -> set[str]:
    names = {"instance.json", "start", "console.log", "screenshot.png", "metadata.py", "metadata.json"}
    return names | {disk.name for disk in whole.disks}


def compare(whole: Conversion, disk: Path, folder: Path) -> None:
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
