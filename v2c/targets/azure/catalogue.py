"""What Azure offers where: sizes by its own catalogue, and which of them a moved server is given unasked.

Facts about names and rights are drivers/azure/target.toml's.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from v2c import platforms
from v2c.errors import UsageError
from v2c.model import Firmware
from v2c.sizing import Offer
from v2c.targets.azure.session import Session


class Sizes(BaseModel):
    """Regular expressions over the names of sizes. `general`: those that may be chosen unasked; `preferred`: of these, the
    generations that are advised; `burst`: their processors are throttled."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    general: str
    preferred: str
    burst: str


class Rights(BaseModel):
    """Actions of Azure's RBAC, by what is asked for; `address` at the virtual network, for fixed addresses; `blob*` at the
    storage account: always there, for a container of the job's own, on the data itself, and those that Azure may ask for when
    it imports."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    always: tuple[str, ...]
    create_group: tuple[str, ...]
    reserve_capacity: tuple[str, ...]
    address: tuple[str, ...]
    blob: tuple[str, ...]
    blob_container: tuple[str, ...]
    blob_data: tuple[str, ...]
    blob_import: tuple[str, ...]


class Accounts(BaseModel):
    """Kinds of storage accounts that hold page blobs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kinds: tuple[str, ...]


class Drivers(BaseModel):
    """Kernel modules: one of `accelerated` drives the card behind accelerated networking, `nvme` the NVMe controller."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    accelerated: tuple[str, ...]
    nvme: str


class Limits(BaseModel):
    """Bytes; `subnet_reserved`: addresses that Azure keeps of each subnet."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    least_disk: int
    most_boot_disk: int
    most_page_blob: int
    subnet_reserved: int


class Facts(BaseModel):
    """drivers/azure/target.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str = ""
    sizes: Sizes
    rights: Rights
    drivers: Drivers
    limits: Limits
    accounts: Accounts
    skus: tuple[str, ...] = Field(min_length=1)


@cache
def facts() -> Facts:
    """The facts, a site's own where there are any."""
    for folder in reversed(platforms.folders()):
        file = folder / "azure" / "target.toml"
        if file.is_file():
            return Facts.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    raise UsageError("drivers/azure/target.toml is missing", remedy="install v2c again")


@dataclass(frozen=True, slots=True)
class Size:
    """A size of the catalogue: what is offered, and what only Azure asks. `trusted`: it has Trusted Launch; `refused`: why this
    subscription does not get it."""

    offer: Offer
    family: str
    controllers: tuple[str, ...]
    accelerated: bool
    premium: bool
    trusted: bool
    refused: str = ""
    general: bool = True


def sizes(session: Session) -> dict[str, Size]:
    """All sizes of the location by name; empty when Azure has no such location."""
    return _offered(session)[0]


def disk_kinds(session: Session) -> frozenset[str]:
    """The kinds of managed disks that the location has; empty: Azure does not tell."""
    return _offered(session)[1]


def _offered(session: Session) -> tuple[dict[str, Size], frozenset[str]]:
    """Asked for once: the list is long."""
    if session.kept.get("offered") is None:
        where = session.place.location
        skus = session.compute.resource_skus

        def ask() -> tuple[dict[str, Size], frozenset[str]]:
            found = session.list("the sizes cannot be listed", lambda: skus.list(filter=f"location eq '{where}'"))
            known = {sku.name: _size(sku, where) for sku in found if sku.resource_type == "virtualMachines"}
            kinds = (sku.name for sku in found if sku.resource_type == "disks" and not any(_refusals(sku, where)))
            return known, frozenset(kinds)

        session.kept["offered"] = session.once(f"sizes {where}", ask)
    known: tuple[dict[str, Size], frozenset[str]] = session.kept["offered"]
    return known


def _size(sku: Any, where: str) -> Size:
    able = {one.name: one.value for one in sku.capabilities or []}
    known = facts().sizes
    generations = [word.strip() for word in able.get("HyperVGenerations", "V1").split(",")]
    firmware = [kind for word, kind in (("V1", Firmware.BIOS), ("V2", Firmware.UEFI)) if word in generations]
    controllers = tuple(word.strip() for word in able.get("DiskControllerTypes", "SCSI").split(","))
    disks = int(able.get("MaxDataDiskCount", "0"))
    offer = Offer(
        name=sku.name,
        vcpus=int(able.get("vCPUsAvailable", able.get("vCPUs", "0"))),
        memory_mib=int(float(able.get("MemoryGB", "0")) * 1024),
        firmware=tuple(firmware),
        max_disks=disks + 1,
        max_nics=int(able.get("MaxNetworkInterfaces", "0")),
        burst=bool(re.search(known.burst, sku.name)),
        preferred=bool(re.search(known.preferred, sku.name)),
    )
    # NVMe only: bootable when the guest has the driver, which is known after the repair; so by name only
    general = (
        bool(re.search(known.general, sku.name)) and able.get("CpuArchitectureType", "x64") == "x64" and "SCSI" in controllers
    )
    return Size(
        offer,
        family=str(sku.family or ""),
        controllers=controllers,
        accelerated=able.get("AcceleratedNetworkingEnabled", "False") == "True",
        premium=able.get("PremiumIO", "False") == "True",
        trusted="V2" in generations and able.get("TrustedLaunchDisabled", "False") != "True",
        refused=next(iter(_refusals(sku, where)), ""),
        general=general,
    )


def _refusals(sku: Any, where: str) -> Iterator[str]:
    for restriction in sku.restrictions or []:
        kind = getattr(restriction.type, "value", restriction.type)
        if kind == "Location" and where in [str(value).lower() for value in restriction.values_property or []]:
            yield str(getattr(restriction.reason_code, "value", restriction.reason_code))
