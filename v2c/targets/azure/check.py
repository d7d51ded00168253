"""What stands in the way, all at once and before a byte moves: login, rights, place, size, quota, names, network, disks."""

import fnmatch
import ipaddress
from collections.abc import Iterator
from typing import Any

from v2c.errors import TargetError
from v2c.model import GIB, MIB, Finding, Firmware, Level, Plan
from v2c.targets.azure.catalogue import Size, facts, sizes
from v2c.targets.azure.place import JOB, TEST, name_of
from v2c.targets.azure.session import Session

PERMISSIONS = "2022-04-01"  # api-version of Microsoft.Authorization/permissions


class Check:
    """The questions, in the order of a reader's interest. Reads only."""

    def __init__(self, session: Session, plan: Plan) -> None:
        self.session, self.place, self.plan = session, session.place, plan

    def run(self) -> Iterator[Finding]:
        """All findings; after a login that failed there is nothing more to ask."""
        yield from self._disks()
        try:
            group = self._group()
        except TargetError as error:
            yield Finding("azure.login", Level.BLOCKER, self.place.subscription, error.text, error.remedy)
            return
        if group is None and not self.place.create_group:
            text = f"there is no resource group {self.place.group}"
            yield Finding("azure.group", Level.BLOCKER, self.place.group, text, "make it, or add ?create-group to the target")
            return
        if group is not None:
            yield from self._rights()
        catalogue = sizes(self.session)
        if not catalogue:
            text = f"Azure offers no virtual machines in {self.place.location} to this subscription"
            yield Finding("azure.location", Level.BLOCKER, self.place.location, text, "name another location")
            return
        size = catalogue.get(self.plan.instance_type)
        yield from self._size(size)
        if size is not None:
            yield from self._quota(size)
        if group is not None:
            yield from self._names()
        yield from self._network()

    def _group(self) -> Any:
        groups = self.session.resources.resource_groups
        return self.session.look("the resource group cannot be read", lambda: groups.get(self.place.group))

    def _disks(self) -> Iterator[Finding]:
        limits = facts().limits
        if self.place.sku not in facts().skus:
            text = f"{self.place.sku} is no kind of disk that a machine boots from"
            yield Finding("azure.sku", Level.BLOCKER, self.place.sku, text, f"choose one of {', '.join(facts().skus)} with ?sku=")
        for number, disk in enumerate(self.plan.disks):
            if disk.target_size < limits.least_disk:
                text = f"the disk has {disk.target_size // MIB} MiB, and Azure takes {limits.least_disk // MIB} MiB at least"
                yield Finding("azure.disk", Level.BLOCKER, disk.disk, text, "make the disk larger at the source")
            if disk.target_size % MIB:
                text = f"the disk has {disk.target_size} bytes, and Azure's have whole MiB"
                yield Finding("azure.disk", Level.BLOCKER, disk.disk, text, "this is a mistake of v2c: report it")
            if number == 0 and disk.target_size > limits.most_boot_disk:
                text = (
                    f"the disk has {disk.target_size // GIB} GiB, and Azure boots from {limits.most_boot_disk // GIB} GiB at most"
                )
                yield Finding("azure.disk", Level.BLOCKER, disk.disk, text, "make the boot disk smaller at the source")

    def _rights(self) -> Iterator[Finding]:
        """By the list of what the caller may do here; where that may not be read, it is said and not guessed."""
        from azure.core.rest import HttpRequest

        url = f"{self.session.endpoint[0]}{self.place.group_id}/providers/Microsoft.Authorization/permissions"

        def ask() -> Any:
            answer = self.session.compute.send_request(HttpRequest("GET", url, params={"api-version": PERMISSIONS}))
            answer.raise_for_status()
            return answer.json()

        try:
            granted = self.session.ask("the permissions cannot be read", ask)["value"]
        except TargetError as error:
            yield Finding(
                "azure.rights", Level.WARNING, self.place.group, error.text, "see that the rights of the README are given"
            )
            return
        wanted = list(facts().rights.always)
        wanted += facts().rights.create_group if self.place.create_group else ()
        wanted += facts().rights.reserve_capacity if self.place.reserve_capacity else ()
        if lacking := [action for action in wanted if not any(_allows(entry, action) for entry in granted)]:
            text = f"these rights are missing on {self.place.group}: {', '.join(lacking)}"
            yield Finding("azure.rights", Level.BLOCKER, self.place.group, text, "have them added to your role (README, Azure)")

    def _size(self, size: Size | None) -> Iterator[Finding]:
        wanted = self.place.size or self.plan.instance_type
        machine = self.plan.machine
        if size is None:
            text = f"Azure has no size {wanted} in {self.place.location}" if wanted else "no size of Azure holds the machine"
            yield Finding("azure.size", Level.BLOCKER, machine.name, text, "name one with ?size=")
            return
        if size.refused:
            text = f"this subscription does not get {wanted} in {self.place.location} ({size.refused})"
            yield Finding("azure.size", Level.BLOCKER, wanted, text, "choose another with ?size=, or ask Azure for it")
        firmware = machine.firmware or self.plan.needs.firmware
        if why := size.offer.holds(machine, firmware):
            smaller = firmware in size.offer.firmware and (not size.offer.max_disks or size.offer.max_disks >= len(machine.disks))
            level = Level.WARNING if smaller and self.place.size else Level.BLOCKER
            yield Finding("azure.size", level, wanted, f"the size {wanted} does not fit: {why}", "choose another with ?size=")
        if "SCSI" not in size.controllers:
            text = (
                f"the size {wanted} shows its disks as NVMe: the guest must be able to boot from that, which the repair will tell"
            )
            level = Level.BLOCKER if firmware is Firmware.BIOS else Level.WARNING
            yield Finding("azure.controller", level, wanted, text, "choose a size with SCSI disks with ?size=")
        if self.place.sku.startswith("Premium") and not size.premium:
            text = f"the size {wanted} takes no premium disks"
            yield Finding("azure.sku", Level.BLOCKER, wanted, text, "add ?sku=StandardSSD_LRS, or choose another size")

    def _quota(self, size: Size) -> Iterator[Finding]:
        """Test and real machine do not run at once: the need is one machine's."""
        usage = self.session.compute.usage
        rows = self.session.list("the quotas cannot be read", lambda: usage.list(self.place.location))
        known = {row.name.value.lower(): row for row in rows}
        needs = (("cores", size.offer.vcpus), (size.family, size.offer.vcpus), ("virtualMachines", 1))
        for name, need in needs:
            row = known.get(name.lower())
            if row is not None and row.current_value + need > row.limit:
                text = (
                    f"the quota {name} has {row.limit - row.current_value} left in {self.place.location}, and {need} are needed"
                )
                yield Finding(
                    "azure.quota", Level.BLOCKER, name, text, "have the quota raised, or choose another size or location"
                )

    def _names(self) -> Iterator[Finding]:
        """Names carry the job's own digits, so what is there is ours, or a stranger chose the same on purpose."""
        names = [name_of(self.plan, f"disk{number}") for number in range(len(self.plan.disks))]
        compute, group = self.session.compute, self.place.group
        found = {
            disk.name: disk
            for disk in self.session.list("the disks cannot be listed", lambda: compute.disks.list_by_resource_group(group))
        }
        machines = self.session.list("the machines cannot be listed", lambda: compute.virtual_machines.list(group))
        found |= {vm.name: vm for vm in machines}
        for name in (*names, name_of(self.plan), name_of(self.plan, TEST)):
            if name in found and (found[name].tags or {}).get(JOB) != self.plan.job:
                text = f"the name {name} is taken in {group}"
                yield Finding("azure.name", Level.BLOCKER, name, text, "choose another machine name or resource group")

    def _network(self) -> Iterator[Finding]:
        if not self.place.subnet:
            text = "no subnet was named, and a machine must be in one"
            yield Finding("azure.subnet", Level.BLOCKER, self.plan.machine.name, text, "add ?subnet=VNET/SUBNET to the target")
            return
        cards = max(1, len(self.plan.machine.nics))
        for id in dict.fromkeys((self.place.subnet_id(test=False), self.place.subnet_id(test=True))):
            yield from self._subnet(id, cards)
        if nsg := self.place.nsg_id():
            group, name = nsg.split("/")[4], nsg.rpartition("/")[2]
            groups = self.session.network.network_security_groups
            if self.session.look("the security group cannot be read", lambda: groups.get(group, name)) is None:
                yield Finding("azure.nsg", Level.BLOCKER, name, f"there is no security group {name}", "correct ?nsg=")

    def _subnet(self, id: str, cards: int) -> Iterator[Finding]:
        words = id.strip("/").split("/")
        group, vnet, name = words[3], words[7], words[9]
        subnets = self.session.network.subnets
        subnet = self.session.look("the subnet cannot be read", lambda: subnets.get(group, vnet, name))
        if subnet is None:
            yield Finding(
                "azure.subnet", Level.BLOCKER, f"{vnet}/{name}", f"there is no subnet {vnet}/{name}", "correct ?subnet="
            )
            return
        about = subnet.properties
        prefixes = about.address_prefixes or ([about.address_prefix] if about.address_prefix else [])
        ranges = [ipaddress.ip_network(prefix) for prefix in prefixes if ":" not in prefix]
        held = sum(network.num_addresses - facts().limits.subnet_reserved for network in ranges)
        free = held - len(about.ip_configurations or [])
        if free < cards:
            text = f"the subnet {vnet}/{name} has {max(0, free)} free addresses, and {cards} are needed"
            yield Finding("azure.subnet", Level.BLOCKER, f"{vnet}/{name}", text, "choose another subnet, or free addresses")


def _allows(entry: Any, action: str) -> bool:
    def any_of(patterns: list[str]) -> bool:
        return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)

    return any_of(entry.get("actions") or []) and not any_of(entry.get("notActions") or [])
