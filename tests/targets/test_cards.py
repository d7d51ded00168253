"""Several network cards, at AWS and Google: one for each of the machine's, where it is to be, and isolated in a test."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aws_places import REGION, Places, places
from gcp_places import target_at
from kept_machines import KeptMachines
from target_contract import CAPS, JOB, TargetContract

from v2c.emulators.aws import AwsEmulator
from v2c.emulators.aws.cards import network, subnets
from v2c.emulators.gcp import GcpEmulator, open_emulator
from v2c.emulators.gcp.store import Thing
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import Level, Nic, Placement, Plan, Ref
from v2c.targets import Call, Target

pytestmark = pytest.mark.tool
REAL = Placement(isolated=False, cutover=True)


def carded(target: Target, cards: int, **machine: Any) -> Plan:
    """The contract's machine with so many cards."""
    plan = TargetContract().plan(target)
    return target.size(replace(plan, machine=replace(plan.machine, nics=(Nic(),) * cards, **machine)))


def registered(target: Target, plan: Plan, journal: MemoryJournal) -> Ref:
    list(target.reserve(plan, journal))
    return target.register(plan, [TargetContract().disk(target, plan, journal)], CAPS, journal)


def told(target: Target, of: Plan | int, level: Level = Level.BLOCKER) -> list[tuple[str, str, str]]:
    """(id, text, remedy) of what `check` finds of a plan, or of a machine with so many cards."""
    plan = carded(target, of) if isinstance(of, int) else of
    return [(f.id, f.text, f.remedy) for f in target.check(plan) if f.level is level]


# ---- AWS -------------------------------------------------------------------------------------------------------------------


class Aws:
    """An account with a second subnet beside the locator's, and one of another zone."""

    def __init__(self, known: Places, folder: Path) -> None:
        self.known, self.folder = known, folder
        self.cloud: AwsEmulator = known[folder]
        self.cloud.cloud.machines = KeptMachines(folder)
        self.first = self.cloud.locator.partition("subnet=")[2].partition("&")[0]
        first = subnets(self.cloud.cloud, REGION)[self.first]
        made = network(self.cloud.cloud, REGION).create_subnet(first.vpc_id, "172.31.200.0/24", availability_zone=f"{REGION}a")
        self.second: str = made.id
        everywhere = subnets(self.cloud.cloud, REGION).values()
        self.away: str = next(s.id for s in everywhere if s.availability_zone == f"{REGION}b")
        self.beginning = str(first.cidr.network_address).rpartition(".")[0]

    def target(self, more: str = "", subnet: str = "") -> Target:
        from v2c.targets import open_target

        return open_target(self.cloud.locator.replace(self.first, subnet or self.first) + more)

    def cards(self, instance: Ref) -> list[Thing]:
        with self.cloud.cloud.store.lock:
            found = self.cloud.cloud.store.table(REGION, "cards").values()
            mine = [card for card in found if card.get("Attachment", {}).get("InstanceId") == instance.id]
            return sorted(mine, key=lambda card: int(card["Attachment"]["DeviceIndex"]))


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with places() as known:
        yield Aws(known, tmp_path_factory.mktemp("aws"))


def test_aws_gives_each_card_its_subnet(aws: Aws) -> None:
    """Two named, three cards: the last is in the last subnet. The test's are alone in their group, and nothing stays of them."""
    target, journal = aws.target("&private-ip=,172.31.200.9", f"{aws.first},{aws.second}"), MemoryJournal(JOB)
    plan = carded(target, 3)
    assert told(target, plan) == []
    assert [id for id, text, _ in told(target, plan, Level.INFO) if id == "aws.cards" and "names 2 subnets" in text]
    image = registered(target, plan, journal)
    test = target.launch(plan, image, Placement(), journal, Meter())
    cards = aws.cards(test)
    assert [card["SubnetId"] for card in cards] == [aws.first, aws.second, aws.second]
    groups = {group["GroupId"] for card in cards for group in card["Groups"]}
    (alone,) = (ref.id for ref in journal.refs("network"))
    assert groups == {alone} and "172.31.200.9" not in [card["PrivateIpAddress"] for card in cards]
    assert target.observe(test).addresses == tuple(card["PrivateIpAddress"] for card in cards)
    real = target.launch(plan, image, REAL, journal, Meter())
    cards = aws.cards(real)
    assert [card["SubnetId"] for card in cards] == [aws.first, aws.second, aws.second]
    assert cards[1]["PrivateIpAddress"] == "172.31.200.9" and len({card["PrivateIpAddress"] for card in cards}) == 3
    wanted = aws.cloud.locator.rpartition("security-group=")[2]
    assert {group["GroupId"] for card in cards for group in card["Groups"]} == {wanted}
    target.stop(test, journal)
    for ref in reversed(journal.refs()):
        target.destroy(ref)
    assert aws.cloud.left() == [] and aws.cards(real) == []


def test_aws_finds_what_several_cards_cannot_be(aws: Aws) -> None:
    two = f"{aws.first},{aws.second}"
    ((id, text, _),) = told(aws.target("&type=c5.large", two), 4)
    assert id == "aws.type" and "takes 3 network cards, and the machine has 4" in text
    chosen = carded(aws.target(subnet=two), 4)
    assert chosen.instance_type.endswith(".xlarge") and told(aws.target(subnet=two), chosen) == []
    ((id, text, _),) = told(aws.target(subnet=f"{aws.first},{aws.away}"), 2)
    assert id == "aws.subnet" and "eu-west-1b" in text and "one zone" in text
    target = aws.target(subnet=f"{aws.first},subnet-0123456789abcdef0")
    ((id, text, _),) = told(target, 2)
    assert (id, text) == ("aws.subnet", "there is no such subnet in this region")
    assert told(target, 1) == [], "a subnet that no card needs stands in nobody's way"
    assert [id for id, _, _ in told(target, 1, Level.WARNING)] == ["aws.cards"]
    found = told(aws.target("&private-ip=172.31.200.9,,172.31.200.10", two), 2)
    assert {id for id, _, _ in found} == {"aws.private-ip"} and len(found) == 2
    assert "for 3 network cards, and the machine has 2" in found[0][1]
    assert f"no address that an instance of {aws.first}" in found[1][1], "it is of the second subnet"


def test_aws_tells_in_a_dry_run_where_cards_would_be(aws: Aws) -> None:
    calls: list[Call] = []
    target = aws.target(subnet=f"{aws.first},{aws.second}").dry(calls.append)
    plan, journal = carded(target, 2), MemoryJournal("job-dry")
    target.launch(plan, registered(target, plan, journal), REAL, journal, Meter())
    (launch,) = (call for call in calls if call.name == "RunInstances")
    assert f"in {aws.first}, {aws.second}, groups" in launch.detail


# ---- Google ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gcp(tmp_path: Path) -> Iterator[GcpEmulator]:
    """A project with networks of the user's own beside the default one."""
    with open_emulator(tmp_path / "cloud") as double:
        double.instances.machines = KeptMachines(tmp_path)
        place = target_at(double).place
        for number, name in enumerate(("back", "spare")):
            path = f"global/networks/{name}"
            place.session.done(place.session.change("POST", "global/networks", {"name": name, "autoCreateSubnetworks": False}))
            for suffix in ("", "-two"):
                third = 10 * number + len(suffix)
                body = {"name": f"{name}{suffix}", "network": place.full(path), "ipCidrRange": f"10.20.{third}.0/24"}
                place.session.done(place.session.change("POST", place.in_region("subnetworks"), body))
        double.compute.limits_project["NETWORKS"] = 15.0
        yield double


def cards_of(double: GcpEmulator, instance: Ref) -> list[Thing]:
    found: list[Thing] = double.store.get(f"zones/europe-west1-b/instances/{instance.id}")["networkInterfaces"]
    return found


def at(double: GcpEmulator, subnet: str, more: str = "") -> Target:
    return target_at(double, more, double.locator.replace("subnet=default", f"subnet={subnet}"))


def test_gcp_gives_each_card_its_network(gcp: GcpEmulator) -> None:
    """The test's cards each have a network of their own that denies everything; the real one's are where the user said."""
    before = set(gcp.left())
    target, journal = at(gcp, "default,back,spare", "&type=n2-standard-4&private-ip=,10.20.0.9"), MemoryJournal(JOB)
    plan = carded(target, 3)
    assert told(target, plan) == []
    image = registered(target, plan, journal)
    test = target.launch(plan, image, Placement(), journal, Meter())
    cards = cards_of(gcp, test)
    assert len({card["network"] for card in cards}) == 3 and [card["name"] for card in cards] == ["nic0", "nic1", "nic2"]
    for card in cards:
        rules = [rule for _, rule in gcp.store.under("global/firewalls/") if rule["network"] == card["network"]]
        assert sorted(rule["direction"] for rule in rules) == ["EGRESS", "INGRESS"]
        assert all(rule["denied"] == [{"IPProtocol": "all"}] for rule in rules) and "accessConfigs" not in card
    assert set(target.find(JOB)) == set(journal.refs())
    again = target.launch(plan, image, Placement(), journal, Meter())
    assert again == test and max(gcp.requests.done("networks.insert").values()) == 1
    real = target.launch(plan, image, REAL, journal, Meter())
    cards = cards_of(gcp, real)
    assert [card["subnetwork"].rpartition("/")[2] for card in cards] == ["default", "back", "spare"]
    assert [card["networkIP"] for card in cards] == ["10.132.0.2", "10.20.0.9", "10.20.10.2"]
    assert target.observe(real).addresses == ("10.132.0.2", "10.20.0.9", "10.20.10.2")
    target.stop(test, journal)
    assert {ref.kind for ref in target.find(JOB)} == {"address", "disk", "image", "volume", "instance"}
    for ref in reversed(journal.refs()):
        target.destroy(ref)
    assert set(gcp.left()) == before


def test_gcp_takes_apart_only_what_belongs_to_a_network(gcp: GcpEmulator) -> None:
    """One of the test's networks is removed with what lies in it; the other one stays whole."""
    target, journal = at(gcp, "default,back"), MemoryJournal(JOB)
    plan = carded(target, 2)
    image = registered(target, plan, journal)
    target.launch(plan, image, Placement(), journal, Meter())
    first, second = journal.refs("network")
    target.destroy(second)
    left = {ref for ref in target.find(JOB) if ref.kind in ("network", "firewall", "subnetwork")}
    assert first in left and len(left) == 4 and not any(ref.id.startswith(second.id) for ref in left)
    for ref in reversed(journal.refs()):
        target.destroy(ref)
    assert list(target.find(JOB)) == []


def test_gcp_finds_what_several_cards_cannot_be(gcp: GcpEmulator) -> None:
    target, journal = at(gcp, "default,back"), MemoryJournal(JOB)
    plan = carded(target, 4)
    ((id, text, remedy),) = told(target, plan)
    assert id == "gcp.nics" and "has 4 network cards, and numbers 3, 4 have no subnet" in text
    assert remedy == "write subnet=default,back,SUBNET-3,SUBNET-4, each of another network"
    with pytest.raises(TargetError, match="network card 3 has no subnet"):
        target.launch(plan, registered(target, plan, journal), REAL, journal, Meter())
    ((id, text, _),) = told(at(gcp, "default,back,back-two"), 3)
    assert id == "gcp.nics" and "cards 2 and 3 are both in the network back" in text
    ((id, text, _),) = told(at(gcp, "default,nowhere"), 2)
    assert id == "gcp.subnet" and "no subnet nowhere" in text
    ((id, text, _),) = told(at(gcp, "default,back,spare", "&type=e2-standard-2"), 3)
    assert id == "gcp.type" and "takes 2 network cards, and the machine has 3" in text
    assert carded(at(gcp, "default,back,spare"), 3).instance_type == "n2-standard-4", "the smallest that takes three"
    gcp.compute.limits_project["NETWORKS"] = 4.0
    ((id, text, _),) = told(at(gcp, "default,back"), 2)
    assert id == "gcp.quota" and text == "the quota NETWORKS has 1 left of 4, and the machine needs 2"


def test_gcp_finds_addresses_that_are_not_to_be_had(gcp: GcpEmulator) -> None:
    target, journal = at(gcp, "default,back", "&private-ip=10.132.0.9,10.20.0.9"), MemoryJournal(JOB)
    plan = carded(target, 2)
    target.launch(plan, registered(target, plan, journal), REAL, journal, Meter())
    assert told(target, plan) == [], "it is our own"
    found = told(target, replace(plan, job="another"))
    names = [f"it is reserved as v2c-erp-{JOB}-ip{number}" for number in ("", "1")]
    assert sorted(text for id, text, _ in found if id == "gcp.private-ip") == [*names, *["the instance erp has this address"] * 2]
    for address in ("10.132.0.0", "10.132.0.1", "10.132.15.254", "10.20.0.9"):
        ((id, text, _),) = told(target_at(gcp, f"&private-ip={address}"), 1)
        assert id == "gcp.private-ip" and "no address that an instance of default (10.132.0.0/20) can have" in text
    ((id, text, _),) = told(target_at(gcp, "&private-ip=,10.20.0.8"), 1)
    assert id == "gcp.private-ip" and "for 2 network cards, and the machine has 1" in text
    other, theirs = target_at(gcp, "&private-ip=10.132.0.9&name=other"), MemoryJournal("another")
    one = replace(carded(other, 1), job="another")
    with pytest.raises(TargetError, match=r"the instance erp has the address 10\.132\.0\.9"):
        list(other.reserve(one, theirs))


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ([{"network": "global/networks/default"}] * 2, "Networks must be distinct"),
        ([{"subnetwork": "regions/europe-west1/subnetworks/back"}, {"network": "global/networks/spare"}], "auto-created"),
        ([{"network": "global/networks/default", "networkIP": "10.9.9.9"}], "outside the subnetwork range"),
        ([{"network": "global/networks/default"}] * 3, "Too many network interfaces"),
        ([], "networkInterfaces' not specified"),
    ],
)
def test_gcp_refuses_what_google_does(gcp: GcpEmulator, cards: list[Thing], words: str) -> None:
    place = target_at(gcp).place
    disk = {"boot": True, "initializeParams": {"sourceImage": "global/images/none"}}
    body = {"name": "x", "machineType": "zones/europe-west1-b/machineTypes/e2-standard-2", "disks": [disk]}
    with pytest.raises(Exception, match=words):
        place.session.done(place.session.change("POST", place.in_zone("instances"), {**body, "networkInterfaces": cards}))
