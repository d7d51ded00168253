"""Cut-over, finalize, roll back and clean up, each killed at every boundary and gone on with by the same command."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import journeys
import pytest
from journeys import CONVERT
from worlds import KILLED, VERBS, Walker, walking

pytestmark = pytest.mark.tool

CUTOVER = ("cutover", "JOB", "--yes", "--quiet")
DISCARD = "--discard-target-writes"
# the command, what was done before it, and what exists at the target once it is over
CASES = {
    "test-cutover": (("test-cutover", "JOB", "--quiet"), (), "disk disk image instance:stopped reservation"),
    "cutover": (CUTOVER, (), "disk disk image instance-cutover:running instance:stopped reservation"),
    "finalize": (("finalize", "JOB"), (CUTOVER,), "disk disk image instance-cutover:running instance:stopped"),
    "rollback": (("rollback", "JOB", "--yes", DISCARD), (CUTOVER,), ""),
    "cleanup": (("cleanup", "JOB", "--yes"), (), ""),
}


@pytest.fixture(scope="module")
def walker() -> Iterator[Walker]:
    with walking(*VERBS) as found:
        yield found


def things(folder: Path, job: str) -> str:
    """What exists at the target."""
    found = [json.loads(p.read_text()) for p in (folder / "memory" / "targets" / "cloud" / "objects").glob("*.json")]
    names = [thing["kind"] + ("-cutover" if thing["id"].endswith("-cutover") else "") for thing in found]
    return " ".join(sorted(f"{n}:{t['state']}" if "state" in t else n for n, t in zip(names, found, strict=True)))


def starts(folder: Path, id: str) -> int:
    return sum(event["what"] == "start" and event["id"] == id for event in journeys.events(folder))


def report(folder: Path) -> dict[str, Any]:
    return journeys.told(folder)


@pytest.mark.parametrize("case", CASES)
def test_every_boundary(walker: Walker, tmp_path: Path, case: str) -> None:
    command, before, left = CASES[case]
    folder, saved, log = tmp_path / "here", tmp_path / "saved", tmp_path / "boundaries"
    folder.mkdir()
    assert walker.v2c(folder, *CONVERT) == 0
    job = journeys.told(folder)["job"]

    def run(words: tuple[str, ...], at: int = 0, log: Path | None = None) -> int:
        return walker.v2c(folder, *(job if word == "JOB" else word for word in words), at=at, log=log)

    for words in before:
        assert run(words) == 0
    shutil.copytree(folder, saved)
    assert run(command, log=log) == 0 and things(folder, job) == left
    names = log.read_text().splitlines()
    assert len(names) >= 3
    for at, name in enumerate(names, 1):
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        assert run(command, at=at) == KILLED, name
        code = run(command)
        # what was struck out last is all done: there is no such job any more
        assert code == 0 or (case == "cleanup" and code == 2 and not (folder / "work" / job).exists()), name
        assert things(folder, job) == left, name
        assert journeys.twice(folder) == [], name
        if case in ("cutover", "finalize"):
            assert starts(folder, f"{job}-cutover") == 1, name
            assert report(folder)["verdict"] == "pass" and report(folder)["cut_over"], name
        if case == "rollback":
            assert report(folder)["rolled_back"] and "roll back" in [a["what"] for a in report(folder)["acts"]], name


def test_what_was_cut_off_is_guarded_all_the_same(walker: Walker, tmp_path: Path) -> None:
    """Killed in the middle of a cut-over, before anybody heard of its end: the target may hold writes."""
    log = tmp_path / "boundaries"
    for number, name in enumerate(("whole", "cut")):
        folder = tmp_path / name
        folder.mkdir()
        assert walker.v2c(folder, *CONVERT) == 0
        job = journeys.told(folder)["job"]
        words = [job if word == "JOB" else word for word in CUTOVER]
        names = log.read_text().splitlines() if number else []
        at = names.index("intent instance") + 1 if number else 0
        assert walker.v2c(folder, *words, at=at, log=None if number else log) == (KILLED if number else 0)
    assert walker.v2c(folder, "rollback", job, "--yes") == 2
    assert walker.v2c(folder, "cleanup", job, "--yes") == 2
    assert walker.v2c(folder, *CONVERT, "--again") == 2
    assert walker.v2c(folder, *words) == 0 and things(folder, job) == CASES["cutover"][2]
