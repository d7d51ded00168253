"""Where in Azure: the locator, and the names and ids that follow from it and from a job."""

import hashlib
import os
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from v2c.errors import UsageError
from v2c.model import Plan
from v2c.targets import percard

JOB, DISK, SIZE, ROLE, IMAGE = "v2c-job", "v2c-disk", "v2c-size", "v2c-role", "v2c-image"  # tags
WRITER, SEALED, ETAG = "v2c-writer", "v2c-sealed", "v2c-etag"
TEST, CUTOVER = "test", "cutover"  # roles

SIGNED = "v2c-secure-boot"  # tag of a boot disk: all that is started of it is signed
STANDARD, TRUSTED = "Standard", "TrustedLaunch"  # security types

CAPACITY = "Microsoft.Compute/capacityReservationGroups"
SKU = "Premium_LRS"  # of the disks

_OPTIONS = (
    *("subnet", "test-subnet", "nsg", "size", "sku", "os", "endpoint", "create-group", "reserve-capacity"),
    *("private-ip", "security", "via", "storage-account", "container"),
)
_SECURITY = {"standard": STANDARD, "trusted": TRUSTED}
_USAGE = f"write azure:SUBSCRIPTION/GROUP/LOCATION, with any of ?{'=&'.join(_OPTIONS)}= behind it"
_NAME = re.compile(r"[A-Za-z0-9_.()-]{1,90}")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Place:
    """A resource group of a subscription in a location, and what the user chose there.

    `subnet`: "VNET/SUBNET" of the group, "GROUP/VNET/SUBNET", or a full id, of the machine's cards in their order, separated by
    commas; `test_subnet` the same, for tests (default: the same subnets, behind a security group that lets nothing pass). `nsg`:
    name or id, for the cut-over. `size`: instance type, empty: chosen. `endpoint`: Resource Manager's URL, empty: the public
    cloud's or what the environment says. `private_ip`: of the real machine's cards in their order, separated by commas, an empty
    one by DHCP. `security`: what the machine is made as, by Azure's name. `account`: the storage account that disks go by,
    empty: they go straight into managed disks; `container`: of that account, empty: one of the job's own.
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
    private_ip: str = ""
    security: str = STANDARD
    account: str = ""
    container: str = ""

    @property
    def staged(self) -> bool:
        """Whether disks go by way of a storage account."""
        return bool(self.account)

    @property
    def trusted(self) -> bool:
        """Whether machines are made for Trusted Launch: with a TPM, and with secure boot where the guest is signed."""
        return self.security == TRUSTED

    @property
    def group_id(self) -> str:
        """The resource group's ARM id."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"

    def id(self, kind: str, name: str) -> str:
        """The ARM id of a resource of the group. Ours, not Azure's answer: that one changes its case."""
        return f"{self.group_id}/providers/{kind}/{name}"

    def subnets(self, *, test: bool) -> list[str]:
        """As the locator names them, by card; empty: it names none."""
        return percard.values((test and self.test_subnet) or self.subnet)

    @property
    def addresses(self) -> list[str]:
        """Of the real machine, by card; an empty one, and what is beyond them: by DHCP."""
        return percard.values(self.private_ip)

    def address(self, number: int) -> str:
        """The address that a card of the real machine, counted from 0, is to have; empty: by DHCP."""
        return next(iter(self.addresses[number : number + 1]), "")

    def subnet_id(self, number: int = 0, *, test: bool) -> str:
        """The ARM id of a card's subnet, for cards beyond those named the last one; empty when none was named."""
        named = self.subnets(test=test)
        words = named[min(number, len(named) - 1)].strip("/").split("/") if named else []
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
        value = options.get(name, "")
        if value and any(len(one.strip("/").split("/")) not in (2, 3, 10) for one in value.split(",")):
            remedy = f"write {name}=VNET/SUBNET, or the subnet's full id; of several cards {name}=A,B"
            raise UsageError(f"{name}={value} is not understood", remedy=remedy)
    if (endpoint := options.get("endpoint", "")) and not endpoint.startswith("https://"):
        raise UsageError(f"endpoint={endpoint} is no https:// address", remedy="give the address of Resource Manager")
    if (security := options.get("security", "standard")) not in _SECURITY:
        raise UsageError(
            f"security={security} is not offered", remedy="write security=trusted (Trusted Launch) or security=standard"
        )
    private_ip = options.get("private-ip", "")
    wanted = [address for address in percard.values(private_ip) if address]
    for wrong in percard.strange(wanted):
        raise UsageError(f"private-ip={wrong} is no address", remedy=percard.REMEDY)
    if twice := next((address for address in wanted if wanted.count(address) > 1), ""):
        raise UsageError(f"private-ip= names {twice} twice", remedy="give each card an address of its own")
    account, container = _staging(options)
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
        private_ip=private_ip,
        security=_SECURITY[security],
        account=account,
        container=container,
    )


def _staging(options: dict[str, str]) -> tuple[str, str]:
    """The storage account and the container of `via=blob`; both empty without it."""
    via, account, container = (options.get(name, "") for name in ("via", "storage-account", "container"))
    if via not in ("", "managed-disk", "blob"):
        raise UsageError(f"via={via} is no way to Azure", remedy="write via=blob or via=managed-disk")
    if via != "blob":
        if account or container:
            raise UsageError("storage-account= and container= belong to via=blob", remedy="add via=blob, or leave them out")
        return "", ""
    if not _ACCOUNT.fullmatch(account):
        what = f"storage-account={account} is no storage account's name" if account else "via=blob names no storage account"
        raise UsageError(what, remedy="write storage-account=NAME, 3 to 24 small letters and digits")
    if container and not _CONTAINER.fullmatch(container):
        remedy = "write 3 to 63 small letters, digits and single hyphens, or leave it out"
        raise UsageError(f"container={container} is no container's name", remedy=remedy)
    return account, container


def _said(options: dict[str, str], name: str) -> bool:
    return options.get(name, "no").lower() in ("", "1", "yes", "true")


def name_of(plan: Plan, *what: str) -> str:
    """The name of a thing of the job: the machine's own as far as Azure's rules let it (64 characters are a VM's most)."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", plan.machine.name).strip("-")[:32] or "machine"
    return "-".join((plain, hashlib.sha256(plan.job.encode()).hexdigest()[:8], *what))
