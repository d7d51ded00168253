"""The user's tags on the instance and on its disks, at each cloud's double."""

from dataclasses import replace
from pathlib import Path

import azure_place
import pytest
from aws_places import REGION, places
from gcp_places import target_at
from kept_machines import KeptMachines
from target_contract import CAPS, JOB, TargetContract

from v2c.emulators.gcp import open_emulator
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import MIB, Placement, Ref
from v2c.targets import Target

pytestmark = pytest.mark.tool
TAGS = (("cost-centre", "4711"), ("owner", "anna"))
REAL = Placement(isolated=False, cutover=True)


class OfAzure(TargetContract):
    size = 25 * MIB  # a managed disk has 20 MiB at least


def launched(target: Target, contract: TargetContract) -> Ref:
    """The real instance of the contract's machine, which has tags."""
    journal = MemoryJournal(JOB)
    plan = target.size(replace(contract.plan(target), tags=TAGS))
    list(target.reserve(plan, journal))
    image = target.register(plan, [contract.disk(target, plan, journal)], CAPS, journal)
    return target.launch(plan, image, REAL, journal, Meter())


def test_aws(tmp_path: Path) -> None:
    with places() as known:
        cloud = known[tmp_path].cloud
        cloud.machines = KeptMachines(tmp_path)
        instance = launched(known.target(tmp_path), TargetContract())
        with cloud.store.lock:
            found = [cloud.store.table(REGION, "instances")[instance.id], *cloud.store.table(REGION, "volumes").values()]
            images = list(cloud.store.table(REGION, "images").values())
        assert len(found) == 2
        for thing in (*found, *images):
            tags = {tag["Key"]: tag["Value"] for tag in thing["Tags"]}
            assert tags.items() >= dict(TAGS).items() and tags["v2c-job"] == JOB


def test_gcp(tmp_path: Path) -> None:
    with open_emulator(tmp_path) as double:
        double.instances.machines = KeptMachines(tmp_path)
        instance = launched(target_at(double), TargetContract())
        zone = "zones/europe-west1-b"
        found = [double.store.get(f"{zone}/instances/{instance.id}"), *(d for _, d in double.store.under(f"{zone}/disks/"))]
        assert len(found) == 2
        for thing in found:
            assert thing["labels"].items() >= dict(TAGS).items() and thing["labels"]["v2c-job"] == JOB


def test_azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure_place.azure(tmp_path, monkeypatch) as emulator:
        target = azure_place.at(emulator)
        instance = launched(target, OfAzure())
        compute, network, group = target.session.compute, target.session.network, target.place.group
        found = [compute.virtual_machines.get(group, instance.id.rpartition("/")[2])]
        found += [*compute.disks.list_by_resource_group(group), *network.network_interfaces.list(group)]
        assert len(found) == 3
        for thing in found:
            assert thing.tags.items() >= dict(TAGS).items() and thing.tags["v2c-job"] == JOB
