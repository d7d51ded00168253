"""Reports as files: everything is in them, and nothing a guest says gets out of its place."""

import html
import json
import re
import stat
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
from defusedxml import ElementTree

from v2c import report as reports
from v2c.errors import UsageError
from v2c.model import (
    Change,
    ChangeKind,
    Check,
    Expectation,
    Facts,
    Finding,
    Level,
    Ref,
    Report,
    StepRecord,
    Verdict,
)
from v2c.report.page import size, span

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
HOSTILE = "<script>alert('x')</script>\"'>&amp;\x00\x1b[31m\x07\ud800\u202e\ufffe]]>{{ 7 * 7 }}{% raw %}"
VOID = {"meta", "br", "img"}


def example(word: str = "erp", screenshot: str = "") -> Report:
    """A report with something in every field; `word` stands wherever a guest or a user has a say."""
    return Report(
        job="job-1",
        machine=word,
        source=f"/srv/{word}.vmdk",
        target="local:aws",
        verdict=Verdict.FAIL,
        checks=(
            Check("hostname", "hostname", Expectation.INSPECTED, "erp", word, Verdict.PASS, ""),
            Check("mount:/srv", f"mount {word}", Expectation.INSPECTED, "ext4 1-2", "nothing", Verdict.FAIL, word),
            Check("listening", "listening ports", Expectation.NONE, "", word, Verdict.OBSERVED, ""),
            Check("mount:/nas", "mount /nas", Expectation.INSPECTED, "nfs", "nothing", Verdict.SKIPPED, "no network"),
        ),
        findings=(
            Finding("a.info", Level.INFO, word, "an info", ""),
            Finding("a.warning", Level.WARNING, word, word, f"do {word}"),
        ),
        changes=(
            Change(
                "fstab", ChangeKind.CHANGED, f"/etc/{word}", f"--- a\n+++ b\n@@ -1 +1 @@\n-/dev/sda1 {word}\n+UUID=1 {word}\n"
            ),
            Change("probe", ChangeKind.CREATED, "/etc/v2c/nonce"),
        ),
        reasons=(("fstab", f"/etc/fstab names {word}"), ("idle", "a reason without a change")),
        steps=(StepRecord("fix", 61.5, 1 << 20, 2, (("launch", 20.0), ("repair", 41.5))), StepRecord("upload", 3.25, 5 << 30)),
        instance=Ref.of("instance", "job-1/erp"),
        console=f"boot\r\n{word}\r\n",
        screenshot=screenshot,
        unproven=(f"ENA is not emulated, {word}",),
        host=word,
        user="root",
        started="2026-01-02T03:04:05+00:00",
        ended="2026-01-02T03:14:05+00:00",
        facts=Facts("debian", "debian", "12", word, "x86_64", "/dev/sda1", hostname=word),
    )


class Page(HTMLParser):
    """Tags as they open, their text, and whether every tag is closed by its own."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.setdefault(self.open[-1] if self.open else "", []).append(data)


def written(report: Report, folder: Path) -> str:
    """The page, after the three files were written."""
    assert reports.write(report, folder) == folder / "report.html"
    assert {path.name for path in folder.iterdir()} >= {"report.html", "report.json", "report.junit.xml"}
    return (folder / "report.html").read_text(encoding="utf-8")


def suite(folder: Path) -> Element:
    """The test suite of the JUnit file."""
    root = ElementTree.parse(folder / "report.junit.xml").getroot()
    found = root.find("testsuite") if root is not None else None
    assert found is not None
    return found


def test_the_page_tells_everything(tmp_path: Path) -> None:
    (tmp_path / "screen.png").write_bytes(PNG)
    text = written(example(screenshot=str(tmp_path / "screen.png")), tmp_path)
    page = Page(text)
    assert page.open == []
    headings = ["".join(words.split()) for words in page.words["h2"]]
    assert headings == [
        "Isitthesamemachine?",
        "Whatthisbootcannotprove",
        "Findings",
        "Whatwaschangedintheguest,andwhy",
        "Wherethetimewent",
        "Thescreenattheend",
        "Serialconsole",
    ]
    for part in (
        "1 pass, 1 fail, 1 observed, 1 skipped",
        "a reason without a change",
        "/etc/fstab names erp",
        '<span class="old">-/dev/sda1 erp</span>',
        '<span class="new">+UUID=1 erp</span>',
        '<span class="file">+++ b</span>',
        "launch 20 s, repair 42 s",
        "5.0 GiB",
        "ENA is not emulated, erp",
        "data:image/png;base64,iVBORw0KGgo",
        "job-1/erp",
    ):
        assert part in text
    assert text.index("an info") > text.index("do erp")  # worst findings first


def test_the_page_is_self_contained_and_runs_nothing(tmp_path: Path) -> None:
    page = Page(written(example(), tmp_path))
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not str(attributes.get("src") or attributes.get("href") or "").startswith(("http", "//", "file"))
    policy = next(attributes["content"] for _, attributes in page.tags if attributes.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_the_chart_and_the_tables_are_accessible(tmp_path: Path) -> None:
    page = Page(written(example(), tmp_path))
    assert ("html", {"lang": "en"}) in page.tags
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert [chart["role"] for chart in charts] == ["img"]
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    tables = [tag for tag, _ in page.tags if tag == "table"]
    assert len(page.words["caption"]) == len(tables) == 3
    bars = [float(attributes["width"] or 0) for tag, attributes in page.tags if tag == "rect"]
    assert bars == [460.0, pytest.approx(460 * 3.25 / 61.5, abs=0.1)]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    honest, hostile = tmp_path / "a", tmp_path / "b"
    honest.mkdir()
    hostile.mkdir()
    text = written(example(HOSTILE), hostile)
    page = Page(text)
    assert page.open == []
    # the same elements as for an honest guest, so nothing was smuggled in
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in Page(written(example(), honest)).tags]
    assert "<script" not in text and "{{ 7 * 7 }}" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ufffe]", text)
    shown = html.unescape(text)
    assert "<script>alert('x')</script>" in shown and "\\ud800" in shown


def test_hostile_text_in_junit(tmp_path: Path) -> None:
    written(example(HOSTILE), tmp_path)
    cases = suite(tmp_path).findall("testcase")
    assert cases[0].get("name") == "hostname"
    assert cases[1].get("name", "").startswith("mount <script>alert('x')</script>")
    assert [child.tag for case in cases for child in case] == [
        "system-out",
        "failure",
        "skipped",
        "system-out",
        "skipped",
        "system-out",
    ]


def test_junit_counts(tmp_path: Path) -> None:
    written(example(), tmp_path)
    tests = suite(tmp_path)
    assert {name: tests.get(name) for name in ("tests", "failures", "errors", "skipped", "time", "timestamp")} == {
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "2",
        "time": "64.750",
        "timestamp": "2026-01-02T03:04:05",
    }
    skipped = tests.findall("testcase/skipped")
    assert [each.get("message") for each in skipped] == ["observed: nothing to compare with", "skipped: no network"]


def test_json_comes_back_as_the_same_report(tmp_path: Path) -> None:
    report = replace(example(), console="boot\nerp\n")
    written(report, tmp_path)
    assert reports.read(tmp_path) == report
    assert json.loads(reports.json(report))["checks"][1]["verdict"] == "fail"


def test_hostile_json_comes_back(tmp_path: Path) -> None:
    written(example(HOSTILE), tmp_path)
    again = reports.read(tmp_path)
    assert again.machine.startswith("<script>") and "\x1b" not in again.machine
    written(again, tmp_path)
    assert reports.read(tmp_path) == again


def test_no_report_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no report"):
        reports.read(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UsageError, match="not a report of this version"):
        reports.read(tmp_path)


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    written(example(), tmp_path)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("content", [b"<svg onload=alert(1)>", b"", PNG + bytes(9 << 20)])
def test_only_a_png_of_bearable_size_is_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "screen.png").write_bytes(content)
    assert "<img" not in written(example(screenshot=str(tmp_path / "screen.png")), tmp_path)


def test_a_screenshot_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert "<img" not in written(example(screenshot=str(tmp_path / "nowhere.png")), tmp_path)


def test_an_empty_report(tmp_path: Path) -> None:
    text = written(Report("j", "m", "s", "file:x", Verdict.OBSERVED), tmp_path)
    assert Page(text).open == []
    assert "The machine was not booted, so nothing was compared." in text
    assert suite(tmp_path).get("tests") == "0"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (9.96, "10.0 s"), (83.2, "83 s"), (725, "12 min 05 s"), (11100, "3 h 05 min")]
)
def test_spans(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 bytes"), (1536, "1.5 KiB"), (300 << 20, "300 MiB"), (3 << 40, "3.0 TiB")])
def test_sizes(count: int, words: str) -> None:
    assert size(count) == words
