"""Azure's parts one by one: the locator, sizing, what stands in the way, tests and cut-overs, reservations, clean-up."""

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure_place import ABLE, CAPS, JOB, at, azure, content, planned, uploaded
from clocks import HandClock

from v2c.emulators.azure import SUBNET, AzureEmulator
from v2c.errors import TargetError, UsageError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import MIB, Firmware, Level, Placement, Plan, Ref
from v2c.targets import open_target
from v2c.targets.azure import AzureTarget
from v2c.targets.azure.catalogue import facts
from v2c.targets.azure.pace import LEAST, Pace
from v2c.targets.azure.place import name_of, parse
from v2c.targets.azure.upload import _covered


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    with azure(tmp_path / "azure", monkeypatch) as running:
        yield running


# ---- the locator -----------------------------------------------------------------------------------------------------------


def test_a_locator_says_where() -> None:
    place = parse("0000-11/My.Group_1/WestEurope?subnet=net/front&nsg=closed&sku=StandardSSD_LRS&os=windows&create-group")
    assert (place.subscription, place.group, place.location, place.os, place.create_group) == (
        "0000-11",
        "My.Group_1",
        "westeurope",
        "Windows",
        True,
    )
    network = "/subscriptions/0000-11/resourceGroups/My.Group_1/providers/Microsoft.Network"
    assert place.subnet_id(test=False) == place.subnet_id(test=True) == f"{network}/virtualNetworks/net/subnets/front"
    assert place.nsg_id() == f"{network}/networkSecurityGroups/closed"
    other = parse("s/g/l?subnet=hub/net/front&test-subnet=net/quiet&nsg=/subscriptions/s/x")
    assert "/resourceGroups/hub/" in other.subnet_id(test=False) and other.subnet_id(test=True).endswith("/net/subnets/quiet")
    assert other.nsg_id() == "/subscriptions/s/x" and not other.create_group and other.sku == "Premium_LRS"


def test_the_endpoint_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_RESOURCE_MANAGER_URL", "https://management.local.azurestack.external/")
    assert parse("s/g/l").endpoint == "https://management.local.azurestack.external"
    assert parse("s/g/l?endpoint=https://here").endpoint == "https://here"
    monkeypatch.delenv("AZURE_RESOURCE_MANAGER_URL")
    assert AzureTarget(parse("s/g/l")).session.endpoint == (
        "https://management.azure.com",
        ("https://management.azure.com/.default",),
    )


@pytest.mark.parametrize(
    "rest",
    ["", "s", "s/g", "s/g/l/x", "s//l", "s/g/l?color=red", "s/g/l?os=beos", "s/g/l?subnet=alone", "s/g/l?endpoint=http://x"],
)
def test_locators_that_make_no_sense(rest: str) -> None:
    with pytest.raises(UsageError, match=r"azure:|subnet=|https|os="):
        open_target(f"azure:{rest}")


def test_names_fit_azure_whatever_the_machine_is_called() -> None:
    plan = planned(24)
    hostile = replace(plan, machine=replace(plan.machine, name="../../Große Maschine " + "x" * 99))
    for name in (name_of(plan), name_of(hostile, "disk63"), name_of(hostile, "test", "nic7")):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{1,62}[A-Za-z0-9]", name)
    assert name_of(plan) != name_of(replace(plan, job="other"))


# ---- sizing ----------------------------------------------------------------------------------------------------------------


@pytest.mark.tool
@pytest.mark.parametrize(
    ("plan", "size"),
    [
        (planned(24), "Standard_D2s_v5"),
        (planned(24, vcpus=3), "Standard_D4s_v5"),
        (planned(24, firmware=Firmware.UEFI), "Standard_D2s_v5"),
        (planned(24, nics=3), "Standard_D8s_v5"),
        (planned(*[24] * 7), "Standard_D4s_v5"),
        (planned(24, vcpus=99), ""),
    ],
)
def test_the_smallest_advised_size_is_chosen(emulator: AzureEmulator, plan: Plan, size: str) -> None:
    assert at(emulator).size(plan).instance_type == size
    named = at(emulator, "&size=Standard_E2s_v5")
    assert {named.size(plan).instance_type for _ in range(2)} == {"Standard_E2s_v5"}
    list(named.check(named.size(plan)))
    assert sum(r.operation == "skus.list" for r in emulator.requests) == 2, "once each"


# ---- what stands in the way ------------------------------------------------------------------------------------------------


def blockers(target: AzureTarget, plan: Plan) -> dict[str, str]:
    return {f.id: f.text for f in target.check(target.size(plan)) if f.level is Level.BLOCKER}


@pytest.mark.tool
def test_nothing_stands_in_the_way(emulator: AzureEmulator) -> None:
    assert list(at(emulator).check(at(emulator).size(planned(24)))) == []


@pytest.mark.tool
@pytest.mark.parametrize(
    ("more", "plan", "id", "words"),
    [
        ("&size=Standard_X9", planned(24), "azure.size", "no size Standard_X9"),
        ("&size=Standard_NC6s_v3", planned(24), "azure.size", "NotAvailableForSubscription"),
        ("&size=Standard_D2s_v6", planned(24), "azure.size", "does not boot by bios"),
        ("&size=Standard_D2s_v5", planned(*[24] * 9), "azure.size", "takes 5 disks"),
        ("", planned(24, vcpus=99), "azure.size", "no size of Azure holds the machine"),
        ("&sku=UltraSSD_LRS", planned(24), "azure.sku", "no kind of disk that a machine boots from"),
        ("", planned(24, 5), "azure.disk", "Azure takes 20 MiB at least"),
        ("&test-subnet=lab/none", planned(24), "azure.subnet", "no subnet lab/none"),
        ("&nsg=none", planned(24), "azure.nsg", "no security group none"),
    ],
)
def test_what_stands_in_the_way_is_told(emulator: AzureEmulator, more: str, plan: Plan, id: str, words: str) -> None:
    locator = emulator.locator.replace("&nsg=lab", "") if "nsg" in more else emulator.locator
    target = open_target(locator + more)
    assert isinstance(target, AzureTarget)
    assert words in blockers(target, plan)[id]


@pytest.mark.tool
def test_rights_quotas_and_addresses_are_counted(emulator: AzureEmulator) -> None:
    emulator.cloud.actions[:] = [action for action in facts().rights.always if "beginGetAccess" not in action]
    emulator.cloud.quotas |= {"cores": 1, "standardDSv5Family": 1}
    subnet = emulator.cloud.store.get(SUBNET)
    assert subnet
    subnet.properties["addressPrefix"] = "10.20.0.0/29"
    subnet.properties["ipConfigurations"] = [{"id": str(n)} for n in range(3)]
    found = [f for f in at(emulator).check(at(emulator).size(planned(24))) if f.level is Level.BLOCKER]
    texts = {f.text for f in found}
    assert "these rights are missing on lab: Microsoft.Compute/disks/beginGetAccess/action" in texts
    assert {f.subject for f in found if f.id == "azure.quota"} == {"cores", "standardDSv5Family"}
    assert "the subnet lab/default has 0 free addresses, and 1 are needed" in texts and all(f.remedy for f in found)


@pytest.mark.tool
def test_names_that_are_taken(emulator: AzureEmulator) -> None:
    mine, name = planned(24), name_of(planned(24), "disk0")
    body = {
        "location": "westeurope",
        "properties": {"creationData": {"createOption": "Upload", "uploadSizeBytes": 24 * MIB + 512}},
    }
    at(emulator).session.compute.disks.begin_create_or_update("lab", name, body).result()
    assert blockers(at(emulator), mine) == {"azure.name": f"the name {name} is taken in lab"}
    writer = at(emulator).writer(mine, mine.machine.disks[0], None, MemoryJournal(JOB))
    with pytest.raises(TargetError, match="was not made by v2c"), writer:
        pass
    with pytest.raises(TargetError, match="is not of job"):
        at(emulator).destroy(Ref.of("disk", emulator.resources("disks")[0]["id"], job=JOB))
    assert len(emulator.resources("disks")) == 1


@pytest.mark.tool
def test_a_login_that_is_refused(emulator: AzureEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong-secret")
    assert at(emulator).size(planned(24)).instance_type == ""
    (found,) = at(emulator).check(planned(24))
    assert found.id == "azure.login" and "AADSTS7000215" in found.text and "log in again" in found.remedy
    assert "wrong-secret" not in found.text


@pytest.mark.tool
def test_a_group_or_a_place_that_is_not_there(emulator: AzureEmulator) -> None:
    locator = emulator.locator.replace("/lab/", "/other/")
    assert "no resource group other" in blockers(at_locator(locator), planned(24))["azure.group"]
    mars = emulator.locator.replace("westeurope", "mars")
    assert "no virtual machines in mars" in blockers(at_locator(mars), planned(24))["azure.location"]


def at_locator(locator: str) -> AzureTarget:
    target = open_target(locator)
    assert isinstance(target, AzureTarget)
    return target


# ---- machines --------------------------------------------------------------------------------------------------------------


def registered(target: AzureTarget, plan: Plan, journal: MemoryJournal, folder: Path, caps: Any = CAPS) -> Ref:
    refs = [uploaded(target, plan, journal, folder, content(plan, n), n) for n in range(len(plan.disks))]
    return target.register(plan, refs, caps, journal)


@pytest.mark.tool
def test_a_test_reaches_nothing_and_the_cut_over_is_the_users(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, plan, journal = at(emulator), planned(24, 24, firmware=Firmware.UEFI), MemoryJournal(JOB)
    caps = replace(CAPS, firmware=Firmware.UEFI, boot_disk="d1", kernels=(ABLE,))
    image = registered(target, plan, journal, tmp_path, caps)
    test = target.launch(plan, image, Placement(), journal, Meter())
    real = target.launch(plan, image, Placement(isolated=False, cutover=True), journal, Meter())
    seen = target.observe(real)
    assert seen.alive and len(seen.addresses) == 1 and seen.addresses[0].startswith("10.20.0.")
    machines = {vm["tags"]["v2c-role"]: vm["properties"] for vm in emulator.resources("virtualMachines")}
    cards = {nic["tags"]["v2c-role"]: nic["properties"] for nic in emulator.resources("networkInterfaces")}
    groups = {nsg["name"]: nsg["properties"]["securityRules"] for nsg in emulator.resources("networkSecurityGroups")}
    for role in ("test", "cutover"):
        profile, about = machines[role]["storageProfile"], machines[role]
        names = [entry["managedDisk"]["id"].rpartition("/")[2] for entry in (profile["osDisk"], *profile["dataDisks"])]
        ending = "-test" if role == "test" else ""
        assert names == [name_of(plan, f"disk1{ending}"), name_of(plan, f"disk0{ending}")], "the boot disk first"
        assert about["securityProfile"] == {"securityType": "Standard"} and "osProfile" not in about and "identity" not in about
        assert profile["osDisk"]["deleteOption"] == ("Delete" if role == "test" else "Detach")
        assert "publicIPAddress" not in str(cards[role]) and cards[role]["enableAcceleratedNetworking"] is True
    assert cards["cutover"]["networkSecurityGroup"]["id"].endswith("/lab")
    rules = groups[cards["test"]["networkSecurityGroup"]["id"].rpartition("/")[2]]
    assert {(r["properties"]["direction"], r["properties"]["access"], r["properties"]["protocol"]) for r in rules} == {
        ("Inbound", "Deny", "*"),
        ("Outbound", "Deny", "*"),
    }
    target.stop(real, journal)
    assert target.observe(real).alive, "the real machine goes on"
    target.stop(test, journal)
    assert {vm["tags"]["v2c-role"] for vm in emulator.resources("virtualMachines")} == {"cutover"}
    assert len(emulator.resources("disks")) == 2 and len(emulator.resources("networkInterfaces")) == 1
    again = target.launch(plan, image, Placement(), journal, Meter())
    assert again == test and target.observe(again).alive, "a test can be repeated"


@pytest.mark.tool
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.full) for n in (1, 2, 3))])
def test_all_goes_in_any_order(emulator: AzureEmulator, tmp_path: Path, seed: int) -> None:
    target, plan, journal = at(emulator), planned(24, 24, nics=2), MemoryJournal(JOB)
    image = registered(target, plan, journal, tmp_path)
    target.launch(plan, image, Placement(), journal, Meter())
    target.launch(plan, image, Placement(isolated=False, cutover=True), journal, Meter())
    made = list(target.find(JOB))
    assert set(made) == set(journal.refs()) and len({ref.kind for ref in made}) == 6
    random.Random(seed).shuffle(made)
    for ref in made:
        at(emulator).destroy(ref)
    assert emulator.left() == [] and list(target.find(JOB)) == []


@pytest.mark.tool
def test_a_guest_that_boots_otherwise_than_its_disk_was_made(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, plan, journal = at(emulator), planned(24), MemoryJournal(JOB)
    with pytest.raises(TargetError, match="was made for generation 1, and the guest boots by uefi"):
        registered(target, plan, journal, tmp_path, replace(CAPS, firmware=Firmware.UEFI))


@pytest.mark.tool
def test_nvme_is_for_guests_that_can(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, plan, journal = at(emulator, "&size=Standard_D2s_v6"), planned(24, firmware=Firmware.UEFI), MemoryJournal(JOB)
    assert target.size(plan).needs == plan.needs.driving("nvme"), "its repair puts it in, or refuses, before a byte moves"
    assert at(emulator, "&size=Standard_D2s_v5").size(plan).needs == plan.needs
    unable = replace(CAPS, firmware=Firmware.UEFI)
    image = registered(target, plan, journal, tmp_path, unable)
    with pytest.raises(TargetError, match="shows its disks as NVMe, and the guest cannot boot from that"):
        target.launch(plan, image, Placement(), journal, Meter())
    target.destroy(image)
    refs = journal.refs("disk")
    image = target.register(plan, refs, replace(unable, kernels=(ABLE,)), journal)
    target.launch(plan, image, Placement(), journal, Meter())
    assert emulator.resources("virtualMachines")[0]["properties"]["storageProfile"]["diskControllerType"] == "NVMe"


@pytest.mark.tool
def test_a_reader_that_died_does_not_keep_the_disk(emulator: AzureEmulator, tmp_path: Path) -> None:
    """Its read SAS is still open: a disk with one cannot be attached, nor removed."""
    target, plan, journal = at(emulator), planned(24), MemoryJournal(JOB)
    image = registered(target, plan, journal, tmp_path)
    reading = target.read(plan, journal.refs("disk")[0], [0, 5])
    assert next(reading)[0] == 0 and emulator.resources("disks")[0]["properties"]["diskState"] == "ActiveSAS"
    target.launch(plan, image, Placement(isolated=False, cutover=True), journal, Meter())
    assert emulator.resources("disks")[0]["properties"]["diskState"] == "Attached"


# ---- what is prepared on request -------------------------------------------------------------------------------------------


@pytest.mark.tool
def test_group_and_capacity_are_made_and_given_back(emulator: AzureEmulator, tmp_path: Path) -> None:
    locator = emulator.locator.replace("/lab/", "/ours/").replace("lab/default", "lab/lab/default").replace("&nsg=lab", "")
    target, plan, journal = at_locator(locator + "&create-group&reserve-capacity"), planned(24), MemoryJournal(JOB)
    plan = target.size(plan)
    assert blockers(target, plan) == {}
    refs = list(target.reserve(plan, journal))
    assert [ref.kind for ref in refs] == ["group", "reservation"] and list(
        target.reserve(plan, journal)
    ) == refs == journal.refs()
    image = registered(target, plan, journal, tmp_path)
    assert [ref.kind for ref in target.finalize(plan, journal)] == ["reservation"]
    assert set(target.find(JOB)) == {refs[0], image, *journal.refs("disk")} == set(journal.refs())
    target.destroy(refs[0])
    assert emulator.left() == [], "our own group goes with what is in it"


@pytest.mark.tool
def test_a_group_with_other_things_in_it_stays(emulator: AzureEmulator) -> None:
    locator = emulator.locator.replace("/lab/", "/ours/").replace("lab/default", "lab/lab/default").replace("&nsg=lab", "")
    target, journal = at_locator(locator + "&create-group"), MemoryJournal(JOB)
    (ref,) = target.reserve(planned(24), journal)
    body = {"location": "westeurope", "properties": {"securityRules": []}}
    target.session.network.network_security_groups.begin_create_or_update("ours", "theirs", body).result()
    with pytest.raises(TargetError, match="it holds 1 things that are not of this job"):
        target.destroy(ref)
    assert len(emulator.left()) == 2


@pytest.mark.tool
def test_capacity_that_is_not_there_is_told_before_a_byte_moves(emulator: AzureEmulator) -> None:
    target, journal = at(emulator, "&reserve-capacity&size=Standard_NC6s_v3"), MemoryJournal(JOB)
    with pytest.raises(TargetError, match="SkuNotAvailable") as caught:
        list(target.reserve(planned(24), journal))
    assert "choose another size" in caught.value.remedy
    assert [ref.kind for ref in target.find(JOB)] == ["reservation"], "the empty group of it, for clean-up"


# ---- small things ----------------------------------------------------------------------------------------------------------


def test_the_pace_falls_when_the_service_is_busy_and_comes_back() -> None:
    clock = HandClock()
    pace = Pace(clock)
    for _ in range(50):
        assert pace.turn(4 * MIB) == 0.0
        pace.fine(4 * MIB)
        clock.on(0.04)
    pace.busy(1.0)
    pace.busy(1.0)
    assert 60 * MIB < pace.rate < 70 * MIB, "once 0.65 of 100 MiB/s, however many requests were refused"
    assert pace.turn(4 * MIB) == pytest.approx(1.0) and pace.turn(4 * MIB) > 1.0
    before = pace.rate
    pace.fine(4 * MIB)
    assert pace.rate > before
    for _ in range(99):
        clock.on(2.0)
        pace.busy(0.0)
    assert pace.rate == LEAST


def test_what_is_covered() -> None:
    ranges = [(0, 10), (10, 20), (30, 40)]
    assert _covered(ranges, 0, 20) and _covered(ranges, 5, 15) and _covered(ranges, 30, 40) and _covered([], 5, 5)
    assert (
        not _covered(ranges, 15, 31) and not _covered(ranges, 20, 21) and not _covered(ranges, 39, 41) and not _covered([], 0, 1)
    )
