"""A folder of disk files, as hypervisors and exports leave them: which of them are one machine.

A folder below it is a machine (a datastore's NAME/NAME.vmdk, NAME/NAME_1.vmdk), its disks in the order of their names. Files that
lie in the folder itself are told apart by their names (a library's NAME.qcow2): NAME_1.vmdk belongs to NAME.vmdk, and
NAME-disk1.vmdk to NAME-disk2.vmdk. A machine file (NAME.toml beside its disks, or machine.toml in a folder of its own) says more.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from v2c.errors import UsageError, V2cError
from v2c.model import Machine
from v2c.sources import formats
from v2c.sources.disk import DiskSource
from v2c.sources.spec import MachineSpec, load_spec

SPEC = "machine.toml"
_HYPERV = "virtual hard disks"  # Hyper-V's own folder below the machine's
_NUMBERED = re.compile(r"(.+?)_\d{1,2}")  # of a further disk, when there is a first one without the number
_EXPORTED = re.compile(r"(.+?)[-_.](?:disk|hd|hdd|vol)[-_]?\d{1,3}", re.IGNORECASE)
_DIGITS = re.compile(r"\d+")
_DEEP = 4  # folders below the one that is named


@dataclass(frozen=True, slots=True)
class Found:
    """A machine in a folder: its disks, and what was read of it, or why nothing could be."""

    name: str
    files: tuple[Path, ...]
    machine: Machine | None = None
    error: V2cError | None = None


def machines(folder: Path) -> Iterator[Found]:
    """Every machine whose disk files lie in the folder or in one below it, by name; links are not followed out of it. Reads
    headers only. UsageError when there is no such folder."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", remedy="name the folder that the disk files lie in")
    for name, files in sorted(_groups(folder), key=lambda group: _natural(group[0])):
        yield _read(name, files)


def _read(name: str, files: tuple[Path, ...]) -> Found:
    said = [path for path in (files[0].with_name(f"{name}.toml"), files[0].with_name(SPEC)) if path.is_file()]
    try:
        spec = load_spec(said[0]) if said else MachineSpec()
        return Found(name, files, DiskSource(files, spec).describe(spec.name or name))
    except V2cError as error:
        return Found(name, files, error=error)


def _groups(folder: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    for place in _folders(folder, _DEEP):
        images = _images(place)
        if place == folder and not (place / SPEC).is_file():
            yield from _by_name(images)
        elif images:
            named = place.parent if place.name.casefold() == _HYPERV and place.parent != folder else place
            yield named.name, tuple(sorted(images, key=lambda path: _order(path, named.name)))


def _folders(folder: Path, deep: int) -> Iterator[Path]:
    yield folder
    if deep:
        for below in sorted(folder.iterdir()):
            if below.is_dir() and not below.is_symlink() and not below.name.startswith(".") and below.suffix != ".lck":
                yield from _folders(below, deep - 1)


def _images(folder: Path) -> list[Path]:
    """The disk files in it, without those that another one consists of or lies on."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in formats.SUFFIXES and path.is_file()]
    parts: set[Path] = set()
    for path in files:
        try:
            image = formats.examine(path.resolve(), formats.decide(path))
        except (V2cError, OSError):
            continue  # told when it is described
        parts.update(part for part in image.files if part != path.resolve())
    return [path for path in files if path.resolve() not in parts and not _extent(path, files)]


def _extent(path: Path, files: Sequence[Path]) -> bool:
    """Whether it is a part of a VMDK by its name, though the descriptor beside it could not be read."""
    base = re.fullmatch(r"(.+?)-(?:flat|delta|sesparse|ctk|rdmp?|[sf]\d{3})", path.stem)
    return base is not None and path.suffix.lower() == ".vmdk" and path.with_name(f"{base[1]}{path.suffix}") in files


def _by_name(images: Sequence[Path]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    stems = {path.stem for path in images}
    groups: dict[str, list[Path]] = {}
    for path in images:
        further, exported = _NUMBERED.fullmatch(path.stem), _EXPORTED.fullmatch(path.stem)
        belongs = further and further[1] in stems
        name = further[1] if further and belongs else exported[1] if exported else path.stem
        groups.setdefault(name, []).append(path)
    for name, files in groups.items():
        yield name, tuple(sorted(files, key=lambda path: _order(path, name)))


def _order(path: Path, name: str) -> tuple[bool, list[tuple[bool, int, str]]]:
    """The disk that is called as its machine is the first one."""
    return path.stem != name, _natural(path.name)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """disk2 before disk10."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return [(bool(_DIGITS.fullmatch(part)), int(part) if _DIGITS.fullmatch(part) else 0, part) for part in parts]
