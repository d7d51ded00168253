"""`v2c emulate`, with a double that is small: what it prints can be sourced, and nothing outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.tool

# a cloud that answers every request with its name, keeps a file, and boots an empty disk
TINY = """
import http.server, sys, threading, types
from pathlib import Path
from v2c.emulators.faults import Faults
from v2c.emulators.ledger import Requests
from v2c.emulators.machines import Hardware, Machines
from v2c.model import Firmware

class Tiny:
    def __init__(self, folder, port):
        self.folder, self.port, self.faults, self.requests = folder, port, Faults(), Requests()
        self.machines = Machines(folder / "machines")

    @property
    def environment(self):
        return {"TINY_URL": f"http://127.0.0.1:{self.server.server_address[1]}/", "TINY_KEY": "it's secret"}

    locator = "aws:eu-west-1?subnet=a&group=b"

    def left(self):
        return ["disk d-1"]

    def __enter__(self):
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(handler):
                handler.send_response(200)
                handler.end_headers()
                handler.wfile.write(f"tiny {self.faults.share}".encode())
            def log_message(handler, *words):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        disk = self.folder / "disk"
        disk.write_bytes(bytes(1 << 20))
        self.machines.start("i-1", [("root", disk)], Hardware("kvm", Firmware.BIOS, memory_mib=128, vcpus=1))
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.machines.close()

sys.modules["v2c.emulators.aws"] = module = types.ModuleType("v2c.emulators.aws")
module.open_emulator = lambda folder, port=0: Tiny(folder, port)
from v2c.cli import main
main()
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    argv = [sys.executable, "-c", TINY, "emulate", "aws", "--folder", str(tmp_path / "cloud"), "--fail", "0.25"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    yield process
    process.kill()
    process.communicate()


def programs(folder: Path) -> list[bytes]:
    """The running programs whose command line names the folder, the emulator itself aside."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and b"emulate" not in words:
            found.append(words)
    return found


def read_until(process: "subprocess.Popen[str]", last: str) -> str:
    assert process.stdout
    text = ""
    while last not in text:
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        text += line
    return text


def children(pid: int) -> list[int]:
    return [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_it_serves_until_it_is_told_to_end(started: "subprocess.Popen[str]", tmp_path: Path, number: signal.Signals) -> None:
    printed = read_until(started, "--to")
    script = tmp_path / "aws.env"
    script.write_text(printed)
    env = {"PATH": os.environ["PATH"]}
    shell = subprocess.run(["sh", "-c", f". {script}; env"], capture_output=True, text=True, check=True, env=env)
    sourced = dict(line.split("=", 1) for line in shell.stdout.splitlines() if line.startswith("TINY"))
    assert sourced["TINY_KEY"] == "it's secret"
    with urllib.request.urlopen(sourced["TINY_URL"], timeout=10) as answer:
        assert answer.read() == b"tiny 0.25"
    assert printed.endswith("# v2c convert DISK... --to 'aws:eu-west-1?subnet=a&group=b'\n")
    (machine,) = children(started.pid)
    began = time.monotonic()
    started.send_signal(number)
    assert started.wait(20) == 0 and time.monotonic() - began < 10
    assert started.stderr and started.stderr.read() == "left there: disk d-1\n"
    assert not Path(f"/proc/{machine}").exists() and programs(tmp_path / "cloud") == []


def test_a_killed_one_takes_its_machines_with_it(started: "subprocess.Popen[str]") -> None:
    read_until(started, "--to")
    (machine,) = children(started.pid)
    started.kill()
    started.wait(10)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{machine}").exists() and "Z" not in Path(f"/proc/{machine}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_as_json(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", TINY, "emulate", "aws", "--folder", str(tmp_path), "--json"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told = json.loads(read_until(process, "\n}\n"))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert told["locator"].startswith("aws:") and set(told["environment"]) == {"TINY_URL", "TINY_KEY"}
    assert told["folder"] == str(tmp_path)


def test_a_cloud_that_is_none() -> None:
    done = subprocess.run([sys.executable, "-m", "v2c", "emulate", "moon"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "'aws', 'gcp', 'azure'" in done.stderr
