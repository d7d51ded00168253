"""What stands in the way, all at once and before a byte moves: login, rights, place, size, quota, names, network, disks."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from v2c.errors import TargetError
from v2c.model import GIB, MIB, Finding, Firmware, Level, Plan
from v2c.targets.azure import quotas
from v2c.targets.azure.catalogue import Size, disk_kinds, facts, sizes
from v2c.targets.azure.checkcards import network
from v2c.targets.azure.place import JOB, TEST, name_of
from v2c.targets.azure.rights import missing
from v2c.targets.azure.session import Session
from v2c.targets.azure.staging_check import staging


class Check:
    """The questions, in the order of a reader's interest. Reads only."""

    def __init__(self, session: Session, plan: Plan) -> None:
        self.session, self.place, self.plan = session, session.place, plan

    def run(self) -> Iterator[Finding]:
        """All findings; after a login that failed there is nothing more to ask."""
        yield from self._disks()
        try:
            group = quotas.group(self.session)
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
        yield from self._kinds()
        size = catalogue.get(self.plan.instance_type)
        yield from self._size(size)
        if size is not None:
            yield from quotas.quotas([(self.session, self.plan)])
        if group is not None:
            yield from self._names()
        if self.place.staged:
            yield from staging(self.session, self.plan)
        yield from network(self.session, self.plan)

    def _disks(self) -> Iterator[Finding]:
        limits = facts().limits
        for kind in dict.fromkeys(disk.type or self.place.sku for disk in self.plan.disks):
            if kind not in facts().skus:
                text = f"{kind} is no kind of disk that a machine boots from"
                yield Finding("azure.sku", Level.BLOCKER, kind, text, f"choose one of {', '.join(facts().skus)} with ?sku=")
        for disk in self.plan.disks:
            if disk.iops or disk.throughput:
                text = "its operations per second and throughput follow from its size and kind, and cannot be said"
                yield Finding("azure.disk", Level.WARNING, disk.disk, text, "leave iops and throughput out")
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

    def _kinds(self) -> Iterator[Finding]:
        """Whether the location has the kinds of disks; those that no machine boots from were told."""
        there = disk_kinds(self.session)
        for kind in dict.fromkeys(disk.type or self.place.sku for disk in self.plan.disks):
            if there and kind in facts().skus and kind not in there:
                text = f"{self.place.location} has no disks of the kind {kind}"
                yield Finding("azure.sku", Level.BLOCKER, kind, text, f"choose one of {', '.join(sorted(there))} with ?sku=")

    def _rights(self) -> Iterator[Finding]:
        wanted = list(facts().rights.always)
        wanted += facts().rights.create_group if self.place.create_group else ()
        wanted += facts().rights.reserve_capacity if self.place.reserve_capacity else ()
        yield from missing(self.session, self.place.group_id, self.place.group, wanted)

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
            smaller = not size.offer.holds(replace(machine, vcpus=0, memory_mib=0), firmware)  # it runs all the same
            level = Level.WARNING if smaller and self.place.size else Level.BLOCKER
            yield Finding("azure.size", level, wanted, f"the size {wanted} does not fit: {why}", "choose another with ?size=")
        yield from self._security(size, firmware)
        if "SCSI" not in size.controllers:
            text = (
                f"the size {wanted} shows its disks as NVMe: the guest must be able to boot from that, which the repair will tell"
            )
            level = Level.BLOCKER if firmware is Firmware.BIOS else Level.WARNING
            yield Finding("azure.controller", level, wanted, text, "choose a size with SCSI disks with ?size=")
        kinds = [disk.type or self.place.sku for disk in self.plan.disks]
        if any(kind.startswith("Premium") for kind in kinds) and not size.premium:
            text = f"the size {wanted} takes no premium disks"
            yield Finding("azure.sku", Level.BLOCKER, wanted, text, "add ?sku=StandardSSD_LRS, or choose another size")

    def _security(self, size: Size, firmware: Firmware) -> Iterator[Finding]:
        """What Trusted Launch needs. Whether the guest is signed for secure boot shows when it is looked into."""
        if not self.place.trusted:
            return
        if firmware is not Firmware.UEFI:
            text = f"the machine boots by {firmware} (generation 1), and Trusted Launch is for generation 2"
            remedy = "leave ?security=trusted out, or have the machine boot by UEFI at the source"
            yield Finding("azure.security", Level.BLOCKER, self.plan.machine.name, text, remedy)
        elif not size.trusted:
            text = f"the size {size.offer.name} has no Trusted Launch"
            yield Finding("azure.security", Level.BLOCKER, size.offer.name, text, "choose another with ?size=")

    def _names(self) -> Iterator[Finding]:
        """Names carry the job's own digits, so what is there is ours, or a stranger chose the same on purpose."""
        names = [name_of(self.plan, f"disk{number}") for number in range(len(self.plan.disks))]
        compute, group = self.session.compute, self.place.group
        listed = partial(self.session.list, "the disks cannot be listed", lambda: compute.disks.list_by_resource_group(group))
        found = {disk.name: disk for disk in self.session.once(f"disks {group}", listed)}
        found |= {vm.name: vm for vm in quotas.every_machine(self.session)}
        for name in (*names, name_of(self.plan), name_of(self.plan, TEST)):
            if name in found and (found[name].tags or {}).get(JOB) != self.plan.job:
                text = f"the name {name} is taken in {group}"
                yield Finding("azure.name", Level.BLOCKER, name, text, "choose another machine name or resource group")
