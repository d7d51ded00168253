"""What is launched at an emulator when a machine of `sources/memory` was uploaded: it "boots" as it does at the memory target."""

from collections.abc import Sequence
from pathlib import Path

from v2c.emulators.machines import Hardware, Machines
from v2c.targets.memory_boot import Shown, boot


class KeptMachines(Machines):
    """Machines that need no QEMU: their console is what the kept guest on the first disk says. `started`: all ever started."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._shown: dict[str, Shown] = {}
        self.started: list[str] = []

    def start(self, id: str, disks: Sequence[tuple[str, Path]], hardware: Hardware) -> None:
        if id not in self._shown:
            self.started.append(id)
            self._shown[id] = boot([path for _, path in disks])

    def alive(self, id: str) -> bool:
        return id in self._shown and self._shown[id].alive

    def console(self, id: str) -> str:
        return self._shown[id].console if id in self._shown else ""

    def screenshot(self, id: str) -> bytes:
        return b""

    def stop(self, id: str, grace_s: float = 0.0) -> None:
        self._shown.pop(id, None)

    def close(self) -> None:
        self._shown.clear()
