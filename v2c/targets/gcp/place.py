"""Where a migration goes, as the locator says it; and the small questions that every verb asks there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from v2c.errors import TargetError, UsageError
from v2c.model import GIB, DiskPlan, Plan
from v2c.targets import percard, together
from v2c.targets.gcp import names
from v2c.targets.gcp.catalogue import catalogue
from v2c.targets.gcp.session import ApiError, Endpoints, Session, failures, refused

KNOWN = (
    *("bucket", "network", "subnet", "type", "disk-type", "service-account", "reserve", "name", "license"),
    *("kms", "secure-boot", "private-ip"),
    *("compute-endpoint", "storage-endpoint"),
)
KEY_SHAPE = "projects/P/locations/L/keyRings/R/cryptoKeys/K"
KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
LEAST_GB = 10  # of a persistent disk (diskTypes.get, validDiskSize): a smaller image gives a disk of this size


@dataclass
class Place:
    """`reserve_hours`: 0: no capacity is reserved. `bucket` empty: one of our own, for the job's time. `kms`: of all disks and
    images, and of an own bucket. `secure_boot`: of instances whose guest boots by UEFI. `subnet`, `private_ip`: of the machine's
    cards in their order, separated by commas (the addresses: of the real instance); `network`: of the first card. `license`: of
    the boot image, which decides how it is billed ("projects/rhel-cloud/global/licenses/rhel-9-byos")."""

    session: Session
    zone: str
    bucket: str = ""
    network: str = "default"
    subnet: str = ""
    type: str = ""
    disk_type: str = ""
    account: str = ""
    reserve_hours: int = 0
    name: str = ""
    license: str = ""
    kms: str = ""
    secure_boot: bool = False
    private_ip: str = ""

    @classmethod
    def parse(cls, rest: str) -> "Place":
        """ "PROJECT/ZONE[?KEY=VALUE&...]". UsageError lists the keys."""
        where, _, query = rest.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        shaped = re.fullmatch(r"((?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9])/([a-z]+-[a-z]+\d+-[a-z])", where)
        hours = options.get("reserve", "0")
        if shaped is None or set(options) - set(KNOWN) or not hours.isdecimal():
            remedy = f"write gcp:PROJECT/ZONE, with {', '.join(f'{key}=' for key in KNOWN)} behind a ?"
            raise UsageError(f'"gcp:{rest}" is not understood', remedy=remedy)
        if "name" in options and not names.NAME.fullmatch(options["name"]):
            raise UsageError(f'"{options["name"]}" cannot be the name of an instance', remedy="use a-z, 0-9 and -")
        if "kms" in options and not KEY.fullmatch(options["kms"]):
            raise UsageError(f'"{options["kms"]}" names no key', remedy=f"write kms={KEY_SHAPE}")
        if options.get("secure-boot", "no") not in ("yes", "no"):
            raise UsageError(f"secure-boot={options['secure-boot']} is not understood", remedy="write yes or no")
        for wrong in percard.strange(percard.values(options.get("private-ip", ""))):
            raise UsageError(f"private-ip={wrong} is no address", remedy=percard.REMEDY)
        at = (shaped[1], Endpoints.chosen(options))
        return cls(
            together.once(("gcp session", *at), lambda: Session(*at)),
            shaped[2],
            bucket=options.get("bucket", ""),
            network=options.get("network", "default"),
            subnet=options.get("subnet", ""),
            type=options.get("type", ""),
            disk_type=options.get("disk-type", ""),
            account=options.get("service-account", ""),
            reserve_hours=int(hours),
            name=options.get("name", ""),
            license=options.get("license", ""),
            kms=options.get("kms", ""),
            secure_boot=options.get("secure-boot", "no") == "yes",
            private_ip=options.get("private-ip", ""),
        )

    @property
    def region(self) -> str:
        return self.zone.rpartition("-")[0]

    @property
    def project(self) -> str:
        return self.session.project

    def bucket_of(self, job: str) -> str:
        """The bucket that a job stages in."""
        return self.bucket or names.bucket(self.project, job)

    def type_of(self, disk: DiskPlan) -> str:
        """The type that a disk of an instance gets: its own, or the locator's, or what is usual with the machine's type."""
        return disk.type or self.disk_type or catalogue().series_of(self.type).disk_type

    def in_zone(self, kind: str, name: str = "") -> str:
        return f"zones/{self.zone}/{kind}/{name}".rstrip("/")

    def in_region(self, kind: str, name: str = "") -> str:
        return f"regions/{self.region}/{kind}/{name}".rstrip("/")

    def full(self, path: str) -> str:
        """A path as one names a thing in another's body."""
        return f"projects/{self.project}/{path}"

    def network_path(self) -> str:
        """The network that a real instance joins; "projects/HOST/global/networks/NAME" is one of another project."""
        return self.network if "/" in self.network else self.full(f"global/networks/{self.network}")

    @property
    def subnets(self) -> list[str]:
        """As the locator names them, by card; an empty one: not named."""
        return percard.values(self.subnet)

    @property
    def addresses(self) -> list[str]:
        """Of the real instance, by card; an empty one: by DHCP."""
        return percard.values(self.private_ip)

    def subnet_of(self, number: int) -> str:
        """The subnet of a card, counted from 0, as the locator names it; empty: it does not."""
        return next(iter(self.subnets[number : number + 1]), "")

    def address(self, number: int) -> str:
        """The address that a card of the real instance is to have; empty: by DHCP."""
        return next(iter(self.addresses[number : number + 1]), "")

    def subnet_path(self, number: int) -> str:
        """The subnet of a card as one names it in another's body; empty: none was named."""
        subnet = self.subnet_of(number)
        return subnet if "/" in subnet or not subnet else self.full(self.in_region("subnetworks", subnet))

    def instance_name(self, plan: Plan, *, cutover: bool) -> str:
        return self.name if cutover and self.name else names.instance(plan, cutover=cutover)

    def look(self, path: str) -> dict[str, Any] | None:
        """A thing of Compute Engine; None when there is none."""
        try:
            found: dict[str, Any] = self.session.compute("GET", path)
            return found
        except ApiError as error:
            if error.status == 404:
                return None
            raise refused(error, f"{path} cannot be looked at") from error
        except failures() as error:
            raise refused(error, f"{path} cannot be looked at") from error

    def ours(self, path: str, job: str) -> dict[str, Any] | None:
        """A thing of the job; None when there is none. TargetError when it is another's."""
        found = self.look(path)
        if found is not None and names.tagged(found) != job:
            raise TargetError(f"{path} is not of job {job}, so it is left alone", remedy="remove it, or choose other names")
        return found

    def insert(self, path: str, body: dict[str, Any], job: str, **query: str) -> dict[str, Any] | None:
        """Begins to make a thing (its operation), or adopts the job's own of that name (None)."""
        if self.ours(f"{path}/{body['name']}", job) is not None:
            return None
        try:
            return self.session.change("POST", path, body, **query)
        except ApiError as error:
            if error.status == 409 and self.ours(f"{path}/{body['name']}", job) is not None:
                return None
            raise refused(error, f"{path}/{body['name']} was not made") from error
        except failures() as error:
            raise refused(error, f"{path}/{body['name']} was not made") from error

    def finished(self, operation: dict[str, Any] | None, what: str) -> None:
        """Waits for what `insert` began."""
        if operation is not None:
            with self.telling(f"{what} was not made"):
                self.session.done(operation)

    def make(self, path: str, body: dict[str, Any], job: str) -> None:
        """Both."""
        self.finished(self.insert(path, body, job), f"{path}/{body['name']}")

    def remove(self, path: str) -> None:
        """Deletes a thing; absent is success."""
        try:
            self.session.done(self.session.change("DELETE", path))
        except ApiError as error:
            if error.status == 404 or error.reason == "RESOURCE_NOT_FOUND":
                return
            raise refused(error, f"{path} was not removed") from error
        except failures() as error:
            raise refused(error, f"{path} was not removed") from error

    @contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """Turns what the API raises into the error it is."""
        try:
            yield
        except failures() as error:
            raise refused(error, what) from error


def gigabytes(size: int) -> int:
    """The size that a persistent disk of so many bytes gets, in GB as Compute Engine counts them (2^30)."""
    return max(LEAST_GB, -(-size // GIB))
