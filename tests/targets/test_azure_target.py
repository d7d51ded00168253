"""Azure: the contract over its double, whose own files and requests are the evidence."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from target_contract import TargetContract

from v2c.emulators.azure import AzureEmulator
from v2c.model import MIB, Caps, Firmware, Ref
from v2c.targets import Target, open_target


@pytest.mark.tool
class TestAzure(TargetContract):
    size = 25 * MIB
    second = 21 * MIB
    emulator: AzureEmulator

    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        folder = tmp_path / "place"
        with AzureEmulator(folder) as self.emulator:
            for name, value in self.emulator.environment.items():
                monkeypatch.setenv(name, value)
            yield folder

    def make(self, folder: Path) -> Target:
        return open_target(self.emulator.locator)

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        return self.emulator.disk(disk.id)


@pytest.mark.tool
class TestAzureTrusted(TestAzure):
    """The same for machines of Trusted Launch: a guest that is signed, verified and with a TPM."""

    caps = Caps(Firmware.UEFI, boot_disk="d0", secure_boot=True)

    def make(self, folder: Path) -> Target:
        return open_target(f"{self.emulator.locator}&security=trusted")
