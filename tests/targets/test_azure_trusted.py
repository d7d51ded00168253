"""Trusted Launch on Azure: disks and machines are made for it, secure boot is on where the guest is signed, and what Azure
refuses is told before."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure_place import ABLE, CAPS, JOB, at, azure, content, holds, planned, uploaded
from kept_machines import KeptMachines
from target_contract import Died, MortalJournal

from v2c import platforms
from v2c.emulators.azure import KINDS, AzureEmulator
from v2c.emulators.machines import Hardware
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import MIB, Firmware, Level, Placement, Plan, Ref
from v2c.targets import Call
from v2c.targets.azure import AzureTarget
from v2c.targets.azure.place import name_of

pytestmark = pytest.mark.tool
MORE = "&security=trusted"
REAL = Placement(isolated=False, cutover=True)
SIGNED = replace(CAPS, firmware=Firmware.UEFI, kernels=(ABLE,), secure_boot=True)
UNSIGNED = replace(SIGNED, secure_boot=False)


class Noted(KeptMachines):
    """What machines were started on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.on: list[Hardware] = []

    def start(self, id: str, disks: Any, hardware: Hardware) -> None:
        self.on.append(hardware)
        super().start(id, disks, hardware)


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    with azure(tmp_path / "azure", monkeypatch) as running:
        running.cloud.machines = Noted(tmp_path)
        yield running


def uefi(*mib: int) -> Plan:
    return planned(*(mib or (24,)), firmware=Firmware.UEFI)


def moved(target: AzureTarget, plan: Plan, journal: MemoryJournal, folder: Path, caps: Any = SIGNED) -> Ref:
    """To its image."""
    list(target.reserve(plan, journal))
    refs = [uploaded(target, plan, journal, folder, content(plan, n), n) for n in range(len(plan.disks))]
    return target.register(plan, refs, caps, journal)


def told(target: AzureTarget, plan: Plan) -> list[tuple[str, str]]:
    return [(f.id, f.text) for f in target.check(target.size(plan)) if f.level is Level.BLOCKER]


@pytest.mark.parametrize(("caps", "verified"), [(SIGNED, True), (UNSIGNED, False)], ids=["signed", "unsigned"])
def test_test_and_cut_over_have_a_tpm_and_verify_who_is_signed(
    emulator: AzureEmulator, tmp_path: Path, caps: Any, verified: bool
) -> None:
    """The boot disk alone is made for it; its copy for a test is one, too; both machines say the same."""
    target, journal = at(emulator, MORE), MemoryJournal(JOB)
    plan = target.size(uefi(24, 20))
    assert told(target, plan) == []
    image = moved(target, plan, journal, tmp_path / "work", caps)
    kinds = {disk["name"]: disk["properties"].get("securityProfile") for disk in emulator.resources("disks")}
    made = {"securityType": "TrustedLaunch"}
    assert kinds == {name_of(plan, "disk0"): made, name_of(plan, "disk1"): None}
    test = target.launch(plan, image, Placement(), journal, Meter())
    (copy,) = (disk for disk in emulator.resources("disks") if disk["name"].endswith("disk0-test"))
    assert copy["properties"]["securityProfile"] == made
    assert target.launch(plan, image, Placement(), journal, Meter()) == test
    target.stop(test, journal)
    target.launch(plan, image, REAL, journal, Meter())
    (vm,) = emulator.resources("virtualMachines")
    uefi_settings = {"secureBootEnabled": verified, "vTpmEnabled": True}
    assert vm["properties"]["securityProfile"] == {"securityType": "TrustedLaunch", "uefiSettings": uefi_settings}
    machines = emulator.cloud.machines
    assert isinstance(machines, Noted)
    assert {(one.firmware, one.secure_boot, one.tpm) for one in machines.on} == {(Firmware.UEFI, verified, True)}
    for number, ref in enumerate(journal.refs("disk")):
        holds(emulator.disk(ref.id), plan.disks[number].target_size, content(plan, number))
    for ref in reversed(journal.refs()):
        target.destroy(ref)
    assert emulator.left() == []


def test_by_way_of_a_storage_account(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, journal = at(emulator, f"{MORE}&via=blob&storage-account=v2clab"), MemoryJournal(JOB)
    plan = target.size(uefi(24))
    target.launch(plan, moved(target, plan, journal, tmp_path / "work"), REAL, journal, Meter())
    (disk,), (vm,) = emulator.resources("disks"), emulator.resources("virtualMachines")
    assert disk["properties"]["securityProfile"] == {"securityType": "TrustedLaunch"}
    assert disk["properties"]["creationData"]["createOption"] == "Import"
    assert vm["properties"]["securityProfile"]["uefiSettings"]["secureBootEnabled"] is True


def test_a_guest_that_was_repaired_anew_is_judged_anew(emulator: AzureEmulator, tmp_path: Path) -> None:
    """It was signed when it was registered first, and is not any more; and what is taken back leaves no mark."""
    target, journal = at(emulator, MORE), MemoryJournal(JOB)
    plan = target.size(uefi())
    image = moved(target, plan, journal, tmp_path / "work")
    assert emulator.resources("disks")[0]["tags"]["v2c-secure-boot"] == "yes"
    assert target.register(plan, journal.refs("disk"), UNSIGNED, journal) == image
    assert "v2c-secure-boot" not in emulator.resources("disks")[0]["tags"]
    target.register(plan, journal.refs("disk"), SIGNED, journal)
    target.destroy(image)
    assert not {"v2c-image", "v2c-secure-boot"} & set(emulator.resources("disks")[0]["tags"])


def test_what_is_asked_of_the_guest(emulator: AzureEmulator) -> None:
    """Only then, and only signatures that Azure takes."""
    needs = at(emulator, MORE).size(uefi()).needs
    assert needs.tpm and needs.trusts == platforms.platform("azure").arrive.trusts != ()
    assert at(emulator).size(uefi()).needs == uefi().needs


def test_what_azure_would_refuse_is_told(emulator: AzureEmulator) -> None:
    assert told(at(emulator, MORE), planned(24)) == [
        ("azure.security", "the machine boots by bios (generation 1), and Trusted Launch is for generation 2")
    ]
    small = at(emulator, f"{MORE}&size=Standard_M8ms")
    assert told(small, uefi()) == [("azure.security", "the size Standard_M8ms has no Trusted Launch")]
    assert told(at(emulator, "&size=Standard_M8ms"), uefi()) == []
    for name, size in emulator.cloud.sizes.items():
        if name != "Standard_D4s_v5":
            size["trusted_launch"] = False
    assert at(emulator, MORE).size(uefi()).instance_type == "Standard_D4s_v5", "the smallest that has it"
    assert at(emulator).size(uefi()).instance_type == "Standard_D2s_v5"


def test_a_guest_that_boots_from_another_disk_than_the_first(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, journal = at(emulator, MORE), MemoryJournal(JOB)
    with pytest.raises(TargetError, match="made to boot machines of the security type Standard, not of TrustedLaunch") as caught:
        moved(target, target.size(uefi(24, 20)), journal, tmp_path / "work", replace(SIGNED, boot_disk="d1"))
    assert "name the disk that the guest boots from first" in caught.value.remedy


# ---- what the double refuses, as Azure does ------------------------------------------------------------------------------------


def disk(**more: Any) -> dict[str, Any]:
    about = {"osType": "Linux", "hyperVGeneration": "V2", "securityProfile": {"securityType": "TrustedLaunch"}, **more}
    creation = {"createOption": "Upload", "uploadSizeBytes": 24 * MIB + 512}
    return {"location": "westeurope", "properties": {"creationData": creation, **about}}


@pytest.mark.parametrize("more", [{"hyperVGeneration": "V1"}, {"osType": None}])
def test_the_double_refuses_disks(emulator: AzureEmulator, more: dict[str, Any]) -> None:
    body = disk(**more)
    body["properties"] = {key: value for key, value in body["properties"].items() if value is not None}
    disks = at(emulator).session.compute.disks
    with pytest.raises(HttpResponseError, match="only for OS disks whose hyperVGeneration is V2"):
        disks.begin_create_or_update("lab", "d", body)
    disks.begin_create_or_update("lab", "d", disk()).result()
    with pytest.raises(HttpResponseError, match="PropertyChangeNotAllowed"):
        disks.begin_create_or_update("lab", "d", disk(securityProfile={"securityType": "ConfidentialVM_NonPersistedTPM"}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"securityType": "Standard"}, "Security type of VM is not compatible with the security type of attached OS Disk"),
        ({"size": "Standard_M8ms"}, "is not supported for creation of VMs .* with 'TrustedLaunch' security type"),
        ({"generation": "V1"}, "Use of TrustedLaunch requires Generation 2"),
        ({"disk": "Standard"}, "Security type of VM is not compatible"),
        ({"disk": "Standard", "securityType": "Standard"}, "uefiSettings needs a securityType"),
    ],
)
def test_the_double_refuses_machines(emulator: AzureEmulator, tmp_path: Path, change: dict[str, str], words: str) -> None:
    """As a launch asks for them, but for one word."""
    target, journal = at(emulator, MORE), MemoryJournal(JOB)
    plan = target.size(uefi())
    image = moved(target, plan, journal, tmp_path / "work")
    target.launch(plan, image, REAL, journal, Meter())
    (vm,) = emulator.resources("virtualMachines")
    body = {
        "location": vm["location"],
        "properties": {key: vm["properties"][key] for key in ("storageProfile", "networkProfile")},
    }
    body["properties"]["hardwareProfile"] = {"vmSize": change.get("size", plan.instance_type)}
    profile = vm["properties"]["securityProfile"]
    body["properties"]["securityProfile"] = {**profile, **{k: v for k, v in change.items() if k == "securityType"}}
    machines = target.session.compute.virtual_machines
    machines.begin_delete("lab", vm["name"], force_deletion=True).result()
    held = emulator.cloud.store.get(journal.refs("disk")[0].id)
    assert held
    if "disk" in change:
        held.properties.pop("securityProfile")
    held.properties["hyperVGeneration"] = change.get("generation", "V2")
    emulator.cloud.store.save(held)
    with pytest.raises(HttpResponseError, match=words):
        machines.begin_create_or_update("lab", "again", body)


# ---- faults, kills, dry runs ---------------------------------------------------------------------------------------------------


def test_failures_are_outlived(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, journal = at(emulator, MORE), MemoryJournal(JOB)
    for operation, kind in (("disks.put", "lost-answer"), ("disks.patch", "throttle"), ("vms.put", "lost-answer")):
        emulator.faults.once(operation, kind)
    emulator.faults.kinds, emulator.faults.share, emulator.faults.seed = KINDS, 0.03, 5
    plan = target.size(uefi())
    image = moved(target, plan, journal, tmp_path / "work")
    target.launch(plan, image, REAL, journal, Meter())
    assert len(emulator.resources("disks")) == len(emulator.resources("virtualMachines")) == 1
    assert {"lost-answer", "throttle"} <= {kind for _, kind in emulator.faults.drawn}
    holds(emulator.disk(journal.refs("disk")[0].id), plan.disks[0].target_size, content(plan))


@pytest.mark.parametrize("kill", range(1, 7))
def test_a_kill_makes_nothing_twice(emulator: AzureEmulator, tmp_path: Path, kill: int) -> None:
    """At each effect: disk, image, copy, security group, card, machine; the next process says the same of security."""
    journal, plan = MortalJournal(JOB, at=kill), uefi()
    for attempt in range(2):
        target = at(emulator, MORE)
        plan = target.size(plan)
        try:
            test = target.launch(plan, moved(target, plan, journal, tmp_path / "work"), Placement(), journal, Meter())
            break
        except Died:
            assert attempt == 0 and len(journal.pending()) == 1
    assert journal.pending() == [] and set(journal.refs()) == set(target.find(JOB)) > {test}
    (vm,) = emulator.resources("virtualMachines")
    assert vm["properties"]["securityProfile"]["uefiSettings"] == {"secureBootEnabled": True, "vTpmEnabled": True}
    assert [d["properties"]["securityProfile"]["securityType"] for d in emulator.resources("disks")] == ["TrustedLaunch"] * 2


def test_a_dry_run_tells_it(emulator: AzureEmulator, tmp_path: Path) -> None:
    calls: list[Call] = []
    target, journal = at(emulator, MORE).dry(calls.append), MemoryJournal(JOB)
    plan = target.size(uefi())
    image = moved(target, plan, journal, tmp_path / "work")
    target.stop(target.launch(plan, image, Placement(), journal, Meter()), journal)
    details = {call.name.rpartition("/")[2]: call.detail for call in calls if call.name.startswith("PUT Microsoft.Compute")}
    assert details["virtualMachines"].endswith("TrustedLaunch, secure boot") and details["disks"].endswith("TrustedLaunch")
    assert len([call for call in calls if "TrustedLaunch" in call.detail]) == 3, "disk, copy, machine"
    assert emulator.left() == []
