"""What the locators offer beside the place: fixed addresses, TPM and UEFI variables, keys, secure boot."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import pytest
from aws_places import places
from azure_place import ABLE, at, azure, content, planned, uploaded
from azure_place import JOB as AZURE_JOB
from gcp_places import target_at
from kept_machines import KeptMachines
from target_contract import JOB, TargetContract

from v2c.emulators.gcp import open_emulator
from v2c.errors import TargetError, UsageError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import Caps, Firmware, Level, Needs, Placement, Plan
from v2c.targets import Call, Target, open_target
from v2c.targets.azure.place import parse as parse_azure

pytestmark = pytest.mark.tool
UEFI = Caps(Firmware.UEFI, boot_disk="d0")
REAL = Placement(isolated=False, cutover=True)


def moved(target: Target, plan: Plan, journal: MemoryJournal) -> None:
    """To the real instance."""
    suite = TargetContract()
    list(target.reserve(plan, journal))
    disk = suite.disk(target, plan, journal)
    target.launch(plan, target.register(plan, [disk], UEFI, journal), REAL, journal, Meter())


def uefi(target: Target) -> Plan:
    plan = TargetContract().plan(target)
    return replace(plan, machine=replace(plan.machine, firmware=Firmware.UEFI), needs=Needs(Firmware.UEFI))


def test_aws(tmp_path: Path) -> None:
    variables = tmp_path / "vars.b64"
    variables.write_bytes(base64.b64encode(b"AMZNUEFI" + bytes(100)))
    with places() as known:
        cloud = known[tmp_path / "cloud"]
        cloud.cloud.machines = KeptMachines(tmp_path)
        target = known.target(tmp_path / "cloud")
        subnet = target.instances.subnet()  # type: ignore[attr-defined]
        wanted = subnet["CidrBlock"].rpartition(".")[0] + ".77"
        target = known.target(tmp_path / "cloud", f"&type=m6i.large&tpm=v2.0&uefi-data={variables}&private-ip={wanted}")
        plan = target.size(uefi(target))
        assert [f for f in target.check(plan) if f.level is Level.BLOCKER] == []
        moved(target, plan, MemoryJournal(JOB))
        (image,) = [record for _, record in cloud.cloud.store.all("images")]
        (instance,) = [record for _, record in cloud.cloud.store.all("instances")]
        assert image["TpmSupport"] == image["ImdsSupport"] == "v2.0" and instance["PrivateIpAddress"] == wanted
        bios = replace(plan, machine=replace(plan.machine, firmware=Firmware.BIOS), job="other")
        told = {f.id: f.text for f in target.check(bios) if f.level is Level.BLOCKER}
        assert set(told) == {"aws.tpm", "aws.private-ip"} and instance["InstanceId"] in told["aws.private-ip"]
        away = known.target(tmp_path / "cloud", "&type=t2.micro&tpm=v2.0&private-ip=192.0.2.1")
        assert {"aws.tpm", "aws.private-ip"} <= {f.id for f in away.check(away.size(plan)) if f.level is Level.BLOCKER}
        variables.write_text("not base64!")
        unread = known.target(tmp_path / "cloud", f"&type=m6i.large&tpm=v2.0&uefi-data={variables}")
        with pytest.raises(TargetError, match="holds no UEFI variables"):
            moved(unread, plan, MemoryJournal("again"))


def test_gcp(tmp_path: Path) -> None:
    key = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"
    with open_emulator(tmp_path / "cloud") as double:
        double.instances.machines = KeptMachines(tmp_path)
        target = target_at(double, f"&type=n2-highcpu-2&kms={key}&secure-boot=yes&private-ip=10.132.0.9")
        moved(target, uefi(target), MemoryJournal(JOB))
        (image,) = [thing for name, thing in double.store.under("") if "/images/" in name]
        (instance,) = [thing for name, thing in double.store.under("") if "/instances/" in name]
        assert image["imageEncryptionKey"]["kmsKeyName"] == key
        assert instance["disks"][0]["diskEncryptionKey"]["kmsKeyName"] == key
        assert instance["networkInterfaces"][0]["networkIP"] == "10.132.0.9"
        assert instance["shieldedInstanceConfig"]["enableSecureBoot"] is True


def test_azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(tmp_path / "cloud", monkeypatch) as double:
        double.cloud.machines = KeptMachines(tmp_path)
        target, plan, journal = at(double, "&private-ip=10.20.0.77"), planned(40), MemoryJournal(AZURE_JOB)
        plan = target.size(plan)
        disk = uploaded(target, plan, journal, tmp_path / "work", content(plan))
        image = target.register(plan, [disk], Caps(Firmware.BIOS, boot_disk="d0", kernels=(ABLE,)), journal)
        target.launch(plan, image, Placement(), journal, Meter())
        target.launch(plan, image, REAL, journal, Meter())
        told = {nic["name"].rpartition("-nic0")[0].endswith("-test"): nic for nic in double.resources("networkInterfaces")}
        addresses = {test: nic["properties"]["ipConfigurations"][0]["properties"] for test, nic in told.items()}
        assert addresses[False]["privateIPAllocationMethod"] == "Static" and addresses[False]["privateIPAddress"] == "10.20.0.77"
        assert addresses[True]["privateIPAllocationMethod"] == "Dynamic"
        (vm,) = [vm for vm in double.resources("virtualMachines") if vm["tags"]["v2c-role"] == "cutover"]
        assert vm["properties"]["securityProfile"]["securityType"] == "Standard"


def test_azure_capacity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real machine runs on what was reserved for it, and goes on when finalize gives that back."""
    with azure(tmp_path / "cloud", monkeypatch) as double:
        double.cloud.machines = KeptMachines(tmp_path)
        target, plan, journal = at(double, "&reserve-capacity"), planned(40), MemoryJournal(AZURE_JOB)
        plan = target.size(plan)
        (held,) = target.reserve(plan, journal)
        disk = uploaded(target, plan, journal, tmp_path / "work", content(plan))
        image = target.register(plan, [disk], Caps(Firmware.BIOS, boot_disk="d0", kernels=(ABLE,)), journal)
        real = target.launch(plan, image, REAL, journal, Meter())
        (vm,) = double.resources("virtualMachines")
        assert vm["properties"]["capacityReservation"]["capacityReservationGroup"]["id"] == held.id
        told: list[Call] = []
        assert list(target.dry(told.append).finalize(plan, MemoryJournal(AZURE_JOB, [*journal.intents]))) == [held]
        assert [call.subject.rpartition("/")[2] for call in told] == [
            held.id.rpartition("/")[2],
            vm["name"],
            *(held.id.rpartition("/")[2],) * 2,
        ], told
        assert list(target.finalize(plan, journal)) == [held] and list(target.finalize(plan, journal)) == []
        (vm,) = double.resources("virtualMachines")
        assert "capacityReservation" not in vm["properties"] and double.resources("capacityReservationGroups") == []
        assert real in set(target.find(AZURE_JOB)) == set(journal.refs())


@pytest.mark.parametrize(
    ("locator", "word"),
    [
        ("aws:eu-west-1?private-ip=10.0.0", "no address"),
        ("aws:eu-west-1?tpm=1.2", "not one of"),
        ("aws:eu-west-1?via=ftp", "not one of"),
        ("gcp:project-1/europe-west1-b?kms=mine", "names no key"),
        ("gcp:project-1/europe-west1-b?secure-boot=maybe", "not understood"),
        ("gcp:project-1/europe-west1-b?private-ip=::1", "no address"),
        ("azure:s/g/westeurope?private-ip=x", "no address"),
        ("azure:s/g/westeurope?security=trusted-launch", "security=trusted-launch is not offered"),
        ("azure:s/g/westeurope?security=", "security= is not offered"),
    ],
)
def test_what_is_not_understood(locator: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        open_target(locator)


def test_azure_s_locator_says_the_account() -> None:
    place = parse_azure("s/g/l?via=blob&storage-account=disks01&container=v2c-stage")
    assert (place.staged, place.account, place.container) == (True, "disks01", "v2c-stage")
    assert not parse_azure("s/g/l").staged and not parse_azure("s/g/l?via=managed-disk").staged


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("via=ftp", "via=ftp is no way to Azure"),
        ("via=blob", "via=blob names no storage account"),
        ("via=blob&storage-account=My-Account", "storage-account=My-Account is no storage account's name"),
        ("via=blob&storage-account=disks01&container=a--b", "container=a--b is no container's name"),
        ("via=blob&storage-account=disks01&container=ab", "container=ab is no container's name"),
        ("storage-account=disks01", "storage-account= and container= belong to via=blob"),
        ("via=managed-disk&container=abc", "belong to via=blob"),
    ],
)
def test_ways_to_azure_that_make_no_sense(options: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        open_target(f"azure:s/g/l?{options}")
