"""Where in Azure: the locator, and the names and ids that follow from it and from a job."""

import hashlib
import os
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from v2c.errors import UsageError
from v2c.model import Plan

JOB, DISK, SIZE, ROLE, IMAGE = "v2c-job", "v2c-disk", "v2c-size", "v2c-role", "v2c-image"  # tags
WRITER, SEALED = "v2c-writer", "v2c-sealed"
TEST, CUTOVER = "test", "cutover"  # roles

SKU = "Premium_LRS"  # of the disks

_OPTIONS = ("subnet", "test-subnet", "nsg", "size", "sku", "os", "endpoint", "create-group", "reserve-capacity")
_USAGE = f"write azure:SUBSCRIPTION/GROUP/LOCATION, with any of ?{'=&'.join(_OPTIONS)}= behind it"
_NAME = re.compile(r"[A-Za-z0-9_.()-]{1,90}")


@dataclass(frozen=True, slots=True)
class Place:
    """A resource group of a subscription in a location, and what the user chose there.

    `subnet`: "VNET/SUBNET" of the group, "GROUP/VNET/SUBNET", or a full id; `test_subnet` the same, for tests (default: the
    same subnet, behind a security group that lets nothing pass). `nsg`: name or id, for the cut-over. `size`: instance type,
    empty: chosen. `endpoint`: Resource Manager's URL, empty: the public cloud's or what the environment says.
    """

    subscription: str
    group: str
    location: str
    subnet: str = ""
    test_subnet: str = ""
    nsg: str = ""
    size: str = ""
    sku: str = SKU
    os: str = "Linux"
    endpoint: str = ""
    create_group: bool = False
    reserve_capacity: bool = False

    @property
    def group_id(self) -> str:
        """The resource group's ARM id."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"

    def id(self, kind: str, name: str) -> str:
        """The ARM id of a resource of the group. Ours, not Azure's answer: that one changes its case."""
        return f"{self.group_id}/providers/{kind}/{name}"

    def subnet_id(self, *, test: bool) -> str:
        """The ARM id of the subnet; empty when none was named."""
        words = ((test and self.test_subnet) or self.subnet).strip("/").split("/")
        if len(words) > 3:
            return "/" + "/".join(words)
        if len(words) < 2:
            return ""
        group = words[0] if len(words) == 3 else self.group
        vnet, subnet = words[-2:]
        network = f"/subscriptions/{self.subscription}/resourceGroups/{group}/providers/Microsoft.Network"
        return f"{network}/virtualNetworks/{vnet}/subnets/{subnet}"

    def nsg_id(self) -> str:
        """The ARM id of the user's security group; empty: none."""
        return (
            self.nsg if self.nsg.startswith("/") or not self.nsg else self.id("Microsoft.Network/networkSecurityGroups", self.nsg)
        )


def parse(rest: str) -> Place:
    """The place that "SUBSCRIPTION/GROUP/LOCATION[?...]" names. UsageError lists the options."""
    where, _, query = rest.partition("?")
    words = where.split("/")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = set(options) - set(_OPTIONS)
    if len(words) != 3 or not all(_NAME.fullmatch(word) for word in words) or unknown:
        what = f"azure: has no option {', '.join(sorted(unknown))}" if unknown else f'"azure:{where}" is not understood'
        raise UsageError(what, remedy=_USAGE)
    kind = options.get("os", "linux").lower()
    if kind not in ("linux", "windows"):
        raise UsageError(f'"{kind}" is no operating system of Azure', remedy="write os=linux or os=windows")
    for name in ("subnet", "test-subnet"):
        if (value := options.get(name, "")) and len(value.strip("/").split("/")) not in (2, 3, 10):
            raise UsageError(f"{name}={value} is not understood", remedy=f"write {name}=VNET/SUBNET, or the subnet's full id")
    if (endpoint := options.get("endpoint", "")) and not endpoint.startswith("https://"):
        raise UsageError(f"endpoint={endpoint} is no https:// address", remedy="give the address of Resource Manager")
    subscription, group, location = words
    return Place(
        subscription=subscription,
        group=group,
        location=location.lower(),
        subnet=options.get("subnet", ""),
        test_subnet=options.get("test-subnet", ""),
        nsg=options.get("nsg", ""),
        size=options.get("size", ""),
        sku=options.get("sku") or SKU,
        os=kind.capitalize(),
        endpoint=(endpoint or os.environ.get("AZURE_RESOURCE_MANAGER_URL", "")).rstrip("/"),
        create_group=_said(options, "create-group"),
        reserve_capacity=_said(options, "reserve-capacity"),
    )


def _said(options: dict[str, str], name: str) -> bool:
    return options.get(name, "no").lower() in ("", "1", "yes", "true")


def name_of(plan: Plan, *what: str) -> str:
    """The name of a thing of the job: the machine's own as far as Azure's rules let it (64 characters are a VM's most)."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", plan.machine.name).strip("-")[:32] or "machine"
    return "-".join((plain, hashlib.sha256(plan.job.encode()).hexdigest()[:8], *what))
