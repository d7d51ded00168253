"""One account in memory and on disk: what every operation works on."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from v2c.emulators.aws.blocks import BlockFile
from v2c.emulators.aws.store import Record, Store
from v2c.emulators.aws.wire import Asked, Inquiry, Refusal
from v2c.emulators.machines import Machines
from v2c.model import GIB


@dataclass
class Pace:
    """How long things take, in seconds: short where AWS takes minutes, never nothing, because that is what clients forget.

    `visible_s`: until a started snapshot can be written to. `completing_s`: a completed one's way to "completed".
    `image_s`, `card_s`, `pending_s`, `ending_s`: an image's, a network interface's, a starting and an ending instance's;
    `import_s`: each step's of an image's import. `page`: the most blocks that one page of a list shows.
    """

    visible_s: float = 0.2
    completing_s: float = 0.4
    image_s: float = 0.3
    card_s: float = 0.2
    import_s: float = 0.1
    pending_s: float = 0.4
    ending_s: float = 0.4
    page: int = 10000


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose parameters were read and whose rights were checked."""

    asked: Asked
    params: Record
    inquiry: Inquiry
    fault: str = ""

    @property
    def region(self) -> str:
        return self.asked.region


Operation = Callable[["Cloud", Call], Any]


@dataclass
class Cloud:
    """An account: its records, its snapshots' files, its machines. `clock`: seconds since the epoch, and a test may move it."""

    account: str
    folder: Path
    machines: Machines
    pace: Pace = field(default_factory=Pace)
    offset: float = 0.0
    quotas: dict[str, float] = field(default_factory=dict)
    store: Store = field(init=False)
    _files: dict[str, BlockFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = Store(self.folder / "cloud.json", self.clock)

    def clock(self) -> float:
        """Now, moved by `offset`."""
        return time.time() + self.offset

    def now(self) -> str:
        """Now, as records write it."""
        return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(self.clock()))

    def blocks(self, snapshot: Mapping[str, Any]) -> BlockFile:
        """The file of a snapshot."""
        id = snapshot["SnapshotId"]
        with self.store.lock:
            if id not in self._files:
                self._files[id] = BlockFile(self.folder / "snapshots" / f"{id}.raw", snapshot["VolumeSize"] * GIB)
            return self._files[id]

    def forget(self, snapshot: Mapping[str, Any]) -> None:
        """The file of a snapshot that was deleted goes."""
        self.blocks(snapshot).remove()
        del self._files[snapshot["SnapshotId"]]

    def close(self) -> None:
        """Machines end, files are closed."""
        self.machines.close()
        for file in self._files.values():
            file.close()
        self._files.clear()


def dry(call: Call) -> None:
    """Ends a call that only asked whether it may: by then its rights are known."""
    if call.params.get("DryRun"):
        raise Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
