"""Which host key a new machine must show: by the real ssh, against a server that proves a key and lets nobody in."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kexserver import Server, made, serving
from waving import World, machine, manifest

from v2c.errors import ToolError, UsageError
from v2c.events import Meter
from v2c.journal import MemoryJournal, SqlJournal
from v2c.manifest import ManifestError, parse
from v2c.manifest.parts import Hook
from v2c.model import Verdict
from v2c.model.wave import Stage, Standing
from v2c.pipeline import Request
from v2c.waves import inside
from v2c.waves.hostkeys import Trust
from v2c.waves.nouns import Order
from v2c.waves.store import Store

pytestmark = pytest.mark.tool
ORDER = Order("a1", "w", 1, "made", "cloud", Request("j", (), "memory:x", ""), (Stage.CUTOVER,), "d", name="erp")
PROVEN = r"Connection (closed|reset)|it said nothing"  # what ssh says when the server hangs up, once its key was taken


class Keys:
    """Host keys in a folder, and a server that shows the first one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own, self.other = made(folder, "own"), made(folder, "other")

    def print(self, name: str) -> str:
        """The fingerprint as ssh-keygen tells it."""
        argv = ["ssh-keygen", "-lf", str(self.folder / f"{name}.pub")]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[1]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "host keys 100%")


@pytest.fixture
def server(keys: Keys) -> Iterator[Server]:
    with serving(keys.folder / "own") as running:
        yield running


def hook(server: Server) -> Hook:
    said: dict[str, Any] = {"user": "me", "key": "file:/dev/null", "port": server.port, "timeout": "20s"}
    return Hook.model_validate({"after": "cutover", "where": "guest", "run": ["true"], **said})


def trusted(folder: Path, journal: MemoryJournal | None = None, instance: str = "i-1", **said: str) -> Trust:
    folder.mkdir(exist_ok=True)
    return Trust(replace(ORDER, **said), instance, MemoryJournal("j") if journal is None else journal, folder)  # type: ignore[arg-type]


def met(server: Server, trust: Trust) -> None:
    """One hook: the host key is taken, and then nobody is let in."""
    before = server.proven
    with pytest.raises(ToolError, match=rf"^me@127\.0\.0\.1 by SSH: ({PROVEN})"):
        inside.run(hook(server), "127.0.0.1", {"TOKEN": "x"}, trust, Meter())
    assert server.proven == before + 1


def refused(server: Server, trust: Trust) -> ToolError:
    before = server.proven
    with pytest.raises(ToolError) as error:
        inside.run(hook(server), "127.0.0.1", {"TOKEN": "x"}, trust, Meter())
    assert server.proven == before, "nothing was sent to whoever answers there"
    return error.value


# ---- nobody said it --------------------------------------------------------------------------------------------------------


def test_the_first_key_is_taken_and_no_other_after_it(server: Server, keys: Keys, tmp_path: Path) -> None:
    journal = MemoryJournal("j")
    trust = trusted(tmp_path / "here", journal)
    assert trust.seen() is None
    met(server, trust)
    assert journal.noted("host-key/i-1") == keys.own
    assert [(act.what, act.detail) for act in journal.acts()] == [("trust host key", f"i-1: ssh-ed25519 {keys.print('own')}")]
    found = trust.seen()
    assert found and found.id == "ssh.first-key" and found.text.endswith(f"was taken: ssh-ed25519 {keys.print('own')}")
    met(server, trust)
    met(server, trusted(tmp_path / "another worker's", journal))
    assert len(journal.acts()) == 1

    server.show(keys.folder / "other")
    for folder in ("here", "a third one's"):
        error = refused(server, trusted(tmp_path / folder, journal))
        was, now = keys.print("own"), keys.print("other")
        told = f"its host key ({now}) is another one than it showed before (ssh-ed25519 {was})"
        assert error.text == f"me@127.0.0.1 by SSH: {told}"
        assert error.remedy == "see who answers there; if it made new ones, say hostKey in the manifest, then v2c retry --edit"
    assert journal.noted("host-key/i-1") == keys.own
    met(server, trusted(tmp_path / "here", journal, instance="i-2"))  # another instance is another machine
    met(server, trusted(tmp_path / "here", journal, host_key=keys.other))


def test_a_key_that_was_taken_before_a_crash_is_kept(server: Server, keys: Keys, tmp_path: Path) -> None:
    """ssh wrote it down, and v2c died before it did."""
    met(server, trusted(tmp_path / "here"))
    journal = MemoryJournal("j")
    server.show(keys.folder / "other")
    assert "is another one than it showed before" in refused(server, trusted(tmp_path / "here", journal)).text
    assert journal.noted("host-key/i-1") == keys.own


# ---- somebody said it ------------------------------------------------------------------------------------------------------


def test_the_key_of_the_manifest(server: Server, keys: Keys, tmp_path: Path) -> None:
    journal = MemoryJournal("j")
    met(server, trust := trusted(tmp_path / "here", journal, host_key=f"{keys.own} root@erp"))
    assert trust.seen() is None and journal.notes == {}
    error = refused(server, trusted(tmp_path / "here", host_key=keys.other))
    told = f"its host key ({keys.print('own')}) is not the manifest's ({keys.print('other')})"
    assert error.text == f"me@127.0.0.1 by SSH: {told}"
    assert error.remedy == "see who answers there; correct hostKey, then v2c retry --edit"


@pytest.mark.parametrize("hashed", [False, True])
def test_a_file_of_known_hosts(server: Server, keys: Keys, tmp_path: Path, hashed: bool) -> None:
    file = keys.folder / f"known {hashed}"
    file.write_text(f"# our hall\nerp,10.0.0.9 {keys.own}\nelse {keys.other}\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    text = file.read_text()
    assert ("|1|" in text) == hashed
    met(server, trust := trusted(tmp_path / "here", known_hosts=str(file)))
    assert trust.seen() is None
    met(server, trusted(tmp_path / "here", known_hosts=str(file), name="no plain name", id="erp"))
    error = refused(server, trusted(tmp_path / "here", known_hosts=str(file), name="else"))
    assert error.text == f"me@127.0.0.1 by SSH: its host key ({keys.print('own')}) is not the one of else in {file}"
    error = refused(server, trusted(tmp_path / "here", known_hosts=str(file), name="web"))
    assert error.text == f"me@127.0.0.1 by SSH: its host key is not known: {file} has none of web"
    assert file.read_text() == text, "nothing is added to it"
    with pytest.raises(UsageError, match=r"the file of known hosts .*absent cannot be read"):
        inside.run(hook(server), "127.0.0.1", {}, trusted(tmp_path / "here", known_hosts=str(tmp_path / "absent")), Meter())


def test_what_ssh_makes_of_the_options(keys: Keys, tmp_path: Path) -> None:
    asked = Hook.model_validate({"after": "cutover", "run": ["x"], "user": "me", "key": "file:/dev/null"})
    argv = inside.argv_of(asked, "10.0.0.5", 9, trusted(tmp_path, host_key=keys.own).options())
    told = subprocess.run([argv[0], "-G", *argv[1:]], check=True, capture_output=True, text=True).stdout
    known = dict(line.split(" ", 1) for line in told.splitlines())
    assert known["stricthostkeychecking"] == "true" and known["hostkeyalias"] == "erp" and known["updatehostkeys"] == "false"
    assert known["globalknownhostsfile"] == "none" and str(tmp_path) in known["userknownhostsfile"]
    assert (tmp_path / "known_hosts").stat().st_mode & 0o777 == 0o600


# ---- the manifest ----------------------------------------------------------------------------------------------------------


def said(machines: str, defaults: str = "") -> str:
    text = "version: 1\nname: t\nsources: { made: { type: memory } }\ntargets: { there: { to: 'memory:there' } }\n"
    return f"{text}defaults: {{ target: there{defaults} }}\nwaves:\n  - name: w\n    machines:\n      - {{ {machines} }}\n"


def test_the_manifest_says_it(world: World, keys: Keys) -> None:
    one = f'id: a1, source: {{ at: made }}, hostKey: "{keys.own}"'
    world.begin(said(one, ", knownHosts: hall.txt"))
    (order,) = (one.order for one in Store(world.state).machines("t"))
    assert (order.host_key, order.known_hosts) == (keys.own, str(world.folder / "hall.txt"))


@pytest.mark.parametrize(
    "key", ["ssh-ed25519", "erp ssh-ed25519 AAAA", "ssh-ed25519 AAAA", "ssh-dss AAAA", "SHA256:abc", "{rsa}"]
)
def test_what_is_no_host_key(keys: Keys, key: str) -> None:
    key = key.replace("{rsa}", keys.own.replace("ssh-ed25519", "ssh-rsa"))
    with pytest.raises(ManifestError) as error:
        parse(said(f'id: a1, source: {{ at: made }}, hostKey: "{key}"').encode(), "wave.yaml")
    (mistake,) = error.value.mistakes
    assert mistake.path == "waves[0].machines[0].hostKey" and "ssh_host_ed25519_key.pub" in f"{mistake.text}{mistake.remedy}"


# ---- in a wave -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("reachable")
def test_two_hooks_and_a_check_of_one_machine(world: World, server: Server, keys: Keys) -> None:
    way = f'user: me, key: "file:/dev/null", port: {server.port}, timeout: 5s, mustSucceed: false'
    mark = world.folder / "mark"
    more = (
        f"checks: [{{ type: ssh, run: [x], {way} }}],"
        f"hooks: [{{ after: cutover, where: guest, run: [x], {way} }}, {{ before: finalize, run: [touch, {mark}] }},"
        f"{{ before: finalize, where: guest, run: [x], {way} }}]"
    )
    world.begin(manifest([machine("a1", more)]))
    world.work(stage=Stage.REPLICATE)
    world.work(stage=Stage.TEST)
    world.work(stage=Stage.CUTOVER)
    server.show(keys.folder / "other")
    world.work()
    assert world.stood() == {"a1": (Stage.FINALIZE, Standing.DONE)} and mark.exists()
    one = world.one("a1")
    found = [(f.id, f.text) for f in one.findings if f.id in ("ssh.first-key", "hook.failed", "check.failed")]
    taken = f"nobody said its host key, so the first one that it showed was taken: ssh-ed25519 {keys.print('own')}"
    assert found.count(("ssh.first-key", taken)) == 1
    told = [text for id, text in found if id == "hook.failed"]
    assert len(told) == 2 and re.search(PROVEN, told[0]) and "is another one than it showed before" in told[1], told
    acts = [act.detail for act in SqlJournal(world.state, one.job).acts() if act.what == "trust host key"]
    assert len(acts) == 1 and acts[0].endswith(keys.print("own"))


@pytest.mark.usefixtures("reachable")
def test_a_check_of_a_machine_with_another_key_fails(world: World, server: Server, keys: Keys) -> None:
    way = f'user: me, key: "file:/dev/null", port: {server.port}, timeout: 2s'
    world.begin(manifest([machine("a1", f'checks: [{{ type: ssh, run: [x], {way} }}], hostKey: "{keys.other}"')]))
    world.work()
    one = world.one("a1")
    assert (one.stage, one.standing, one.verdict) == (Stage.CUTOVER, Standing.FAILED, str(Verdict.FAIL))
    report = next(Path(one.folder).glob("*.json")).read_text()
    assert f"its host key ({keys.print('own')}) is not the manifest's ({keys.print('other')})" in report
