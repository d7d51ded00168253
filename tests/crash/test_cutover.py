"""From a test to the server that is used, or back: each verb by the real command line, over the target in memory.

The commands are processes of their own, forked from one that has imported what they need.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from worlds import VERBS, Walker, walking

SOURCE, TARGET = "memory:erp?seed=7", "memory:there"
CONVERT = ["convert", SOURCE, "--to", TARGET, "-q"]

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def walker() -> Iterator[Walker]:
    with walking(*VERBS) as found:
        yield found


_here: list[tuple[Walker, Path]] = []


@pytest.fixture
def here(walker: Walker, tmp_path: Path) -> Iterator[Path]:
    _here.append((walker, tmp_path))
    yield tmp_path
    _here.pop()


def v2c(*words: str, code: int = 0) -> str:
    """Runs a verb to its end; answers with stdout, or with stderr when it is to fail."""
    walker, folder = _here[-1]
    ended = walker.v2c(folder, *words)
    out, err = (folder / "out").read_text(), (folder / "err").read_text()
    assert ended == code, (out, err)
    return err if code else out


def converted(*more: str) -> str:
    return str(json.loads(v2c(*CONVERT, "--json", *more))["job"])


def objects(here: Path) -> dict[str, Any]:
    """What exists at the target, by kind and id."""
    folder = here / "memory" / "targets" / "there" / "objects"
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {f"{thing['kind']} {thing['id']}": thing for thing in found}


def events(here: Path) -> list[str]:
    """Every effect at the target so far."""
    return (here / "memory" / "targets" / "there" / "events").read_text().splitlines()


def test_the_way_to_the_end(here: Path) -> None:
    id = converted()
    test = objects(here)[f"instance {id}"]
    assert (test["state"], test["isolated"]) == ("stopped", True), "a conversion ends with a test that reaches nothing"
    assert "cut over" not in v2c("status", id)
    assert v2c("test-cutover", id, "-q").endswith("\nPASS\n") and f"instance {id}-cutover" not in objects(here)

    out = v2c("cutover", id, "--yes", "-q")
    real = objects(here)[f"instance {id}-cutover"]
    assert (real["state"], real["isolated"]) == ("running", False)
    assert f"cut over: {id}-cutover takes writes since " in out and out.endswith("\nPASS\n")
    assert "  cut over 20" in v2c("status", id)
    again = json.loads(v2c("cutover", id, "--yes", "-q", "--json"))
    assert again["instance"]["id"] == f"{id}-cutover" and [s["name"] for s in again["steps"]].count("confirm") == 1
    before = events(here)
    assert v2c("validate", id, "-q").endswith("\nPASS\n") and objects(here)[f"instance {id}-cutover"]["state"] == "running"
    assert events(here) == before, "the real instance is looked at, and neither stopped nor started"
    assert v2c(*CONVERT).endswith("\nPASS\n"), "the same command answers with what is known by now"
    assert json.loads(v2c("report", id, "--format", "json"))["cut_over"] == again["cut_over"] != ""

    assert v2c("finalize", id) == f"removed reservation {id}\n{id} is finalized\n"
    assert v2c("finalize", id) == f"{id} is finalized\n"
    for refused in (["cleanup", id, "--yes", "--discard-target-writes"], ["rollback", id, "--yes"], [*CONVERT, "--again"]):
        assert f"job {id} was finalized on 20" in v2c(*refused, code=2)
    assert objects(here)[f"instance {id}-cutover"]["state"] == "running"
    told = json.loads(v2c("report", id, "--format", "json"))
    done = [act["what"] for act in told["acts"] if act["what"].split()[0] not in ("make", "remove")]
    assert done == ["boot again as a test", "cut over", "look at the instance", "finalize"]
    assert all(act["who"] and act["host"] and act["at"] > 0 for act in told["acts"]) and told["finalized"]
    page = v2c("report", id, "--format", "html")
    assert "Who did what" in page and "the target takes writes since then" in page


def test_all_in_one_command(here: Path) -> None:
    done = json.loads(v2c(*CONVERT, "--cutover", "--json"))
    id = done["job"]
    assert done["verdict"] == "pass" and done["instance"]["id"] == f"{id}-cutover" and done["cut_over"]
    assert objects(here)[f"instance {id}-cutover"]["state"] == "running"
    assert json.loads(v2c(*CONVERT, "--cutover", "--json")) == done, "asked again it answers"


def test_services_are_asked_when_it_is_cut_over(here: Path) -> None:
    id = converted()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = json.loads(v2c("cutover", id, "--yes", "-q", "--json", "--check", f"tcp:127.0.0.1:{port}"))
    (check,) = [check for check in done["checks"] if check["id"].startswith("reach:")]
    assert (check["verdict"], check["seen"]) == ("pass", "answers")
    assert "is not understood" in v2c("validate", id, "--check", "tcp:nowhere", code=2)


def test_rolled_back_before_the_cut_over(here: Path) -> None:
    id = converted()
    out = v2c("rollback", id, "--yes").splitlines()
    assert out == [
        f"removed instance {id}",
        f"removed image {id}",
        f"removed disk {id}-disk-0",
        f"removed reservation {id}",
        f"{id} is rolled back",
    ]
    assert objects(here) == {} and "  rolled back 20" in v2c("status", id)
    assert "roll back" in [act["what"] for act in json.loads(v2c("report", id, "--format", "json"))["acts"]]
    assert v2c("rollback", id, "--yes") == f"{id} is rolled back\n"
    for verb in (["test-cutover", id, "-q"], ["cutover", id, "--yes", "-q"], ["finalize", id], CONVERT):
        assert f"job {id} was rolled back on 20" in v2c(*verb, code=2)
    assert v2c(*CONVERT, "--again").endswith("\nPASS\n") and "rolled back" not in v2c("status", id)
    v2c("cleanup", id, "--yes")
    assert objects(here) == {} and v2c("status") == "no jobs yet\n"


def test_a_cut_over_is_rolled_back_only_with_the_word(here: Path) -> None:
    id = converted("--cutover")
    for refused in (["rollback", id, "--yes"], ["cleanup", id, "--yes"], [*CONVERT, "--again"]):
        said = v2c(*refused, code=2)
        assert f"job {id} was cut over, and since 20" in said and "--discard-target-writes" in said
    assert objects(here)[f"instance {id}-cutover"]["state"] == "running"
    out = v2c("rollback", id, "--yes", "--discard-target-writes")
    assert out.startswith(f"removed instance {id}-cutover\n") and objects(here) == {}
    report = json.loads(v2c("report", id, "--format", "json"))
    assert any(act["detail"].startswith("discarding what the target wrote since 20") for act in report["acts"])
    assert v2c(*CONVERT, "--again").endswith("\nPASS\n"), "what was rolled back can be moved again"


def test_an_unfinished_job_is_rolled_back(here: Path) -> None:
    argv = ["convert", SOURCE, "--to", "memory:there?lose=0", "-q"]
    assert "does not hold what was sent" in v2c(*argv, code=1)
    id = str(json.loads(v2c("status", "--json"))[0]["job"]["id"])
    assert list((here / "work" / id).glob("*.qcow2"))
    assert f"removed disk {id}-disk-0\n" in v2c("rollback", id, "--yes")
    assert objects(here) == {} and not list((here / "work" / id).iterdir())
    assert "convert it anew with --again" in v2c(*argv, code=2)


def test_what_is_refused(here: Path) -> None:
    id = converted()
    assert f"v2c cutover {id} first, or v2c rollback {id}" in v2c("finalize", id, code=2)
    report = here / "work" / id / "report.json"
    report.write_text(report.read_text().replace('"verdict": "pass"', '"verdict": "fail"', 1))
    assert "try v2c test-cutover again, or cut over with --anyway" in v2c("cutover", id, "--yes", "-q", code=1)
    assert f"instance {id}-cutover" not in objects(here)
    assert v2c("cutover", id, "--yes", "-q", "--anyway").endswith("\nPASS\n")
    assert "has no cut-over: leave --cutover out" in v2c("convert", SOURCE, "--to", f"file:{here}/x.raw", "--cutover", code=2)
    assert "made nothing that boots" in v2c(
        "cutover", json.loads(v2c("convert", SOURCE, "--to", f"file:{here}/x.raw", "-q", "--json"))["job"], "--yes", code=2
    )


def test_a_file_is_finalized_and_then_left_alone(here: Path) -> None:
    id = json.loads(v2c("convert", SOURCE, "--to", f"file:{here}/x.raw", "-q", "--json"))["job"]
    assert v2c("finalize", id) == f"{id} is finalized\n"
    assert "in use" in v2c("cleanup", id, "--yes", code=2) and (here / "x.raw").exists()


def test_a_test_that_was_cut_off_is_over_before_the_cut_over(here: Path) -> None:
    id = converted()
    left = here / "memory" / "targets" / "there" / "objects" / f"instance-{id}.json"
    left.write_text(left.read_text().replace('"stopped"', '"running"'))
    assert v2c("cutover", id, "--yes", "-q").endswith("\nPASS\n")
    assert (objects(here)[f"instance {id}"]["state"], objects(here)[f"instance {id}-cutover"]["state"]) == ("stopped", "running")
