"""Every verb through the real command line, with a machine made up in memory: the life of a job, pauses, two terminals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clocks import slowness

V2C = [sys.executable, "-m", "v2c"]
SOURCE, TARGET = "memory:erp?seed=7&size=67108864", "memory:there"
CONVERT = ["convert", SOURCE, "--to", TARGET]

pytestmark = pytest.mark.tool


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the memory target persists, and where the state lies."""
    monkeypatch.setenv("V2C_MEMORY", str(tmp_path / "memory"))
    monkeypatch.setenv("V2C_STATE", str(tmp_path / "state"))
    yield tmp_path


def v2c(*words: str, code: int = 0) -> str:
    """Runs a verb to its end; answers with stdout."""
    done = subprocess.run([*V2C, *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done
    return done.stdout


def job() -> str:
    (known,) = json.loads(v2c("status", "--json"))
    return str(known["job"]["id"])


def started(*words: str) -> subprocess.Popen[str]:
    """A conversion that is slowed down, returned when its first bytes have moved."""
    argv = [*V2C, *CONVERT, "--bandwidth", "512KiB/s", "--progress", "json", *words]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr
    for line in process.stderr:
        if json.loads(line)["event"] == "moved":
            return process
    raise AssertionError(process.wait())


def test_the_life_of_a_job(here: Path) -> None:
    assert v2c("status") == "no jobs yet\n"
    out = v2c(*CONVERT, "-q")
    path = re.search(r"^report: (.+)$", out, re.MULTILINE)
    assert path and Path(path[1]).is_file() and out.endswith("\nPASS\n")
    id = job()
    assert f"{id}  done  {SOURCE} -> {TARGET}" in v2c("status", id[:6])
    assert v2c("report", id).endswith("\nPASS\n")
    assert v2c("report", id, "--format", "html").lower().startswith("<!doctype html>")
    assert "<testsuite" in v2c("report", id, "--format", "junit")
    assert json.loads(v2c("report", id, "--format", "json"))["job"] == id
    assert v2c(*CONVERT, "--progress", "plain").endswith("\nPASS\n"), "the same command answers from its memo"
    assert v2c(*CONVERT, "-q", "--again").endswith("\nPASS\n")
    assert json.loads(v2c("validate", id, "-q", "--json"))["verdict"] == "pass"
    v2c("cancel", id, code=1)
    unasked = subprocess.run([*V2C, "cleanup", id], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert unasked.returncode == 2 and unasked.stderr.endswith("v2c: nobody answers: say --yes\n")
    asked = subprocess.run([*V2C, "cleanup", id], input="n\n", capture_output=True, text=True, check=False)
    assert asked.stdout.count("removed") == 0 and v2c("status", id[:6])
    removed = v2c("cleanup", id, "--yes")
    assert "removed image" in removed and removed.endswith(f"nothing of {id} is left\n")
    assert v2c("status") == "no jobs yet\n"
    assert not list((here / "state" / "work").rglob("*"))


def test_an_upload_is_read_back(here: Path) -> None:
    told = json.loads(v2c(*CONVERT, "-q", "--json", "--verify", "full"))
    (check,) = [check for check in told["checks"] if check["expectation"] == "sent"]
    assert check["id"] == "upload:disk-0" and check["verdict"] == "pass" and "all blocks read back" in check["seen"]
    assert [step["bytes"] > 0 for step in told["steps"] if step["name"] == "verify"] == [True]
    id = job()
    assert "disk disk-0" in v2c("report", id, "--format", "junit") and "all blocks" in v2c("report", id, "--format", "html")
    again = json.loads(v2c("validate", id, "-q", "--json"))
    assert check in again["checks"], "a later boot keeps what was proven before"


@pytest.mark.parametrize("mode", ["sample", "full"])
def test_a_lost_block_is_found(here: Path, mode: str) -> None:
    """The first block of the disk is always read, in a full comparison every one."""
    lying = ["convert", SOURCE, "--to", f"memory:liar?lose={0 if mode == 'sample' else 9}", "-q", "--verify", mode]
    for _ in range(2):  # the same command does not wave it through the second time
        done = subprocess.run([*V2C, *lying], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 1, done
        assert re.search(r"does not hold what was sent: block \d+ of disk-0 .*--again", done.stderr), done.stderr
    assert "verify" not in v2c("plan", SOURCE, "--to", "file:x.qcow2").split("\n")[0]
    if mode == "full":  # nothing that boots needs that block: without a look nobody would know
        assert v2c(*lying[:4], "-q", "--verify", "none", "--again").endswith("\nPASS\n")


def test_what_cannot_be_read_back_is_said_before_a_byte_moves(here: Path) -> None:
    argv = [*V2C, "convert", SOURCE, "--to", f"file:{here}/x.qcow2", "--verify", "full"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "cannot be read back: leave --verify out" in done.stderr
    assert v2c("status") == "no jobs yet\n"


def test_what_the_user_expects_is_checked(here: Path) -> None:
    said = 'listening = ["tcp 8080"]\nfailed_units = []\nreach = ["ssh:192.0.2.1"]\n'
    (here / "erp.toml").write_text(f'name = "erp"\n[expect]\n{said}')
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = ["--check", f"tcp:127.0.0.1:{listener.getsockname()[1]}", "--check", "ssh:{address}"]
        done = json.loads(v2c(*CONVERT, "-q", "--json", "--machine", str(here / "erp.toml"), *asked, code=1))
        again = json.loads(v2c("validate", done["job"], "-q", "--json", code=1))  # while there is somebody who answers
    told = {check["id"].partition(":")[0]: check for check in done["checks"]}
    assert (told["failed"]["expectation"], told["failed"]["verdict"]) == ("declared", "pass")
    assert (told["listening"]["expected"], told["listening"]["verdict"]) == ("tcp 8080", "fail"), "nothing listens there"
    assert [c["verdict"] for c in done["checks"] if c["id"].startswith("reach")] == ["pass", "skipped"]
    assert (told["status"]["expectation"], told["status"]["verdict"]) == ("target", "pass")
    assert "tcp 8080" in [check["expected"] for check in again["checks"]], "a later look expects the same"


@pytest.mark.parametrize("words", [["--expect-port", "http"], ["--check", "ping:host"]], ids=lambda words: words[0])
def test_expectations_that_are_none(here: Path, words: list[str]) -> None:
    v2c(*CONVERT, *words, code=2)
    assert v2c("status") == "no jobs yet\n"


def test_a_plan_says_the_type_and_what_it_costs(here: Path) -> None:
    plan = ["plan", SOURCE, "--to", TARGET, "--memory", "16384", "--vcpus", "4"]
    assert v2c("prices", "show") == "no prices yet: v2c prices update FILE\n"
    assert re.search(r"^  type +memory\.4x16$", v2c(*plan), re.MULTILINE)
    (here / "usage.csv").write_text("machine,cpu_percent,memory_percent\nerp,30,20\n")
    (here / "prices.toml").write_text(
        'date = 2026-11-01\nsource = "a list"\ncurrency = "EUR"\n[memory.there]\n"memory.2x8" = 0.2\n"memory.8x32" = 0.1\n'
    )
    told = "prices of 2026-11-01 in EUR, from a list\n  memory.there  2 types\n"
    assert v2c("prices", "update", str(here / "prices.toml")) == told == v2c("prices", "show")
    sized = v2c(*plan, "--size-by", str(here / "usage.csv"))
    words = "about 0.1 EUR an hour, 73 a month, without disks and traffic (estimated by prices of 2026-11-01: a list)"
    assert re.search(rf"^  type +memory\.8x32: {re.escape(words)}$", sized, re.MULTILINE), sized
    assert "(usage.csv:2): 2 processors and 4096 MiB are looked for" in sized
    made = json.loads(v2c(*plan, "--size-by", str(here / "usage.csv"), "--json"))["plan"]
    assert (made["machine"]["vcpus"], made["price"]["hourly"]) == (2, 0.1)
    v2c(*plan, "--size-by", str(here / "nothing.csv"), code=2)


def test_inspect_and_plan_change_nothing(here: Path) -> None:
    assert "Debian GNU/Linux 12" in v2c("inspect", SOURCE, "-q")
    assert json.loads(v2c("inspect", SOURCE, "-q", "--json"))["facts"]["family"] == "debian"
    assert v2c("plan", SOURCE, "--to", TARGET).startswith("erp -> memory:there: describe -> plan")
    tried = v2c("plan", "--repair", SOURCE, "--to", TARGET, "-q")
    assert "repairs:\n" in tried and "\n--- fstab: changed /etc/fstab\n" in tried and "+UUID=" in tried
    assert v2c("status") == "no jobs yet\n"
    assert not list((here / "state" / "work").rglob("*"))


def test_progress_as_json_is_one_object_a_line(here: Path) -> None:
    done = subprocess.run([*V2C, *CONVERT, "--progress", "json", "--json"], capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {e["event"] for e in events} >= {"began", "ended", "moved", "noted"}
    assert json.loads(done.stdout)["verdict"] == "pass"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_pauses_and_the_same_command_goes_on(here: Path, number: signal.Signals) -> None:
    process = started()
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(120) == 130
    assert time.monotonic() - began < 2 * slowness()
    assert process.stderr and "Traceback" not in process.stderr.read()
    assert "interrupted" in v2c("status")
    done = json.loads(v2c(*CONVERT, "-q", "--json"))
    assert done["verdict"] == "pass"
    running = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not [line for line in running if str(here).encode() in line]


def test_two_terminals_do_not_share_a_job(here: Path) -> None:
    first = started()
    done = subprocess.run([*V2C, *CONVERT, "-q"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and re.fullmatch(r"v2c: job \w+ is being worked on by pid \d+ [^\n]+\n", done.stderr), done
    seen = v2c("status")
    assert "running" in seen and "now: upload copy" in seen
    first.send_signal(signal.SIGINT)
    assert first.wait(10) == 130


def test_cancel_stops_it_elsewhere_and_for_good(here: Path) -> None:
    first = started()
    assert f"v2c cleanup {job()}" in v2c("cancel", job())
    assert first.wait(20) == 1
    assert first.stderr and re.search(r"^v2c: job \w+ was cancelled from elsewhere", first.stderr.read(), re.MULTILINE)
    done = subprocess.run([*V2C, *CONVERT, "-q"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "was cancelled: start it anew with --again" in done.stderr
    v2c("cleanup", job(), "--yes")


def test_debug_shows_where_an_error_comes_from(here: Path) -> None:
    done = subprocess.run(
        [*V2C, "inspect", "nothing.vmdk", "--debug"], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 2 and "Traceback" in done.stderr and done.stderr.splitlines()[-1].startswith("v2c: ")
