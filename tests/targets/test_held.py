"""Addresses that are held beforehand, at AWS and Google: nobody else gets them from `reserve` on, and a rollback frees them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_places import REGION, Places, address, places
from gcp_places import target_at
from kept_machines import KeptMachines
from target_contract import CAPS, JOB, Died, MortalJournal, TargetContract

from v2c.blocks import BlockMap
from v2c.emulators.gcp import GcpEmulator, open_emulator
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import Level, Placement, Plan, Ref
from v2c.targets import Call, Target

pytestmark = pytest.mark.tool
REAL = Placement(isolated=False, cutover=True)


def made(target: Target, plan: Plan, journal: MemoryJournal, told: BlockMap | None = None) -> Ref:
    """The image."""
    list(target.reserve(plan, journal))
    return target.register(plan, [TargetContract().disk(target, plan, journal, told=told)], CAPS, journal)


def undone(target: Target, journal: MemoryJournal) -> None:
    for ref in reversed(journal.refs()):
        target.destroy(ref)
    assert list(target.find(JOB)) == []


class Cloud:
    """One account."""

    def __init__(self, known: Places, folder: Path) -> None:
        self.known, self.folder = known, folder
        self.cloud = known[folder]
        self.cloud.cloud.machines = KeptMachines(folder)
        self.wanted = address(self.cloud, 77)

    def target(self) -> Target:
        return self.known.target(self.folder, f"&type=m5.large&private-ip={self.wanted}")

    def cards(self) -> list[dict[str, object]]:
        with self.cloud.cloud.store.lock:
            return [dict(card) for card in self.cloud.cloud.store.table(REGION, "cards").values()]


def test_aws(tmp_path: Path) -> None:
    """Held, kept from others, not the test's, attached to the real instance, gone with it."""
    with places() as known:
        aws = Cloud(known, tmp_path / "cloud")
        target, journal = aws.target(), MemoryJournal(JOB)
        plan = target.size(TargetContract().plan(target))
        image = made(target, plan, journal)
        (ref,) = journal.refs("nic")
        (card,) = aws.cards()
        assert (card["NetworkInterfaceId"], card["PrivateIpAddress"], card["Status"]) == (ref.id, aws.wanted, "available")
        assert [f for f in target.check(plan) if f.level is Level.BLOCKER] == [], "our own hold stands in our way"
        other = TargetContract().plan(target, job="another")
        (found,) = (f for f in target.check(target.size(other)) if f.level is Level.BLOCKER)
        assert found.id == "aws.private-ip" and ref.id in found.text
        with pytest.raises(TargetError, match=r"InvalidIPAddress\.InUse"):
            list(target.reserve(other, MemoryJournal("another")))
        test = target.launch(plan, image, Placement(), journal, Meter())
        assert aws.wanted not in target.observe(test).addresses
        target.stop(test, journal)
        assert list(aws.target().reserve(plan, journal)) == [ref]
        real = target.launch(plan, image, REAL, journal, Meter())
        assert target.observe(real).addresses == (aws.wanted,)
        (card,) = aws.cards()
        assert card["NetworkInterfaceId"] == ref.id and card["Attachment"]["DeleteOnTermination"] is True  # type: ignore[index]
        assert ref not in target.finalize(plan, journal) and ref in set(target.find(JOB)) == set(journal.refs())
        undone(target, journal)
        assert aws.cards() == [] and aws.cloud.left() == []


def test_aws_gives_back_what_was_never_used(tmp_path: Path) -> None:
    with places() as known:
        aws = Cloud(known, tmp_path / "cloud")
        target, journal = aws.target(), MemoryJournal(JOB)
        plan = target.size(TargetContract().plan(target))
        (ref,) = target.reserve(plan, journal)
        assert list(target.finalize(plan, journal)) == [ref] and aws.cards() == [] and journal.refs() == []


@pytest.mark.parametrize("forwards", [True, False])
def test_aws_ends_what_uses_a_card_before_the_card(tmp_path: Path, forwards: bool) -> None:
    """In any order; also when the instance was never told to take its card along."""
    with places() as known:
        aws = Cloud(known, tmp_path / "cloud")
        target, journal = aws.target(), MemoryJournal(JOB)
        plan = target.size(TargetContract().plan(target))
        target.launch(plan, made(target, plan, journal), REAL, journal, Meter())
        with aws.cloud.cloud.store.lock:
            (card,) = aws.cloud.cloud.store.table(REGION, "cards").values()
            card["Attachment"]["DeleteOnTermination"] = False
        for ref in journal.refs() if forwards else reversed(journal.refs()):
            target.destroy(ref)
        assert list(target.find(JOB)) == [] and aws.cards() == [] and aws.cloud.left() == []


def test_aws_makes_it_anew_when_an_instance_took_it_along(tmp_path: Path) -> None:
    """Somebody ended the real instance, and its card with it: the next launch has the address again."""
    with places() as known:
        aws = Cloud(known, tmp_path / "cloud")
        target, journal = aws.target(), MemoryJournal(JOB)
        plan = target.size(TargetContract().plan(target))
        image = made(target, plan, journal)
        first = target.launch(plan, image, REAL, journal, Meter())
        (before,) = journal.refs("nic")
        target.destroy(first)
        assert aws.cards() == []
        second = target.launch(plan, image, REAL, journal, Meter())
        (after,) = journal.refs("nic")
        assert second != first and after != before and target.observe(second).addresses == (aws.wanted,)
        assert set(target.find(JOB)) == set(journal.refs())
        undone(target, journal)
        assert aws.cloud.left() == []


@pytest.mark.parametrize("at", [1, 4])
def test_aws_adopts_after_a_kill(tmp_path: Path, at: int) -> None:
    """Cut off after the card was made, and after the instance was launched with it: both are taken up, and bound together."""
    with places() as known:
        aws = Cloud(known, tmp_path / "cloud")
        journal = MortalJournal(JOB, at=at)
        (tmp_path / "maps").mkdir()
        told = TargetContract().known(tmp_path / "maps", aws.target(), {})
        for attempt in range(2):
            target = aws.target()
            plan = target.size(TargetContract().plan(target))
            try:
                target.launch(plan, made(target, plan, journal, told), REAL, journal, Meter())
                break
            except Died:
                assert attempt == 0
        (card,) = aws.cards()
        assert card["Attachment"]["DeleteOnTermination"] is True and journal.pending() == []  # type: ignore[index]
        assert sum(aws.cloud.requests.done("CreateNetworkInterface").values()) == 1
        assert set(target.find(JOB)) == set(journal.refs())
        undone(target, journal)
        assert aws.cloud.left() == []


def test_aws_takes_up_a_card_whose_answer_was_lost(tmp_path: Path) -> None:
    with places() as known:
        aws = Cloud(known, tmp_path / "cloud")
        target, journal = aws.target(), MemoryJournal(JOB)
        plan = target.size(TargetContract().plan(target))
        aws.cloud.faults.once("CreateNetworkInterface", "lost-answer")
        (ref,) = target.reserve(plan, journal)
        (card,) = aws.cards()
        assert card["NetworkInterfaceId"] == ref.id


def test_aws_tells_it_in_a_dry_run(tmp_path: Path) -> None:
    with places() as known:
        aws = Cloud(known, tmp_path / "cloud")
        calls: list[Call] = []
        target, journal = aws.target().dry(calls.append), MemoryJournal(JOB)
        plan = target.size(TargetContract().plan(target))
        target.launch(plan, made(target, plan, journal), REAL, journal, Meter())
        undone(target, journal)
        told = [(call.name, call.subject) for call in calls if "NetworkInterface" in call.name or call.name == "RunInstances"]
        assert [name for name, _ in told] == ["CreateNetworkInterface", "RunInstances", "ModifyNetworkInterfaceAttribute"]
        assert told[0][1] == aws.wanted and dict(calls[0].tags)["v2c-job"] == JOB and aws.cards() == []


# ---- Google ----------------------------------------------------------------------------------------------------------------

KEY = f"regions/europe-west1/addresses/v2c-erp-{JOB}-ip"
MORE = "&type=n2-highcpu-2&private-ip=10.132.0.9"


@pytest.fixture
def double(tmp_path: Path) -> Iterator[GcpEmulator]:
    with open_emulator(tmp_path / "cloud") as found:
        found.instances.machines = KeptMachines(tmp_path)
        yield found


@pytest.mark.parametrize("forwards", [True, False])
def test_gcp(double: GcpEmulator, forwards: bool) -> None:
    """Reserved, kept from others, not the test's, the real instance's, and free again when that is gone."""
    target, journal = target_at(double, MORE), MemoryJournal(JOB)
    plan = TargetContract().plan(target)
    image = made(target, plan, journal)
    (ref,) = journal.refs("address")
    held = double.store.get(KEY)
    assert (held["address"], held["status"], held["description"]) == ("10.132.0.9", "RESERVED", f"v2c-job={JOB}")
    assert [f for f in target.check(target.size(plan)) if f.level is Level.BLOCKER] == [], "our own hold stands in our way"
    with pytest.raises(TargetError, match="already reserved"):
        list(target.reserve(TargetContract().plan(target, job="another"), MemoryJournal("another")))
    test = target.launch(plan, image, Placement(), journal, Meter())
    target.stop(test, journal)
    assert list(target_at(double, MORE).reserve(plan, journal)) == [ref]
    real = target.launch(plan, image, REAL, journal, Meter())
    assert target.observe(real).addresses == ("10.132.0.9",)
    held = double.store.get(KEY)
    assert held["status"] == "IN_USE" and held["users"][0].endswith(f"/instances/{real.id}")
    assert ref not in list(target.finalize(plan, journal)) and ref in set(target.find(JOB)) == set(journal.refs())
    for one in journal.refs() if forwards else reversed(journal.refs()):
        target.destroy(one)
    assert list(target.find(JOB)) == [] and double.left() == []


def test_gcp_gives_back_what_was_never_used(double: GcpEmulator) -> None:
    target, journal = target_at(double, MORE), MemoryJournal(JOB)
    plan = TargetContract().plan(target)
    (ref,) = target.reserve(plan, journal)
    assert list(target.finalize(plan, journal)) == [ref] and double.left() == [] and journal.refs() == []


@pytest.mark.parametrize("zone", ["b", "c"])
def test_gcp_does_not_take_what_another_instance_has(double: GcpEmulator, zone: str) -> None:
    """Google would reserve it, for that instance. One of this zone is seen before; of one elsewhere it is told what is left."""
    first = target_at(double, "&type=n2-highcpu-2", double.locator.replace("west1-b", f"west1-{zone}"))
    journal = MemoryJournal("another")
    plan = TargetContract().plan(first, job="another")
    first.launch(plan, made(first, plan, journal), REAL, journal, Meter())
    taken = first.observe(journal.refs("instance")[0]).addresses[0]
    target, journal = target_at(double, f"&type=n2-highcpu-2&private-ip={taken}"), MemoryJournal(JOB)
    words = f"the instance erp has the address {taken}" + (", and v2c-erp-job-1-ip reserves it" if zone == "c" else "")
    with pytest.raises(TargetError, match=words):
        list(target.reserve(TargetContract().plan(target), journal))
    assert journal.refs() == [] and (KEY in double.store.things) == (zone == "c")


def test_gcp_is_not_given_to_others_by_chance(double: GcpEmulator) -> None:
    target, journal = target_at(double, "&type=n2-highcpu-2&private-ip=10.132.0.2"), MemoryJournal(JOB)
    list(target.reserve(TargetContract().plan(target), journal))
    other, theirs = target_at(double, "&type=n2-highcpu-2"), MemoryJournal("another")
    plan = TargetContract().plan(other, job="another")
    assert other.observe(other.launch(plan, made(other, plan, theirs), REAL, theirs, Meter())).addresses == ("10.132.0.3",)


def test_gcp_of_an_automatic_network(double: GcpEmulator) -> None:
    """Nobody named the subnet: it has the network's name."""
    target = target_at(double, MORE, double.locator.replace("&subnet=default", ""))
    list(target.reserve(TargetContract().plan(target), MemoryJournal(JOB)))
    assert double.store.get(KEY)["subnetwork"].endswith("/subnetworks/default")


def test_gcp_tells_it_in_a_dry_run(double: GcpEmulator) -> None:
    calls: list[Call] = []
    target, journal = target_at(double, MORE).dry(calls.append), MemoryJournal(JOB)
    plan = target.size(TargetContract().plan(target))
    target.launch(plan, made(target, plan, journal), REAL, journal, Meter())
    undone(target, journal)
    told = [(call.name, call.detail) for call in calls if "addresses" in call.name]
    assert told == [("compute.addresses.insert", "10.132.0.9"), ("compute.addresses.delete", "")] and double.left() == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"addressType": "EXTERNAL"}, "internal addresses"),
        ({"addressType": "INTERNAL"}, "subnetwork"),
        ({"subnetwork": "regions/europe-west1/subnetworks/nowhere"}, "not found"),
        ({"subnetwork": "regions/europe-west1/subnetworks/default", "address": "10.9.9.9"}, "outside the subnetwork range"),
    ],
)
def test_gcp_refuses_what_google_does(double: GcpEmulator, body: dict[str, str], words: str) -> None:
    session = target_at(double).place.session
    asked = {"name": "x", "addressType": "INTERNAL", **body}
    with pytest.raises(Exception, match=words):
        session.done(session.change("POST", "regions/europe-west1/addresses", asked))
