"""What the page's server answers, and what it tells by itself."""

import json
import re
import socket
import threading
import time
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from asking import MACHINE, ask
from example_run import HOSTILE, example_run, hostile
from example_runs import ExampleRuns

from v2c.model.wave import Standing
from v2c.report import harmless
from v2c.serve.server import PAGE, Server


def test_the_page_is_one_file_of_each_and_nothing_from_elsewhere(server: Server) -> None:
    assert {file.name for file in PAGE.iterdir()} == {"index.html", "page.css", "page.js", "machines.js", "dialogs.js"}
    for path in ("/", "/page.css", "/page.js", "/machines.js", "/dialogs.js"):
        answer = ask(server, path)
        text = answer.body.decode()
        assert answer.status == 200
        assert len(text.splitlines()) < 400
        assert not path.endswith(".js") or max(map(len, text.splitlines())) <= 130
        found = set(re.findall(r"https?://[^\s'\"`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not found, "an address of somebody else"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\sstyle=|\son\w+=\"", text)


def test_who_is_served_is_told(server: Server, runs: ExampleRuns) -> None:
    told = ask(server, "/runs").json
    assert told["runs"] == ["dc-exit"] and told["act"] == server.guard.act


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/runs/other/news",
        "/runs/other/report.html",
        "/runs/dc-exit/report.exe",
        "/runs/dc-exit/machines/other",
        f"{MACHINE}/report",
        f"{MACHINE}/console",
        "/page/../server.py",
        "/..%2fserver.py",
        "/runs/dc-exit/machines/..%2f..%2fetc%2fpasswd/console",
    ],
)
def test_what_is_not_there(server: Server, path: str) -> None:
    answer = ask(server, path)
    assert answer.status == 404 and answer.json["error"]


def test_a_machine_is_told_in_full(server: Server, runs: ExampleRuns) -> None:
    told = ask(server, MACHINE).json
    one = runs.snapshot("dc-exit").machines[0]
    assert (told["id"], told["job"], told["downtime"]) == (one.id, one.job, one.downtime_s)
    assert [act["what"] for act in told["acts"]] == ["approve okToTest", "approve okToCutover"]
    assert len(told["steps"]) == len(one.spans) and told["told"][-1]["text"] == one.findings[0].text


def test_a_report_may_show_its_style_and_run_nothing(server: Server, runs: ExampleRuns) -> None:
    runs.reports["erp-db-001"] = "<!DOCTYPE html><p>fine"
    runs.consoles["erp-db-001"] = "<script>boot</script>"
    report, console = ask(server, f"{MACHINE}/report"), ask(server, f"{MACHINE}/console")
    assert report.body == b"<!DOCTYPE html><p>fine" and report.headers["content-type"] == "text/html; charset=utf-8"
    policy = report.headers["content-security-policy"]
    assert "script-src" not in policy and "default-src 'none'" in policy and "allow-scripts" not in policy
    assert (
        console.headers["content-type"] == "text/plain; charset=utf-8" and console.headers["x-content-type-options"] == "nosniff"
    )


@pytest.mark.parametrize(
    ("form", "kind"), [("html", "text/html"), ("csv", "text/csv"), ("json", "application/json"), ("junit", "application/xml")]
)
def test_the_run_s_own_report(server: Server, form: str, kind: str) -> None:
    answer = ask(server, f"/runs/dc-exit/report.{form}")
    assert answer.status == 200 and answer.headers["content-type"].startswith(kind)
    assert b"erp-db-001" in answer.body
    assert ("attachment" in answer.headers.get("content-disposition", "")) is (form != "html")
    if form == "html":
        assert b'href="/runs/dc-exit/machines/erp-db-001/report"' in answer.body, "links lead through the server"


def test_hostile_names_stay_in_their_place(server: Server, runs: ExampleRuns) -> None:
    runs.runs["dc-exit"] = seen = hostile(example_run(5))
    told = ask(server, f"/runs/dc-exit/machines/{quote(harmless.text(seen.machines[0].id), safe='')}").json
    assert told["name"].startswith("<script>") and "\x1b" not in json.dumps(told, ensure_ascii=False)
    assert "\u202e" not in told["why"]
    failed = ask(server, f"/runs/{quote(HOSTILE, safe='')}/news", Accept="text/html")
    assert failed.status == 404 and b"<script" not in failed.body and b"&lt;script&gt;" in failed.body


# --- live -----------------------------------------------------------------------------------------------------------------------


class Stream:
    """Server-sent events, as they come."""

    def __init__(self, server: Server, last: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.server_port), 60)
        again = f"Last-Event-ID: {last}\r\n" if last else ""
        cookie = f"Cookie: {server.guard.cookie}={server.guard.session}\r\n"
        self.socket.sendall(
            f"GET /runs/dc-exit/news HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n{cookie}{again}\r\n".encode()
        )
        self.file = self.socket.makefile("r", encoding="utf-8")
        self.id = ""

    def next(self) -> Any:
        """The next event's document."""
        for line in self.file:
            if line.startswith("id: "):
                self.id = line[4:].strip()
            if line.startswith("data: "):
                return json.loads(line[6:])
        raise EOFError

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def test_news_come_by_themselves_and_hold_only_what_changed(server: Server, runs: ExampleRuns) -> None:
    stream = Stream(server)
    first = stream.next()
    assert first["whole"] and [row["id"] for row in first["rows"]] == [one.id for one in runs.snapshot("dc-exit").machines]
    runs.change("dc-exit", lambda one: replace(one, why="it was told") if one.id == "mail-004" else one)
    second = stream.next()
    assert not second["whole"] and [(row["id"], row["why"]) for row in second["rows"]] == [("mail-004", "it was told")]
    assert second["acts"] is None, "what operators did is not told again"
    stream.close()


def test_a_page_that_comes_back_hears_what_it_missed(server: Server, runs: ExampleRuns) -> None:
    stream = Stream(server)
    stream.next()
    stream.close()
    runs.change("dc-exit", lambda one: replace(one, standing=Standing.DONE) if one.id == "web-003" else one)
    again = Stream(server, stream.id)
    assert [row["id"] for row in again.next()["rows"]] == ["web-003"]
    again.close()
    for foreign in ("0123abcd-1", "x", "-1", f"{stream.id}9x", "\u00b2-\u00b2"):
        other = Stream(server, foreign)
        assert other.next()["whole"], f"{foreign} is not of this server: everything is told"
        other.close()


def test_machines_that_left_are_told(server: Server, runs: ExampleRuns) -> None:
    stream = Stream(server)
    stream.next()
    seen = runs.runs["dc-exit"]
    runs.runs["dc-exit"] = replace(seen, machines=seen.machines[1:])
    assert stream.next()["gone"] == ["erp-db-001"]
    stream.close()


def test_a_run_that_cannot_be_read_is_told_and_heals(server: Server, runs: ExampleRuns) -> None:
    stream = Stream(server)
    stream.next()
    seen = runs.runs.pop("dc-exit")
    assert "there is no run" in stream.next()["trouble"]
    runs.runs["dc-exit"] = seen
    assert stream.next()["whole"], "what was missed meanwhile is unknown"
    stream.close()


def test_many_who_look_read_the_run_once(server: Server, runs: ExampleRuns) -> None:
    streams = [Stream(server) for _ in range(8)]
    for stream in streams:
        stream.next()
    runs.reads, began = 0, time.monotonic()
    time.sleep(1)
    assert runs.reads <= (time.monotonic() - began) / 0.05 + 2
    for stream in streams:
        stream.close()


def test_no_more_connections_than_there_is_room_for(server: Server) -> None:
    """Somebody who opens thousands holds none of our memory, and whoever was there goes on."""
    stream = Stream(server)
    stream.next()
    crowd = [socket.create_connection(("127.0.0.1", server.server_port), 60) for _ in range(80)]
    time.sleep(0.5)
    assert threading.active_count() < 80
    for one in crowd:
        one.close()
    stream.close()


def test_shutdown_ends_streams(runs: ExampleRuns) -> None:
    server = Server(runs, every=0.05)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    stream = Stream(server)
    stream.next()
    server.shutdown()
    thread.join(10)
    with pytest.raises(EOFError):
        stream.next()
    stream.close()
    server.server_close()
