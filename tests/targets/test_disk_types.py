"""What each disk is to be at a cloud: checked before a byte moves, counted, and so at the double when the machine is launched."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aws_places import REGION
from aws_places import places as aws_places
from azure_place import at as azure_at
from azure_place import azure
from gcp_places import target_at
from kept_machines import KeptMachines
from target_contract import CAPS, JOB, TargetContract

from v2c.emulators.gcp import GcpEmulator, open_emulator
from v2c.emulators.machines import Hardware
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import GIB, MIB, Caps, DiskPlan, Firmware, KernelCaps, Level, Placement, Plan, Ref
from v2c.targets import Target

pytestmark = pytest.mark.tool
REAL = Placement(isolated=False, cutover=True)
NEWEST = Caps(Firmware.UEFI, kernels=(KernelCaps("6.1.0", ("nvme", "gve", "virtio_net", "virtio_scsi")),))
Kinds = Sequence[tuple[str, int, int]]  # by disk: type, operations per second, MiB/s


class Running(KeptMachines):
    """Machines that go on whatever is on their disks."""

    def start(self, id: str, disks: Sequence[tuple[str, Path]], hardware: Hardware) -> None:
        self.started.append(id)

    def alive(self, id: str) -> bool:
        return id in self.started


class Suite(TargetContract):
    size, second = 25 * MIB, 21 * MIB


def typed(target: Target, kinds: Kinds, gib: int = 0) -> Plan:
    """The contract's machine with disks of these types; `gib`: so large are they at the target."""
    plan = Suite().plan(target, len(kinds))

    def disk(one: DiskPlan, type: str, iops: int, throughput: int) -> DiskPlan:
        return replace(one, type=type, iops=iops, throughput=throughput, target_size=gib * GIB or one.target_size)

    return target.size(replace(plan, disks=tuple(disk(one, *kind) for one, kind in zip(plan.disks, kinds, strict=True))))


def told(target: Target, kinds: Kinds, gib: int = 0, level: Level = Level.BLOCKER) -> list[tuple[str, str]]:
    return [(f.subject, f.text) for f in target.check(typed(target, kinds, gib)) if f.level is level]


def launched(target: Target, kinds: Kinds, test: bool = False, caps: Caps = CAPS) -> tuple[Plan, Ref, MemoryJournal]:
    journal, plan = MemoryJournal(JOB), typed(target, kinds)
    list(target.reserve(plan, journal))
    disks = [Suite().disk(target, plan, journal, number) for number in range(len(kinds))]
    image = target.register(plan, disks, caps, journal)
    return plan, target.launch(plan, image, Placement() if test else REAL, journal, Meter()), journal


def test_a_plan_says_the_types_that_disks_get(tmp_path: Path) -> None:
    with aws_places() as places:
        target = places.target(tmp_path, "&volume-type=gp2")
        plan = typed(target, [("", 0, 0), ("st1", 0, 0)])
        assert [disk.type for disk in plan.disks] == ["gp2", "st1"]


# ---- AWS -------------------------------------------------------------------------------------------------------------------


def test_aws_volumes_are_what_was_asked_for(tmp_path: Path) -> None:
    with aws_places() as places:
        double, target = places[tmp_path], places.target(tmp_path, "&volume-type=gp2")
        double.cloud.machines = Running(tmp_path)
        _, _, journal = launched(target, [("gp3", 4000, 250), ("io2", 500, 0), ("", 0, 0)])
        with double.cloud.store.lock:
            volumes = [dict(volume) for volume in double.cloud.store.table(REGION, "volumes").values()]
            (image,) = double.cloud.store.table(REGION, "images").values()
        kinds = [(v["VolumeType"], v.get("Iops", 0), v.get("Throughput", 0)) for v in volumes]
        assert kinds == [("gp3", 4000, 250), ("io2", 500, 0), ("gp2", 0, 0)]
        assert [m["Ebs"]["VolumeType"] for m in image["BlockDeviceMappings"]] == ["gp3", "io2", "gp2"]
        plan = typed(target, [("io2", 100, 0), ("io2", 500, 0), ("", 0, 0)])
        again = target.register(plan, journal.refs("disk"), CAPS, journal)
        assert again.id != image["ImageId"], "an image of other volumes is made anew"
        assert target.register(plan, journal.refs("disk"), CAPS, journal) == again


@pytest.mark.parametrize(
    ("kind", "gib", "text"),
    [
        (("pd-ssd", 0, 0), 8, "AWS has no volumes of the type pd-ssd"),
        (("sc1", 0, 0), 200, "no machine boots from a sc1 volume"),
        (("standard", 0, 0), 2000, "the disk has 2000 GiB, and standard volumes hold 1024 GiB"),
        (("io2", 0, 0), 8, "io2 volumes have as many operations per second as one says, and nobody did"),
        (("io1", 100, 0), 1, "the disk has 1 GiB, and io1 volumes have 4 GiB at least"),
        (("io1", 500, 0), 8, "io1 volumes of 8 GiB have at most 400 iops"),
        (("gp3", 90000, 0), 8, "iops of gp3 volumes are 3000 to 80000, and 90000 are asked for"),
        (("gp3", 0, 800), 8, "gp3 volumes with 3000 iops have at most 750 throughput"),
        (("gp2", 4000, 0), 8, "gp2 volumes have no iops to be provisioned"),
    ],
)
def test_aws_tells_what_no_volume_is(kind: tuple[str, int, int], gib: int, text: str) -> None:
    from v2c.targets.aws import volumes
    from v2c.targets.aws.options import parse

    disk = DiskPlan("d0", "erp-0", gib * GIB, gib * GIB, *kind)
    plan: Any = type("P", (), {"disks": (disk,)})()
    found = [f.text for f in volumes.check(None, parse(REGION), None, plan)]  # type: ignore[arg-type]
    assert found == [text]


def test_an_image_of_other_volumes_is_made_anew(tmp_path: Path) -> None:
    with aws_places() as places:
        target, journal = places.target(tmp_path), MemoryJournal(JOB)
        plan = typed(target, [("io2", 3000, 0)])
        list(target.reserve(plan, journal))
        disks = [Suite().disk(target, plan, journal)]
        first = target.register(plan, disks, CAPS, journal)
        assert target.register(plan, disks, CAPS, journal) == first
        other = replace(plan, disks=(replace(plan.disks[0], iops=4000),))
        second = target.register(other, disks, CAPS, journal)
        assert second != first and journal.refs("image") == [second]
        faster, usual = (replace(plan, disks=(replace(plan.disks[0], type="gp3", iops=iops),)) for iops in (4000, 0))
        third = target.register(faster, disks, CAPS, journal)
        fourth = target.register(usual, disks, CAPS, journal)
        assert fourth not in (second, third) and journal.refs("image") == [fourth], "nobody asks for more any longer"
        assert target.register(usual, disks, CAPS, journal) == fourth


def test_aws_takes_what_is_right(tmp_path: Path) -> None:
    with aws_places() as places:
        target = places.target(tmp_path)
        assert told(target, [("gp3", 6000, 1000), ("io2", 8000, 0), ("st1", 0, 0)], gib=200) == []
        assert ("d1", "the disk has 8 GiB, and st1 volumes have 125 GiB at least") in told(
            target, [("gp3", 0, 0), ("st1", 0, 0)], 8
        )


# ---- Google Cloud ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def double(tmp_path: Path) -> Iterator[GcpEmulator]:
    with open_emulator(tmp_path / "cloud") as found:
        found.instances.machines = Running(tmp_path)
        yield found


def test_gcp_disks_are_what_was_asked_for(double: GcpEmulator) -> None:
    target = target_at(double, "&disk-type=pd-standard")
    kinds = [("hyperdisk-balanced", 3000, 200), ("pd-ssd", 0, 0), ("", 0, 0)]
    launched(target, kinds)
    disks = [thing for key, thing in double.store.under("zones/") if "/disks/" in key]
    made = sorted((d["type"].rpartition("/")[2], d.get("provisionedIops"), d.get("provisionedThroughput")) for d in disks)
    assert made == [("hyperdisk-balanced", "3000", "200"), ("pd-ssd", None, None), ("pd-standard", None, None)]


def test_gcp_tells_what_no_disk_is(double: GcpEmulator) -> None:
    target = target_at(double)
    assert told(target, [("hyperdisk-balanced", 3000, 200), ("", 0, 0)]) == []
    assert told(target, [("gp3", 0, 0)]) == [("gp3", "the zone europe-west1-b has no disks of the type gp3")]
    assert told(target, [("hyperdisk-throughput", 0, 0)], 100) == [
        ("d0", "the disk has 100 GB, and those of the type hyperdisk-throughput 2048 to 32768 GB")
    ]
    assert told(target, [("pd-ssd", 5000, 0)]) == [("d0", "disks of the type pd-ssd have no iops to be provisioned")]
    double.compute.limits |= {"SSD_TOTAL_GB": 10.0, "HDB_TOTAL_GB": 10.0}
    assert told(target, [("pd-ssd", 0, 0), ("hyperdisk-balanced", 0, 0)]) == [], "each against its own quota"
    assert [subject for subject, _ in told(target, [("pd-ssd", 0, 0), ("pd-balanced", 0, 0)])] == ["SSD_TOTAL_GB"]


def test_gcp_disks_are_such_as_the_series_runs_on(double: GcpEmulator) -> None:
    newest = target_at(double, "&type=n4-standard-2")
    assert [disk.type for disk in typed(newest, [("", 0, 0)]).disks] == ["hyperdisk-balanced"]
    assert told(newest, [("", 0, 0), ("hyperdisk-balanced", 3000, 200)]) == []
    assert told(newest, [("pd-ssd", 0, 0)]) == [("pd-ssd", "machines of the series n4 run on no disks of the type pd-ssd")]
    named = target_at(double, "&type=n4-standard-2&disk-type=pd-balanced")
    assert [subject for subject, _ in told(named, [("", 0, 0)])] == ["pd-balanced"], "what was asked for is not changed"
    third = target_at(double, "&type=c3-standard-4")
    assert [disk.type for disk in typed(third, [("", 0, 0)]).disks] == ["pd-balanced"]
    assert [subject for subject, _ in told(third, [("pd-standard", 0, 0), ("pd-ssd", 0, 0)])] == ["pd-standard"]
    assert [subject for subject, _ in told(target_at(double), [("pd-standard", 0, 0)])] == []


def test_gcp_refuses_a_disk_that_its_series_does_not_run_on(double: GcpEmulator) -> None:
    """What `check` tells beforehand, as Google tells it when all is uploaded."""
    with pytest.raises(TargetError, match=r"\[pd-ssd, n4-standard-2\] features are not compatible"):
        launched(target_at(double, "&type=n4-standard-2"), [("pd-ssd", 0, 0)], caps=NEWEST)
    assert not [key for key, _ in double.store.under("zones/") if "/instances/" in key]


# ---- Azure -----------------------------------------------------------------------------------------------------------------


def test_azure_disks_are_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(tmp_path, monkeypatch) as emulator:
        emulator.cloud.machines = Running(tmp_path)
        target = azure_at(emulator, "&sku=Standard_LRS")
        launched(target, [("Premium_LRS", 0, 0), ("StandardSSD_LRS", 0, 0), ("", 0, 0)], test=True)
        kinds = {disk["name"].partition("-disk")[2]: disk["sku"]["name"] for disk in emulator.resources("disks")}
        real = {"0": "Premium_LRS", "1": "StandardSSD_LRS", "2": "Standard_LRS"}
        assert kinds == real | {f"{number}-test": kind for number, kind in real.items()}, "and so are the test's"


def test_azure_tells_what_no_disk_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(tmp_path, monkeypatch) as emulator:
        target = azure_at(emulator)
        assert told(target, [("Premium_LRS", 0, 0), ("Standard_LRS", 0, 0)]) == []
        assert told(target, [("gp3", 0, 0)]) == [("gp3", "gp3 is no kind of disk that a machine boots from")]
        assert told(target, [("Premium_ZRS", 0, 0)]) == [("Premium_ZRS", "westeurope has no disks of the kind Premium_ZRS")]
        (warned,) = [t for t in told(target, [("Premium_LRS", 500, 0)], level=Level.WARNING) if t[0] == "d0"]
        assert warned[1] == "its operations per second and throughput follow from its size and kind, and cannot be said"
