"""gcp: what its locator says, what `check` finds before a byte moves, what a type demands, and what a launch asks for."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gcp_places import Places, environment, target_at

from v2c.emulators.faults import Faults
from v2c.emulators.gcp import BUCKET, GcpEmulator
from v2c.errors import TargetError, UsageError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import GIB, MIB, Caps, Disk, DiskPlan, Firmware, KernelCaps, Level, Machine, Needs, Nic, Placement, Plan, Ref
from v2c.targets import open_target
from v2c.targets.gcp import GcpTarget, names
from v2c.targets.gcp.catalogue import catalogue
from v2c.targets.gcp.session import Endpoints

JOB = "5f0c1e"
ALL = Caps(Firmware.UEFI, boot_disk="d0", kernels=(KernelCaps("6.1", initramfs=("virtio_scsi", "nvme"), present=("gve",)),))
OLD = Caps(Firmware.BIOS, boot_disk="d0", kernels=(KernelCaps("3.10", initramfs=("virtio_scsi",)),))


def plan(disks: int = 1, size: int = GIB, job: str = JOB, **machine: Any) -> Plan:
    about = Machine("ERP db_1", tuple(Disk(f"d{n}", size, allocated=MIB) for n in range(disks)), **machine)
    planned = tuple(DiskPlan(f"d{n}", f"erp-{n}", size, size) for n in range(disks))
    return Plan(job, about, "gcp:", "gcp", planned, Needs(about.firmware or Firmware.BIOS), data_bytes=disks * MIB)


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    places = Places()
    yield places
    places.close()


@pytest.fixture
def double(places: Places, tmp_path: Path) -> GcpEmulator:
    return places.at(tmp_path / "cloud")


def blockers(target: GcpTarget, mine: Plan) -> dict[str, str]:
    return {f.id: f.text for f in target.check(target.size(mine)) if f.level is Level.BLOCKER}


# ---- locators --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    ["", "project", "project-1/nowhere", "P/europe-west1-b", "project-1/europe-west1-b?colour=red", "p-1/a-b1-c?reserve=soon"],
)
def test_bad_locators_list_the_keys(rest: str) -> None:
    with pytest.raises(UsageError, match=r"bucket=.*compute-endpoint="):
        open_target(f"gcp:{rest}")
    with pytest.raises(UsageError, match="name of an instance"):
        open_target("gcp:project-1/europe-west1-b?name=Not_Good")


def test_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    plain = Endpoints.chosen({})
    assert plain.compute == "https://compute.googleapis.com/compute/v1" and plain.storage == "https://storage.googleapis.com"
    private = Endpoints.chosen({"compute-endpoint": "https://compute-psc.p.googleapis.com"})
    assert private.compute == "https://compute-psc.p.googleapis.com/compute/v1"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://localhost:9023/")
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", "http://localhost:9024/compute/v1/")
    told = Endpoints.chosen({})
    assert (told.storage, told.compute) == ("http://localhost:9023", "http://localhost:9024/compute/v1")


@pytest.mark.parametrize("name", ["erp", "ERP db_1", "a" * 90, "9lives", "--", "$(reboot)", ""])
@pytest.mark.parametrize("job", ["5f0c1e", "0123456789abcdef0123", "a_b"])
def test_names_fit_the_published_pattern(name: str, job: str) -> None:
    mine = replace(plan(job=job), machine=replace(plan().machine, name=name))
    for made in (names.name(mine, "test-ingress"), names.instance(mine, cutover=True), names.instance(mine, cutover=False)):
        assert names.NAME.fullmatch(made), made
    assert len(names.bucket("project-1", job)) <= 63


def test_the_catalogue_is_sound() -> None:
    known = catalogue()
    assert known.series_of("n2-standard-2").advised and not known.series_of("n2-standard-2").lacking(OLD)
    assert known.series_of("c3-standard-4").lacking(OLD) == "gve, nvme" and not known.series_of("c3-standard-4").lacking(ALL)
    assert known.series_of("z9-mega-1").gvnic, "what nobody knows yet demands what the newest do"
    assert len(set(known.permissions)) == len(known.permissions)


# ---- check -----------------------------------------------------------------------------------------------------------------


@pytest.mark.tool
def test_nothing_stands_in_the_way(double: GcpEmulator) -> None:
    target = target_at(double)
    assert blockers(target, plan(2)) == {}
    assert target.size(plan(vcpus=4, memory_mib=16000)).instance_type == "n2-standard-4"
    assert target.size(plan(memory_mib=2048)).instance_type == "e2-highcpu-2"
    assert not [r for r in double.requests if r.operation.endswith(("insert", "delete", "patch"))], "it wrote something"


@pytest.mark.tool
@pytest.mark.parametrize(
    ("locator", "id", "text"),
    [
        ("gcp:rehearsal-1/europe-west1-d", "gcp.zone", "no zone europe-west1-d"),
        ("gcp:rehearsal-1/europe-west1-b?type=z9-mega-1", "gcp.type", "no type z9-mega-1"),
        ("gcp:rehearsal-1/europe-west1-b?disk-type=floppy", "gcp.disk-type", "no disks of the type floppy"),
        ("gcp:rehearsal-1/europe-west1-b?bucket=nowhere-at-all", "gcp.bucket", "cannot be used"),
        ("gcp:rehearsal-1/europe-west1-b?network=nowhere", "gcp.network", "no network nowhere"),
        ("gcp:rehearsal-1/europe-west1-b?subnet=nowhere", "gcp.subnet", "no subnet nowhere"),
        ("gcp:rehearsal-1/europe-west1-b?network=projects/host/global/networks/n", "gcp.subnet", "needs its subnet"),
    ],
)
def test_what_is_not_there(double: GcpEmulator, locator: str, id: str, text: str) -> None:
    assert text in blockers(target_at(double, locator=locator), plan())[id]


@pytest.mark.tool
def test_every_missing_permission_is_told_at_once(double: GcpEmulator) -> None:
    known = catalogue()
    double.granted = {*known.permissions, *known.permissions_bucket} - {"compute.images.create", "storage.objects.create"}
    told = blockers(target_at(double), plan())["gcp.permissions"]
    assert "compute.images.create" in told and f"storage.objects.create (on {BUCKET})" in told and "v2c@rehearsal-1" in told
    double.granted = {*known.permissions, *known.permissions_bucket}
    assert blockers(target_at(double), plan()) == {}
    double.granted = None


@pytest.mark.tool
def test_quotas_count_what_this_machine_needs(double: GcpEmulator) -> None:
    limits = double.compute.limits
    limits["SSD_TOTAL_GB"], limits["CPUS"] = 19.0, 1.0
    double.compute.limits_project |= {"IMAGES": 1.0, "NETWORKS": 1.0}
    told = [f.text for f in target_at(double).check(target_at(double).size(plan(2))) if f.id == "gcp.quota"]
    assert sorted(text.split()[2] for text in told) == ["CPUS", "IMAGES", "NETWORKS", "SSD_TOTAL_GB"]


@pytest.mark.tool
def test_limits_of_disks(double: GcpEmulator) -> None:
    double.compute.limits["SSD_TOTAL_GB"] = 1e9
    target = target_at(double)
    assert "BIOS" in blockers(target, plan(size=2049 * GIB))["gcp.disk"]
    assert blockers(target, plan(size=2049 * GIB, firmware=Firmware.UEFI)) == {}
    assert "at most 65536" in blockers(target, plan(size=65537 * GIB, firmware=Firmware.UEFI))["gcp.disk"]
    warned = [f.id for f in target.check(plan(nics=(Nic(), Nic())))]
    assert "gcp.nics" in warned


@pytest.mark.tool
def test_a_job_that_cannot_be_a_label(double: GcpEmulator) -> None:
    assert "gcp.names" in blockers(target_at(double), plan(job="Not A Label"))


def test_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    target = open_target("gcp:rehearsal-1/europe-west1-b")
    told = list(target.check(target.size(plan())))
    assert [f.id for f in told] == ["gcp.credentials"] and "gcloud auth" in told[0].remedy


# ---- what is asked for -----------------------------------------------------------------------------------------------------


def moved(target: GcpTarget, mine: Plan, caps: Caps, journal: MemoryJournal) -> Ref:
    """Images of empty disks."""
    list(target.reserve(mine, journal))
    refs = []
    for disk in mine.machine.disks:
        with target.writer(mine, disk, None, journal) as writer:
            writer.expect([0])
            refs.append(writer.commit())
    return target.register(mine, refs, caps, journal)


@pytest.mark.tool
def test_features_are_what_the_guest_drives(double: GcpEmulator) -> None:
    target, journal = target_at(double, "&license=projects/debian-cloud/global/licenses/debian-12-bookworm"), MemoryJournal(JOB)
    moved(target, plan(2), ALL, journal)
    boot, data = (double.store.get(f"global/images/v2c-erp-db-1-{JOB}-{n}") for n in range(2))
    assert [f["type"] for f in boot["guestOsFeatures"]] == ["UEFI_COMPATIBLE", "VIRTIO_SCSI_MULTIQUEUE", "GVNIC"]
    assert boot["licenses"] == ["projects/debian-cloud/global/licenses/debian-12-bookworm"] and "licenses" not in data
    assert "guestOsFeatures" not in data and data["architecture"] == "X86_64" and data["labels"]["v2c-job"] == JOB
    for ref in journal.refs():
        target.destroy(ref)
    assert double.left() == []


@pytest.mark.tool
def test_what_a_series_has_is_asked_of_the_guest_before_a_byte_moves(double: GcpEmulator) -> None:
    """Its repair puts the drivers in, and refuses a guest that has none."""
    usual, third = (target_at(double, f"&type={type}").size(plan()).needs for type in ("n2-standard-2", "c3-standard-4"))
    assert usual == plan().needs
    assert third.initramfs_required == (*usual.initramfs_required, "gve", "nvme")
    assert third.driving("nvme") == third


def test_a_type_that_the_guest_cannot_drive_is_refused(double: GcpEmulator) -> None:
    target, journal = target_at(double, "&type=c3-standard-4"), MemoryJournal(JOB)
    mine = target.size(plan())
    image = moved(target, mine, OLD, journal)
    with pytest.raises(TargetError, match=r"gVNIC.*gve"):
        target.launch(mine, image, Placement(), journal, Meter())
    assert "gcp.series" in [f.id for f in target.check(mine)]


@pytest.mark.tool
def test_a_test_reaches_nothing_and_the_real_one_is_asked_for(double: GcpEmulator) -> None:
    """A network of its own that denies both ways, no address, no account; then the user's subnet, account and reservation."""
    more = "&service-account=app@rehearsal-1.iam.gserviceaccount.com&reserve=2&type=n2-highcpu-2&name=erp-new"
    target, journal, mine = target_at(double, more), MemoryJournal(JOB), plan(2)
    image = moved(target, mine, OLD, journal)
    test = target.launch(mine, image, Placement(), journal, Meter())
    asked = double.store.get(f"zones/europe-west1-b/instances/{test.id}")
    network = asked["networkInterfaces"][0]["network"]
    rules = [thing for key, thing in double.store.under("global/firewalls/") if thing["network"] == network]
    assert sorted(rule["direction"] for rule in rules) == ["EGRESS", "INGRESS"]
    assert all(rule["denied"] == [{"IPProtocol": "all"}] and rule["priority"] == 0 for rule in rules)
    assert not network.endswith("/default") and "accessConfigs" not in asked["networkInterfaces"][0]
    assert "serviceAccounts" not in asked and asked["displayDevice"] == {"enableDisplay": True}
    assert {"key": "serial-port-enable", "value": "TRUE"} in asked["metadata"]["items"]
    assert [disk["autoDelete"] for disk in asked["disks"]] == [True, True]
    target.stop(test, journal)
    assert not [ref for ref in journal.refs() if ref.kind in ("instance", "volume", "network", "firewall", "subnetwork")]

    real = target.launch(mine, image, Placement(isolated=False, cutover=True), journal, Meter())
    asked = double.store.get(f"zones/europe-west1-b/instances/{real.id}")
    assert real.id == "erp-new" and asked["serviceAccounts"][0]["email"].startswith("app@")
    assert asked["networkInterfaces"][0]["subnetwork"].endswith("/subnetworks/default")
    assert asked["reservationAffinity"]["values"] == [f"v2c-erp-db-1-{JOB}-capacity"]
    assert [disk["autoDelete"] for disk in asked["disks"]] == [True, False], "data disks outlive a slip"
    target.stop(real, journal)
    assert target.observe(real).alive, "stop ends tests only"
    gone = list(target.finalize(mine, journal))
    assert {ref.kind for ref in gone} == {"disk", "reservation"}
    for ref in journal.refs():  # oldest first: the order is the target's business
        target.destroy(ref)
    assert list(target.find(JOB)) == [] and double.left() == []


@pytest.mark.tool
@pytest.mark.parametrize(("kind", "word"), [("capacity", "another zone"), ("quota", "quota")])
def test_why_nothing_starts(double: GcpEmulator, kind: str, word: str) -> None:
    target, journal, mine = target_at(double), MemoryJournal(JOB), plan()
    image = moved(target, mine, OLD, journal)
    double.faults = Faults()
    double.faults.once("instances.insert", kind)
    with pytest.raises(TargetError) as refused:
        target.launch(mine, image, Placement(), journal, Meter())
    assert word in refused.value.remedy
    instance = target.launch(mine, image, Placement(), journal, Meter())
    target.stop(instance, journal)
    assert journal.pending() == []


@pytest.mark.tool
def test_the_console_is_followed(double: GcpEmulator) -> None:
    target, journal, mine = target_at(double), MemoryJournal(JOB), plan()
    instance = target.launch(mine, moved(target, mine, OLD, journal), Placement(), journal, Meter())
    id = double.store.get(f"zones/europe-west1-b/instances/{instance.id}")["id"]
    seen = target.observe(instance)
    assert seen.alive and seen.state == "running" and Path(seen.screenshot).read_bytes()[:4] == b"\x89PNG"
    double.machines.stop(id)
    log = double.machines.folder / id / "console.log"
    log.write_bytes(b"one ")
    target = target_at(double)
    assert target.observe(instance).console == "one "
    log.write_bytes(b"one two" + b"." * (2 * MIB))
    told = target.observe(instance)
    assert told.console.startswith("one ") and "kept no more" in told.console and len(told.console) < 2 * MIB
    assert not told.alive and told.state == "terminated"
    target.stop(instance, journal)
    with environment(double):
        assert target.observe(instance).state == "gone"


@pytest.mark.tool
@pytest.mark.parametrize("own", [False, True])
def test_the_least_rights_are_enough_and_no_more(double: GcpEmulator, own: bool) -> None:
    """The whole way with the permissions that drivers/gcp/catalogue.toml lists, each of which something asks for."""
    known = catalogue()
    base = {*known.permissions, *known.permissions_reserve, *known.permissions_address, *known.permissions_account}
    granted = {*base, *(known.permissions_own_bucket if own else known.permissions_bucket)}
    double.granted, double.rights.asked = granted, set()
    more = "reserve=1&private-ip=10.132.0.9&service-account=a@rehearsal-1.iam.gserviceaccount.com"
    where = f"gcp:rehearsal-1/europe-west1-b?{more}" if own else f"{double.locator}&{more}"
    target, journal, mine = target_at(double, locator=where), MemoryJournal(JOB), plan(2)
    assert blockers(target, mine) == {}
    image = moved(target, mine, OLD, journal)
    test = target.launch(mine, image, Placement(), journal, Meter())
    assert target.observe(test).alive
    target.stop(test, journal)
    target.launch(mine, image, Placement(isolated=False, cutover=True), journal, Meter())
    list(target.finalize(mine, journal))
    for ref in reversed(journal.refs()):
        target.destroy(ref)
    assert double.left() == []
    assert granted - double.rights.asked == set(), "listed, and nothing asks for it"
