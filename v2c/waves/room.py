"""Room in a work folder: a stage begins where all that it may take is free, beside what the machines that run may still take.

Pure, but for `free`, the one place where a disk is asked.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from v2c.model import GIB
from v2c.model.wave import Stage
from v2c.waves.nouns import Limits, Machine

WAITS = "waits for room"
WRITES = (Stage.REPLICATE,)  # the stages that write overlays; the others leave a console and a report


def free(folder: Path) -> int:
    """Bytes that are free where the folder lies, or will."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def need(one: Machine, limits: Limits, own: int | None = None) -> int:
    """Bytes that the machine's stage takes of a work folder at most: as its worker (`own`), its wave or the manifest says, else
    what is known of a repair."""
    if one.doing not in WRITES:
        return 0
    said = (own, limits.wave_scratch.get(one.order.wave), limits.scratch, one.order.scratch)
    return next((bytes for bytes in said if bytes is not None), 0)


@dataclass
class Room:
    """What is left of a work folder while machines are taken. `own`: the worker's word of what each takes."""

    left: int
    own: int | None = None

    def takes(self, one: Machine, limits: Limits) -> bool:
        """Whether the machine fits; then it has its place."""
        wanted = need(one, limits, self.own)
        if wanted and wanted > self.left:
            return False
        self.left -= wanted
        return True

    def why(self, one: Machine, limits: Limits, host: str) -> str:
        """Why it does not, as it was when that was seen first."""
        wanted, left = need(one, limits, self.own) / GIB, max(0, self.left) / GIB
        seen = f"{WAITS}: it may take {wanted:.1f} GiB, and the work folder on {host} had {left:.1f} GiB beside what runs there"
        return one.why if one.why.startswith(WAITS) else seen
