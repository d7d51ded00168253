"""Azure: disks uploaded straight into managed disks, and virtual machines made of them.

`azure:SUBSCRIPTION/GROUP/LOCATION?subnet=VNET/SUBNET[,VNET/SUBNET]` and, if wanted, `&nsg=` (for the cut-over), `&test-subnet=`,
`&size=` (else chosen), `&sku=` (of the disks, default Premium_LRS), `&os=windows`, `&endpoint=` (Azure Stack;
AZURE_RESOURCE_MANAGER_URL says the same; sovereign clouds: AZURE_SDK_CLOUD_CONF), `&create-group`, `&reserve-capacity`,
`&private-ip=ADDRESS[,ADDRESS]`, `&security=trusted` (Trusted Launch: a TPM, and secure boot for who is signed), `&via=blob` with
`&storage-account=` and, if wanted, `&container=`. Who we are comes from azure-identity's chain, whom TLS trusts from
REQUESTS_CA_BUNDLE.

    upload     a managed disk per disk, made for upload; 4 MiB pages by a SAS; a VHD's footer; the SAS ended. Or, by way of a
               storage account, the same pages into a page blob per disk
    register   by way of a storage account, a managed disk of each blob; the machine's description, in the tags of the boot disk
    test       a machine of copies, in a security group that lets nothing pass
    cut-over   a machine of the disks themselves, in the user's subnet
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import MIB, Caps, Disk, Finding, Observation, Placement, Plan, Ref
from v2c.patience import OUTAGE_S
from v2c.platforms import platform
from v2c.sizing import choose
from v2c.targets import TargetFeatures, Tell
from v2c.targets.azure import disks, importing, launch, quotas, staging
from v2c.targets.azure.catalogue import Size, facts, sizes
from v2c.targets.azure.check import Check
from v2c.targets.azure.disks import ManagedDisk
from v2c.targets.azure.inventory import Inventory
from v2c.targets.azure.observe import Observer
from v2c.targets.azure.pageblob import CHUNK
from v2c.targets.azure.place import TEST, Place, name_of, parse
from v2c.targets.azure.reserve import reserve
from v2c.targets.azure.session import Session
from v2c.targets.azure.upload import PARALLEL, State, writing
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
        self.features = TargetFeatures(
            chunk=CHUNK,
            parallel=PARALLEL,
            size_unit=MIB,
            readable=True,
            dry=True,
            account=f"azure:{place.subscription}",
            reserves=0 if place.reserve_capacity else None,
        )
        self.session = Session(place)
        self._inventory = Inventory(self.session)
        self._observer = Observer(self.session)

    # ---- before a byte moves -----------------------------------------------------------------------------------------------

    def size(self, plan: Plan) -> Plan:
        """The user's size, else the smallest of the catalogue that holds the machine; and what Trusted Launch wants of it."""
        self._begin(plan.job)
        plan = plan.typed(self.place.sku)
        if self.place.trusted:
            plan = replace(plan, needs=replace(plan.needs, trusts=platform(self.platform).arrive.trusts, tpm=True))
        try:
            known = sizes(self.session)
        except TargetError:  # `check` tells why, with everything else that stands in the way
            return replace(plan, instance_type=self.place.size) if self.place.size else plan
        name = self.place.size or self._fitting(plan, known)
        if name in known and "SCSI" not in known[name].controllers:
            plan = replace(plan, needs=plan.needs.driving(facts().drivers.nvme))
        return replace(plan, instance_type=name) if name else plan

    def _fitting(self, plan: Plan, known: Mapping[str, Size]) -> str:
        firmware = plan.machine.firmware or plan.needs.firmware
        fitting = (size for size in known.values() if size.trusted or not self.place.trusted)
        offers = [size.offer for size in fitting if size.general and not size.refused]
        chosen = choose(plan.machine, firmware, offers)
        return chosen.name if chosen else ""

    def check(self, plan: Plan) -> Iterator[Finding]:
        self._begin(plan.job)
        yield from Check(self.session, plan if plan.instance_type else self.size(plan)).run()

    def fits(self, plans: Sequence[Plan]) -> Iterator[Finding]:
        self._begin(plans[0].job)
        yield from quotas.fits(quotas.going(self.session, plans))

    def _begin(self, job: str) -> None:
        """Nothing was done yet: who cannot reach Azure hears of it now, and not after the hour that a job waits."""
        self.session.job, self.session.limit_s = job, CHECK_S

    def _go_on(self, job: str) -> None:
        self.session.job, self.session.limit_s = job, OUTAGE_S

    def reserve(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        self._go_on(journal.job)
        yield from reserve(self.session, plan, journal)

    # ---- the disks ---------------------------------------------------------------------------------------------------------

    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> AbstractContextManager[DiskWriter]:
        """Makes the disk, or finds it again. Its SAS is asked for when something is to be sent, and again when it runs out."""
        self._go_on(journal.job)
        number, planned = next((n, p) for n, p in enumerate(plan.disks) if p.disk == disk.id)
        if self.place.staged:
            ref = staging.ref_of(self.session, journal.job, number)
            return writing(staging.staged(self.session, journal.job, number), ref, plan, disk, journal)
        managed = ManagedDisk(self.session, name_of(plan, f"disk{number}"))
        size = str(planned.target_size)
        ref = Ref.of("disk", self.place.id(disks.KIND, managed.name), job=journal.job, disk=disk.id, size=size)
        return writing(managed, ref, plan, disk, journal)

    def read(self, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        self._go_on(plan.job)
        job = disk["job"]
        sink: ManagedDisk | staging.StagedDisk
        if self.place.staged:
            sink = staging.staged(self.session, job, int(disk["number"]))
            size = plan.disks[int(disk["number"])].target_size
        else:
            sink, size = ManagedDisk(self.session, disk.id.rpartition("/")[2]), int(disk["size"])
        if sink.state(job) is not State.SEALED:
            raise TargetError(f"the disk {sink.name} was not uploaded", remedy="run the command again with --again")
        yield from sink.read(size, indexes)

    def register(self, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
        self._go_on(journal.job)
        if self.place.staged:
            disks = importing.imported(self.session, plan, disks, journal)
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
        """What a test that is over left when it was cut off, the reserved capacity, and what was staged."""
        self._go_on(journal.job)
        found = list(self._inventory.of(journal.job))

        def passes(ref: Ref) -> bool:
            return ref.kind == "reservation" or ref.id.startswith("blob://")

        testing = any(one.role == TEST and one.ref.kind == "instance" for one in found)
        for one in reversed(found):
            if passes(one.ref) or (one.role == TEST and not testing):
                self.destroy(one.ref)
                journal.undone(one.ref)
                yield one.ref
        there = {one.ref for one in found}
        for ref in journal.refs():  # gone, and cut off before that was written down
            if passes(ref) and ref not in there:
                journal.undone(ref)

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
