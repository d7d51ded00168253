"""Whether all machines of a wave fit into an account together, though each alone does; by the doubles of the clouds."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from aws_places import places as aws_places
from azure_place import azure, planned
from gcp_places import Places as GcpPlaces
from gcp_places import environment, target_at
from kept_machines import KeptMachines
from target_contract import CAPS, JOB, TargetContract

from v2c.emulators.aws.cards import subnets
from v2c.emulators.azure.vms import used
from v2c.emulators.gcp import GcpEmulator
from v2c.emulators.gcp.usage import used as gcp_used
from v2c.emulators.machines import Hardware
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import GIB, MIB, Finding, Level, Nic, Placement, Plan
from v2c.targets import Counted, Target, open_target, together

pytestmark = pytest.mark.tool
SUBNET = "lab/default"


def going(target: Target, locator: str, *jobs: str, vcpus: int = 2, nics: int = 1) -> list[Plan]:
    """Machines that go there, sized by the target."""
    made = [replace(planned(24 * 1024, job=job, vcpus=vcpus, nics=nics), target=locator) for job in jobs]
    return [target.size(plan) for plan in made]


def alone(target: Target, plans: Sequence[Plan]) -> list[Finding]:
    return [found for plan in plans for found in target.check(plan) if found.level is Level.BLOCKER]


def fits(target: Target, plans: Sequence[Plan]) -> dict[str, str]:
    assert isinstance(target, Counted)
    return {found.subject: found.text for found in target.fits(plans) if found.level is Level.BLOCKER}


# ---- AWS -------------------------------------------------------------------------------------------------------------------


def test_aws_processors(tmp_path: Path) -> None:
    with aws_places() as places:
        double, target = places[tmp_path], places.target(tmp_path)
        plans = going(target, double.locator, "a", "b", "c")
        assert all(plan.instance_type for plan in plans) and fits(target, plans) == {}
        double.cloud.quotas["L-1216C47A"] = 5.0
        assert alone(target, plans) == []
        told = "the account may run 5 processors of this family; 0 run, and the 3 machines together have 6"
        assert fits(target, plans) == {"L-1216C47A": told}
        assert fits(target, plans[:2]) == {}
        double.cloud.quotas["L-1216C47A"] = 4.0
        other = [replace(plan, instance_type="no.such") for plan in plans]
        assert "together have 6" in fits(target, other)["L-1216C47A"], "a type that AWS does not know counts as the machine"


def test_aws_storage(tmp_path: Path) -> None:
    with aws_places() as places:
        double, target = places[tmp_path], places.target(tmp_path)
        plans = going(target, double.locator, "a", "b", "c")
        large = [replace(plan, disks=(replace(plan.disks[0], target_size=500 * GIB),)) for plan in plans]
        double.cloud.quotas["L-7A658B76"] = 1.5
        assert alone(target, large) == [] and fits(target, large[:2]) == {}, "two, and one test at a time: 1500 of 1536 GiB"
        told = "1.5 TiB of gp3 volumes; 0 GiB are there, and the 3 machines together need 1500 GiB, and 500 GiB for a test"
        assert fits(target, large) == {"L-7A658B76": f"the account may have {told}"}
        mixed = [*large[:2], replace(large[2], disks=(replace(large[2].disks[0], type="gp2"),))]
        assert fits(target, mixed) == {}, "each type has its own"


def test_aws_storage_of_what_runs_is_not_counted_twice(tmp_path: Path) -> None:
    with aws_places() as places:
        double, target = places[tmp_path], places.target(tmp_path)
        moved, plans, _ = cut_over(target, double.locator)
        ((_, volume),) = double.cloud.store.all("volumes")
        assert volume["Size"] == 1
        double.cloud.quotas["L-7A658B76"] = 2 / 1024
        assert fits(target, [moved]) == {}
        other = replace(plans[1], disks=moved.disks)
        assert "1 GiB are there, and b needs 1 GiB" in fits(target, [other])["L-7A658B76"].replace(other.machine.name, "b")


def cut_over(target: Target, locator: str, nics: int = 1) -> tuple[Plan, list[Plan], MemoryJournal]:
    """A machine of the contract's that is cut over, and another that is not."""
    journal, suite = MemoryJournal(JOB), TargetContract()
    suite.size = 25 * MIB  # Azure takes no smaller one
    plan = suite.plan(target)
    moved = target.size(replace(plan, machine=replace(plan.machine, nics=(Nic(),) * nics), target=locator))
    plans = [moved, *going(target, locator, "b")]
    assert fits(target, plans) == {}
    list(target.reserve(moved, journal))
    image = target.register(moved, [suite.disk(target, moved, journal)], CAPS, journal)
    target.launch(moved, image, Placement(isolated=False, cutover=True), journal, Meter())
    return moved, plans, journal


class Running(KeptMachines):
    """Machines that go on whatever is on their disks."""

    def start(self, id: str, disks: Sequence[tuple[str, Path]], hardware: Hardware) -> None:
        self.started.append(id)

    def alive(self, id: str) -> bool:
        return id in self.started


def test_aws_counts_a_machine_that_was_cut_over_once(tmp_path: Path) -> None:
    with aws_places() as places:
        double, target = places[tmp_path], places.target(tmp_path)
        double.cloud.machines = Running(tmp_path)
        journal, moved = MemoryJournal(JOB), target.size(TargetContract().plan(target))
        plans = [replace(moved, target=double.locator), *going(target, double.locator, "b")]
        image = target.register(moved, [TargetContract().disk(target, moved, journal)], CAPS, journal)
        double.cloud.quotas["L-1216C47A"] = 4.0
        assert fits(target, plans) == {}
        real = target.launch(moved, image, Placement(isolated=False, cutover=True), journal, Meter())
        assert target.observe(real).state == "running"
        assert fits(target, plans) == {}, "it runs, and is one of the two"
        assert fits(target, [*plans, *going(target, double.locator, "c")]) != {}
        assert fits(target, going(target, double.locator, "b", "c")) != {}, "to others it is a stranger"


def test_aws_addresses(tmp_path: Path) -> None:
    with aws_places() as places:
        double, target = places[tmp_path], places.target(tmp_path)
        id = double.locator.partition("subnet=")[2].partition("&")[0]
        place = subnets(double.cloud, "eu-west-1")[id]
        place.cidr = IPv4Network(f"{place.cidr.network_address}/28")
        (told,) = target.session.call("ec2", "describe_subnets", SubnetIds=[id])["Subnets"]  # type: ignore[attr-defined]
        free = int(told["AvailableIpAddressCount"])
        assert 10 <= free <= 11, "AWS keeps five of sixteen"
        plans = going(target, double.locator, *"abcd", nics=2)
        assert fits(target, plans) == {}, "eight, and two of a test"
        plans += going(target, double.locator, "e", nics=2)
        assert alone(target, plans) == []
        assert fits(target, plans) == {id: f"{free} addresses are free, and 12 are needed for the 5 machines together"}


def test_aws_counts_cards_that_there_are_once(tmp_path: Path) -> None:
    with aws_places() as places:
        double = places[tmp_path]
        double.cloud.machines = Running(tmp_path)
        target = places.target(tmp_path)
        id = double.locator.partition("subnet=")[2].partition("&")[0]
        place = subnets(double.cloud, "eu-west-1")[id]
        place.cidr = IPv4Network(f"{place.cidr.network_address}/28")
        moved, plans, _ = cut_over(target, double.locator, 4)
        plans = [moved, *going(target, double.locator, *"abc", nics=2)]
        (told,) = target.session.call("ec2", "describe_subnets", SubnetIds=[id])["Subnets"]  # type: ignore[attr-defined]
        free = int(told["AvailableIpAddressCount"])
        assert 6 <= free <= 7, "four of eleven are the real instance's"
        assert [f.split(", and ")[1] for f in fits(target, plans).values()] == ["10 are needed for the 4 machines together"]
        assert fits(target, plans[:2]) == {}, "two of the other's, and four of a test"


def test_aws_is_silent_where_nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with aws_places() as places:
        double, target = places[tmp_path], places.target(tmp_path)
        plans = going(target, double.locator, "a", "b")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert fits(open_target(double.locator), plans) == {}


def test_aws_asks_an_account_once_for_all(tmp_path: Path) -> None:
    with aws_places() as places:
        double = places[tmp_path]

        def calls(count: int) -> int:
            double.requests.clear()
            with together.asking(Meter()):
                for number in range(count):
                    target = open_target(f"{double.locator}&volume-type={'gp3' if number % 2 else 'gp2'}")
                    plan = target.size(going(target, double.locator, f"job{number}")[0])
                    assert alone(target, [plan]) == []
            return len(list(double.requests))

        two, many = calls(2), calls(12)
        assert two > 30 and many - two == 10, "a machine costs one call: whose its image's name is"


# ---- Google Cloud ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def double(tmp_path: Path) -> Iterator[GcpEmulator]:
    places = GcpPlaces()
    yield places.at(tmp_path / "cloud")
    places.close()


def test_gcp_quotas(double: GcpEmulator) -> None:
    target = target_at(double)
    with environment(double):
        plans = going(target, double.locator, "a", "b", "c")
        assert fits(target, plans) == {} == {f.id: f.text for f in alone(target, plans)}
        with together.asking(Meter()):
            double.requests.clear()
            assert [f for plan in plans for f in target_at(double).check(plan) if f.level is Level.BLOCKER] == []
            assert fits(target, plans) == {}
            asked = Counter(request.operation for request in double.requests)
        assert [name for name, count in asked.items() if count > 1] == ["images.list", "images.get"]
        double.compute.limits |= {"SSD_TOTAL_GB": 71.0, "CPUS": 5.0}
        double.compute.limits_project |= {"IMAGES": 2.0, "NETWORKS": 2.0}
        assert alone(target, plans) == []
        assert fits(target, plans) == {
            "CPUS": "the quota CPUS has 5 left of 5, and the 3 machines together need 6",
            "SSD_TOTAL_GB": "the quota SSD_TOTAL_GB has 71 left of 71, and the 3 machines together need 72",
            "IMAGES": "the quota IMAGES has 2 left of 2, and the 3 machines together need 3",
        }, "networks are of tests, which end"


def test_gcp_counts_a_machine_that_was_cut_over_once(double: GcpEmulator, tmp_path: Path) -> None:
    double.instances.machines = Running(tmp_path)
    target = target_at(double)
    double.compute.limits |= {"SSD_TOTAL_GB": 34.0, "CPUS": 4.0, "INSTANCES": 2.0}
    with environment(double):
        moved, plans, _ = cut_over(target, double.locator)
        assert [gcp_used(double.store, m) for m in ("CPUS", "INSTANCES", "SSD_TOTAL_GB")] == [2.0, 1.0, 10.0]
        assert fits(target, plans) == {} and alone(target, plans) == [], "it runs, and is one of the two"
        more = going(target, double.locator, "c")
        assert fits(target, [*plans, *more]) == {
            "CPUS": "the quota CPUS has 2 left of 4, and the 3 machines together need 4",
            "INSTANCES": "the quota INSTANCES has 1 left of 2, and the 3 machines together need 2",
            "SSD_TOTAL_GB": "the quota SSD_TOTAL_GB has 24 left of 34, and the 3 machines together need 48",
        }
        assert set(fits(target, [plans[1], *more])) == {"CPUS", "INSTANCES", "SSD_TOTAL_GB"}, "to others it is a stranger"
        larger = replace(moved, instance_type="n2-standard-4")
        assert set(fits(target, [larger, plans[1]])) == set(), "what it has of another series is no room for others"
        double.compute.limits["N2_CPUS"] = 3.0
        assert "needs" not in fits(target, [larger, plans[1]])["N2_CPUS"]


def test_gcp_counts_what_is_reserved_once(double: GcpEmulator, tmp_path: Path) -> None:
    double.instances.machines = Running(tmp_path)
    target, locator = target_at(double, "&reserve=4"), f"{double.locator}&reserve=4"
    double.compute.limits["CPUS"] = 4.0
    with environment(double):
        _, plans, journal = cut_over(target, locator)
        assert gcp_used(double.store, "CPUS") == 2.0 and fits(target, plans) == {}
        other = target.size(replace(plans[1], machine=replace(plans[1].machine, name="other")))
        list(target.reserve(other, MemoryJournal("b")))
        assert gcp_used(double.store, "CPUS") == 4.0 and fits(target, plans) == {}, "reserved, and not needed again"
        assert set(fits(target, [*plans, *going(target, locator, "c")])) == {"CPUS"}
        for ref in reversed(journal.refs("instance")):
            target.destroy(ref)
        assert fits(target, plans) == {}, "of the instance that is gone the reservation is left"


# ---- Azure -----------------------------------------------------------------------------------------------------------------


def test_azure_quotas_and_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(tmp_path, monkeypatch) as double:
        target = open_target(double.locator)
        plans = going(target, double.locator, "a", "b") + going(target, f"{double.locator}&sku=StandardSSD_LRS", "c")
        assert fits(target, plans) == {}
        double.cloud.quotas |= {"cores": 5, "virtualMachines": 2}
        assert alone(target, plans) == []
        assert fits(target, plans) == {
            "cores": "the quota cores has 5 left in westeurope, and 6 are needed for the 3 machines together",
            "virtualMachines": "the quota virtualMachines has 2 left in westeurope, and 3 are needed for the 3 machines together",
        }
        double.cloud.quotas.clear()
        subnet = double.cloud.store.get(target.place.subnet_id(test=False))  # type: ignore[attr-defined]
        assert subnet
        subnet.properties["addressPrefix"] = "10.20.0.0/29"
        subnet.properties["ipConfigurations"] = [{"id": "somebody's"}]
        assert alone(target, plans) == []
        assert fits(target, plans) == {
            SUBNET: f"the subnet {SUBNET} has 2 free addresses, and 3 are needed for the 3 machines together"
        }


def test_azure_counts_a_machine_that_was_cut_over_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(tmp_path, monkeypatch) as double:
        double.cloud.machines = Running(tmp_path)
        target = open_target(double.locator)
        subnet = double.cloud.store.get(target.place.subnet_id(test=False))  # type: ignore[attr-defined]
        assert subnet
        subnet.properties["addressPrefix"] = "10.20.0.0/29"
        double.cloud.quotas |= {"cores": 4, "virtualMachines": 2}
        _, plans, _ = cut_over(target, double.locator, 2)
        now = used(double.cloud)
        assert (now["cores"], now["virtualMachines"]) == (2, 1)
        assert fits(target, plans) == {} and alone(target, plans) == [], "it runs, and is one of the two"
        more = going(target, double.locator, "c")
        told = fits(target, [*plans, *more])
        assert told["cores"] == "the quota cores has 2 left in westeurope, and 4 are needed for the 3 machines together"
        assert told["virtualMachines"].startswith("the quota virtualMachines has 1 left in westeurope, and 2 are needed")
        assert told[SUBNET] == f"the subnet {SUBNET} has 3 free addresses, and 4 are needed for the 3 machines together"
        assert set(fits(target, [plans[1], *more])) == {"cores", "virtualMachines", SUBNET}, "to others it is a stranger"


def test_azure_counts_what_is_reserved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(tmp_path, monkeypatch) as double:
        double.cloud.machines = Running(tmp_path)
        locator = f"{double.locator}&reserve-capacity"
        target = open_target(locator)
        double.cloud.quotas["cores"] = 4
        _, plans, journal = cut_over(target, locator)
        assert used(double.cloud)["cores"] == 2 and fits(target, plans) == {}
        list(target.reserve(plans[1], MemoryJournal("b")))
        assert used(double.cloud)["cores"] == 4 and fits(target, plans) == {}, "reserved, and not needed again"
        assert set(fits(target, [*plans, *going(target, locator, "c")])) == {"cores"}
        for ref in reversed(journal.refs("instance")):
            target.destroy(ref)
        assert fits(target, plans) == {}, "of the machine that is gone the reservation is left"


def test_machines_of_azure_share_the_login_and_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(tmp_path, monkeypatch) as double:

        def calls(count: int) -> int:
            double.requests.clear()
            with together.asking(Meter()):
                for number in range(count):
                    target = open_target(f"{double.locator}&private-ip=10.20.0.{number + 9}")
                    assert alone(target, going(target, double.locator, f"job{number}")) == []
            return len(list(double.requests))

        one, many = calls(1), calls(11)
        assert one > 5 and many - one == 10, "a machine costs one call: whether its address is free"
