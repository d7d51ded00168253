"""Virtual machines of specialised disks: a test from copies, cut off from everything; the real one from the disks themselves.

A test writes to copies, so it can be repeated and the uploaded disks stay as they are. Every thing of it (machine, card, security
group, copies) carries the job's tag and the role "test", and is gone when the test is over.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import Caps, Firmware, Placement, Plan, Ref
from v2c.targets.azure import cards, disks
from v2c.targets.azure.catalogue import facts, sizes
from v2c.targets.azure.disks import ManagedDisk
from v2c.targets.azure.place import CAPACITY, CUTOVER, IMAGE, JOB, ROLE, SIGNED, STANDARD, TEST, name_of
from v2c.targets.azure.session import Session

VM = "Microsoft.Compute/virtualMachines"
NSG = "Microsoft.Network/networkSecurityGroups"
HIGHEST = 100  # a rule's priority: before every other


def register(session: Session, plan: Plan, held: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
    """Writes onto the boot disk what it takes to launch the machine: which disks, in which order, by which firmware; and tells
    Azure which controllers and cards the guest can drive. Nothing else is made: specialised disks need no image."""
    boot = next((ref for ref in held if ref["disk"] == caps.boot_disk), held[0])
    name = boot.id.rpartition("/")[2]
    ref = Ref.of("image", boot.id, job=journal.job)
    managed = ManagedDisk(session, name)
    wanted = "V2" if caps.firmware is Firmware.UEFI else "V1"
    with journal.intent("image", boot.id, {JOB: journal.job}) as intent:
        shown = managed.ours(journal.job)
        if shown is None:
            raise TargetError(f"the disk {name} is gone", remedy="run the command again with --again")
        if not disks.sealed(shown):
            raise TargetError(f"the upload of the disk {name} was never completed", remedy="run the command again with --again")
        made = str(getattr(shown.properties.hyper_v_generation, "value", shown.properties.hyper_v_generation) or "V1")
        if made != wanted:
            raise TargetError(
                f"the disk {name} was made for generation {made[1:]}, and the guest boots by {caps.firmware}",
                remedy=f"run the command again with --again --firmware {caps.firmware}",
            )
        if (kind := disks.security_of(shown)) != session.place.security:
            raise TargetError(
                f"the disk {name} was made to boot machines of the security type {kind}, not of {session.place.security}",
                remedy="name the disk that the guest boots from first, and run the command again with --again",
            )
        known = facts().drivers
        nvme = wanted == "V2" and caps.drives(known.nvme)
        marks = {SIGNED: "yes"} if session.place.trusted and caps.secure_boot else {}
        body = {
            "tags": {**unmarked(shown.tags), IMAGE: description(held, boot), **marks},
            "properties": {
                "osType": session.place.os,
                "supportedCapabilities": {
                    "architecture": "x64",
                    "acceleratedNetwork": any(map(caps.drives, known.accelerated)),
                    "diskControllerTypes": "SCSI, NVMe" if nvme else "SCSI",
                },
            },
        }
        compute = session.compute
        session.run(f"the disk {name} cannot be described", lambda: compute.disks.begin_update(session.place.group, name, body))
        intent.done(ref)
    return ref


def unmarked(tags: dict[str, str]) -> dict[str, str]:
    """The tags without what registering writes."""
    return {key: value for key, value in tags.items() if key not in (IMAGE, SIGNED)}


def description(held: Sequence[Ref], boot: Ref) -> str:
    """The numbers of the machine's disks, the boot disk first: what the tag holds (a tag's value has 256 characters at most)."""
    ordered = (boot, *(ref for ref in held if ref != boot))
    return ",".join(ref.id.rpartition("-disk")[2] for ref in ordered)


def described(boot: str, text: str) -> list[str]:
    """The names of the disks, the boot disk first; `boot` is its name."""
    stem = boot.rpartition("-disk")[0]
    return [f"{stem}-disk{number}" for number in text.split(",")]


class Launch:
    """One launch: the machine of an image, as a test or for good."""

    def __init__(self, session: Session, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> None:
        self.session, self.plan, self.image, self.placement = session, plan, image, placement
        self.journal, self.meter = journal, meter
        self.role = CUTOVER if placement.cutover else TEST
        self.place = session.place
        self.tags = {**dict(plan.tags), JOB: journal.job, ROLE: self.role}

    def run(self) -> Ref:
        """The instance, made or adopted."""
        name = self.name(self.role) if self.role == TEST else self.name()
        compute, group = self.session.compute, self.place.group
        ref = Ref.of("instance", self.place.id(VM, name), job=self.journal.job, role=self.role)
        what = f"the virtual machine {name} cannot be read"
        shown = self.session.look(what, lambda: compute.virtual_machines.get(group, name, expand="instanceView"), self.meter)
        if shown is not None and (shown.tags or {}).get(JOB) != self.journal.job:
            raise TargetError(f"the virtual machine {name} is not of this job", remedy="choose another machine name")
        if shown is not None and ref in self.journal.refs("instance"):
            self._go(name)
            return ref
        boot = self._boot_disk()
        held = described(boot.name, boot.tags[IMAGE])
        controller = self._controller(boot)  # asked first: what cannot start is not begun
        with self.meter.phase("start"):
            names = [self._copy(disk, boot) for disk in held] if self.role == TEST else [self._ready(disk) for disk in held]
            nsg = self._fence() if self.placement.isolated else self.place.nsg_id()
            body = self._body(controller, names, self._cards(nsg, boot), signed=SIGNED in boot.tags)
            with self.journal.intent("instance", ref.id, self.tags) as intent:
                begin = compute.virtual_machines.begin_create_or_update
                self.session.run(f"the virtual machine {name} cannot be made", lambda: begin(group, name, body), self.meter)
                self._go(name)
                intent.done(ref)
        return ref

    def name(self, *what: str) -> str:
        """The name of a thing of this launch."""
        return name_of(self.plan, *what)

    def _boot_disk(self) -> Any:
        shown = ManagedDisk(self.session, self.image.id.rpartition("/")[2]).ours(self.journal.job)
        if shown is None or IMAGE not in (shown.tags or {}):
            raise TargetError(f"the image {self.image.id} is gone", remedy="run the command again with --again")
        return shown

    def _go(self, name: str) -> None:
        """Starts it where it does not run: a guest that went off, a machine that was stopped."""
        if power(self.session, name, self.meter) in ("stopped", "deallocated"):
            begin = self.session.compute.virtual_machines.begin_start
            self.session.run(f"the virtual machine {name} cannot be started", lambda: begin(self.place.group, name), self.meter)

    # ---- its parts ---------------------------------------------------------------------------------------------------------

    def _copy(self, source: str, boot: Any) -> str:
        """A copy of an uploaded disk, for the test to write to; the name of it."""
        self._ready(source)
        name = f"{source}-{TEST}"
        ref = Ref.of("test-disk", self.place.id(disks.KIND, name), job=self.journal.job)
        managed = ManagedDisk(self.session, name)
        if managed.ours(self.journal.job) is None or ref not in self.journal.refs("test-disk"):
            copied = {"createOption": "Copy", "sourceResourceId": self.place.id(disks.KIND, source)}
            body = {
                "location": self.place.location,
                "sku": {"name": self._kind(source)},
                "tags": self.tags,
                "properties": {"creationData": copied, **(_bootable(boot) if source == boot.name else {})},
            }
            with self.journal.intent("test-disk", ref.id, self.tags) as intent:
                begin, group = self.session.compute.disks.begin_create_or_update, self.place.group
                self.session.run(f"the disk {source} cannot be copied", lambda: begin(group, name, body), self.meter)
                intent.done(ref)
        return name

    def _kind(self, name: str) -> str:
        """The kind of an uploaded disk, by the number that its name ends with."""
        number = int(name.rpartition("-disk")[2])
        return self.plan.disks[number].type or self.place.sku

    def _ready(self, name: str) -> str:
        """The uploaded disk: there, and not open for a reader that died."""
        managed = ManagedDisk(self.session, name)
        shown = managed.ours(self.journal.job)
        if shown is None:
            raise TargetError(f"the disk {name} is gone", remedy="run the command again with --again")
        if disks.state_of(shown) == "ActiveSAS":
            managed.revoke()
        return name

    def _fence(self) -> str:
        """A security group through which nothing passes, in or out; its id."""
        name = self.name(self.role, "nsg")
        ref = Ref.of("security-group", self.place.id(NSG, name), job=self.journal.job)
        groups = self.session.network.network_security_groups
        found = self.session.look("the security group cannot be read", lambda: groups.get(self.place.group, name))
        if found is None or ref not in self.journal.refs("security-group"):
            body = {"location": self.place.location, "tags": self.tags, "properties": {"securityRules": list(_closed())}}
            with self.journal.intent("security-group", ref.id, self.tags) as intent:
                begin = groups.begin_create_or_update
                what = f"the security group {name} cannot be made"
                self.session.run(what, lambda: begin(self.place.group, name, body), self.meter)
                intent.done(ref)
        return ref.id

    def _cards(self, nsg: str, boot: Any) -> list[str]:
        """One card for each of the machine's; their ids. Those with a fixed address were made when that was reserved."""
        more: dict[str, Any] = {"nsg": nsg, "fast": self._accelerated(boot), "meter": self.meter}
        numbers = range(cards.count(self.plan))
        return [cards.card(self.session, self.plan, self.role, number, self.journal, **more).id for number in numbers]

    def _accelerated(self, boot: Any) -> bool:
        size = sizes(self.session).get(self._size())
        able = boot.properties.supported_capabilities
        return bool(size and size.accelerated and able and able.accelerated_network)

    def _size(self) -> str:
        wanted = self.place.size or self.plan.instance_type
        if not wanted:
            raise TargetError("no size of Azure holds the machine", remedy="name one with ?size=")
        return wanted

    def _controller(self, boot: Any) -> str:
        """How the disks are shown: as SCSI where the size can, else as NVMe where the guest can too."""
        size = sizes(self.session).get(self._size())
        offered = size.controllers if size else ("SCSI",)
        able = boot.properties.supported_capabilities
        words = [word.strip() for word in ((able and able.disk_controller_types) or "SCSI").split(",")]
        if "SCSI" not in offered and "NVMe" not in words:
            raise TargetError(
                f"the size {self._size()} shows its disks as NVMe, and the guest cannot boot from that",
                remedy="choose a size with SCSI disks with ?size=, or put the nvme driver into the guest's boot image",
            )
        return "SCSI" if "SCSI" in offered else "NVMe"

    def _security(self, *, signed: bool) -> dict[str, object]:
        """With Trusted Launch a TPM always, and secure boot where it would not keep the guest from starting."""
        if not self.place.trusted:
            return {"securityType": STANDARD}
        return {"securityType": self.place.security, "uefiSettings": {"secureBootEnabled": signed, "vTpmEnabled": True}}

    def _body(self, controller: str, names: Sequence[str], cards: Sequence[str], *, signed: bool) -> dict[str, object]:
        ids = [self.place.id(disks.KIND, name) for name in names]
        end = "Delete" if self.role == TEST else "Detach"
        first, rest = ids[0], ids[1:]
        profile = {
            "diskControllerType": controller,
            "osDisk": {
                "createOption": "Attach",
                "osType": self.place.os,
                "managedDisk": {"id": first},
                "deleteOption": end,
            },
            "dataDisks": [
                {"lun": lun, "createOption": "Attach", "managedDisk": {"id": id}, "deleteOption": end}
                for lun, id in enumerate(rest)
            ],
        }
        held: dict[str, object] = {}
        if self.role == CUTOVER and self.place.reserve_capacity:
            group = {"id": self.place.id(CAPACITY, name_of(self.plan, "capacity"))}
            held = {"capacityReservation": {"capacityReservationGroup": group}}
        interfaces = [{"id": id, "properties": {"primary": number == 0}} for number, id in enumerate(cards)]
        return {
            "location": self.place.location,
            "tags": self.tags,
            "properties": {
                "hardwareProfile": {"vmSize": self._size()},
                "storageProfile": profile,
                "networkProfile": {"networkInterfaces": interfaces},
                # said always: what Azure does without a word changed with its API versions (Trusted Launch by default)
                "securityProfile": self._security(signed=signed),
                "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
                **held,
            },
        }


def _bootable(boot: Any) -> dict[str, object]:
    """What makes a copy boot as its source does, said again."""
    able = boot.properties.supported_capabilities
    generation = boot.properties.hyper_v_generation
    told = {"acceleratedNetwork": able.accelerated_network, "diskControllerTypes": able.disk_controller_types} if able else {}
    kind = disks.security_of(boot)
    return {
        **({"securityProfile": {"securityType": kind}} if kind != STANDARD else {}),
        "osType": str(getattr(boot.properties.os_type, "value", boot.properties.os_type)),
        "hyperVGeneration": str(getattr(generation, "value", generation) or "V1"),
        "supportedCapabilities": {"architecture": "x64", **{key: value for key, value in told.items() if value is not None}},
    }


def _closed() -> Iterator[dict[str, object]]:
    for direction in ("Inbound", "Outbound"):
        anything = {
            "sourceAddressPrefix": "*",
            "sourcePortRange": "*",
            "destinationAddressPrefix": "*",
            "destinationPortRange": "*",
        }
        rule = {"access": "Deny", "direction": direction, "priority": HIGHEST, "protocol": "*", **anything}
        yield {"name": f"v2c-nothing-{direction.lower()}", "properties": rule}


def power(session: Session, name: str, meter: Meter | None = None) -> str:
    """ "running", "stopped", "deallocated", ...; "gone" when there is no such machine."""
    machines = session.compute.virtual_machines
    view = session.look(f"{name} cannot be asked", lambda: machines.instance_view(session.place.group, name), meter)
    if view is None:
        return "gone"
    codes = [str(status.code) for status in view.statuses or []]
    return next((code.partition("/")[2] for code in codes if code.startswith("PowerState/")), "starting")
