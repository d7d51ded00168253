"""What each disk of a machine becomes at its cloud: as the disk says, else as the storage map says of its datastore."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from v2c.manifest import Manifest, Resolved
from v2c.manifest.schema import StorageMap
from v2c.model import Finding, Level, Machine, Volume
from v2c.platforms import platforms
from v2c.waveplan.stores import datastore, datastore_of


def volumes(manifest: Manifest, one: Resolved, machine: Machine, files: Sequence[tuple[str, str]]) -> tuple[Volume, ...]:
    """By disk of the machine; a disk of which nobody says anything is left to its target. `files`: where these disks lie,
    of a source that has some, each with the id that the manifest may name it by."""
    if not _has_types(manifest, one):
        return ()
    found = []
    for index, disk in enumerate(machine.disks):
        file, id = files[index] if index < len(files) else ("", disk.id)
        said = next((s for s in one.machine.disks if s.include and s.id in (id, Path(file).name)), None)
        if said and said.type:
            found.append(Volume(disk.id, said.type, said.iops or 0, said.throughput or 0))
        elif mapped := _mapped(manifest, one, datastore(said) or datastore_of(file)):
            iops, throughput = (said.iops, said.throughput) if said else (None, None)
            found.append(Volume(disk.id, mapped.type, iops or mapped.iops or 0, throughput or mapped.throughput or 0))
        elif said and (said.iops or said.throughput):
            found.append(Volume(disk.id, "", said.iops or 0, said.throughput or 0))
    return tuple(found)


def untyped(manifest: Manifest, one: Resolved) -> Iterator[Finding]:
    """Types that were said of disks whose target has none."""
    if _has_types(manifest, one):
        return
    for disk in one.machine.disks:
        if disk.include and disk.type:
            text = f"its type {disk.type} is not used: disks have no types at {one.machine.target}"
            yield Finding("disk.type", Level.WARNING, disk.id, text, "leave it out")


def _has_types(manifest: Manifest, one: Resolved) -> bool:
    target = manifest.targets.get(one.machine.target or "")
    known = platforms().get(target.to.partition(":")[0]) if target else None
    return bool(known and known.locator.volume)


def _mapped(manifest: Manifest, one: Resolved, store: str | None) -> StorageMap | None:
    """The map that holds for a datastore: the one of that name before the one for all others, and the target's own before the one
    for all targets."""
    maps = [m for m in manifest.storage if m.target in (None, one.machine.target) and m.source in (store, "*")]
    return min(maps, key=lambda m: (m.source == "*", m.target is None), default=None)
