"""Opens a machine's guest, whatever keeps it: disks behind an appliance, or a guest in memory kept in an image."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from v2c import slots
from v2c.errors import GuestError
from v2c.events import Meter
from v2c.guest import Guest, disk, kept
from v2c.model import Disk, Finding, LeaveTool, Machine
from v2c.nbd import Export

MEMORY = "memory"  # the architecture of machines that memory: sources make up


class OpenGuest(Guest, Protocol):
    """A guest on disks: with `trim` before it closes, and `findings` about its disks."""

    @property
    def findings(self) -> Sequence[Finding]:
        """What was tolerated, or is worth saying."""
        ...

    def trim(self) -> None:
        """Tells the disks what the filesystems do not use."""
        ...


def open_guest(
    machine: Machine,
    exports: Sequence[tuple[Disk, Export]],
    *,
    writable: bool,
    keys: Sequence[str] = (),
    root: str = "",
    leave: Sequence[LeaveTool] = (),
    meter: Meter | None = None,
) -> AbstractContextManager[OpenGuest]:
    """The guest on the machine's disks; see `disk.open_guest`. `leave`: the tools that `Facts.tools` looks for."""
    if machine.architecture == MEMORY:
        if not exports:
            raise GuestError(f"{machine.name} has no disk", remedy="name a memory: source with one")
        return kept.open_kept(exports[0][1], writable=writable)
    return _with_appliance(exports, writable, keys, root, leave, meter or Meter())


@contextmanager
def _with_appliance(
    exports: Sequence[tuple[Disk, Export]],
    writable: bool,
    keys: Sequence[str],
    root: str,
    leave: Sequence[LeaveTool],
    meter: Meter,
) -> Iterator[OpenGuest]:
    """As many at once as this host has slots for."""
    with (
        slots.taken("appliance", meter.cancelled),
        disk.open_guest(exports, writable=writable, keys=keys, root=root, meter=meter, platforms_tools=leave) as guest,
    ):
        yield guest
