"""Where machines come from. One protocol; each source is one file (or package) with the same verbs in the same order.

A source's disks are never written. Every other change to a source (a snapshot, a lease, the power state) is journaled
before it is made and undone by `destroy` or `start`.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import Disk, Finding, Machine, Marks, Ref
from v2c.nbd import Export

if TYPE_CHECKING:
    from v2c.sources.spec import MachineSpec


@dataclass(frozen=True, slots=True)
class SourceFeatures:
    """What a source can do: ask, don't guess."""

    change_tracking: bool = False
    readable_when_off: bool = True
    can_stop: bool = False


class Capture(Protocol):
    """One consistent instant of all disks of a machine, open for reading."""

    @property
    def marks(self) -> Marks:
        """Where change tracking stood at this instant."""
        ...

    def export(self, disk: Disk) -> Export:
        """The disk as a read-only NBD export, served until the capture is closed."""
        ...


class Source(Protocol):
    """A place that machines can be taken from."""

    features: SourceFeatures

    def machines(self) -> Iterator[Machine]:
        """Every machine that can be seen."""
        ...

    def describe(self, name: str) -> Machine:
        """The machine called `name` (empty: the only one). Raises SourceError or UsageError in one sentence."""
        ...

    def check(self, machine: Machine) -> Iterator[Finding]:
        """What stands in the way at the source: in use, snapshots, sector size, encryption. Writes nothing."""
        ...

    def capture(self, machine: Machine, since: Marks | None, journal: Journal) -> Ref:
        """Fixes one instant over all disks. Raises SourceError when the machine changed since `describe`."""
        ...

    def open(self, capture: Ref, machine: Machine, workdir: Path) -> AbstractContextManager[Capture]:
        """Opens a capture, also after a crash, with sockets below `workdir`. Raises CaptureLost."""
        ...

    def stop(self, machine: Machine, journal: Journal, meter: Meter) -> None:
        """Shuts the machine down; harmless when it is off."""
        ...

    def start(self, machine: Machine, journal: Journal) -> None:
        """Starts the machine again if v2c stopped it."""
        ...

    def find(self, job: str) -> Iterator[Ref]:
        """What the job left at the source."""
        ...

    def destroy(self, ref: Ref) -> None:
        """Removes it; absent is success."""
        ...


def open_source(locators: str | Sequence[str], spec: "MachineSpec | None" = None) -> Source:
    """The source that locators name: one "SCHEME:REST", or the disk files of one machine. UsageError when nobody knows it.

    `spec` is what the user says of the machine; where nobody does, `Machine.assumed` tells what was taken instead.
    """
    from v2c.sources import registry

    return registry.open_source(locators, spec)
