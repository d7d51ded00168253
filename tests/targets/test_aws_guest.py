"""A real guest, VMware-shaped, to an instance at AWS's double that comes up as the same machine: by the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aws_places import Places, places

if TYPE_CHECKING:
    from fixtures.build import BuiltGuest

pytestmark = [pytest.mark.guest, pytest.mark.full]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def known() -> Iterator[Places]:
    with places() as found:
        yield found


@pytest.mark.parametrize("name", ["debian12-bios", "debian12-uefi-lvm", "debian12-two-disks"])
def test_a_guest_arrives_as_the_same_machine(
    guests: "Callable[[str], BuiltGuest]", known: Places, tmp_path: Path, name: str
) -> None:
    guest, cloud = guests(name), known[tmp_path / "cloud"]
    state = ["--state", str(tmp_path / "state")]
    v2c = [sys.executable, "-m", "v2c"]
    argv = [*v2c, "convert", *map(str, guest.disks), "--machine", str(guest.machine), "--to", cloud.locator, "--verify", "full"]
    environment = {**os.environ, **cloud.environment}
    done = subprocess.run(
        [*argv, "--no-rehearse", "--quiet", *state],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = (tmp_path / "state").rglob("report.json")
    told = json.loads(report.read_text())
    assert told["verdict"] == "pass", [check for check in told["checks"] if check["verdict"] != "pass"]
    assert {line.split(" ")[0] for line in cloud.left()} == {"snapshot", "image"}, "the boot test left something"
    puts = [request for request in cloud.requests if request.operation == "PutSnapshotBlock"]
    assert {request.status for request in puts} <= {201, 404}, "refused only where the snapshot was not visible yet"
    taken = cloud.requests.done("PutSnapshotBlock")
    assert max(taken.values()) == 1 and len(taken) * 524288 == sum(r.bytes for r in puts if r.status == 201)
    removed = subprocess.run([*v2c, "cleanup", told["job"], "--yes", *state], cwd=ROOT, env=environment, check=False)
    assert removed.returncode == 0 and cloud.left() == []
