"""Hooks before and after stages, and the manifest's checks after a cut-over."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from waving import World, machine, manifest

from v2c import report as reports
from v2c.events import Meter
from v2c.jobs import Jobs
from v2c.journal import SqlJournal
from v2c.model import Observation, Ref, Report, Verdict
from v2c.model.wave import Stage, Standing
from v2c.waves import actions, checks, hooks
from v2c.waves.hostkeys import Trust
from v2c.waves.nouns import Order
from v2c.waves.store import Store

DONE = (Stage.FINALIZE, Standing.DONE)
SECRET = "rosebud-0815"


def hook(text: str) -> str:
    return machine("a1", f"hooks: [{text}]")


def test_hooks_run_before_and_after_with_their_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNS_TOKEN", SECRET)
    log = world.folder / "log"
    say = (
        f'run: [sh, -c, "echo $V2C_RUN $V2C_MACHINE $V2C_STAGE ${{#TOKEN}} >> {log}"], environment: {{ TOKEN: "env:DNS_TOKEN" }}'
    )
    world.begin(manifest([hook(f"{{ before: replicate, {say} }}, {{ after: cutover, {say} }}, {{ after: validate, {say} }}")]))
    world.work()
    assert world.stood() == {"a1": DONE}
    length = len(SECRET)
    assert log.read_text().splitlines() == [
        f"trial a1 replicate {length}",
        f"trial a1 test-cutover {length}",
        f"trial a1 cutover {length}",
        f"trial a1 cutover {length}",
    ]
    acts = [act.what for act in SqlJournal(world.state, world.one("a1").job).acts()]
    assert "hook before replicate" in acts
    database = b"".join(path.read_bytes() for path in (world.folder / "state").rglob("*") if path.is_file())
    assert SECRET.encode() not in database


def test_a_hook_that_must_succeed_fails_the_stage_and_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNS_TOKEN", SECRET)
    flag = world.folder / "mended"
    run = f'run: [sh, -c, "echo told $TOKEN >&2; test -e {flag}"], environment: {{ TOKEN: "env:DNS_TOKEN" }}'
    world.begin(manifest([hook(f"{{ before: cutover, {run} }}"), machine("a2")]))
    world.work()
    one = world.one("a1")
    assert (one.stage, one.standing, world.stood()["a2"]) == (Stage.CUTOVER, Standing.FAILED, DONE)
    assert one.why == "the hook before cutover failed: sh failed (1): told (secret)"
    assert not one.cut_over
    flag.touch()
    actions.retry(world.state, "trial", ["a1"])
    world.work()
    assert world.stood()["a1"] == DONE


def test_a_hook_that_may_fail_is_a_finding(world: World) -> None:
    text = "{ after: replicate, run: [sh, -c, exit 3], mustSucceed: false }, { before: validate, run: [x] }"
    world.begin(manifest([hook(text)]))
    world.work()
    assert world.stood() == {"a1": DONE}
    found = {f.id: f.text for f in world.one("a1").findings}
    assert "after replicate: sh failed (3)" in found["hook.failed"]
    assert found["hook.not-run"].startswith("the hook x was not run: nothing can be run between the boot and its validation")


def test_a_hook_that_takes_too_long_is_ended(world: World) -> None:
    world.begin(manifest([hook("{ before: replicate, run: [sleep, '60'], timeout: 1s }")]))
    world.work()
    assert world.one("a1").why == "the hook before replicate failed: sleep took over 1 s"


def test_a_hook_that_ended_is_not_run_again_when_its_stage_is_gone_on_with(world: World) -> None:
    log = world.folder / "log"
    world.begin(manifest([hook(f'{{ before: replicate, run: [sh, -c, "echo ran >> {log}"] }}')]))
    (one,) = Store(world.state).machines("trial")
    for _ in range(2):
        assert list(hooks.run(one, "before", world.state, "trial", Meter())) == []
    assert log.read_text() == "ran\n"
    assert list(hooks.run(replace(one, tries=one.tries + 1), "before", world.state, "trial", Meter())) == []
    assert log.read_text() == "ran\nran\n"  # the stage was begun once more


def test_a_secret_that_is_not_there_is_told_by_name(world: World) -> None:
    world.begin(manifest([hook("{ before: replicate, run: [x], environment: { TOKEN: 'env:NOT_SET_HERE' } }")]))
    world.work()
    assert "the variable NOT_SET_HERE is not set on this worker" in world.one("a1").why


# ---- checks ------------------------------------------------------------------------------------------------------------------


@contextmanager
def page(text: str) -> Iterator[int]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


class Place:
    """A target whose instances have this address."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    def observe(self, instance: Ref) -> Observation:
        return Observation("running", True, addresses=self.addresses)


def ordered(world: World, text: str) -> Order:
    world.begin(manifest([machine("a1", f"checks: [{text}]")]))
    return Store(world.state).machines("trial")[0].order


def asked(world: World, monkeypatch: pytest.MonkeyPatch, text: str, *addresses: str) -> dict[str, tuple[str, str]]:
    """Each check's verdict and what was seen, by its subject; the machine has these addresses."""
    order = ordered(world, text)
    monkeypatch.setattr(checks, "open_target", lambda _: Place(*addresses))
    report = Report("j", "a1", "s", "t", Verdict.PASS, instance=Ref.of("instance", "i"))
    trust = Trust(order, "i", SqlJournal(world.state, "j"), world.folder)
    made, found = checks.ask(order, report, trust, Meter())
    assert not found
    return {check.subject: (str(check.verdict), check.seen) for check in made}


def test_checks_ask_the_machine(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with page("all is ok") as port:
        seen = asked(
            world,
            monkeypatch,
            f"{{ type: tcp, port: {port} }}, {{ type: tcp, port: 1, timeout: 1s }},"
            f"{{ type: http, url: ':{port}/health', contains: ok }},"
            f"{{ type: http, url: ':{port}/health?x', timeout: 1s }},"
            f"{{ type: http, url: 'http://127.0.0.1:{port}/health', contains: bad, timeout: 1s }},"
            f"{{ type: http, url: 'http://127.0.0.1:{port}/x', expect: 404 }},"
            '{ type: command, run: [sh, -c, "test $V2C_ADDRESS = 127.0.0.1"] },'
            '{ type: command, run: [sh, -c, "echo it is down >&2; exit 2"], timeout: 1s }',
            "127.0.0.1",
        )
    assert seen == {
        f"tcp:{{address}}:{port}": ("pass", "answers"),
        "tcp:{address}:1": ("fail", "[Errno 111] Connection refused"),
        f"http://{{address}}:{port}/health": ("pass", "status 200"),
        f"http://{{address}}:{port}/health?x": ("fail", "status 404"),
        f"http://127.0.0.1:{port}/x": ("pass", "status 404"),
        "sh -c 'test $V2C_ADDRESS = 127.0.0.1'": ("pass", "succeeds"),
        "sh -c 'echo it is down >&2; exit 2'": ("fail", "sh failed (2): it is down"),
        f"http://127.0.0.1:{port}/health": ("fail", "status 200, and the page lacks 'bad'"),
    }


def test_a_machine_without_an_address_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = asked(world, monkeypatch, "{ type: tcp, port: 22 }, { type: command, run: ['true'] }")
    assert set(seen.values()) == {("skipped", "not tried")}


def test_a_check_that_fails_after_the_cutover_fails_the_machine(world: World) -> None:
    """The address of machines in memory is not told, so a host of its own is asked."""
    bad = "checks: [{ type: tcp, host: 127.0.0.1, port: 1, timeout: 1s }]"
    soft = "checks: [{ type: tcp, host: 127.0.0.1, port: 1, timeout: 1s, mustSucceed: false }]"
    world.begin(manifest([machine("a1", bad), machine("a2", soft)]))
    world.work()
    one, two = world.seen().machines
    assert (one.stage, one.standing, one.verdict) == (Stage.CUTOVER, Standing.FAILED, "fail")
    assert one.why == "the new instance is not as expected: tcp:127.0.0.1:1"
    assert one.cut_over  # it stands, and takes writes
    assert (two.stage, two.standing) == DONE
    assert [f.id for f in two.findings if f.id == "check.failed"] == ["check.failed"]
    report = reports.parse(Jobs(world.state, world.folder / "work").told(one.job))
    assert [check.verdict for check in report.checks if check.id.startswith("manifest:")] == [Verdict.FAIL]
    written = json.loads((Path(one.folder) / "report.json").read_text())
    assert written["verdict"] == "fail"
    actions.retry(world.state, "trial", ["a1"])
    world.work()
    assert world.one("a1").standing is Standing.FAILED  # looked at again, and nothing was launched twice
    assert world.twice() == []
