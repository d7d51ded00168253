"""What drivers/gcp/catalogue.toml knows: permissions, what a series demands, which quota counts; and the types of a zone."""

import tomllib
from functools import cache

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from v2c import platforms
from v2c.errors import UsageError
from v2c.model import Caps
from v2c.sizing import Offer
from v2c.targets.gcp.session import Session

USUAL = ("pd-balanced", "hyperdisk-balanced")  # disk types for servers in general, the first that a series takes


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Series(_Strict):
    """A machine series: `gvnic`: its only network card; `nvme`: how it shows disks; `advised`: chosen without being named;
    `quota`: what its processors count against, empty: a quota that regions.get does not tell; `disks`: how the names of the
    disk types begin that it takes."""

    name: str
    gvnic: bool = False
    nvme: bool = False
    advised: bool = False
    quota: str = ""
    disks: tuple[str, ...] = Field(default=("",), strict=False)

    @property
    def disk_type(self) -> str:
        """What its disks are when nobody says more."""
        return next((usual for usual in USUAL if self.takes(usual)), USUAL[0])

    def takes(self, disk_type: str) -> bool:
        """Whether its instances run on disks of that type."""
        return disk_type.startswith(self.disks)

    @property
    def drivers(self) -> tuple[str, ...]:
        """Kernel modules that a guest must have for it."""
        return tuple(module for module, asked in (("gve", self.gvnic), ("nvme", self.nvme)) if asked)

    def lacking(self, caps: Caps) -> str:
        """Which driver the guest lacks for it; empty: none."""
        return ", ".join(module for module in self.drivers if not caps.drives(module))


class Provisioned(_Strict):
    """The types of disks of which operations per second, or MiB/s, can be said."""

    iops: tuple[str, ...] = Field(strict=False)
    throughput: tuple[str, ...] = Field(strict=False)


class Catalogue(_Strict):
    """The file. `cards_least`, `cards_most`: network cards that any type takes, and that the largest takes."""

    source: str
    permissions: tuple[str, ...] = Field(strict=False)
    permissions_reserve: tuple[str, ...] = Field(strict=False)
    permissions_address: tuple[str, ...] = Field(strict=False)
    permissions_account: tuple[str, ...] = Field(strict=False)
    permissions_bucket: tuple[str, ...] = Field(strict=False)
    permissions_own_bucket: tuple[str, ...] = Field(strict=False)
    cards_least: int
    cards_most: int
    series: tuple[Series, ...] = Field(strict=False)
    disk_quota: dict[str, str]
    provisioned: Provisioned

    def cards(self, vcpus: int) -> int:
        """How many network cards a type with so many processors takes: one for each, within the bounds."""
        return min(self.cards_most, max(self.cards_least, vcpus))

    def series_of(self, type: str) -> Series:
        """The series of a machine type; one that is not listed demands what the newest do."""
        name = type.partition("-")[0]
        return next((s for s in self.series if s.name == name), Series(name=name, gvnic=True, nvme=True))


@cache
def catalogue() -> Catalogue:
    """The most specific file there is. UsageError lists every mistake in it."""
    path = next(p for folder in reversed(platforms.folders()) if (p := folder / "gcp" / "catalogue.toml").is_file())
    try:
        return Catalogue.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise UsageError(f"{path}: {error}", remedy="correct the file") from error


def offers(session: Session, zone: str) -> list[Offer]:
    """The machine types of a zone, as machineTypes.list tells them; those that every guest drives are preferred."""
    found = []
    for told in session.page(f"zones/{zone}/machineTypes"):
        if told.get("architecture", "X86_64") != "X86_64" or told.get("deprecated") or told.get("accelerators"):
            continue
        advised = catalogue().series_of(told["name"]).advised
        found.append(
            Offer(
                told["name"],
                int(told["guestCpus"]),
                int(told["memoryMb"]),
                max_disks=int(told.get("maximumPersistentDisks", 0)),
                max_nics=catalogue().cards(int(told["guestCpus"])),
                burst=bool(told.get("isSharedCpu")),
                preferred=advised,
            )
        )
    return found
