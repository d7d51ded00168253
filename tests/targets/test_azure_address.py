"""A fixed address on Azure: it is the machine's from `reserve` on, and nobody else's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from azure_place import ABLE, CAPS, JOB, at, azure, content, planned, uploaded
from kept_machines import KeptMachines
from target_contract import Died, MortalJournal

from v2c.emulators.azure import NSG, SUBNET, AzureEmulator
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import Level, Placement, Plan, Ref
from v2c.targets import Call
from v2c.targets.azure import AzureTarget
from v2c.targets.azure.catalogue import facts

pytestmark = pytest.mark.tool
ADDRESS = "10.20.0.77"
MORE = f"&private-ip={ADDRESS}"
REAL = Placement(isolated=False, cutover=True)


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    with azure(tmp_path / "azure", monkeypatch) as running:
        running.cloud.machines = KeptMachines(tmp_path)
        yield running


def cards(emulator: AzureEmulator) -> dict[str, str]:
    """Every card's first address, by its name."""
    found = emulator.resources("networkInterfaces")
    return {nic["name"]: nic["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"] for nic in found}


def registered(target: AzureTarget, plan: Plan, journal: MemoryJournal, folder: Path) -> Ref:
    ref = uploaded(target, plan, journal, folder, content(plan))
    return target.register(plan, [ref], replace(CAPS, kernels=(ABLE,)), journal)


def test_the_card_is_there_before_a_byte_moves_and_the_machine_gets_it(emulator: AzureEmulator, tmp_path: Path) -> None:
    """As it was reserved, but with accelerated networking, since the guest can; a machine of two cards gets one more."""
    target, journal = at(emulator, MORE), MemoryJournal(JOB)
    plan = target.size(planned(24, nics=2))
    (ref,) = target.reserve(plan, journal)
    assert list(target.reserve(plan, journal)) == [ref] == journal.refs() == list(target.find(JOB)), "twice is one"
    (card,) = emulator.resources("networkInterfaces")
    assert (ref.kind, ref.id) == ("nic", card["id"]) and cards(emulator) == {card["name"]: ADDRESS}
    assert card["tags"] == {"v2c-job": JOB, "v2c-role": "cutover"} and card["properties"]["networkSecurityGroup"] == {"id": NSG}
    assert card["properties"]["ipConfigurations"][0]["properties"]["privateIPAllocationMethod"] == "Static"
    assert "publicIPAddress" not in str(card) and not emulator.requests.bytes("PutPage")
    with pytest.raises(TargetError, match="PrivateIPAddressInUse") as taken:
        list(at(emulator, MORE).reserve(replace(plan, job="other"), MemoryJournal("other")))
    assert "choose another address" in taken.value.remedy

    image = registered(target, plan, journal, tmp_path / "work")
    test = target.launch(plan, image, Placement(), journal, Meter())
    assert ADDRESS not in target.observe(test).addresses, "a test has addresses of its own"
    target.stop(test, journal)
    assert cards(emulator) == {card["name"]: ADDRESS}, "and its end leaves the real machine's card"
    real = target.launch(plan, image, REAL, journal, Meter())
    assert target.observe(real).addresses[0] == ADDRESS and len(cards(emulator)) == 2
    held = {nic["id"]: nic["properties"] for nic in emulator.resources("networkInterfaces")}
    assert held[ref.id]["virtualMachine"]["id"] == real.id and held[ref.id]["enableAcceleratedNetworking"] is True
    made = emulator.requests.done("nics.put")[card["name"]]
    assert target.launch(plan, image, REAL, journal, Meter()) == real and emulator.requests.done("nics.put")[card["name"]] == made
    assert list(target.finalize(plan, journal)) == [] and cards(emulator)[card["name"]] == ADDRESS, "it is the machine's"
    for one in reversed(list(target.find(JOB))):
        target.destroy(one)
    assert emulator.left() == []


def test_a_guest_without_the_driver_keeps_the_card_as_it_is(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, journal = at(emulator, MORE), MemoryJournal(JOB)
    plan = target.size(planned(24))
    list(target.reserve(plan, journal))
    image = target.register(plan, [uploaded(target, plan, journal, tmp_path / "work", content(plan))], CAPS, journal)
    target.launch(plan, image, REAL, journal, Meter())
    assert sum(emulator.requests.done("nics.put").values()) == 1


def test_a_roll_back_before_the_cut_over_gives_it_back(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, journal = at(emulator, MORE), MemoryJournal(JOB)
    plan = target.size(planned(24))
    list(target.reserve(plan, journal))
    registered(target, plan, journal, tmp_path / "work")
    for ref in reversed(journal.refs()):
        target.destroy(ref)
    assert emulator.left() == []
    (ref,) = target.reserve(replace(plan, job="other"), MemoryJournal("other"))
    assert list(cards(emulator).values()) == [ADDRESS]
    with pytest.raises(TargetError, match="is not of job"):
        target.destroy(Ref.of(ref.kind, ref.id, job=JOB))


def test_a_kill_makes_one_card(emulator: AzureEmulator) -> None:
    """Between the card and its ref; the next process adopts it."""
    journal = MortalJournal(JOB, at=1)
    with pytest.raises(Died):
        list(at(emulator, MORE).reserve(planned(24), journal))
    assert len(journal.pending()) == 1 and len(cards(emulator)) == 1
    (ref,) = at(emulator, MORE).reserve(planned(24), journal)
    assert journal.pending() == [] and journal.refs() == [ref] and list(cards(emulator).values()) == [ADDRESS]


def test_a_dry_run_tells_the_card(emulator: AzureEmulator) -> None:
    told: list[Call] = []
    dry = at(emulator, MORE).dry(told.append)
    (ref,) = dry.reserve(planned(24), MemoryJournal(JOB))
    assert [(call.name, call.subject) for call in told] == [
        ("PUT Microsoft.Network/networkInterfaces", ref.id.rpartition("/")[2])
    ] and cards(emulator) == {}


@pytest.mark.parametrize("address", ["10.20.1.5", "10.20.0.3", "10.20.0.255", "192.0.2.1"])
def test_an_address_that_the_subnet_has_not(emulator: AzureEmulator, address: str) -> None:
    """Of another network, or one of those that Azure keeps; and it would not be given."""
    target = at(emulator, f"&private-ip={address}")
    plan = target.size(planned(24))
    (found,) = (finding for finding in target.check(plan) if finding.level is Level.BLOCKER)
    assert found.id == "azure.private-ip" and found.text == f"the subnet lab/default has no address {address} for a machine"
    with pytest.raises(TargetError, match="cannot be made"):
        list(target.reserve(plan, MemoryJournal(JOB)))


def test_what_was_reserved_does_not_stand_in_the_way(emulator: AzureEmulator) -> None:
    """The last address of a subnet is ours: the machine fits; and another does not."""
    subnet = emulator.cloud.store.get(SUBNET)
    assert subnet
    subnet.properties["addressPrefix"] = "10.20.0.0/29"
    subnet.properties["ipConfigurations"] = [{"id": str(number)} for number in range(2)]
    target = at(emulator, "&private-ip=10.20.0.6")
    plan = target.size(planned(24))
    list(target.reserve(plan, MemoryJournal(JOB)))
    assert [finding for finding in target.check(plan) if finding.level is Level.BLOCKER] == []
    other = replace(plan, job="other")
    assert "azure.subnet" in {finding.id for finding in target.check(other) if finding.level is Level.BLOCKER}


# ---- somebody else's ---------------------------------------------------------------------------------------------------------


def told(target: AzureTarget, plan: Plan, level: Level = Level.BLOCKER) -> list[tuple[str, str, str]]:
    return [(f.subject, f.text, f.remedy) for f in target.check(target.size(plan)) if f.level is level]


def test_an_address_that_somebody_has_is_told_before(emulator: AzureEmulator) -> None:
    """Not our own, which is held; not one that is free again. And it is asked for each card's."""
    target, journal = at(emulator, f"&private-ip={ADDRESS},10.20.0.78"), MemoryJournal(JOB)
    plan = planned(24, nics=2)
    refs = list(target.reserve(plan, journal))
    assert told(target, plan) == [] == told(target, plan, Level.WARNING)
    other = replace(plan, job="other")
    remedy = "choose another with ?private-ip= (10.20.0.4, 10.20.0.5, 10.20.0.6 are free), or free this one"
    assert told(target, other) == [
        (address, f"somebody has the address {address} of lab/default", remedy) for address in (ADDRESS, "10.20.0.78")
    ]
    assert emulator.requests.done("vnets.address").total() == 6 and len(cards(emulator)) == 2, "nothing is made"
    target.destroy(refs[0])
    assert [address for address, _, _ in told(target, other)] == ["10.20.0.78"]


def test_an_address_of_ours_on_another_card_is_not_free(emulator: AzureEmulator) -> None:
    """The job's first card has what its second is to have now."""
    list(at(emulator, MORE).reserve(planned(24), MemoryJournal(JOB)))
    assert [address for address, _, _ in told(at(emulator, f"&private-ip=,{ADDRESS}"), planned(24, nics=2))] == [ADDRESS]


def test_who_may_not_ask_is_told_the_right(emulator: AzureEmulator) -> None:
    """It is no blocker: the reservation finds out, too."""
    right = "Microsoft.Network/virtualNetworks/checkIpAddressAvailability/read"
    emulator.cloud.actions[:] = facts().rights.always
    target, plan = at(emulator, MORE), planned(24)
    assert told(target, plan) == []
    ((subject, text, remedy),) = told(target, plan, Level.WARNING)
    assert subject == ADDRESS and text.startswith(f"whether the address {ADDRESS} is free cannot be asked: AuthorizationFailed")
    assert remedy == f"have the right {right} on lab, or see that nobody has the address"
    emulator.cloud.actions += facts().rights.address
    assert told(target, plan, Level.WARNING) == []


def test_a_question_that_fails_for_a_moment_is_asked_again(emulator: AzureEmulator) -> None:
    for kind in ("throttle", "reset", "internal"):
        emulator.faults.once("vnets.address", kind)
    assert told(at(emulator, MORE), planned(24)) == [] == told(at(emulator, MORE), planned(24), Level.WARNING)
    assert [kind for _, kind in emulator.faults.drawn] == ["throttle", "reset", "internal"]


@pytest.mark.parametrize(
    ("address", "answer"),
    [("10.20.0.9", (True, False)), ("10.20.0.3", (False, True)), ("10.20.0.255", (False, True))],
)
def test_what_the_double_says_of_an_address(emulator: AzureEmulator, address: str, answer: tuple[bool, bool]) -> None:
    networks = at(emulator).session.network.virtual_networks
    found = networks.check_ip_address_availability("lab", "lab", ip_address=address)
    assert (found.available, found.is_platform_reserved) == answer
    with pytest.raises(HttpResponseError, match="PrivateIPAddressNotInAnySubnet"):
        networks.check_ip_address_availability("lab", "lab", ip_address="192.0.2.1")
