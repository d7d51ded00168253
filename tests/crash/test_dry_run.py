"""--dry-run of each verb, compared with what the verb does in earnest afterwards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import journeys
import pytest
from journeys import CONVERT
from worlds import VERBS, Walker, walking

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def walker() -> Iterator[Walker]:
    with walking(*VERBS) as found:
        yield found


def everything(folder: Path) -> dict[str, bytes]:
    """Every file of the target and of the work folder."""
    roots = (folder / "memory", folder / "work")
    return {str(path): path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


def effects(folder: Path) -> list[tuple[str, str]]:
    target = folder / "memory" / "targets" / "cloud" / "events"
    return [(event["what"], event["id"]) for event in journeys.events(folder)] if target.exists() else []


@pytest.mark.parametrize("cutover", [(), ("--cutover",)], ids=["test", "cutover"])
def test_what_it_tells_is_what_is_done(walker: Walker, tmp_path: Path, cutover: tuple[str, ...]) -> None:
    def compared(*words: str) -> list[dict[str, Any]]:
        """The calls of the dry run, which are those of the real one: every put of a disk as one."""
        before, since = everything(tmp_path), len(effects(tmp_path))
        assert walker.v2c(tmp_path, *words, "--dry-run", "--json") == 0
        calls: list[dict[str, Any]] = json.loads((tmp_path / "out").read_text())
        assert everything(tmp_path) == before, words
        assert walker.v2c(tmp_path, *words) == 0, words
        done = list(dict.fromkeys(effects(tmp_path)[since:]))
        assert sorted((call["name"], call["subject"]) for call in calls) == sorted(done), words
        told = [(call["name"], call["subject"]) for call in calls if call["name"] != "put"]
        if words[0] != "convert":  # disks are made side by side
            assert told == done, words
        return calls

    calls = compared(*CONVERT, *cutover)
    assert all(call["tags"]["v2c-job"] in call["subject"] for call in calls if call["name"] == "create")
    assert [call["detail"] for call in calls if call["name"] == "put"] == ["block 0, and up to 5 more"] * 2
    job = journeys.told(tmp_path)["job"]
    if cutover:
        compared("rollback", job, "--yes", "--discard-target-writes")
        assert walker.v2c(tmp_path, *CONVERT, "--dry-run") == 2, "what is refused in earnest is refused here"
        compared(*CONVERT, "--again")
    else:
        compared(*CONVERT, "--again")
        compared("cutover", job, "--yes", "--quiet")
        compared("finalize", job)
        assert walker.v2c(tmp_path, "cleanup", job, "--dry-run") == 2


def test_for_people(walker: Walker, tmp_path: Path) -> None:
    assert walker.v2c(tmp_path, *CONVERT, "--dry-run") == 0
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[0].startswith("1. create reservation ") and "[v2c-job=" in lines[0] and lines[-1] == "nothing was changed"
    assert walker.v2c(tmp_path, "status") == 0 and (tmp_path / "out").read_text() == "no jobs yet\n"
    assert walker.v2c(tmp_path, "convert", "memory:erp", "--to", f"file:{tmp_path}/disks/", "--dry-run") == 0
    told = (tmp_path / "out").read_text()
    for line in (f"mkdir {tmp_path}/disks", f"write {tmp_path}/disks/erp.v2c.json", f"write {tmp_path}/disks/erp-0"):
        assert line in told
    assert "v2c-dry-" not in told and not (tmp_path / "disks").exists()
