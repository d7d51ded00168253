"""Right-sizing: which offer a machine gets, and why the others are none."""

import pytest

from v2c.model import Disk, Firmware, Machine, Nic
from v2c.sizing import Offer, choose

BIOS, UEFI = Firmware.BIOS, Firmware.UEFI
SMALL = Offer("small", 2, 4096)
MEDIUM = Offer("medium", 4, 8192)
LARGE = Offer("large", 8, 32768)


def machine(memory_mib: int = 4096, vcpus: int = 2, disks: int = 1, nics: int = 1) -> Machine:
    return Machine("erp", tuple(Disk(f"d{n}", 512) for n in range(disks)), (Nic(),) * nics, memory_mib, vcpus)


@pytest.mark.parametrize(
    ("wanted", "offers", "name"),
    [
        (machine(), (LARGE, MEDIUM, SMALL), "small"),
        (machine(8192), (LARGE, MEDIUM, SMALL), "medium"),
        (machine(4096, 5), (LARGE, MEDIUM, SMALL), "large"),
        (machine(8400), (LARGE, MEDIUM, SMALL), "medium"),  # within the rounding of a hypervisor's memory
        (machine(9000), (LARGE, MEDIUM, SMALL), "large"),
        (machine(65536), (LARGE, MEDIUM, SMALL), None),
        (machine(), (), None),
    ],
)
def test_the_smallest_that_holds_it(wanted: Machine, offers: tuple[Offer, ...], name: str | None) -> None:
    found = choose(wanted, BIOS, offers)
    assert (found.name if found else None) == name


def test_a_price_beats_the_size() -> None:
    cheap = Offer("large-cheap", 8, 32768, hourly=0.05)
    assert choose(machine(), BIOS, (Offer("small", 2, 4096, hourly=0.10), cheap)) == cheap
    unknown = Offer("tiny-unknown", 2, 4096)
    assert choose(machine(), BIOS, (unknown, cheap)) == cheap, "what nobody knows the price of comes last"


def test_the_current_generation_comes_first() -> None:
    old = Offer("old", 2, 4096, preferred=False, hourly=0.01)
    assert choose(machine(), BIOS, (old, Offer("new", 2, 4096, hourly=0.02))).name == "new"  # type: ignore[union-attr]
    assert choose(machine(), BIOS, (old,)) == old


def test_burstable_types_are_only_chosen_by_name() -> None:
    assert choose(machine(), BIOS, (Offer("burst", 2, 4096, burst=True, hourly=0.001), LARGE)) == LARGE


@pytest.mark.parametrize(
    ("offer", "wanted", "firmware", "why"),
    [
        (Offer("a", 2, 4096, firmware=(UEFI,)), machine(), BIOS, "does not boot by bios"),
        (Offer("a", 1, 4096), machine(), BIOS, "1 processors, and the machine 2"),
        (Offer("a", 2, 2048), machine(), BIOS, "2048 MiB of memory, and the machine 4096"),
        (Offer("a", 2, 4096, max_disks=2), machine(disks=3), BIOS, "takes 2 disks, and the machine has 3"),
        (Offer("a", 2, 4096, max_nics=1), machine(nics=2), BIOS, "takes 1 network cards, and the machine has 2"),
        (Offer("a", 2, 4096), machine(disks=30, nics=9), UEFI, ""),
    ],
)
def test_why_an_offer_is_none(offer: Offer, wanted: Machine, firmware: Firmware, why: str) -> None:
    assert why in offer.holds(wanted, firmware) and bool(why) == bool(offer.holds(wanted, firmware))
    assert (choose(wanted, firmware, (offer,)) is None) == bool(why)
