"""Pure planning: machine + target + platform facts -> what will be done, as what, and what stands in the way.

Reads nothing and changes nothing: everything it needs comes as values, so the same input gives the same plan.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from v2c.model import (
    GIB,
    MIB,
    AddressNeed,
    Declared,
    Disk,
    DiskPlan,
    Finding,
    Firmware,
    LeaveTool,
    Level,
    Machine,
    Needs,
    Plan,
    ProbeNeed,
    Repair,
    Step,
    Volume,
)
from v2c.platforms import Platform
from v2c.tags import fitting

# Seconds of work that does not depend on the disk's size, measured on two cores without KVM (see bench/README.md).
FIX_SECONDS = 110.0
BOOT_SECONDS = 75.0
# What one converter moves from a local disk to a local target with digests, before any uplink's limit (bench/README.md).
COPY_BYTES_PER_SECOND = 400 * MIB

ASSUMED = {
    "name": "the name",
    "memory_mib": "the memory",
    "vcpus": "the number of processors",
    "firmware": "the firmware",
    "nics": "the network cards",
}


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user and the target decide about a plan. Sizes in bytes; `size_unit`: the target's disks are multiples of it;
    `volumes`: what disks are to be there."""

    target: str
    repair: Repair
    size_unit: int = 512
    launches: bool = True
    rehearse: bool = False
    verify: bool = False
    declared: Declared = field(default_factory=Declared)
    bandwidth: int = 0
    tags: tuple[tuple[str, str], ...] = ()
    volumes: tuple[Volume, ...] = ()


def make(
    job: str,
    machine: Machine,
    platform: Platform,
    known: Mapping[str, Platform],
    choices: Choices,
    probe: ProbeNeed | None,
    source_findings: Iterable[Finding] = (),
) -> Plan:
    """The plan of one machine. Blockers are in its findings; nothing is raised for them."""
    firmware = machine.firmware or Firmware.BIOS
    unit = max(choices.size_unit, platform.limits.size_unit if choices.launches else 512)
    least = platform.limits.min_disk if choices.launches else 0
    wanted = {volume.disk: volume for volume in choices.volumes}
    disks = tuple(
        _disk(disk, f"{machine.name}-{index}", max(-(-disk.size // unit) * unit, least), wanted.get(disk.id, Volume(disk.id)))
        for index, disk in enumerate(machine.disks)
    )
    data = sum(disk.allocated or disk.size for disk in machine.disks)
    speed = min(COPY_BYTES_PER_SECOND, choices.bandwidth or COPY_BYTES_PER_SECOND)
    boots = int(choices.launches) + int(choices.rehearse)
    tags, told = fitting(choices.tags, platform)
    return Plan(
        job=job,
        machine=machine,
        target=choices.target,
        platform=platform.name,
        disks=disks,
        needs=needs(machine, platform, known, choices.repair, firmware, probe),
        repair=choices.repair,
        steps=tuple(_steps(choices)),
        findings=(*source_findings, *_findings(machine, platform, firmware), *told),
        data_bytes=data,
        declared=choices.declared,
        tags=tags,
        seconds=FIX_SECONDS + data / speed + boots * BOOT_SECONDS,
    )


def _disk(disk: Disk, name: str, size: int, wanted: Volume) -> DiskPlan:
    return DiskPlan(disk.id, name, disk.size, size, wanted.type, wanted.iops, wanted.throughput)


def with_findings(plan: Plan, more: Iterable[Finding]) -> Plan:
    """The plan with what others (the target) found, too."""
    return replace(plan, findings=(*plan.findings, *more))


def needs(
    machine: Machine,
    platform: Platform,
    known: Mapping[str, Platform],
    repair: Repair,
    firmware: Firmware,
    probe: ProbeNeed | None,
) -> Needs:
    """What the guest must have or lose to live on the platform. The fixes see this, never the platform's name."""
    arrive = platform.arrive
    leave = tuple(
        LeaveTool(other.name, tool.name, tool.paths, tool.units, tool.modules)
        for other in known.values()
        if other.name != platform.name
        for tool in other.leave.tools
    )
    return Needs(
        firmware=firmware,
        initramfs_required=arrive.initramfs.required,
        initramfs_wanted=arrive.initramfs.wanted,
        modules_present=arrive.modules_present,
        kernel_add=arrive.kernel.add,
        kernel_remove=arrive.kernel.remove,
        consoles=arrive.kernel.consoles,
        datasources=arrive.datasources,
        addresses=repair.addresses or (AddressNeed(),),
        leave=leave,
        keep_network=repair.keep_network,
        probe=probe,
    )


def _steps(choices: Choices) -> Iterator[Step]:
    yield from (Step.DESCRIBE, Step.PLAN, Step.RESERVE, Step.CAPTURE, Step.FIX)
    if choices.rehearse:
        yield Step.REHEARSE
    yield Step.UPLOAD
    if choices.verify:
        yield Step.VERIFY
    yield Step.REGISTER
    if choices.launches:
        yield from (Step.LAUNCH, Step.VALIDATE)
    yield Step.FINALIZE


def _findings(machine: Machine, platform: Platform, firmware: Firmware) -> Iterator[Finding]:
    limits = platform.limits
    for name in machine.assumed:
        yield _assumed(machine, name)
    if machine.architecture not in ("x86_64", "memory"):
        yield Finding(
            "machine.architecture",
            Level.BLOCKER,
            machine.name,
            f"the machine is {machine.architecture}, and only x86_64 machines can be moved",
            "leave it out of the wave",
        )
    if firmware not in limits.firmware:
        offered = " or ".join(limits.firmware)
        yield Finding(
            "machine.firmware",
            Level.BLOCKER,
            machine.name,
            f"the machine boots by {firmware}, and {platform.title} offers {offered}",
            "choose another target",
        )
    if limits.max_disks and len(machine.disks) > limits.max_disks:
        yield Finding(
            "machine.disks",
            Level.BLOCKER,
            machine.name,
            f"the machine has {len(machine.disks)} disks, and {platform.title} attaches at most {limits.max_disks}",
            "leave disks behind or join them",
        )
    for disk in machine.disks:
        if limits.max_disk and disk.size > limits.max_disk:
            yield Finding(
                "disk.size",
                Level.BLOCKER,
                disk.id,
                f"the disk has {disk.size / GIB:.0f} GiB, and {platform.title} holds at most {limits.max_disk / GIB:.0f} GiB",
                "shrink it or split it before the move",
            )
        if disk.sector_size not in limits.sector_sizes:
            yield Finding(
                "disk.sector-size",
                Level.BLOCKER,
                disk.id,
                f"the disk has {disk.sector_size}-byte sectors, and {platform.title} shows {limits.sector_sizes[0]}-byte ones",
                "copy it to a disk with 512-byte sectors at the source",
            )
    first = machine.disks[0] if machine.disks else None
    if first and firmware is Firmware.BIOS and 0 < limits.max_boot_disk_mbr < first.size:
        yield Finding(
            "disk.boot-size",
            Level.WARNING,
            first.id,
            f"the first disk has {first.size / GIB:.0f} GiB; BIOS sees only {limits.max_boot_disk_mbr / GIB:.0f} GiB of it",
            "check that its boot partition lies below that",
        )


def _assumed(machine: Machine, name: str) -> Finding:
    value = getattr(machine, name)
    if name == "nics":
        text = "nobody said which network cards the machine has: one, with an address from DHCP, is assumed"
    else:
        text = f"nobody said {ASSUMED.get(name, name)} of the machine: {value} is assumed"
    flag = {"memory_mib": "--memory", "nics": "--nic"}.get(name, f"--{name}")
    return Finding(f"assumed.{name}", Level.INFO, machine.name, text, f"say it with {flag} or in a --machine file")
