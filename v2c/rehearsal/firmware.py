"""Where this host keeps its UEFI firmware: found by the descriptors that QEMU's packages install.

QEMU's docs/interop/firmware.json; the highest file name does not win, the lowest does, and a user's folder comes first.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from v2c.errors import ToolError

FOLDERS = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))
SEALED = {"amd-sev-snp", "intel-tdx"}
SMM, VERIFYING = "requires-smm", {"secure-boot", "enrolled-keys"}


@dataclass(frozen=True, slots=True)
class Uefi:
    """The read-only code image and the template of its variables. `smm`: it guards its variables by system management mode."""

    code: Path
    variables: Path
    smm: bool = False


def uefi(folders: tuple[Path, ...] = FOLDERS, *, secure: bool = False) -> Uefi:
    """An x86_64 UEFI for q35 without secure boot, or with it on and Microsoft's keys enrolled; ToolError with the package that
    brings it."""
    for path in _descriptors(folders):
        found = _read(path, secure=secure)
        if found is not None:
            return found
    kind = "UEFI firmware with secure boot" if secure else "UEFI firmware"
    raise ToolError(f"no {kind} for virtual machines is installed", remedy="apt install ovmf")


def verifies(folders: tuple[Path, ...] = FOLDERS) -> bool:
    """Whether this host has one with secure boot."""
    return any(_read(path, secure=True) for path in _descriptors(folders))


def _descriptors(folders: tuple[Path, ...]) -> Iterator[Path]:
    found: dict[str, Path] = {}
    for folder in reversed(folders):  # a file in an earlier folder hides its namesake in a later one
        found |= {path.name: path for path in folder.glob("*.json")}
    yield from (found[name] for name in sorted(found))


def _read(path: Path, *, secure: bool) -> Uefi | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        mapping = document["mapping"]
        features = set(document["features"])
        fits = (
            "uefi" in document["interface-types"]
            and mapping["device"] == "flash"
            and mapping["executable"]["format"] == "raw"
            and not SEALED & features
            and (features >= VERIFYING if secure else not {SMM, *VERIFYING} & features)
            and any(
                target["architecture"] == "x86_64" and any("q35" in machine for machine in target["machines"])
                for target in document["targets"]
            )
        )
        code, variables = (Path(mapping[name]["filename"]) for name in ("executable", "nvram-template"))
        found = Uefi(code, variables, SMM in features) if fits else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # another package's file: not ours to judge
    return found if found and found.code.is_file() and found.variables.is_file() else None
