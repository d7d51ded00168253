"""What is launched at an emulator really boots: QEMU, on hardware shaped like the cloud's, over the disks as uploaded."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v2c.model import Firmware
from v2c.rehearsal.machine import BootDisk, VirtualMachine
from v2c.rehearsal.shape import BootSpec, bounded


@dataclass(frozen=True, slots=True)
class Hardware:
    """What an instance gets: `platform` of drivers/, firmware, memory in MiB, processors, network cards; secure boot and a TPM,
    where this host can."""

    platform: str
    firmware: Firmware
    memory_mib: int = 2048
    vcpus: int = 2
    nics: int = 1
    secure_boot: bool = False
    tpm: bool = False


class Machines:
    """The running instances of an emulator, by id. They write to a throw-away layer, reach nothing but the metadata service,
    and end with the emulator. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._machines: dict[str, VirtualMachine] = {}
        self._lock = threading.RLock()

    def start(self, id: str, disks: Sequence[tuple[str, Path]], hardware: Hardware) -> None:
        """Boots (name, raw file)s, the first of them the boot disk. Harmless when it runs."""
        with self._lock:
            if self.alive(id):
                return
            home = self.folder / id
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            spec = BootSpec(
                platform=hardware.platform,
                firmware=hardware.firmware,
                seed=id,
                name=id,
                memory_mib=hardware.memory_mib,
                vcpus=hardware.vcpus,
                nics=hardware.nics,
                boot_disk=disks[0][0] if disks else "",
                secure_boot=hardware.secure_boot,
                tpm=hardware.tpm,
            )
            boot = [BootDisk(name, path.stat().st_size, path) for name, path in disks]
            machine = VirtualMachine(bounded(spec), boot, home, console=home / "console.log")
            machine.start()
            self._machines[id] = machine

    def alive(self, id: str) -> bool:
        """Whether it was started here and runs."""
        with self._lock:
            machine = self._machines.get(id)
            return machine is not None and machine.alive

    def console(self, id: str) -> str:
        """All that it printed so far, also when it is over."""
        with self._lock:
            if machine := self._machines.get(id):
                return machine.console()
        log = self.folder / id / "console.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def screenshot(self, id: str) -> bytes:
        """Its screen as PNG; empty when there is none."""
        with self._lock:
            machine = self._machines.get(id)
            picture = self.folder / id / "screen.png"
            if machine is not None:
                machine.screenshot(picture)
            return picture.read_bytes() if picture.exists() else b""

    def stop(self, id: str, grace_s: float = 0.0) -> None:
        """Ends it; with `grace_s` by its power button first. Harmless when it is over."""
        with self._lock:
            machine = self._machines.pop(id, None)
        if machine is not None:
            if grace_s and machine.alive:
                machine.power_down(grace_s)
            machine.close()

    def close(self) -> None:
        """Ends all."""
        for id in list(self._machines):
            self.stop(id)
