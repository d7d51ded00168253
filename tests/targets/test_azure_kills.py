"""Azure and kill -9: at every boundary of the journal a process dies, and the next one goes on from there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from azure_place import JOB, at, azure, content, holds, planned

from v2c.emulators.azure import AzureEmulator
from v2c.journal import SqlJournal

pytestmark = pytest.mark.tool
HERE = Path(__file__).resolve().parent


def run(emulator: AzureEmulator, folder: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join(map(str, (HERE, HERE.parent / "contracts", HERE.parents[1])))
    command = [sys.executable, str(HERE / "azure_child.py"), str(folder), emulator.locator]
    environment = {**os.environ, "PYTHONPATH": path, **more}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)


def came_there(emulator: AzureEmulator, folder: Path) -> None:
    """One of each, the disk as it was, and all of it goes: by the double's own list, not by our journal."""
    plan = planned(40)
    (disk,) = emulator.resources("disks")
    holds(emulator.disk(disk["id"]), plan.disks[0].target_size, content(plan))
    (vm,) = emulator.resources("virtualMachines")
    assert vm["tags"]["v2c-role"] == "cutover" and len(emulator.resources("networkInterfaces")) == 1
    assert [nsg["name"] for nsg in emulator.resources("networkSecurityGroups")] == ["lab"]
    target, journal = at(emulator), SqlJournal(folder / "state", JOB)
    assert set(target.find(JOB)) == set(journal.refs()) and journal.pending() == []
    for ref in reversed(list(target.find(JOB))):
        target.destroy(ref)
    assert emulator.left() == []


@pytest.mark.full
@pytest.mark.timeout(7200)
def test_a_kill_at_every_boundary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tmp_path / "names"
    with azure(tmp_path / "azure", monkeypatch) as emulator:
        done = run(emulator, tmp_path / "calm", V2C_CRASH_LOG=str(names))
        assert done.returncode == 0, done.stderr
        came_there(emulator, tmp_path / "calm")
    boundaries = names.read_text().splitlines()
    assert len(boundaries) >= 20 and "made instance" in boundaries and "undone test-disk" in boundaries
    for number in range(1, len(boundaries) + 1):
        with azure(tmp_path / f"azure-{number}", monkeypatch) as emulator:
            folder = tmp_path / f"killed-{number}"
            assert run(emulator, folder, V2C_CRASH_AT=str(number)).returncode == -signal.SIGKILL, boundaries[number - 1]
            again = run(emulator, folder)
            assert again.returncode == 0, f"{boundaries[number - 1]}: {again.stderr}"
            pages = {page: count for page, count in emulator.requests.done("PutPage").items() if count > 1}
            assert all(page.endswith(f"/{40 << 20}") for page in pages), f"{boundaries[number - 1]}: pages went twice: {pages}"
            came_there(emulator, folder)


def test_a_kill_in_the_middle_of_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are slow, so that some are under way: only those go twice."""
    with azure(tmp_path / "azure", monkeypatch) as emulator:
        emulator.faults.kinds, emulator.faults.share = ("slow",), 0.0
        emulator.faults.once("PutPage", "slow", times=3)
        folder = tmp_path / "work"
        path = os.pathsep.join(map(str, (HERE, HERE.parent / "contracts", HERE.parents[1])))
        command = [sys.executable, str(HERE / "azure_child.py"), str(folder), emulator.locator]
        child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
        while not emulator.requests.done("PutPage"):
            assert child.poll() is None
            time.sleep(0.02)
        child.kill()
        child.wait()
        assert run(emulator, folder).returncode == 0
        sent = emulator.requests.done("PutPage")
        assert sum(count > 1 for count in sent.values()) <= 8
        came_there(emulator, folder)
