"""Azure and kill -9: at every boundary of the journal a process dies, and the next one goes on from there."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure_place import JOB, at, azure, content, holds, planned
from forks import KILLED, Forks, forks
from kept_machines import KeptMachines

from v2c.emulators.azure import AzureEmulator
from v2c.journal import SqlJournal

pytestmark = pytest.mark.tool
HERE = Path(__file__).resolve().parent
BLOB = "&via=blob&storage-account=v2clab&private-ip=10.20.0.77"
# one of each kind of boundary and of thing; all of them are walked with --full
SOME = ("made nic", "made disk", "made imported-disk", "ref image", "undone container")


@pytest.fixture
def walker(tmp_path: Path) -> Iterator[Forks]:
    with forks("azure_child", tmp_path / "forks", "azure.mgmt.compute", "azure.mgmt.network", "azure.identity") as found:
        yield found


def came_there(emulator: AzureEmulator, folder: Path, more: str = "") -> None:
    """One of each, the disk as it was, and all of it goes: by the double's own list, not by our journal."""
    plan = planned(40)
    (disk,) = emulator.resources("disks")
    holds(emulator.disk(disk["id"]), plan.disks[0].target_size, content(plan))
    (vm,) = emulator.resources("virtualMachines")
    assert vm["tags"]["v2c-role"] == "cutover" and len(emulator.resources("networkInterfaces")) == 1
    assert [nsg["name"] for nsg in emulator.resources("networkSecurityGroups")] == ["lab"]
    assert emulator.resources("blobs") == [] == emulator.resources("containers"), "what was staged is gone"
    target, journal = at(emulator, more), SqlJournal(folder / "state", JOB)
    assert set(target.find(JOB)) == set(journal.refs()) and journal.pending() == []
    for ref in reversed(list(target.find(JOB))):
        target.destroy(ref)
    assert emulator.left() == []


def calm(walker: Forks, folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> list[str]:
    """The boundaries of a walk that nobody kills."""
    names = folder / "names"
    killed(walker, folder, monkeypatch, 0, "calm", more, log=names)
    return names.read_text().splitlines()


def killed(
    walker: Forks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    name: str,
    more: str = "",
    log: Path | None = None,
) -> None:
    """A walk that dies at a boundary, and the one after it; 0: at none."""
    folder = tmp_path / f"killed-{number}"
    with azure(tmp_path / f"azure-{number}", monkeypatch) as emulator:
        emulator.cloud.machines = KeptMachines(tmp_path)  # what boots is not what is asked here
        asked = [folder, emulator.locator + more], emulator.environment
        if number:
            assert walker(*asked, at=number) == KILLED, f"{name}: {walker.said}"
        assert walker(*asked, log=log) == 0, f"{name}: {walker.said}"
        pages = {page: count for page, count in emulator.requests.done("PutPage").items() if count > 1}
        assert all(page.endswith(f"/{40 << 20}") for page in pages), f"{name}: pages went twice: {pages}"
        came_there(emulator, folder, more)
    shutil.rmtree(tmp_path / f"azure-{number}")


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_kill_at_every_boundary(walker: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boundaries = calm(walker, tmp_path, monkeypatch)
    assert len(boundaries) >= 20 and "made instance" in boundaries and "undone test-disk" in boundaries
    for number, name in enumerate(boundaries, 1):
        killed(walker, tmp_path, monkeypatch, number, name)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.full)], ids=["some", "every"])
def test_kills_by_way_of_a_storage_account(walker: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: bool) -> None:
    """And with an address that is reserved."""
    boundaries = calm(walker, tmp_path, monkeypatch, BLOB)
    assert set(SOME) <= set(boundaries)
    for number in range(1, len(boundaries) + 1) if every else [boundaries.index(name) + 1 for name in SOME]:
        killed(walker, tmp_path, monkeypatch, number, boundaries[number - 1], BLOB)


def test_a_kill_in_the_middle_of_an_upload(walker: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert walker([folder, emulator.locator], emulator.environment) == 0, walker.said
        sent = emulator.requests.done("PutPage")
        assert sum(count > 1 for count in sent.values()) <= 8
        came_there(emulator, folder)
