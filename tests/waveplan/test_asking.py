"""`v2c plan --ask`: the clouds' doubles say what becomes of a wave there; types, prices, quotas, and what all machines share."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aws_places import places as aws_places
from azure_place import azure
from gcp_places import Places as GcpPlaces
from gcp_places import environment

from v2c import prices
from v2c.events import Ended, Event, Noted
from v2c.manifest import Manifest, ordered, parse, resolve
from v2c.model import Level
from v2c.prices import Prices
from v2c.waveplan import Choices, WavePlan, changed, document, make
from v2c.waveplan.asking import Ask, job_of
from v2c.waveplan.describe import describe
from v2c.waves.orders import wanted

pytestmark = pytest.mark.tool
ROOT = Path(__file__).parents[2]


def book(platform: str, region: str, **types: float) -> Prices:
    about: dict[str, Any] = {"date": date(2026, 11, 1), "source": "our contract", "currency": "USD"}
    return Prices.model_validate({**about, platform: {region: {name.replace("_", "."): cost for name, cost in types.items()}}})


def text(to: str, count: int, more: str = "", size: str = "10GiB", **others: str) -> str:
    targets = "".join(f'  {name}: {{to: "{where}"}}\n' for name, where in {"cloud": to, **others}.items())
    machines = "".join(
        f"      - {{id: m{n}, source: {{at: inv}}, target: cloud, hardware: {{vcpus: 2, memory: 4GiB, firmware: bios}},"
        f" disks: [{{id: a, size: {size}}}], nics: [{{network: lan}}]{more}}}\n"
        for n in range(count)
    )
    head = "version: 1\nname: move\nsources:\n  inv: {type: inventory}\n"
    return f"{head}targets:\n{targets}waves:\n  - name: w1\n    machines:\n{machines}"


def loaded(said: str) -> Manifest:
    return parse(said.encode(), "wave.yaml")


def planned(said: str, known: Prices | None = None, events: list[Event] | None = None, asking: bool = True) -> WavePlan:
    manifest = loaded(said)
    found = ordered(resolve(manifest))
    ask = Ask(Path(), known, events.append if events is not None else lambda _: None) if asking else None
    return make(manifest, found, describe(manifest, found, Path()), Choices(datetime(2026, 12, 1, tzinfo=UTC)), ask)


def blockers(plan: WavePlan) -> dict[str, list[str]]:
    """The ids of blockers by machine or target."""
    every = {one.id: one.findings for one in plan.machines} | {one.name: one.findings for one in plan.targets}
    return {name: ids for name, found in every.items() if (ids := [f.id for f in found if f.level is Level.BLOCKER])}


# ---- AWS -------------------------------------------------------------------------------------------------------------------


def test_aws_says_types_prices_and_reservations(tmp_path: Path) -> None:
    with aws_places() as places:
        said = text(f"{places[tmp_path].locator}&reserve=4", 3, size="10GB")
        told: list[Event] = []
        plan = planned(said, events=told)
        kind = plan.machines[0].size
        assert "." in kind and {one.size for one in plan.machines} == {kind} and blockers(plan) == {}
        (target,) = plan.targets
        assert [(one.type, one.count, one.hours) for one in target.reserved] == [(kind, 3, 4)]
        assert (target.asked, target.prices, target.unpriced) == (True, (), 3)
        assert [one.disks[0].target_size for one in plan.machines] == [10 << 30] * 3, "the disk as AWS would have it"
        assert [e.text for e in told if isinstance(e, Noted)][-1] == "3 of 3 machines" and isinstance(told[-1], Ended)

        priced = planned(said, book("aws", "eu-west-1", **{kind.replace(".", "_"): 0.1}))
        assert [one.price.hourly for one in priced.machines if one.price] == [0.1] * 3
        (sum,) = priced.targets[0].prices
        assert (round(sum.hourly, 6), sum.currency, sum.date, priced.targets[0].unpriced) == (0.3, "USD", "2026-11-01", 0)
        silent = planned(said, asking=False)
        assert silent.targets[0].asked is False and silent.machines[0].size == ""
        assert silent.digest == plan.digest and changed(document(plan), silent) == (), "a run may be bound to either"


def test_aws_holds_each_but_not_all(tmp_path: Path) -> None:
    with aws_places() as places:
        double = places[tmp_path]
        double.cloud.quotas["L-1216C47A"] = 5.0
        plan = planned(text(double.locator, 3))
        assert blockers(plan) == {"cloud": ["aws.vcpu-quota"]} and plan.blocked
        (found,) = (f for f in plan.targets[0].findings if f.level is Level.BLOCKER)
        assert found.text == "the account may run 5 processors of this family; 0 run, and the 3 machines together have 6"
        assert blockers(planned(text(double.locator, 2))) == {}


def test_two_targets_of_one_account_are_counted_together(tmp_path: Path) -> None:
    with aws_places() as places:
        double = places[tmp_path]
        double.cloud.quotas["L-1216C47A"] = 5.0
        said = text(double.locator, 3, other=f"{double.locator}&volume-type=gp2")
        said = "other, hardware: {vcpus: 4".join(said.rsplit("cloud, hardware: {vcpus: 2", 1))
        assert blockers(planned(said)) == {"cloud": ["aws.vcpu-quota"], "other": ["aws.vcpu-quota"]}


def test_what_a_machine_lacks_is_its_own_blocker(tmp_path: Path) -> None:
    with aws_places() as places:
        locator = places[tmp_path].locator
        said = text(locator, 2).replace("vcpus: 2", "vcpus: 999", 1)
        plan = planned(said)
        assert blockers(plan) == {"m0": ["aws.type"]} and [one.size != "" for one in plan.machines] == [False, True]
        assert blockers(planned(text(f"{locator}&colour=red", 2))) == {"m0": ["target.unknown"], "m1": ["target.unknown"]}


def test_things_of_the_machines_own_run_stand_in_nobodys_way(tmp_path: Path) -> None:
    file = tmp_path / "wave.yaml"
    file.write_text(text("aws:eu-west-1?subnet=subnet-1", 1))
    manifest = loaded(file.read_text())
    (one,) = ordered(resolve(manifest))
    (order,) = wanted(manifest, file).orders
    assert job_of(manifest, one, order.request.target, tmp_path) == order.request.job


# ---- Google Cloud, Azure ---------------------------------------------------------------------------------------------------


def test_gcp(tmp_path: Path) -> None:
    places = GcpPlaces()
    try:
        double = places.at(tmp_path)
        with environment(double):
            plan = planned(text(f"{double.locator}&reserve=2", 3))
            kind = plan.machines[0].size
            assert kind.startswith(("e2-", "n2")) and blockers(plan) == {}
            assert [(one.count, one.hours) for one in plan.targets[0].reserved] == [(3, 2)]
            double.compute.limits["CPUS"] = 5.0
            assert blockers(planned(text(double.locator, 3))) == {"cloud": ["gcp.quota"]}
            priced = planned(text(double.locator, 1), book("gcp", "europe-west1", **{kind: 0.2}))
            assert [one.price and one.price.hourly for one in priced.machines] == [0.2]
            cheap = planned(text(double.locator, 1), book("gcp", "europe-west1", **{kind: 0.2, "n2-standard-4": 0.1}))
            assert [one.size for one in cheap.machines] == ["n2-standard-4"], "the cheapest, as in a run"
            assert cheap.targets[0].storage == () and cheap.machines[0].disks[0].type == "pd-balanced"
            known = book("gcp", "europe-west1").model_copy(update={"disks": {"gcp": {"europe-west1": {"pd-ssd": 0.2}}}})
            mapped = text(double.locator, 3).replace("targets:", 'storage: [{source: "*", type: pd-ssd}]\ntargets:')
            (cost,) = planned(mapped, known).targets[0].storage
            assert round(cost.hourly * 730, 6) == 3 * 10 * 0.2
    finally:
        places.close()


def test_azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(tmp_path, monkeypatch) as double:
        plan = planned(text(f"{double.locator}&reserve-capacity", 3))
        assert plan.machines[0].size.startswith("Standard_") and blockers(plan) == {}
        assert [(one.count, one.hours) for one in plan.targets[0].reserved] == [(3, 0)]
        double.cloud.quotas["cores"] = 5
        assert blockers(planned(text(double.locator, 3))) == {"cloud": ["azure.quota"]}
        said = text(double.locator, 1).replace(", size: 10GiB", "")
        assert blockers(planned(said)) == {}, "that nobody said how large its disk is was told already"


# ---- the command -----------------------------------------------------------------------------------------------------------


def v2c(*words: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "v2c", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=os.environ | env, cwd=ROOT)
    assert done.returncode == code, done
    return done


def test_the_command_shows_it_and_credentials_that_are_missing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with aws_places() as places:
        double, file, state = places[tmp_path / "cloud"], tmp_path / "wave.yaml", tmp_path / "state"
        file.write_text(text(f"{double.locator}&reserve=4", 7))
        kind = planned(file.read_text()).machines[0].size
        state.mkdir(0o700)
        prices.keep(book("aws", "eu-west-1", **{kind.replace(".", "_"): 0.1}), state)
        done = v2c("plan", str(file), "--ask", "--state", str(state), "--out", str(tmp_path / "plan.json"))
        assert "ask ...\n" in done.stderr and "7 of 7 machines" in done.stderr
        assert f"\n  7 x {kind}\n" in done.stdout and f"\n  would reserve 7 x {kind} for 4 h each\n" in done.stdout
        assert "  together about 0.7 USD an hour, 511 a month, without disks and traffic (estimated by prices of" in done.stdout
        assert f"{kind}, 0.1 USD/h" in done.stdout and done.stdout.endswith("\nREADY\n")
        assert json.loads((tmp_path / "plan.json").read_text())["targets"][0]["instances"][0]["count"] == 7

        double.cloud.quotas["L-1216C47A"] = 13.0
        out = v2c("plan", str(file), "--ask", "--quiet", code=4, XDG_STATE_HOME=str(tmp_path / "none"))
        assert "blocker: L-1216C47A: the account may run 13 processors" in out.stdout and out.stderr == ""
        assert "\n  no price list knows what they cost" in out.stdout and out.stdout.endswith("\nBLOCKED by a target\n")
        assert not (tmp_path / "none").exists(), "only read"

        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        lost = v2c("plan", str(file), "--ask", "--quiet", code=4).stdout
        assert lost.count("Unable to locate credentials") == 1 and "(m0, m1, m2, m3, m4 and 2 more)" in lost
        assert lost.count("blocker: ") == 1 and lost.endswith("\nBLOCKED: 7 of 7\n")


class Unwell(BaseHTTPRequestHandler):
    """Answers that it cannot, or does not answer at all."""

    asked = threading.Event()
    silent = False

    def do_POST(self) -> None:
        self.asked.set()
        if self.silent:
            time.sleep(60)
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.mark.parametrize("silent", [False, True])
def test_ctrl_c_ends_it(tmp_path: Path, silent: bool) -> None:
    """While AWS is asked again and again, for a minute, or does not answer, for as long."""
    file = tmp_path / "wave.yaml"
    file.write_text(text("aws:eu-west-1?subnet=subnet-1", 20))
    Unwell.silent, Unwell.asked = silent, threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Unwell)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    command = [sys.executable, "-m", "v2c", "plan", str(file), "--ask"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | env, cwd=ROOT)
    assert Unwell.asked.wait(60)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    rest = running.communicate(timeout=60)[1]
    server.shutdown()
    assert running.returncode == 130 and "Traceback" not in rest and "ask stopped" in rest, rest
    assert time.monotonic() - began < 20, "of the 60 that it would have gone on"


def test_only_who_asks_loads_an_sdk(tmp_path: Path) -> None:
    file = tmp_path / "wave.yaml"
    file.write_text(text("aws:eu-west-1?subnet=s", 1).replace("nics: [{network: lan}]", "nics: [{subnet: s}]"))
    script = (
        "import sys\nfrom v2c.cli import cli\n"
        f"cli.main(['plan', {str(file)!r}, '--json'], standalone_mode=False)\n"
        "print(' '.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stderr.split())
    assert "v2c.waveplan" in loaded
    sdks = {"boto3", "botocore", "google.auth", "google.cloud", "azure.core", "azure.identity"}
    assert not loaded & {*sdks, "v2c.waveplan.asking", "v2c.targets.aws", "v2c.targets.gcp", "v2c.targets.azure"}
    assert "--ask are for a manifest" in v2c("plan", "memory:x", "--to", "memory:y", "--ask", code=2).stderr
