"""The facts of `drivers/`, typed: one folder per platform, one strict `platform.toml` each.

Looked up in this order, later folders win by platform name: the package's own `drivers/` (beside the package in a checkout,
inside it in a wheel), then a site's overlay folder (`--drivers DIR` or `V2C_DRIVERS`). Unknown keys are errors, and a file
reports all its mistakes at once.
"""

import os
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from v2c.errors import UsageError
from v2c.model import Firmware

_OPTION = r"^([a-z][a-z0-9-]*)?$"  # an option of a locator
Word = Annotated[str, Field(min_length=1, pattern=r"^\S+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Tool(_Strict):
    """Tools a hypervisor puts into its guests: known by any of `paths`, silenced by disabling `units`; `modules` are the
    kernel modules that only make sense there."""

    name: str
    paths: tuple[Word, ...] = Field(min_length=1, strict=False)
    units: tuple[Word, ...] = Field(default=(), strict=False)
    modules: tuple[Word, ...] = Field(default=(), strict=False)


class Leave(_Strict):
    """What must go when a machine leaves this platform."""

    tools: tuple[Tool, ...] = Field(default=(), strict=False)


class Initramfs(_Strict):
    """Kernel modules that the boot image must hold: `required` (else the root disk never comes), `wanted` (where the
    kernel has them)."""

    required: tuple[Word, ...] = Field(default=(), strict=False)
    wanted: tuple[Word, ...] = Field(default=(), strict=False)


class Kernel(_Strict):
    """Words added to and removed from the kernel's command line; `consoles` in order, the last is /dev/console."""

    add: tuple[Word, ...] = Field(default=(), strict=False)
    remove: tuple[Word, ...] = Field(default=(), strict=False)
    consoles: tuple[Word, ...] = Field(default=("tty0", "ttyS0,115200n8"), strict=False)


class Arrive(_Strict):
    """What must come when a machine arrives here. `modules_present`: drivers that the kernel's module tree must have (a
    NIC); `datasources`: cloud-init's list, empty leaves cloud-init alone; `trusts`: the certificates whose signatures its
    firmware takes, where it verifies what it starts."""

    initramfs: Initramfs = Initramfs()
    kernel: Kernel = Kernel()
    modules_present: tuple[Word, ...] = Field(default=(), strict=False)
    datasources: tuple[Word, ...] = Field(default=(), strict=False)
    trusts: tuple[str, ...] = Field(default=(), strict=False)
    serial: Word = "ttyS0"


class Limits(_Strict):
    """What the platform can hold. Sizes in bytes; 0: no limit known. `min_disk`: a smaller one gets that size. `licensed`: the
    family of systems whose licence it provides ("windows"); empty: none."""

    size_unit: int = 512
    min_disk: int = 0
    max_disk: int = 0
    max_boot_disk_mbr: int = 0
    max_disks: int = 0
    sector_sizes: tuple[int, ...] = Field(default=(512,), strict=False)
    firmware: tuple[Firmware, ...] = Field(default=(Firmware.BIOS, Firmware.UEFI), strict=False)
    licensed: str = ""


class TagRules(_Strict):
    """What tags of a user may be there. `most`: how many beside v2c's own. `key`, `value`: regular expressions; `told`: the same
    in words. `fold`: the characters that become a dash, all others lower case; empty: tags are taken as they are."""

    most: int
    key: str
    value: str
    told: str
    fold: str = ""


class Locator(_Strict):
    """What the target's locator calls that which a manifest says of a machine: its cards' subnets and addresses (of all cards,
    separated by commas), the subnet of its tests, its cards' groups, the instance type, its disks' type, whose licence its system
    runs under. Empty: the locator has no word for it."""

    subnet: Annotated[str, Field(pattern=_OPTION)] = ""
    address: Annotated[str, Field(pattern=_OPTION)] = ""
    test: Annotated[str, Field(pattern=_OPTION)] = ""
    groups: Annotated[str, Field(pattern=_OPTION)] = ""
    type: Annotated[str, Field(pattern=_OPTION)] = ""
    volume: Annotated[str, Field(pattern=_OPTION)] = ""
    licence: Annotated[str, Field(pattern=_OPTION)] = ""

    @property
    def words(self) -> dict[str, str]:
        """Those that it has."""
        return {name: word for name, word in self if isinstance(word, str) and word}


class Drive(_Strict):
    """How QEMU shows disks: the controller device (empty: none) and the device per disk, with its options.

    In options, "{id}" is the backend node, "{index}" the disk's number from 0, "{boot}" its place in the boot order,
    "{serial}" 16 hexadecimal digits. `max_disks`: what the controller holds; 0: more than anybody has."""

    controller: str = ""
    device: str
    max_disks: int = 0


class Shape(_Strict):
    """The virtual hardware nearest to the platform's, for one firmware.

    In `smbios`, "{uuid}" is the machine's UUID and "{tail}" the same without its first three digits. `extra`: more
    options for QEMU, each with its value."""

    machine: str
    drive: Drive
    nic: str
    rng: bool = True
    smbios: tuple[str, ...] = Field(default=(), strict=False)
    extra: tuple[tuple[str, ...], ...] = Field(default=(), strict=False)


class Boot(_Strict):
    """Shapes by firmware, which metadata service answers at 169.254.169.254, and what no emulation proves (sentences)."""

    bios: Shape | None = None
    uefi: Shape | None = None
    metadata: Literal["aws", "gcp", "azure", "none"] = "none"
    unproven: tuple[str, ...] = Field(default=(), strict=False)


class Platform(_Strict):
    """One platform: a cloud, a hypervisor, or bare metal."""

    name: Word
    title: str
    kind: Literal["cloud", "hypervisor", "physical"]
    source: str = ""
    leave: Leave = Leave()
    arrive: Arrive = Arrive()
    limits: Limits = Limits()
    tags: TagRules | None = None
    locator: Locator = Locator()
    boot: Boot | None = None


def folders() -> list[Path]:
    """The folders of platform facts, least specific first. The package's own must exist; UsageError for a bad overlay."""
    here = Path(__file__).resolve().parent
    found = [d for d in (here / "_drivers", here.parent / "drivers") if d.is_dir()][:1]
    overlay = os.environ.get("V2C_DRIVERS", "")
    if overlay:
        if not Path(overlay).is_dir():
            raise UsageError(f"the drivers folder {overlay} does not exist", remedy="correct --drivers or V2C_DRIVERS")
        found.append(Path(overlay))
    return found


def payload(name: str) -> str:
    """A script of `drivers/payload/` that runs inside the guest."""
    for folder in reversed(folders()):
        path = folder / "payload" / name
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise UsageError(f"drivers/payload/{name} is missing", remedy="install v2c again")


def read(path: Path) -> Platform:
    """One platform.toml. UsageError that lists every mistake as `file: path.to.key: what`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", remedy="correct the file") from error
    try:
        platform = Platform.model_validate(document)
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise UsageError("; ".join(lines), remedy="correct the file") from error
    if platform.name != path.parent.name:
        raise UsageError(f'{path}: name: "{platform.name}" differs from its folder\'s "{path.parent.name}"')
    return platform


def _files() -> Iterator[Path]:
    for folder in folders():
        yield from sorted(folder.glob("*/platform.toml"))


@cache
def _load(overlay: str) -> dict[str, Platform]:
    return {platform.name: platform for platform in map(read, _files())}


def platforms() -> dict[str, Platform]:
    """Every platform by name."""
    return _load(os.environ.get("V2C_DRIVERS", ""))


def platform(name: str) -> Platform:
    """The platform called `name`; UsageError names those that exist."""
    known = platforms()
    if name not in known:
        raise UsageError(f'there is no platform "{name}"', remedy=f"choose one of {', '.join(sorted(known))}")
    return known[name]
