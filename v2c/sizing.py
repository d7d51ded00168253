"""Right-sizing: which of a cloud's instance types a machine gets.

Pure but for the prices, which whoever plans sets around the target's choice (`priced`): the offers come from the cloud's own
catalogue, which names no price.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from v2c.model import Firmware, Machine

_prices: ContextVar[Mapping[str, float]] = ContextVar("prices", default={})  # noqa: B039 - never written to
ROUNDING = 0.97  # of a machine's memory: 7.8 GiB of a hypervisor's 8 is what an 8 GiB type gives too


@dataclass(frozen=True, slots=True)
class Offer:
    """An instance type: memory in MiB; `max_disks` and `max_nics` 0: no limit known; `burst`: its processors are shared and
    throttled when busy; `preferred`: the current generation that the cloud advises; `hourly`: its price, None: not known."""

    name: str
    vcpus: int
    memory_mib: int
    firmware: tuple[Firmware, ...] = (Firmware.BIOS, Firmware.UEFI)
    max_disks: int = 0
    max_nics: int = 0
    burst: bool = False
    preferred: bool = True
    hourly: float | None = None

    def holds(self, machine: Machine, firmware: Firmware) -> str:
        """Why the machine does not fit, as a clause; empty: it does."""
        if firmware not in self.firmware:
            return f"it does not boot by {firmware}"
        if self.vcpus < machine.vcpus:
            return f"it has {self.vcpus} processors, and the machine {machine.vcpus}"
        if self.memory_mib < machine.memory_mib * ROUNDING:
            return f"it has {self.memory_mib} MiB of memory, and the machine {machine.memory_mib}"
        if self.max_disks and self.max_disks < len(machine.disks):
            return f"it takes {self.max_disks} disks, and the machine has {len(machine.disks)}"
        if self.max_nics and self.max_nics < len(machine.nics):
            return f"it takes {self.max_nics} network cards, and the machine has {len(machine.nics)}"
        return ""


@contextmanager
def priced(hourly: Mapping[str, float]) -> Iterator[None]:
    """While it is open, `choose` knows these prices (of an hour, by type) of offers that name none."""
    token = _prices.set(hourly)
    try:
        yield
    finally:
        _prices.reset(token)


def choose(machine: Machine, firmware: Firmware, offers: Iterable[Offer]) -> Offer | None:
    """The cheapest (where prices are known, else the smallest) offer that holds the machine; None: none does.

    Burstable types are only chosen by name: a moved server's load is not known, and they slow down under a steady one.
    """
    fitting = [offer for offer in offers if not offer.burst and not offer.holds(machine, firmware)]
    return min(fitting, key=_rank, default=None)


def _rank(offer: Offer) -> tuple[bool, bool, float, int, int, str]:
    hourly = _prices.get().get(offer.name) if offer.hourly is None else offer.hourly
    return (not offer.preferred, hourly is None, hourly or 0.0, offer.vcpus, offer.memory_mib, offer.name)
