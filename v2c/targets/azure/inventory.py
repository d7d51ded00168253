"""All that a job made, by its tag: listed, and removed in any order.

Each kind is listed from its own provider, not from Resource Manager's index of tags, which lags behind by minutes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Ref
from v2c.targets.azure import disks, staging
from v2c.targets.azure.cards import NIC
from v2c.targets.azure.disks import ManagedDisk, ref_of
from v2c.targets.azure.launch import NSG, VM, unmarked
from v2c.targets.azure.place import CAPACITY, IMAGE, JOB, ROLE, TEST
from v2c.targets.azure.session import Session

# what a test consists of, in the order in which it goes
OF_A_TEST = ("instance", "nic", "security-group", "test-disk")


@dataclass(frozen=True, slots=True)
class Found:
    """A thing of the job: its ref, and the role that its tag says."""

    ref: Ref
    role: str = ""


class Inventory:
    """One job's things in one place, or all jobs'."""

    def __init__(self, session: Session) -> None:
        self.session, self.place = session, session.place

    # ---- listed ------------------------------------------------------------------------------------------------------------

    def of(self, job: str) -> Iterator[Found]:
        """In the order in which things are made."""
        place = self.place
        compute, network = self.session.compute, self.session.network
        owner = self._group()
        if owner is not None and (owner.tags or {}).get(JOB) == job:
            yield Found(Ref.of("group", place.group_id, job=job))
        if place.staged:
            yield from map(Found, staging.find(self.session, job))
        if owner is None:
            return
        yield from self._capacity(job)
        found = [disk for disk in self._all("disks", compute.disks.list_by_resource_group) if (disk.tags or {}).get(JOB) == job]
        uploaded = [disk for disk in found if ROLE not in disk.tags]
        yield from (Found(ref_of(place, disk)) for disk in uploaded)
        for disk in uploaded:
            if IMAGE in disk.tags:
                yield Found(Ref.of("image", place.id(disks.KIND, disk.name), job=job))
        for disk in found:
            if disk.tags.get(ROLE) == TEST:
                yield Found(Ref.of("test-disk", place.id(disks.KIND, disk.name), job=job), TEST)
        plain: tuple[tuple[str, str, str, Callable[[str], Any]], ...] = (
            ("security-group", "security groups", NSG, network.network_security_groups.list),
            ("nic", "network cards", NIC, network.network_interfaces.list),
        )
        for kind, words, type, every in plain:
            for one in self._all(words, every):
                if (one.tags or {}).get(JOB) == job:
                    yield Found(Ref.of(kind, place.id(type, one.name), job=job), one.tags.get(ROLE, ""))
        for vm in self._all("virtual machines", compute.virtual_machines.list):
            if (vm.tags or {}).get(JOB) == job:
                role = vm.tags.get(ROLE, "")
                yield Found(Ref.of("instance", place.id(VM, vm.name), job=job, role=role), role)

    def _all(self, what: str, every: Callable[[str], Any]) -> list[Any]:
        return self.session.list(f"the {what} cannot be listed", lambda: every(self.place.group))

    def _group(self) -> Any:
        groups = self.session.resources.resource_groups
        return self.session.look("the resource group cannot be read", lambda: groups.get(self.place.group))

    def _capacity(self, job: str) -> Iterator[Found]:
        groups = self.session.compute.capacity_reservation_groups
        for one in self._all("capacity reservations", groups.list_by_resource_group):
            if (one.tags or {}).get(JOB) == job:
                yield Found(Ref.of("reservation", self.place.id(CAPACITY, one.name), job=job))

    # ---- removed -----------------------------------------------------------------------------------------------------------

    def destroy(self, ref: Ref) -> None:
        """Removes it, and what must go before it; absent is success. TargetError for what does not carry the ref's job."""
        if self.place.staged and staging.destroy(self.session, ref):
            return
        shown = self._shown(ref)
        if shown is None:
            return
        name = ref.id.rpartition("/")[2]
        if not ref.get("job") or (shown.tags or {}).get(JOB) != ref.get("job"):
            raise TargetError(f"the {ref.kind} {name} is not of job {ref.get('job')}, so it is left alone")
        group, network, compute = self.place.group, self.session.network, self.session.compute
        what = f"the {ref.kind} {name} cannot be removed"
        if ref.kind in ("disk", "imported-disk", "test-disk"):
            self._free(shown.managed_by, ref["job"])
            ManagedDisk(self.session, name).delete()
        elif ref.kind == "image":
            if IMAGE in (shown.tags or {}):
                body = {"tags": unmarked(shown.tags)}
                self.session.run(what, lambda: compute.disks.begin_update(group, name, body))
        elif ref.kind == "instance":
            self.session.gone(what, lambda: compute.virtual_machines.begin_delete(group, name, force_deletion=True))
        elif ref.kind == "nic":
            self._free(shown.properties.virtual_machine and shown.properties.virtual_machine.id, ref["job"])
            self.session.gone(what, lambda: network.network_interfaces.begin_delete(group, name))
        elif ref.kind == "security-group":
            for card in [
                one for one in self.of(ref["job"]) if one.ref.kind == "nic" and one.role == (shown.tags or {}).get(ROLE)
            ]:
                self.destroy(card.ref)
            self.session.gone(what, lambda: network.network_security_groups.begin_delete(group, name))
        elif ref.kind == "reservation":
            self._release(name, ref["job"])
        elif ref.kind == "group":
            self._close_group(ref, what)

    def _shown(self, ref: Ref) -> Any:
        name, group = ref.id.rpartition("/")[2], self.place.group
        compute, network = self.session.compute, self.session.network
        readers: Mapping[str, Callable[[], Any]] = {
            "disk": lambda: compute.disks.get(group, name),
            "imported-disk": lambda: compute.disks.get(group, name),
            "test-disk": lambda: compute.disks.get(group, name),
            "image": lambda: compute.disks.get(group, name),
            "instance": lambda: compute.virtual_machines.get(group, name),
            "nic": lambda: network.network_interfaces.get(group, name),
            "security-group": lambda: network.network_security_groups.get(group, name),
            "reservation": lambda: compute.capacity_reservation_groups.get(group, name),
            "group": lambda: self.session.resources.resource_groups.get(self.place.group),
        }
        if ref.kind not in readers or not ref.id.lower().startswith(self.place.group_id.lower()):
            raise TargetError(f"{ref.kind} {ref.id} is nothing that this target makes, so it is left alone")
        return self.session.look(f"the {ref.kind} {name} cannot be read", readers[ref.kind])

    def _free(self, holder: str | None, job: str) -> None:
        """The machine that holds a disk or a card goes first, when it is ours too."""
        if not holder:
            return
        name, machines = str(holder).rpartition("/")[2], self.session.compute.virtual_machines
        vm = self.session.look(f"{name} cannot be read", lambda: machines.get(self.place.group, name))
        if vm is not None:
            self.destroy(Ref.of("instance", self.place.id(VM, name), job=job, role=(vm.tags or {}).get(ROLE, "")))

    def _release(self, name: str, job: str) -> None:
        """A machine that runs on it goes on without: the quantity becomes zero, then the two are parted
        (capacity-reservation-remove-vm)."""
        compute, group = self.session.compute, self.place.group
        every = compute.capacity_reservations.list_by_capacity_reservation_group
        if users := list(self._users(name, job)):
            for one in self.session.list("the capacity reservations cannot be listed", lambda: every(group, name)):
                body = {"location": one.location, "tags": one.tags, "sku": {"name": one.sku.name, "capacity": 0}}
                none = partial(compute.capacity_reservations.begin_create_or_update, group, name, one.name, body)
                self.session.run(f"the reservation {one.name} cannot be given back", none)
            for vm in users:
                parted = {"properties": {"capacityReservation": {"capacityReservationGroup": {"id": None}}}}
                part = partial(compute.virtual_machines.begin_update, group, vm, parted)
                self.session.run(f"{vm} cannot be parted from its reservation", part)
        for one in self.session.list("the capacity reservations cannot be listed", lambda: every(group, name)):
            what = f"the reservation {one.name} cannot be removed"
            self.session.gone(what, partial(compute.capacity_reservations.begin_delete, group, name, one.name))
        begin = compute.capacity_reservation_groups.begin_delete
        self.session.gone(f"the reservation group {name} cannot be removed", lambda: begin(group, name))

    def _users(self, name: str, job: str) -> Iterator[str]:
        """The job's machines on a reservation group."""
        machines = self.session.compute.virtual_machines
        for vm in self.session.list("the machines cannot be listed", lambda: machines.list(self.place.group)):
            held = vm.properties.capacity_reservation
            used = held and held.capacity_reservation_group and held.capacity_reservation_group.id
            if used and str(used).lower() == self.place.id(CAPACITY, name).lower() and (vm.tags or {}).get(JOB) == job:
                yield str(vm.name)

    def _close_group(self, ref: Ref, what: str) -> None:
        """Our own resource group, when nothing is in it that is not the job's."""
        mine = [one.ref for one in self.of(ref["job"]) if one.ref.kind != "group"]
        for one in reversed(mine):
            self.destroy(one)
        resources = self.session.resources
        left = self.session.list(
            "the group's content cannot be listed", lambda: resources.resources.list_by_resource_group(self.place.group)
        )
        if left:
            raise TargetError(
                f"{what}: it holds {len(left)} things that are not of this job", remedy="remove them, or keep the group"
            )
        self.session.gone(what, lambda: resources.resource_groups.begin_delete(self.place.group))

    def end_test(self, job: str, journal: Journal) -> None:
        """The test's machine, cards, security group and copies; the journal hears of each."""
        found = [one.ref for one in self.of(job) if one.role == TEST]
        for kind in OF_A_TEST:
            for ref in (ref for ref in found if ref.kind == kind):
                self.destroy(ref)
                journal.undone(ref)
