"""Planning is pure: tables of machines and what is said about them."""

from dataclasses import replace

import pytest

from v2c.model import GIB, MIB, Disk, Firmware, Level, Machine, Repair, Step
from v2c.plan import Choices, make
from v2c.platforms import platform, platforms

MACHINE = Machine("erp", (Disk("disk-0", 10 * GIB + 512), Disk("disk-1", 4 * GIB)), firmware=Firmware.UEFI)


def blockers(machine: Machine, name: str = "aws") -> list[str]:
    made = make("job", machine, platform(name), platforms(), Choices(f"local:{name}", Repair()), None)
    return [f.id for f in made.blockers]


def test_sizes_are_rounded_up_to_what_the_target_can_hold() -> None:
    made = make("job", MACHINE, platform("aws"), platforms(), Choices("local:aws", Repair()), None)
    assert [d.target_size for d in made.disks] == [11 * GIB, 4 * GIB]
    assert [d.source_size for d in made.disks] == [10 * GIB + 512, 4 * GIB]


def test_a_disk_is_as_large_as_the_smallest_there_is() -> None:
    """Google's persistent disks begin at 10 GiB; an archive for somebody else's import may hold less."""
    made = make("job", MACHINE, platform("gcp"), platforms(), Choices("local:gcp", Repair()), None)
    assert [d.target_size for d in made.disks] == [11 * GIB, 10 * GIB]
    choices = Choices("file:x.tar.gz", Repair(), size_unit=GIB, launches=False)
    assert make("job", MACHINE, platform("gcp"), platforms(), choices, None).disks[1].target_size == 4 * GIB


def test_a_file_keeps_its_size() -> None:
    made = make("job", MACHINE, platform("aws"), platforms(), Choices("file:x.raw", Repair(), launches=False), None)
    assert made.disks[0].target_size == 10 * GIB + 512
    assert Step.LAUNCH not in made.steps


def test_a_vhd_is_whole_mebibytes() -> None:
    made = make(
        "job", MACHINE, platform("kvm"), platforms(), Choices("file:x.vhd", Repair(), size_unit=MIB, launches=False), None
    )
    assert made.disks[0].target_size == 10 * GIB + MIB


def test_needs_say_what_the_guest_must_drive_and_never_a_cloud() -> None:
    made = make("job", MACHINE, platform("aws"), platforms(), Choices("local:aws", Repair()), None)
    assert "nvme" in made.needs.initramfs_required
    assert made.needs.modules_present == ("ena",)
    assert {"vmware", "kvm"} <= {tool.platform for tool in made.needs.leave}
    assert "aws" not in {tool.platform for tool in made.needs.leave}


@pytest.mark.parametrize(
    ("machine", "finding"),
    [
        (replace(MACHINE, architecture="aarch64"), "machine.architecture"),
        (replace(MACHINE, disks=tuple(Disk(f"d{i}", GIB) for i in range(28))), "machine.disks"),
        (replace(MACHINE, disks=(Disk("d", 65 * 1024 * GIB),)), "disk.size"),
        (replace(MACHINE, disks=(Disk("d", GIB, sector_size=4096),)), "disk.sector-size"),
    ],
)
def test_what_the_target_cannot_hold_is_a_blocker(machine: Machine, finding: str) -> None:
    assert blockers(machine) == [finding]
    assert blockers(MACHINE) == []


def test_what_is_assumed_is_a_finding_with_the_flag_that_says_it() -> None:
    made = make(
        "job", replace(MACHINE, assumed=("memory_mib",)), platform("aws"), platforms(), Choices("local:aws", Repair()), None
    )
    (finding,) = made.findings
    assert (finding.id, finding.level) == ("assumed.memory_mib", Level.INFO)
    assert "2048" in finding.text
    assert "--memory" in finding.remedy


def test_a_throttle_makes_the_estimate_longer() -> None:
    fast = make("job", MACHINE, platform("aws"), platforms(), Choices("local:aws", Repair()), None)
    slow = make("job", MACHINE, platform("aws"), platforms(), Choices("local:aws", Repair(), bandwidth=10 * MIB), None)
    assert slow.seconds > fast.seconds + 14 * 1024 / 10 * 0.9
