"""A real guest into Google Cloud, as far as a rehearsal without an account goes: the command line in one process, the double of
Google Cloud in another. What was uploaded is unpacked, imported and booted there; afterwards nothing is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conversions import ROOT, House, Watch, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from fixtures.build import BuiltGuest

pytestmark = [pytest.mark.guest, pytest.mark.full, pytest.mark.timeout(2400), pytest.mark.xdist_group("gcp-guest")]

SERVE = """
import json, signal, sys, threading
from pathlib import Path
from v2c.emulators import open_emulator
over, folder = threading.Event(), Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: over.set())
with open_emulator("gcp", folder / "cloud") as double:
    (folder / "told.new").write_text(json.dumps({"environment": dict(double.environment), "locator": double.locator}))
    (folder / "told.new").rename(folder / "told")
    over.wait()
    asked = [[r.operation, r.subject, r.status, r.bytes] for r in double.requests]
    (folder / "asked").write_text(json.dumps({"asked": asked, "left": double.left()}))
"""


@dataclass
class Served:
    """The double in a process of its own."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    environment: dict[str, str]
    locator: str

    def ended(self) -> dict[str, Any]:
        """Ends it; what it was asked, and what is left in it."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0
        found: dict[str, Any] = json.loads((self.folder / "asked").read_text())
        return found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "told").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        said = json.loads((tmp_path / "told").read_text())
        yield Served(tmp_path, process, said["environment"], said["locator"])
    finally:
        process.kill()
        process.wait()


def test_a_guest_comes_up_in_google_cloud(served: Served, guests: "Callable[[str], BuiltGuest]", tmp_path: Path) -> None:
    guest, house = guests("debian12-bios"), House(tmp_path / "house")
    words = ["convert", *map(str, guest.disks), "--to", served.locator, "--machine", str(guest.machine)]
    watch = Watch(house, *words, "--verify", "full", "--progress", "json", **served.environment)
    code = watch.finish()
    report = told(house)
    assert report is not None and code == 0, watch.words
    checks = {check["id"]: check for check in report["checks"]}
    assert report["verdict"] == "pass" and not [c for c in checks.values() if c["verdict"] == "fail"], checks
    assert checks["hostname"]["seen"] == guest.facts["hostname"] and "login:" in report["console"]
    assert [c for c in checks.values() if c["expectation"] == "sent" and c["verdict"] == "pass"], "nothing was read back"

    done = house.run("cleanup", str(report["job"]), "--yes", **served.environment)
    assert done.returncode == 0, done.stderr
    told_by_double = served.ended()
    assert told_by_double["left"] == []
    asked = told_by_double["asked"]
    made = [subject for operation, subject, status, _ in asked if operation == "images.insert" and status == 200]
    assert len(made) == len(set(made)) == len(guest.disks)
    sizes = [count for operation, _, status, count in asked if operation == "upload" and status in (200, 308)]
    assert len(sizes) > 5
