"""So many at once on this host, over all processes: slots that are lock files, free again when their holder dies.

An appliance takes more than a gigabyte of memory, so a worker with many machines must not repair them all at once. A process that
set no limit (a single conversion) has none.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from v2c.errors import BusyError, Paused
from v2c.state import hold, private_folder

APPLIANCE_BYTES = 1_400 << 20  # of an appliance: 1.3 GiB for the guest, the rest for QEMU
POLL_S = 0.2

_limits: dict[str, tuple[Path, int]] = {}


def limit(folder: Path, count: int, name: str = "appliance") -> None:
    """From now on this process takes one of `count` slots of that name, which lie in the state's folder."""
    _limits[name] = (private_folder(folder / "locks"), count)


def by_memory() -> int:
    """How many appliances the host's memory holds, when half of it is left to the rest; at least one."""
    return max(1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 // APPLIANCE_BYTES)


@contextmanager
def taken(name: str = "appliance", cancelled: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Holds a slot while the body runs, after waiting for one. Raises Paused when `cancelled` meanwhile."""
    if name not in _limits:
        yield
        return
    folder, count = _limits[name]
    with ExitStack() as stack:
        while not _got(stack, folder, name, count):
            if cancelled():
                raise Paused(f"stopped while waiting for an {name}", remedy="the same command goes on")
            time.sleep(POLL_S)
        yield


def _got(stack: ExitStack, folder: Path, name: str, count: int) -> bool:
    for number in range(count):
        try:
            stack.enter_context(hold(folder / f"{name}.{number}", name, 0.0))
        except BusyError:
            continue
        return True
    return False
