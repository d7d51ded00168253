"""What there is to plan with: machines whose disk files lie here are read (headers only), the others are as the manifest says."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from v2c.errors import V2cError
from v2c.manifest import Manifest, Resolved
from v2c.manifest.schema import Source
from v2c.model import MIB, AddressNeed, Disk, Finding, Firmware, Level, Machine, Nic, Repair
from v2c.sources import open_source
from v2c.sources.spec import MachineSpec
from v2c.waveplan.nouns import Described

READ = ("files", "memory")  # the types of sources that can be read today
_AT_ONCE = 8  # each opens a qemu-nbd for some milliseconds


def describe(manifest: Manifest, machines: Iterable[Resolved], folder: Path) -> dict[str, Described]:
    """Every machine by id. `folder`: the manifest's, which the sources' folders are relative to. What cannot be read is a
    finding."""
    machines = list(machines)
    with ThreadPoolExecutor(min(_AT_ONCE, 2 * (os.cpu_count() or 1))) as pool:
        found = pool.map(lambda one: _one(manifest.sources[one.machine.source.at], one, folder), machines)
        return {one.id: described for one, described in zip(machines, found, strict=True)}


def locators(source: Source, one: Resolved, folder: Path) -> tuple[str, ...]:
    """The machine's source as `v2c convert` takes it."""
    said = one.machine.source
    if source.type == "memory":
        return (f"memory:{said.name or one.id}",)
    base = folder / (source.at or ".")
    return tuple(str((base / name).absolute()) for name in said.files)


def spec(one: Resolved) -> MachineSpec:
    """What the manifest says of the machine, as a source takes it."""
    hardware = one.machine.hardware
    return MachineSpec(
        name=one.id,
        memory_mib=-(-hardware.memory // MIB) if hardware.memory else None,
        vcpus=hardware.vcpus,
        firmware=Firmware(hardware.firmware) if hardware.firmware else None,
        nics=_nics(one) or None,
    )


def repair(one: Resolved) -> Repair:
    """What the manifest chose about the repair: addresses by card, keys by disk; cards that keep theirs leave all as it is."""
    nics = one.machine.nics
    given = tuple(
        AddressNeed(_mac(nic.mac), nic.address if "/" in nic.address else None, nic.gateway, nic.dns)
        for nic in nics
        if nic.address != "keep"
    )
    return Repair(
        keys=tuple(f"{disk.id}:{disk.unlock}" for disk in one.machine.disks if disk.unlock),
        addresses=given if any(need.address for need in given) else (),
        keep_network=bool(nics) and not given,
    )


def _mac(mac: str | None) -> str | None:
    return mac.lower().replace("-", ":") if mac else None


def _nics(one: Resolved) -> tuple[Nic, ...]:
    return tuple(Nic(_mac(nic.mac), nic.network) for nic in one.machine.nics)


def _one(source: Source, one: Resolved, folder: Path) -> Described:
    if source.type not in READ:
        return _said(source, one)
    try:
        opened = open_source(locators(source, one, folder), spec(one))
        machine = opened.describe(one.id)
        return _chosen(one, machine, tuple(opened.check(machine)))
    except V2cError as error:
        found = Finding("source.unreadable", Level.BLOCKER, one.id, error.text, error.remedy)
        return Described(_said(source, one).machine, (found,), failed=True)


def _chosen(one: Resolved, machine: Machine, findings: tuple[Finding, ...]) -> Described:
    """Without the disks that are left behind; what the manifest says of disks must be true of those that there are."""
    more: list[Finding] = []
    kept = list(machine.disks)
    files = [Path(name).name for name in one.machine.source.files]
    for said in one.machine.disks:
        places = [i for i, d in enumerate(machine.disks) if said.id == d.id or files[i : i + 1] == [said.id]]
        if not places:
            names = ", ".join(files or [d.id for d in machine.disks])
            more.append(Finding("disk.unknown", Level.BLOCKER, one.id, f'there is no disk "{said.id}"', f"it has {names}"))
            continue
        disk = machine.disks[places[0]]
        if said.size and said.size != disk.size:
            text = f"the disk has {disk.size} bytes, and the manifest says {said.size}"
            more.append(Finding("disk.drift", Level.WARNING, disk.id, text, "correct the manifest"))
        if not said.include:
            kept.remove(disk)
    return Described(replace(machine, disks=tuple(kept)), (*findings, *more), read=True)


def _said(source: Source, one: Resolved) -> Described:
    """The machine as the manifest has it; what it does not say is assumed, or a finding."""
    machine, hardware = one.machine, one.machine.hardware
    disks = [d for d in machine.disks if d.include]
    assumed = [
        name
        for name, value in (
            ("memory_mib", hardware.memory),
            ("vcpus", hardware.vcpus),
            ("firmware", hardware.firmware),
            ("nics", machine.nics),
        )
        if not value
    ]
    said = spec(one)
    made = Machine(
        name=one.id,
        disks=tuple(Disk(d.id, d.size or 0, path=d.id, allocated=min(d.used or 0, d.size or 0)) for d in disks),
        nics=said.nics or (Nic(),),
        memory_mib=said.memory_mib or 2048,
        vcpus=said.vcpus or 2,
        firmware=said.firmware or Firmware.BIOS,
        assumed=tuple(assumed),
    )
    found = []
    if source.type not in READ:
        text = f"a source of type {source.type} is not read yet: the machine is planned as the manifest says"
        found.append(Finding("source.unread", Level.WARNING, one.id, text, "compare it with the source before it moves"))
    if not disks or not all(d.size for d in disks):
        text = "nobody said how large its disks are, so neither is its time known"
        found.append(Finding("disk.size-unknown", Level.WARNING, one.id, text, "say disks: [{id: ..., size: ...}]"))
    return Described(made, tuple(found))
