"""A worker's work folder, and who else takes of the same disk."""

import math
from collections.abc import Sequence
from pathlib import Path

from v2c.model import MIB
from v2c.waves import room
from v2c.waves.nouns import Limits, Machine
from v2c.waves.room import Room
from v2c.waves.shares import Shares
from v2c.waves.store import Store

STEP = 64 * MIB  # what is written down is rounded up to it: a change is told to the others, and not each second


class Folder:
    """Counts what the machines here may still take, and reads what other workers' may whose folders lie on this disk of this
    host. Two that begin in the same instant may both count on the same room; what is short then fails as it does without."""

    def __init__(self, store: Store, worker: str, path: Path, own: int | None = None) -> None:
        self._store, self._path, self._own = store, path, own
        self._shares = Shares(store, worker, "room")
        self._limits: dict[str, Limits] = {}

    def room(self, running: Sequence[tuple[str, Machine]]) -> Room:
        """What is left beside these (each with its run), and what the others' may still take."""
        for run in {run for run, _ in running}:
            self._limits[run] = self._store.run(run).limits
        still = sum(self._still(self._limits[run], one) for run, one in running)
        disk = self._disk()
        others = self._shares.exchange({disk: float(-(-still // STEP) * STEP)})
        return Room(room.free(self._path) - still - math.ceil(others.get(disk, 0.0)), self._own)

    def _still(self, limits: Limits, one: Machine) -> int:
        """What the machine may take beyond what it took."""
        wanted = room.need(one, limits, self._own)
        return max(0, wanted - _held(self._path / one.order.request.job)) if wanted else 0

    def _disk(self) -> str:
        """The disk under the folder, by a name that no other host has for another one."""
        existing = next(path for path in (self._path, *self._path.parents) if path.exists())
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{existing.stat().st_dev}"


def _held(folder: Path) -> int:
    """Bytes of the disk that the folder's files hold; those that go away meanwhile hold none."""
    held = 0
    for path in folder.rglob("*") if folder.is_dir() else ():
        try:
            held += path.stat().st_blocks * 512
        except OSError:
            continue
    return held
