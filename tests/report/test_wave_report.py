"""A run as one report: everybody has a row in every format, sums are right, and nothing that is said gets out of its place."""

import csv
import html
import io
import json
import re
from dataclasses import replace
from xml.etree.ElementTree import Element

import pytest
from defusedxml import ElementTree
from example_run import HOSTILE, NOW, example_run, hostile
from test_report import Page

from v2c.model import Level, Ref
from v2c.model.wave import Snapshot, Standing
from v2c.report.wave import FORMS, Remains, render


def suites(text: str) -> list[Element]:
    root = ElementTree.fromstring(text.encode())
    return list(root.findall("testsuite"))


def table(text: str) -> list[dict[str, str]]:
    assert text.startswith("\ufeff"), "or Excel takes it for another character set"
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def test_the_page_tells_everything() -> None:
    seen = example_run(5)
    text = render(seen, "html")
    page = Page(text)
    assert page.open == []
    shown = html.unescape(text)
    for one in seen.machines:
        assert f">{one.id}<" in shown and one.source in shown and one.target in shown
        assert one.why in shown and one.remedy in shown
    for part in (
        "1 of 5 done, 1 running, 1 at a gate, 1 failed, 1 waiting",
        "863 GiB of 1.3 TiB",
        "okToCutover: anna, 2026-12-05 19:30",
        "approve okToCutover",
        "jonas on conv-2",
        "open-vm-tools",
        "file:///somewhere/jobs/erp-db-001/report.html",
        "cut over 2026-12-05 19:31:07+0000",
    ):
        assert part in shown, part


def test_downtime_stands_against_its_budget() -> None:
    seen = example_run(5)
    done = replace(seen.machines[0], downtime_s=1801.0, budget_s=1800)
    late = replace(seen, machines=(done,))
    assert "30 min 01 s over" in render(late, "html") and "1 over budget" in render(late, "html")
    assert table(render(late, "csv"))[0]["over_budget"] == "yes"
    assert json.loads(render(late, "json"))["totals"]["over_budget"] == 1
    assert suites(render(late, "junit"))[0].get("failures") == "1", "a machine that was down too long is no success"
    kept = replace(seen, machines=(replace(done, downtime_s=1800.0),))
    assert "none over budget" in render(kept, "html")
    assert table(render(kept, "csv"))[0]["over_budget"] == "no"
    assert suites(render(kept, "junit"))[0].get("failures") == "0"


def test_the_page_is_self_contained_accessible_and_runs_nothing() -> None:
    page = Page(render(example_run(50), "html"))
    assert not {"script", "link", "iframe", "object", "base", "form", "img"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    assert len(page.words["caption"]) >= [tag for tag, _ in page.tags].count("table")
    assert ("html", {"lang": "en"}) in page.tags
    policy = next(attributes["content"] for _, attributes in page.tags if attributes.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.mark.parametrize("form", FORMS)
def test_hostile_text_stays_text(form: str) -> None:
    text = render(hostile(example_run(5)), form, {"x": Remains(NOW, (Ref.of("disk", HOSTILE),))})
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\ufffe]", text)
    if form == "html":
        page = Page(text)
        assert page.open == [] and "script" not in {tag for tag, _ in page.tags}
        assert "<script>alert('x')</script>" in html.unescape(text) and "{{ 7 * 7 }}" in text
    elif form == "junit":
        (suite,) = suites(text)
        assert suite.get("name", "").startswith("<script>")
    elif form == "csv":
        assert all(row["wave"].startswith("<script>") for row in table(text))
    else:
        assert json.loads(text)["machines"][0]["name"].startswith("<script>")


def test_cells_are_not_calculated() -> None:
    rows = table(render(hostile(example_run(5), '=HYPERLINK("http://x")'), "csv"))
    assert all(row["name"] == '\'=HYPERLINK("http://x")' for row in rows)


def test_csv_has_a_row_a_machine() -> None:
    seen = example_run(500)
    rows = table(render(seen, "csv"))
    assert [row["id"] for row in rows] == [one.id for one in seen.machines]
    one, row = seen.machines[0], rows[0]
    assert row["standing"] == str(one.standing) and int(row["data_bytes"]) == one.data_bytes
    blocked = next(row for row in rows if row["standing"] == "blocked")
    assert blocked["blockers"] == "1" and blocked["reason"] == "its root is on a disk that was not given"


@pytest.mark.parametrize("form", FORMS)
def test_a_run_without_machines(form: str) -> None:
    text = render(example_run(0), form)
    assert text
    if form == "csv":
        assert table(text) == [] and "standing" in text


def test_junit_has_a_case_a_machine() -> None:
    seen = example_run(500)
    found = suites(render(seen, "junit"))
    assert [suite.get("name") for suite in found] == list(seen.waves)
    cases = [case for suite in found for case in suite.findall("testcase")]
    assert [case.get("name") for case in cases] == [one.id for one in seen.machines]
    for suite in found:
        own = suite.findall("testcase")
        assert int(suite.get("tests", "")) == len(own)
        assert int(suite.get("failures", "")) == sum(case.find("failure") is not None for case in own)
        assert int(suite.get("skipped", "")) == sum(case.find("skipped") is not None for case in own)
    outcome = {case.get("name"): next(child.tag for child in case) for case in cases}
    for one in seen.machines:
        if one.standing in (Standing.FAILED, Standing.BLOCKED, Standing.MISSED, Standing.SKIPPED):
            assert outcome[one.id] == "failure"
        elif one.standing in (Standing.WAITING, Standing.RUNNING, Standing.GATED, Standing.PAUSED):
            assert outcome[one.id] == "skipped"


def test_json_is_the_snapshot_and_the_sums() -> None:
    seen = example_run(500)
    told = json.loads(render(seen, "json"))
    assert told["totals"]["standings"]["done"] == seen.count(Standing.DONE)
    assert told["totals"]["sent_bytes"] == sum(one.sent_bytes for one in seen.machines)
    assert [one["id"] for one in told["machines"]] == [one.id for one in seen.machines]
    blockers = sum(f.level is Level.BLOCKER for one in seen.machines for f in one.findings)
    assert sum(f["level"] == "blocker" for one in told["machines"] for f in one["findings"]) == blockers


# --- what is left ---------------------------------------------------------------------------------------------------------------


def left(seen: Snapshot, remains: Remains | None) -> str:
    """What the table says is left of the first machine."""
    return table(render(seen, "csv", {seen.machines[0].id: remains} if remains else {}))[0]["left"]


def test_what_is_left_is_told_and_proven_by_a_listing() -> None:
    seen = example_run(5)
    gone = replace(seen, machines=(replace(seen.machines[0], standing=Standing.ROLLED_BACK, rolled_back="2026-12-05"),))
    live = replace(seen, machines=(replace(seen.machines[0], rolled_back=""),))
    instance = Remains(NOW, (Ref.of("instance", "i-1"), Ref.of("disk", "d-1")))
    assert left(gone, None) == "not listed"
    assert left(gone, Remains(NOW)) == "nothing is left"
    assert left(gone, instance) == "kept: instance i-1, disk d-1"
    assert left(live, instance) == "in use: instance i-1, disk d-1"
    assert left(gone, Remains(NOW, why="no credentials")) == "could not be listed: no credentials"


def test_a_target_that_could_not_be_asked_proves_nothing() -> None:
    seen = example_run(5)
    ids = [one.id for one in seen.machines]
    remains = {ids[0]: Remains(NOW), ids[1]: Remains(NOW, (Ref.of("disk", "d"),)), ids[2]: Remains(NOW, why="no credentials")}
    told = json.loads(render(seen, "json", remains))
    assert (told["totals"]["listed"], told["totals"]["with_something_left"]) == (2, 1)
    shown = render(seen, "html", remains)
    assert "2 listed, 1 hold something" in shown and "nothing is left" in shown
    assert "Nobody asked the targets" in render(seen, "html")
