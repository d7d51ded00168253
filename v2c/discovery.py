"""What was found at a source, as a manifest that somebody edits: every machine, with what is known of it and nothing else."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from v2c.errors import UsageError
from v2c.manifest import Manifest
from v2c.manifest.tables.drafts import slug
from v2c.manifest.values import size
from v2c.model import MIB, Machine
from v2c.sources.folder import Found, machines

__all__ = ["Discovered", "Found", "discover", "manifest"]


@dataclass(frozen=True, slots=True)
class Discovered:
    """What lies in a folder: machines, and those of which something could not be read."""

    folder: Path
    machines: tuple[Found, ...]
    broken: tuple[Found, ...]


def discover(folder: Path) -> Discovered:
    """Looks through a folder of disk files; reads headers only. UsageError when there is no such folder."""
    found = tuple(machines(folder))
    return Discovered(folder, tuple(f for f in found if f.machine), tuple(f for f in found if f.machine is None))


def manifest(found: Discovered, to: str, *, name: str = "", wave: str = "", beside: Path | None = None) -> Manifest:
    """The machines as one wave that goes `to`. `beside`: the folder that the manifest will lie in, which the source's is
    written relative to where that leads down. UsageError when a file's name cannot stand in a manifest."""
    place = found.folder.absolute()
    base = beside.absolute() if beside else None
    at = os.path.relpath(place, base) if base and place.is_relative_to(base) else str(place)
    ids: set[str] = set()
    document = {
        "version": 1,
        "name": slug(name or place.name),
        "sources": {"images": {"type": "files", "at": at}},
        "targets": {slug(to): {"to": to}},
        "defaults": {"target": slug(to)},
        "waves": [{"name": slug(wave or "wave-1"), "machines": [_machine(one, place, ids) for one in found.machines]}],
    }
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        text = "; ".join(one["msg"] for one in error.errors())
        raise UsageError(f"what lies in {found.folder} makes no manifest: {text}", remedy="rename the files") from error


def _machine(one: Found, folder: Path, ids: set[str]) -> dict[str, Any]:
    assert one.machine
    id = base = slug(one.name)
    number = 1
    while id in ids:
        number += 1
        id = f"{base[:58]}-{number}"
    ids.add(id)
    files = [str(path.absolute().relative_to(folder)) for path in one.files]
    made: dict[str, Any] = {"id": id, "source": {"at": "images", "files": files}}
    if id != one.machine.name:
        made["name"] = slug(one.machine.name)
    if hardware := _hardware(one.machine):
        made["hardware"] = hardware
    nics = [{k: v for k, v in (("mac", nic.mac), ("network", nic.network)) if v} for nic in one.machine.nics]
    if "nics" not in one.machine.assumed and all(nics):
        made["nics"] = nics
    return made


def _hardware(machine: Machine) -> dict[str, Any]:
    """What somebody or something said; what was assumed is left for who edits the manifest."""
    known = {
        "vcpus": ("vcpus", machine.vcpus),
        "memory": ("memory_mib", size(machine.memory_mib * MIB)),
        "firmware": ("firmware", str(machine.firmware)),
    }
    return {name: value for name, (field, value) in known.items() if field not in machine.assumed}
