"""Several network cards on Azure: one for each of the machine's, where it is to be, with the address that was held for it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure_place import ABLE, CAPS, JOB, azure, content, planned, uploaded
from kept_machines import KeptMachines
from target_contract import Died, MortalJournal

from v2c.emulators.azure import LOCATION, SUBNET, AzureEmulator
from v2c.emulators.azure.store import Resource
from v2c.errors import TargetError, UsageError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import Level, Placement, Plan, Ref
from v2c.targets import Call, open_target
from v2c.targets.azure import AzureTarget
from v2c.targets.azure.place import parse

pytestmark = pytest.mark.tool
REAL = Placement(isolated=False, cutover=True)
BIG = "&size=Standard_D8s_v5"  # four cards


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    """With a second and a third subnet, and one of another virtual network."""
    with azure(tmp_path / "azure", monkeypatch) as running:
        running.cloud.machines = KeptMachines(tmp_path)
        first = running.cloud.store.get(SUBNET)
        assert first
        network, other = SUBNET.rpartition("/subnets/")[0], SUBNET.rpartition("/lab/")[0]
        for id, prefix in ((f"{network}/subnets/back", 1), (f"{network}/subnets/quiet", 2), (f"{other}/far/subnets/away", 3)):
            properties = {"provisioningState": "Succeeded", "addressPrefix": f"10.20.{prefix}.0/24"}
            shown = {**first.shown, "id": id, "name": id.rpartition("/")[2], "location": LOCATION, "properties": properties}
            running.cloud.store.save(Resource(shown, {"furniture": True}))
        yield running


def at(emulator: AzureEmulator, subnet: str = "lab/default,lab/back", more: str = "") -> AzureTarget:
    target = open_target(emulator.locator.replace("subnet=lab/default", f"subnet={subnet}") + more)
    assert isinstance(target, AzureTarget)
    return target


def cards(emulator: AzureEmulator, role: str) -> list[tuple[str, str]]:
    """(subnet, address) of a role's cards, in their order."""
    found = [nic for nic in emulator.resources("networkInterfaces") if nic["tags"]["v2c-role"] == role]
    first = [nic["properties"]["ipConfigurations"][0]["properties"] for nic in sorted(found, key=lambda nic: str(nic["name"]))]
    return [(one["subnet"]["id"].rpartition("/")[2], one["privateIPAddress"]) for one in first]


def registered(target: AzureTarget, plan: Plan, journal: MemoryJournal, folder: Path) -> Ref:
    list(target.reserve(plan, journal))
    disk = uploaded(target, plan, journal, folder, content(plan))
    return target.register(plan, [disk], replace(CAPS, kernels=(ABLE,)), journal)


def told(target: AzureTarget, plan: Plan, level: Level = Level.BLOCKER) -> list[tuple[str, str, str]]:
    return [(f.id, f.text, f.remedy) for f in target.check(target.size(plan)) if f.level is level]


def test_each_card_has_its_subnet_and_its_address(emulator: AzureEmulator, tmp_path: Path) -> None:
    """Two subnets named, three cards: the last is in the last one. Both addresses are held before a byte moves; a test has
    others, in a subnet of its own; and when all is undone nothing is left."""
    target = at(emulator, more="&private-ip=10.20.0.77,,10.20.1.78&test-subnet=lab/quiet")
    journal, plan = MemoryJournal(JOB), target.size(planned(24, nics=3))
    assert plan.instance_type == "Standard_D8s_v5" and told(target, plan) == []
    assert [text for id, text, _ in told(target, plan, Level.INFO) if id == "azure.cards"] == [
        "the machine has 3 network cards, and subnet= names 2 subnets: the rest are in the last one",
        "the machine has 3 network cards, and test-subnet= names 1 subnets: the rest are in the last one",
    ]
    refs = list(target.reserve(plan, journal))
    assert [ref.kind for ref in refs] == ["nic", "nic"] and set(refs) == set(target.find(JOB)) == set(journal.refs())
    assert list(target.reserve(plan, journal)) == refs and emulator.requests.done("nics.put").total() == 2, "twice is once"
    assert cards(emulator, "cutover") == [("default", "10.20.0.77"), ("back", "10.20.1.78")]
    assert told(target, plan) == [], "what we hold does not stand in our way"
    image = registered(target, plan, journal, tmp_path / "work")
    test = target.launch(plan, image, Placement(), journal, Meter())
    assert [subnet for subnet, _ in cards(emulator, "test")] == ["quiet"] * 3 and len(target.observe(test).addresses) == 3
    fences = [nic["properties"]["networkSecurityGroup"]["id"] for nic in emulator.resources("networkInterfaces")]
    assert len([id for id in fences if id.endswith("-test-nsg")]) == 3, "every card of a test is cut off"
    target.stop(test, journal)
    real = target.launch(plan, image, REAL, journal, Meter())
    dynamic = cards(emulator, "cutover")[1]
    assert cards(emulator, "cutover") == [("default", "10.20.0.77"), dynamic, ("back", "10.20.1.78")] and dynamic[0] == "back"
    assert target.observe(real).addresses == ("10.20.0.77", dynamic[1], "10.20.1.78")
    (vm,) = emulator.resources("virtualMachines")
    primary = [entry["properties"]["primary"] for entry in vm["properties"]["networkProfile"]["networkInterfaces"]]
    assert primary == [True, False, False]
    assert list(target.finalize(plan, journal)) == [] and set(target.find(JOB)) == set(journal.refs())
    for ref in reversed(journal.refs()):
        target.destroy(ref)
    assert emulator.left() == []


@pytest.mark.parametrize("kill", [1, 2])
def test_a_kill_makes_each_card_once(emulator: AzureEmulator, kill: int) -> None:
    """Between a card and its ref; the next process adopts it and goes on."""
    more, plan = "&private-ip=10.20.0.77,10.20.1.78", planned(24, nics=2)
    journal = MortalJournal(JOB, at=kill)
    with pytest.raises(Died):
        list(at(emulator, more=more).reserve(plan, journal))
    assert len(journal.pending()) == 1 and len(cards(emulator, "cutover")) == kill
    refs = list(at(emulator, more=more).reserve(plan, journal))
    assert journal.pending() == [] and len(refs) == 2 and set(journal.refs()) == set(refs) == set(at(emulator).find(JOB))
    assert cards(emulator, "cutover") == [("default", "10.20.0.77"), ("back", "10.20.1.78")]


def test_a_lost_answer_makes_each_card_once(emulator: AzureEmulator) -> None:
    emulator.faults.once("nics.put", "lost-answer")
    emulator.faults.once("nics.put", "throttle")
    refs = list(at(emulator, more="&private-ip=10.20.0.77,10.20.1.78").reserve(planned(24, nics=2), MemoryJournal(JOB)))
    assert len(refs) == 2 and cards(emulator, "cutover") == [("default", "10.20.0.77"), ("back", "10.20.1.78")]


def test_what_several_cards_cannot_be_is_told(emulator: AzureEmulator) -> None:
    assert told(at(emulator, more="&size=Standard_D2s_v5"), planned(24, nics=3)) == [
        (
            "azure.size",
            "the size Standard_D2s_v5 does not fit: it takes 2 network cards, and the machine has 3",
            "choose another with ?size=",
        )
    ]
    ((id, text, remedy),) = told(at(emulator, "lab/default,far/away"), planned(24, nics=2))
    assert id == "azure.subnet" and text == "the subnet far/away is not of lab, the first card's virtual network, and all must be"
    assert remedy == "name subnets of one virtual network with ?subnet=A,B"
    ((id, text, _),) = told(at(emulator, "lab/default,lab/none"), planned(24, nics=2))
    assert (id, text) == ("azure.subnet", "there is no subnet lab/none")
    one = at(emulator, "lab/default,lab/none")
    assert told(one, planned(24)) == [], "a subnet that no card needs stands in nobody's way"
    assert [id for id, _, _ in told(one, planned(24), Level.WARNING)] == ["azure.cards"]
    found = told(at(emulator, more="&private-ip=10.20.1.9,,10.20.1.10"), planned(24, nics=2))
    assert [text for _, text, _ in found] == [
        "private-ip= names addresses for 3 network cards, and the machine has 2",
        "the subnet lab/default has no address 10.20.1.9 for a machine",
    ]


def test_addresses_are_counted_by_subnet(emulator: AzureEmulator) -> None:
    """Room for one in the second subnet, where the machine has two; and what it holds there already is its own."""
    back = emulator.cloud.store.get(SUBNET.replace("default", "back"))
    assert back
    back.properties["addressPrefix"] = "10.20.1.0/29"
    back.properties["ipConfigurations"] = [{"id": "somebody's"}, {"id": "else"}]
    target, plan = at(emulator, more=f"{BIG}&private-ip=,10.20.1.5"), planned(24, nics=3)
    ((id, text, _),) = told(target, plan)
    assert (id, text) == ("azure.subnet", "the subnet lab/back has 1 free addresses, and 2 are needed")
    assert told(target, planned(24, nics=2)) == []
    list(target.reserve(plan, MemoryJournal(JOB)))
    assert told(target, planned(24, nics=2)) == [] and told(target, plan) != []
    assert told(target, planned(24, nics=2, job="other")) != [], "to others it is taken"


def test_a_dry_run_tells_where_the_cards_would_be(emulator: AzureEmulator) -> None:
    calls: list[Call] = []
    dry = at(emulator, more="&private-ip=,10.20.1.78").dry(calls.append)
    list(dry.reserve(planned(24, nics=2), MemoryJournal(JOB)))
    ((name, detail),) = [(call.name, call.detail) for call in calls]
    assert (name, detail) == ("PUT Microsoft.Network/networkInterfaces", "westeurope, lab/back, 10.20.1.78")
    assert cards(emulator, "cutover") == []


def test_the_double_refuses_cards_of_two_virtual_networks(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, journal = at(emulator, "lab/default,far/away"), MemoryJournal(JOB)
    plan = target.size(planned(24, nics=2))
    image = registered(target, plan, journal, tmp_path / "work")
    with pytest.raises(TargetError, match="SubnetsNotInSameVnet"):
        target.launch(plan, image, REAL, journal, Meter())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("private-ip=10.0.0.5,x", "private-ip=x is no address"),
        ("private-ip=10.0.0.5,,10.0.0.5", "names 10.0.0.5 twice"),
        ("subnet=a/b,c", "subnet=a/b,c is not understood"),
        ("subnet=a/b,", "subnet=a/b, is not understood"),
    ],
)
def test_what_makes_no_sense(options: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_target(f"azure:s/g/l?{options}")


def test_a_locator_names_cards_in_their_order() -> None:
    place: Any = parse("s/g/l?subnet=n/a,hub/n/b&private-ip=,10.0.0.6")
    assert [place.subnet_id(number, test=True).split("/")[4::6] for number in range(3)] == [
        ["g", "a"],
        ["hub", "b"],
        ["hub", "b"],
    ]
    assert [place.address(number) for number in range(3)] == ["", "10.0.0.6", ""]
