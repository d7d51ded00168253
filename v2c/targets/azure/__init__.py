"""Azure: disks uploaded straight into managed disks, and virtual machines made of them.

`azure:SUBSCRIPTION/GROUP/LOCATION?subnet=VNET/SUBNET` and, if wanted, `&nsg=` (for the cut-over), `&test-subnet=`, `&size=`
(else chosen), `&sku=` (of the disks, default Premium_LRS), `&os=windows`, `&endpoint=` (Azure Stack; AZURE_RESOURCE_MANAGER_URL
says the same; sovereign clouds: AZURE_SDK_CLOUD_CONF), `&create-group`, `&reserve-capacity`. Who we are comes from
azure-identity's chain, whom TLS trusts from REQUESTS_CA_BUNDLE.

    upload     a managed disk per disk, made for upload; 4 MiB pages by a SAS; a VHD's footer; the SAS ended
    register   the machine's description, in the tags of the boot disk
    test       a machine of copies, in a security group that lets nothing pass
    cut-over   a machine of the disks themselves, in the user's subnet
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import MIB, Caps, Disk, Finding, Observation, Placement, Plan, Ref
from v2c.patience import OUTAGE_S
from v2c.sizing import choose
from v2c.targets import TargetFeatures, Tell
from v2c.targets.azure import disks, launch
from v2c.targets.azure.catalogue import sizes
from v2c.targets.azure.check import Check
from v2c.targets.azure.disks import ManagedDisk
from v2c.targets.azure.inventory import Inventory
from v2c.targets.azure.observe import Observer
from v2c.targets.azure.place import JOB, TEST, Place, name_of, parse
from v2c.targets.azure.reserve import reserve
from v2c.targets.azure.session import Session
from v2c.targets.azure.upload import CHUNK, PARALLEL, PageWriter, pages_of
from v2c.transfer import DiskWriter

CHECK_S = 60.0  # how long a question is asked again before anything was changed


def open_target(rest: str) -> "AzureTarget":
    """The target for "SUBSCRIPTION/GROUP/LOCATION[?...]"; asks Azure nothing yet."""
    return AzureTarget(parse(rest))


class AzureTarget:
    """One resource group in one location."""

    platform = "azure"

    def __init__(self, place: Place) -> None:
        self.place = place
        self.features = TargetFeatures(chunk=CHUNK, parallel=PARALLEL, size_unit=MIB, readable=True, dry=True)
        self.session = Session(place)
        self._inventory = Inventory(self.session)
        self._observer = Observer(self.session)

    # ---- before a byte moves -----------------------------------------------------------------------------------------------

    def size(self, plan: Plan) -> Plan:
        """The user's size, else the smallest of the catalogue that holds the machine."""
        self._begin(plan.job)
        if self.place.size:
            return replace(plan, instance_type=self.place.size)
        try:
            known = sizes(self.session)
        except TargetError:
            return plan  # `check` tells why, with everything else that stands in the way
        firmware = plan.machine.firmware or plan.needs.firmware
        offers = [size.offer for size in known.values() if size.general and not size.refused]
        chosen = choose(plan.machine, firmware, offers)
        return replace(plan, instance_type=chosen.name) if chosen else plan

    def check(self, plan: Plan) -> Iterator[Finding]:
        self._begin(plan.job)
        yield from Check(self.session, plan if plan.instance_type else self.size(plan)).run()

    def _begin(self, job: str) -> None:
        """Nothing was done yet: who cannot reach Azure hears of it now, and not after the hour that a job waits."""
        self.session.job, self.session.limit_s = job, CHECK_S

    def _go_on(self, job: str) -> None:
        self.session.job, self.session.limit_s = job, OUTAGE_S

    def reserve(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        self._go_on(journal.job)
        yield from reserve(self.session, plan, journal)

    # ---- the disks ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> Iterator[DiskWriter]:
        """Makes the disk, or finds it again. Its SAS is asked for when something is to be sent, and again when it runs out."""
        self._go_on(journal.job)
        number, planned = next((n, p) for n, p in enumerate(plan.disks) if p.disk == disk.id)
        managed = ManagedDisk(self.session, name_of(plan, f"disk{number}"))
        size = planned.target_size
        ref = Ref.of("disk", self.place.id(disks.KIND, managed.name), job=journal.job, disk=disk.id, size=str(size))

        def make() -> None:
            managed.create(plan, disk, planned, boots=number == 0)

        def remake() -> None:
            managed.delete()
            make()

        shown = managed.ours(journal.job)
        if shown is None or ref not in journal.refs("disk"):
            with journal.intent("disk", ref.id, {JOB: journal.job}) as intent:
                if shown is None:
                    make()
                intent.done(ref)
        complete = shown is not None and disks.sealed(shown)
        if shown is not None and not complete and not disks.uploading(shown):
            remake()  # its SAS was ended too early: it takes no pages any more
        yield PageWriter(managed, size, ref, sealed=complete, remake=remake, meter=self.session.meter)

    def read(self, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        self._go_on(plan.job)
        managed = ManagedDisk(self.session, disk.id.rpartition("/")[2])
        shown = managed.ours(disk["job"])
        if shown is None or not disks.sealed(shown):
            raise TargetError(f"the disk {managed.name} was not uploaded", remedy="run the command again with --again")
        yield from pages_of(managed, int(disk["size"]), indexes, self.session.meter)

    def register(self, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
        self._go_on(journal.job)
        return launch.register(self.session, plan, disks, caps, journal)

    # ---- the instance ------------------------------------------------------------------------------------------------------

    def launch(self, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Ref:
        self._go_on(journal.job)
        sized = plan if plan.instance_type else self.size(plan)
        instance = launch.Launch(self.session, sized, image, placement, journal, meter).run()
        self._observer.forget(instance.id)
        return instance

    def observe(self, instance: Ref) -> Observation:
        return self._observer.look(instance)

    def stop(self, instance: Ref, journal: Journal) -> None:
        """A test is removed with all that it consists of; the real machine goes on."""
        if instance.get("role") == TEST:
            self._inventory.end_test(journal.job, journal)
            self._observer.forget(instance.id)

    def finalize(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        """What a test that is over left when it was cut off, and the reserved capacity."""
        self._go_on(journal.job)
        found = list(self._inventory.of(journal.job))
        testing = any(one.role == TEST and one.ref.kind == "instance" for one in found)
        for one in reversed(found):
            if one.ref.kind == "reservation" or (one.role == TEST and not testing):
                self.destroy(one.ref)
                journal.undone(one.ref)
                yield one.ref

    # ---- adoption and clean-up ---------------------------------------------------------------------------------------------

    def find(self, job: str) -> Iterator[Ref]:
        yield from (found.ref for found in self._inventory.of(job))

    def dry(self, tell: Tell) -> "AzureTarget":
        from v2c.targets.azure.shadow import Shadow

        other = AzureTarget(self.place)
        other.session.shadow = Shadow(tell)
        return other

    def destroy(self, ref: Ref) -> None:
        self._inventory.destroy(ref)
        self._observer.forget(ref.id)
