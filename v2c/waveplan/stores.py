"""On which datastores of its source a machine's disks lie: as the manifest says, else as their paths do."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from v2c.manifest import Manifest, Resolved
from v2c.manifest.parts import Disk
from v2c.sources.disk import ids_of

OTHERS = "*"  # every datastore that is not named
_PATHS = (
    re.compile(r"\[([^\[\]]+)\] .*"),  # "[gold] erp/erp.vmdk": as vSphere and its inventories write it
    re.compile(r".*/vmfs/volumes/([^/]+)/.*"),  # as ESXi mounts it
)


def datastores(one: Resolved, files: Sequence[str]) -> tuple[str, ...]:
    """Their names at the source, in the order of the disks; of a disk of which nobody knows it there is none. `files`: where its
    disk files lie, of a source that has some."""
    said = {disk.id: disk for disk in one.machine.disks}
    found: list[str | None] = []
    for file, id in zip(files, ids_of([Path(file) for file in files]), strict=True):
        disk = said.pop(Path(file).name, None) or said.pop(id, None)
        found += [datastore(disk) or datastore_of(file)] if disk is None or disk.include else []
    found += [datastore(disk) for disk in said.values() if disk.include]
    return tuple(dict.fromkeys(name for name in found if name))


def datastore(disk: Disk | None) -> str | None:
    """Where a disk of the manifest lies; None: it does not say."""
    return (disk.datastore or datastore_of(disk.id)) if disk else None


def limits(manifest: Manifest, known: Iterable[tuple[Resolved, tuple[str, ...]]]) -> dict[str, int]:
    """How many copies may run at once from each datastore that one of these machines lies on, where that is limited; by `key`."""
    found: dict[str, int] = {}
    for one, names in known:
        said = manifest.sources[one.machine.source.at].datastores
        for name in names:
            if most := said.get(name) or said.get(OTHERS):
                found[key(one, name)] = most.copies
    return found


def key(one: Resolved, datastore: str) -> str:
    """A datastore of the machine's source, by a name that it has among those of all sources."""
    return f"{one.machine.source.at} [{datastore}]"


def datastore_of(path: str) -> str | None:
    """The datastore that a path names; None: it names none."""
    return next((match[1] for form in _PATHS if (match := form.fullmatch(path))), None)
