"""A real guest through the command line into the double of Azure, which runs in another process than the conversion."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conversions import House

from v2c.emulators.azure import AzureEmulator
from v2c.model import MIB

if TYPE_CHECKING:
    from fixtures.build import BuiltGuest

pytestmark = [pytest.mark.guest, pytest.mark.full, pytest.mark.tool, pytest.mark.timeout(3600)]
CHUNK = 4 * MIB


@pytest.mark.parametrize(("name", "generation"), [("debian12-uefi-lvm", "V2"), ("debian12-bios", "V1")])
def test_it_comes_up_at_azure_as_the_same_machine(
    name: str, generation: str, guests: "Callable[[str], BuiltGuest]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, house = guests(name), House(tmp_path / "house")
    with AzureEmulator(tmp_path / "azure") as emulator:
        for variable, value in emulator.environment.items():
            monkeypatch.setenv(variable, value)
        command = [*map(str, guest.disks), "--machine", str(guest.folder / "machine.toml"), "--to", emulator.locator]
        done = subprocess.run(
            house.command("convert", *command, "--no-rehearse", "--verify", "full", "--json"),
            env=house.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["verdict"] == "pass" and guest.facts["hostname"] in report["console"]
        checks = {check["id"]: check for check in report["checks"]}
        assert checks["root"]["seen"] == guest.facts["uuids"]["/"] and checks["boot"]["verdict"] == "pass"
        assert {check["verdict"] for id, check in checks.items() if id.startswith("upload")} == {"pass"}, sorted(checks)
        # what Azure was asked: one disk per disk, of the guest's generation, each page once, and no test left running
        made = emulator.resources("disks")
        assert {disk["properties"]["hyperVGeneration"] for disk in made} == {generation} and len(made) == len(guest.disks)
        assert emulator.resources("virtualMachines") == [] == emulator.resources("networkInterfaces")
        sent = emulator.requests.done("PutPage")
        assert set(sent.values()) == {1}
        held = sum(_data(emulator.disk(disk["id"])) for disk in made)
        assert emulator.requests.bytes("PutPage") <= 1.02 * held * CHUNK + 512 * len(made)
        # nothing secret in what v2c keeps
        secret = emulator.environment["AZURE_CLIENT_SECRET"]
        assert house.leaks([secret, "sig="]) == []
        gone = subprocess.run(
            house.command("cleanup", report["job"], "--yes"), env=house.environment(), capture_output=True, check=False
        )
        assert gone.returncode == 0 and emulator.left() == []


def _data(raw: Path) -> int:
    """How many blocks of the disk are not zero."""
    zeros, count = bytes(CHUNK), 0
    with raw.open("rb") as file:
        while block := file.read(CHUNK):
            count += block != zeros[: len(block)]
    return count
