"""What people look at, over runs that were really worked off: the page's runs, what is left, the report and watching."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import pytest
from waving import World, machine, manifest

from v2c.cli import cli
from v2c.cli.running import outcome
from v2c.errors import UsageError
from v2c.model.wave import Gate, Stage, Standing
from v2c.serve.runs import StateRuns
from v2c.waves import actions, remains

HELD = "{ okToTest: true, okToCutover: false, okToFinalize: true }"


def said(world: World, *words: str) -> tuple[int, str]:
    """The exit code of a command line in the world's state, and what it printed."""
    out = io.StringIO()
    with redirect_stdout(out):  # not capsys: the engine's logger would keep its stream, which closes with the test
        code = outcome(cli, [*words, "--state", str(world.folder / "state"), "--workdir", str(world.folder / "work")])
    return code, out.getvalue()


# --- the page's runs -----------------------------------------------------------------------------------------------------------


def test_the_page_shows_and_agrees_to_what_is_there(world: World) -> None:
    world.begin(manifest([machine("a1"), machine("a2")], gates=HELD))
    world.work()
    runs = StateRuns(world.state)
    assert runs.names() == ("trial",)
    assert [one.gate for one in runs.snapshot("trial").machines] == [Gate.CUTOVER, Gate.CUTOVER]
    assert runs.agree("trial", Gate.CUTOVER, ["a1", "nobody"], yes=True) == ("a1",)
    with pytest.raises(UsageError, match="none of a1 waits at okToCutover any more"):
        runs.agree("trial", Gate.CUTOVER, ["a1"], yes=True)
    with pytest.raises(UsageError, match="none of a2 waits at okToTest"):
        runs.agree("trial", Gate.TEST, ["a2"], yes=True)
    assert runs.agree("trial", Gate.CUTOVER, ["a2"], yes=False) == ("a2",)
    world.work()
    assert world.stood() == {"a1": (Stage.FINALIZE, Standing.DONE), "a2": (Stage.CUTOVER, Standing.REFUSED)}
    told = [(act.what, act.detail) for act in runs.snapshot("trial").acts]
    assert ("approve okToCutover", "a1") in told and ("refuse okToCutover", "a2") in told


def test_the_page_shows_reports_and_consoles(world: World) -> None:
    world.begin(manifest([machine("a1"), machine("a2", "gates: { okToTest: false }")]))
    runs = StateRuns(world.state)
    assert runs.report("trial", "a1") is None and runs.console("trial", "a1") is None
    world.work()
    report = runs.report("trial", "a1")
    assert report is not None and report.startswith("<!DOCTYPE html>") and ">a1" in report
    console = runs.console("trial", "a1")
    assert console and "\x1b" not in console
    for ask in (runs.report, runs.console):
        with pytest.raises(UsageError, match='the run trial has no machine "a3"'):
            ask("trial", "a3")
        with pytest.raises(UsageError, match='"other" is not a run'):
            ask("other", "a1")


def test_the_run_that_is_asked_for_comes_first(world: World) -> None:
    for name in ("one", "two", "three"):
        world.begin(manifest([machine("a1")], name=name))
    assert StateRuns(world.state).names()[0] == "three", "the newest"
    assert StateRuns(world.state, "one").names()[0] == "one"


# --- what is left --------------------------------------------------------------------------------------------------------------


def test_a_rollback_is_proven_by_a_listing(world: World) -> None:
    world.begin(manifest([machine("a1"), machine("a2"), machine("a3", "gates: { okToTest: false }")], gates=HELD))
    world.work(only=["a1", "a2"])
    actions.ask(world.state, "trial", Stage.ROLLBACK, ["a1"])
    world.work(only=["a1"])
    seen = world.seen()
    found = remains.remains(world.state, seen)
    assert set(found) == {"a1", "a2"}, "who did not begin made nothing"
    assert found["a1"].left == () and not found["a1"].why
    assert {ref.kind for ref in found["a2"].left} >= {"disk", "image"}
    code, text = said(world, "report", "--run", "trial", "--format", "csv")
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))}
    assert rows["a1"]["left"] == "nothing is left" and rows["a1"]["rolled_back"]
    assert rows["a2"]["left"].startswith("kept: ") and rows["a3"]["left"] == "not listed"
    assert code == 3, "a machine was rolled back"


def test_who_cannot_be_asked_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.begin(manifest([machine("a1"), machine("a2")]))
    seen = world.work()

    def closed(locator: str) -> None:
        raise RuntimeError(f"{locator}: no credentials\nfor you")

    monkeypatch.setattr("v2c.waves.remains.open_target", closed)  # as a cloud's SDK does it
    found = remains.remains(world.state, seen)
    assert [(one.left, one.why) for one in found.values()] == [((), "memory:cloud: no credentials for you")] * 2


def test_the_report_tells_who_decided_what(world: World) -> None:
    world.begin(manifest([machine("a1")], gates=HELD))
    world.work()
    actions.approve(world.state, "trial", Gate.CUTOVER, ["a1"])
    world.work()
    told = remains.deeds(world.state, world.seen())
    assert [(act.what, act.detail) for act in told if act.what.startswith("approve")] == [("approve okToCutover", "a1")]
    whats = [act.what for act in told]
    assert whats.index("begin") < whats.index("approve okToCutover") < whats.index("cut over") < whats.index("finalize")
    assert not [what for what in whats if what.startswith(("make ", "remove "))]
    code, text = said(world, "report", "--run", "trial", "--format", "html")
    assert code == 0 and "approve okToCutover" in text and "in use: " in text and ">cut over<" in text


# --- the verbs -----------------------------------------------------------------------------------------------------------------


def test_report_of_a_run_in_every_form(world: World) -> None:
    world.begin(manifest([machine("a1"), machine("a2", "gates: { okToTest: false }")]))
    world.work()
    starts = {
        "html": "<!DOCTYPE html>",
        "json": "{",
        "csv": "\ufeffrun,wave,",
        "junit": "<?xml",
        "text": "trial: waiting, 1 done, 1 at a gate",
    }
    for form, start in starts.items():
        code, text = said(world, "report", "--run", "trial", "--format", form, "--no-list")
        assert code == 0 and text.startswith(start), text
        assert "a1" in text and "not listed" in text
    assert json.loads(said(world, "report", "--run", "trial", "--format", "json")[1])["totals"]["listed"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ("report",),
        ("report", "x", "--run", "trial"),
        ("report", "--run", "other"),
        ("report", "x", "--format", "csv"),
        ("status", "--watch"),
        ("status", "--watch", "--run", "other"),
        ("serve", "--run", "other"),
    ],
)
def test_words_that_are_wrong(world: World, words: tuple[str, ...]) -> None:
    assert said(world, *words)[0] == 2


def test_watching_a_run_that_is_over_ends_with_its_code(world: World) -> None:
    world.begin(manifest([machine("a1")]))
    world.work()
    code, text = said(world, "status", "--watch")
    assert code == 0 and text.splitlines()[-1].endswith("trial over: 1 done; 0 bytes/s")
    code, text = said(world, "status", "--run", "trial", "--watch", "--json")
    assert code == 0 and json.loads(text.splitlines()[-1])["counts"] == {"done": 1}


@contextmanager
def program(world: World, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """The command line as a process of its own."""
    argv = [sys.executable, "-m", "v2c", *words, "--state", str(world.folder / "state")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_watching_at_once_and_not_the_run(world: World, number: int) -> None:
    world.begin(manifest([machine("a1")], gates=HELD))
    world.work()
    with program(world, "status", "--watch") as process:
        assert process.stdout and process.stderr
        assert "a1 cutover gated" in process.stdout.readline()
        os.kill(process.pid, number)
        assert process.wait(120) == 130  # the run stands at a gate: it would watch for ever
        assert process.stderr.read() == "no longer watching trial; it goes on\n"
    assert world.stood() == {"a1": (Stage.CUTOVER, Standing.GATED)}


def test_serve_prints_an_address_that_opens_and_ends_with_ctrl_c(world: World) -> None:
    world.begin(manifest([machine("a1")], gates=HELD))
    with program(world, "serve", "--run", "trial") as process:
        assert process.stdout
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", address)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(address, timeout=60) as answer:  # Python's cookies leave the port out, as browsers do
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        base = address.partition("?")[0]
        with opener.open(urllib.request.Request(f"{base}runs", headers={"Cookie": cookie}), timeout=60) as answer:
            assert json.load(answer)["runs"] == ["trial"]
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 0


def test_a_port_that_is_taken_is_told(world: World) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert said(world, "serve", "--port", str(taken.getsockname()[1]))[0] == 2
