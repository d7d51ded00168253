"""Hooks inside the new machine: over a real SSH server on loopback, which stands for the machine's own."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sshd import SSHD, Server, serving
from waving import World, machine, manifest

from v2c.errors import Paused, ToolError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.manifest.parts import Hook
from v2c.model.wave import Stage, Standing
from v2c.pipeline import Request
from v2c.waves import actions, inside
from v2c.waves.hostkeys import Trust
from v2c.waves.nouns import Order

pytestmark = [
    pytest.mark.tool,
    pytest.mark.skipif(not SSHD, reason="openssh-server is not installed, and ./run test would not open a port of yours"),
]
TOKEN = 'environment: { TOKEN: "env:DNS_TOKEN" }'
DONE = (Stage.FINALIZE, Standing.DONE)
SECRET = "rosebud-0815 'quoted' $HOME"
ORDER = Order("a1", "w", 1, "made", "cloud", Request("j", (), "memory:x", ""), (Stage.CUTOVER,), "d", name="erp")


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    """Of a machine of which nobody said a host key."""
    return Trust(ORDER, "i-1", MemoryJournal("j"), tmp_path)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def made(server: Server, *run: str, **more: object) -> Hook:
    said = {"user": server.user, "key": f"file:{server.key}", "port": server.port, "timeout": "20s", **more}
    return Hook.model_validate({"after": "cutover", "where": "guest", "run": run, **said})


def argvs() -> str:
    """What every process of this machine shows of its arguments and of ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def test_a_command_runs_with_its_environment_and_nobody_sees_the_secret(server: Server, trust: Trust, tmp_path: Path) -> None:
    out, seen = tmp_path / "out", list[str]()
    hook = made(server, "sh", "-c", f'printf "%s|%s|%s" "$TOKEN" "$V2C_STAGE" "$0" > {out}; sleep 1.5', "it's me")
    thread = threading.Thread(
        target=inside.run, args=(hook, "127.0.0.1", {"TOKEN": SECRET, "V2C_STAGE": "cutover"}, trust, Meter())
    )
    thread.start()
    while thread.is_alive():
        if out.exists():
            seen.append(argvs())
        time.sleep(0.1)
    thread.join()
    assert out.read_text() == f"{SECRET}|cutover|it's me"
    assert any("sleep 1.5" in text for text in seen)  # it was looked at while it ran
    assert not any("rosebud" in text for text in seen)


def test_what_it_said_last_is_told(server: Server, trust: Trust) -> None:
    with pytest.raises(ToolError, match=r"^sh failed \(3\): the service is not there$"):
        inside.run(
            made(server, "sh", "-c", "echo fine; echo the service is not there >&2; exit 3"), "127.0.0.1", {}, trust, Meter()
        )
    with pytest.raises(ToolError, match=r"^no-such-program failed \(127\): .*(No such file|not found)"):
        inside.run(made(server, "no-such-program"), "127.0.0.1", {}, trust, Meter())


def test_what_takes_too_long_is_ended_there_too(server: Server, trust: Trust) -> None:
    began = time.monotonic()
    with pytest.raises(ToolError, match=r"^sleep took over 2 s$"):
        inside.run(made(server, "sleep", "61.25", timeout="2s"), "127.0.0.1", {}, trust, Meter())
    assert time.monotonic() - began < 20
    assert "sleep 61.25" not in argvs()


def test_its_stdin_is_empty(server: Server, trust: Trust) -> None:
    """The command does not read what comes after it in the script."""
    inside.run(made(server, "sh", "-c", 'test -z "$(cat)"'), "127.0.0.1", {}, trust, Meter())


def test_who_is_not_let_in(server: Server, trust: Trust) -> None:
    stranger = made(server, "true", key=f"file:{server.folder / 'stranger'}")
    with pytest.raises(ToolError, match=rf"^{server.user}@127.0.0.1 by SSH: .*Permission denied"):
        inside.run(stranger, "127.0.0.1", {}, trust, Meter())


def test_a_machine_that_does_not_answer(server: Server, trust: Trust) -> None:
    with pytest.raises(ToolError, match=r"^127\.0\.0\.1 port 1: .*refused"):
        inside.run(made(server, "true", port=1, timeout="1s"), "127.0.0.1", {}, trust, Meter())
    with pytest.raises(Paused):
        inside.run(made(server, "true", port=1), "127.0.0.1", {}, trust, Meter(cancelled=lambda: True))


def test_the_host_key_is_the_machines_own(server: Server, trust: Trust, tmp_path: Path) -> None:
    """Taken at first, asked for from then on; with another one nothing is run."""
    out = tmp_path / "out"
    write = made(server, "touch", str(out))
    inside.run(write, "127.0.0.1", {}, trust, Meter())
    key = (server.folder / "host.pub").read_text().rpartition(" ")[0]
    assert out.exists() and trust.journal.noted("host-key/i-1") == key
    inside.run(write, "127.0.0.1", {}, replace(trust, order=replace(ORDER, host_key=key)), Meter())
    out.unlink()
    stranger = (server.folder / "stranger.pub").read_text().rpartition(" ")[0]
    for other in (replace(trust, order=replace(ORDER, host_key=stranger)), replace(trust, instance="i-2")):
        trust.journal.note("host-key/i-2", stranger)
        with pytest.raises(ToolError, match="its host key"):
            inside.run(write, "127.0.0.1", {}, other, Meter())
    assert not out.exists()


# ---- in a wave ---------------------------------------------------------------------------------------------------------------


def hooked(*texts: str) -> str:
    return manifest([machine("a1", f"hooks: [{', '.join(texts)}]")])


@pytest.mark.usefixtures("reachable")
def test_after_a_cutover_it_runs_once(world: World, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNS_TOKEN", SECRET)
    log = world.folder / "log"
    say = (
        f'run: [sh, -c, "echo $V2C_RUN $V2C_MACHINE $V2C_STAGE ${{#TOKEN}} >> {log}"], environment: {{ TOKEN: "env:DNS_TOKEN" }}'
    )
    world.begin(hooked(server.hook(say, "after: validate"), server.hook(say), server.hook(say, "before: finalize")))
    world.work()
    assert world.stood() == {"a1": DONE}
    told = ["cutover", "cutover", "finalize"]
    assert log.read_text().splitlines() == [f"trial a1 {stage} {len(SECRET)}" for stage in told]
    (found,) = [f for f in world.one("a1").findings if f.id == "hook.not-run"]  # after the validation of the test
    assert "was not run: the instance of a test reaches nothing" in found.text
    database = b"".join(path.read_bytes() for path in (world.folder / "state").rglob("*") if path.is_file())
    assert b"rosebud" not in database


@pytest.mark.usefixtures("reachable")
def test_one_that_must_succeed_fails_the_stage(world: World, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNS_TOKEN", "rosebud-0815")
    flag = world.folder / "mended"
    run = f'run: [sh, -c, "echo told $TOKEN >&2; test -e {flag}"], environment: {{ TOKEN: "env:DNS_TOKEN" }}'
    world.begin(hooked(server.hook(run)))
    world.work()
    one = world.one("a1")
    assert (one.stage, one.standing) == (Stage.CUTOVER, Standing.FAILED)
    assert one.why == "the hook after cutover failed: sh failed (1): told (secret)"
    flag.touch()
    actions.retry(world.state, "trial", ["a1"])
    world.work()
    assert world.stood() == {"a1": DONE}
    assert world.twice() == []


def test_a_machine_without_an_address(world: World, server: Server) -> None:
    """Targets in memory tell none: a hook that must succeed has failed, one that may not is a finding."""
    world.begin(hooked(server.hook("run: [x], mustSucceed: false"), server.hook("run: [x]", "before: finalize")))
    world.work()
    one = world.one("a1")
    assert (one.stage, one.standing) == (Stage.FINALIZE, Standing.FAILED)
    assert one.why == "the hook before finalize failed: the target tells no address of the instance"
    found = {f.id: f.text for f in one.findings}
    assert found["hook.failed"] == "after cutover: the target tells no address of the instance"


def test_a_test_is_not_reached_and_says_so(world: World, server: Server) -> None:
    world.begin(hooked(server.hook("run: [x]", "after: test-cutover")))
    world.work()
    assert world.stood() == {"a1": DONE}
    (found,) = [f for f in world.one("a1").findings if f.id == "hook.not-run"]
    assert found.text == "the hook x was not run: the instance of a test reaches nothing, and is over when it told what it is"
