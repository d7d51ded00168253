"""What there is to plan with: machines whose disk files lie here are read (headers only), the others are as the manifest says."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from v2c.errors import V2cError
from v2c.manifest import Manifest, Resolved
from v2c.manifest.schema import Source, Target
from v2c.model import MIB, AddressNeed, Disk, Finding, Firmware, Level, Machine, Nic, Repair
from v2c.sources import open_source
from v2c.sources.disk import ids_of
from v2c.sources.spec import MachineSpec
from v2c.usage import Usage
from v2c.waveplan.nouns import Described
from v2c.waveplan.stores import datastores
from v2c.waveplan.volumes import untyped, volumes

READ = ("files", "memory")  # the types of sources that can be read today
_AT_ONCE = 8  # each opens a qemu-nbd for some milliseconds


def describe(manifest: Manifest, machines: Iterable[Resolved], folder: Path) -> dict[str, Described]:
    """Every machine by id. `folder`: the manifest's, which the sources' folders are relative to. What cannot be read is a
    finding."""
    machines = list(machines)
    with ThreadPoolExecutor(min(_AT_ONCE, 2 * (os.cpu_count() or 1))) as pool:
        found = pool.map(lambda one: _one(manifest.sources[one.machine.source.at], one, folder), machines)
        told = zip(machines, found, strict=True)
        return {one.id: _placed(manifest, one, described, folder) for one, described in told}


def stores_of(manifest: Manifest, one: Resolved, folder: Path) -> tuple[str, ...]:
    """The datastores that the machine lies on, as far as they are known."""
    return datastores(one, _files(manifest, one, folder))


def _placed(manifest: Manifest, one: Resolved, said: Described, folder: Path) -> Described:
    """With where it lies, and what becomes of its disks."""
    chosen = volumes(manifest, one, said.machine, kept(one, _files(manifest, one, folder)))
    findings = (*said.findings, *untyped(manifest, one))
    return replace(said, findings=findings, stores=stores_of(manifest, one, folder), volumes=chosen)


def _files(manifest: Manifest, one: Resolved, folder: Path) -> tuple[str, ...]:
    source = manifest.sources[one.machine.source.at]
    return locators(source, one, folder) if source.type == "files" else ()


def locators(source: Source, one: Resolved, folder: Path) -> tuple[str, ...]:
    """The machine's source as `v2c convert` takes it, with the disks that are left behind."""
    said = one.machine.source
    if source.type == "memory":
        return (f"memory:{said.name or one.id}",)
    base = folder / (source.at or ".")
    return tuple(str((base / name).absolute()) for name in said.files)


def kept(one: Resolved, files: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The files of disks that are not left behind, each with the id that it has among all of them: as the manifest names it."""
    left = {disk.id for disk in one.machine.disks if not disk.include}
    named = zip(files, ids_of([Path(file) for file in files]), strict=True)
    return tuple((file, id) for file, id in named if not left & {id, Path(file).name})


def moved(one: Resolved, files: Sequence[str]) -> tuple[str, ...]:
    """The files of those disks."""
    return tuple(file for file, _ in kept(one, files))


def sources_of(manifest: Manifest, one: Resolved, folder: Path) -> tuple[str, ...]:
    """What of it moves, and a name for it where nothing can be read yet: part of the machine's job."""
    source = manifest.sources[one.machine.source.at]
    found = locators(source, one, folder)
    found = moved(one, found) if source.type == "files" else found
    return found or (f"{source.type}:{one.machine.source.name or one.id}",)


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


def tags(target: Target, one: Resolved) -> tuple[tuple[str, str], ...]:
    """The user's tags of its instance and disks: its target's, and over them its own."""
    return tuple(sorted({**target.tags, **one.machine.tags}.items()))


def used(one: Resolved) -> Usage | None:
    """What it is to be sized by, when that is its use: a machine of the right size has the manifest's headroom above it."""
    size = one.machine.size
    if not (size and size.right_sizing == "used" and size.cpu_used and size.memory_used):
        return None
    busy = 100 / (100 + size.headroom)
    return Usage(size.cpu_used / 100, size.memory_used / 100, "the manifest", busy, busy)


def _mac(mac: str | None) -> str | None:
    return mac.lower().replace("-", ":") if mac else None


def _nics(one: Resolved) -> tuple[Nic, ...]:
    return tuple(Nic(_mac(nic.mac), nic.network) for nic in one.machine.nics)


def _one(source: Source, one: Resolved, folder: Path) -> Described:
    if source.type not in READ:
        return _said(source, one)
    try:
        every = locators(source, one, folder)
        opened = open_source(moved(one, every) if source.type == "files" else every, spec(one))
        machine = opened.describe(one.id)
        return _chosen(one, machine, tuple(opened.check(machine)), every if source.type == "files" else ())
    except V2cError as error:
        found = Finding("source.unreadable", Level.BLOCKER, one.id, error.text, error.remedy)
        return Described(_said(source, one).machine, (found,), failed=True)


def _chosen(one: Resolved, machine: Machine, findings: tuple[Finding, ...], files: tuple[str, ...]) -> Described:
    """What the manifest says of disks must be true of those that there are. `files`: of all disks, of a source that has some."""
    more: list[Finding] = []
    every = {Path(file).name for file in files} | set(ids_of([Path(file) for file in files]))
    known = [{Path(file).name, id} for file, id in kept(one, files)] or [{disk.id} for disk in machine.disks]
    for said in one.machine.disks:
        if not said.include and said.id in every:
            continue
        places = [number for number, names in enumerate(known) if said.id in names]
        if not places:
            names = ", ".join([Path(file).name for file in files] or [d.id for d in machine.disks])
            more.append(Finding("disk.unknown", Level.BLOCKER, one.id, f'there is no disk "{said.id}"', f"it has {names}"))
            continue
        disk = machine.disks[places[0]]
        if said.size and said.size != disk.size:
            text = f"the disk has {disk.size} bytes, and the manifest says {said.size}"
            more.append(Finding("disk.drift", Level.WARNING, disk.id, text, "correct the manifest"))
        if not said.include:
            text = "a machine that is made up moves with all its disks"
            more.append(Finding("disk.left", Level.WARNING, disk.id, text, "leave include out"))
    return Described(machine, (*findings, *more), read=True)


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
