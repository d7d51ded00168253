"""Google Cloud: disks through Cloud Storage into images, and instances of Compute Engine.

    gcp:PROJECT/ZONE[?bucket=NAME&network=NAME&subnet=NAME[,NAME]&type=NAME&disk-type=NAME&service-account=EMAIL
                     &reserve=HOURS&name=INSTANCE&license=PATH&kms=KEY&secure-boot=yes&private-ip=ADDRESS[,ADDRESS]
                     &compute-endpoint=URL&storage-endpoint=URL]

Credentials come by google-auth's own chain (GOOGLE_APPLICATION_CREDENTIALS, gcloud, the metadata server). A disk is streamed
as one sparse tar.gz (upload.py) and imported as an image by images.insert; the instance's disks are made of the images.
Without `bucket=` a bucket of the job's own is made in the zone's region, and removed by `finalize`.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from v2c import platforms, sizing
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import Caps, Disk, Finding, Firmware, Observation, Placement, Plan, Ref
from v2c.targets import TargetFeatures, Tell
from v2c.targets.gcp import cards, check, names, quotas, read
from v2c.targets.gcp.catalogue import catalogue, offers
from v2c.targets.gcp.launch import CAPACITY, Launcher
from v2c.targets.gcp.place import Place
from v2c.targets.gcp.session import OPERATION_S, ApiError, failures, refused
from v2c.targets.gcp.upload import UploadWriter, forget
from v2c.targets.writers.part import CHUNK
from v2c.transfer import DiskWriter

DAY_S = 86400
STAGED_DAYS = 30  # a bucket of ours forgets what lies in it so long, should nobody ever clean up
ORDER = ("bucket", "address", "reservation", "disk", "image", "network", "firewall", "subnetwork", "volume", "instance")


def open_target(rest: str) -> "GcpTarget":
    """The target for "PROJECT/ZONE[?...]"; asks nobody anything yet."""
    return GcpTarget(Place.parse(rest))


class GcpTarget:
    """One zone of one project."""

    platform = "gcp"

    def __init__(self, place: Place) -> None:
        self.place = place
        self.features = TargetFeatures(
            chunk=CHUNK,
            parallel=1,
            sequential=True,
            rewritable=False,
            size_unit=platforms.platform("gcp").limits.size_unit,
            readable=True,
            dry=True,
            account=f"gcp:{place.project}",
            reserves=place.reserve_hours or None,
        )
        self._launcher = Launcher(place)

    # ---- before a byte moves -----------------------------------------------------------------------------------------------

    def size(self, plan: Plan) -> Plan:
        """The type named in the locator, else the smallest that holds the machine, of the series that every guest drives; and
        what its series wants of disks and guest."""
        type = self.place.type or self._fitting(plan)
        series = catalogue().series_of(type)
        plan = plan.typed(self.place.disk_type or series.disk_type)
        return replace(plan, instance_type=type, needs=plan.needs.driving(*series.drivers)) if type else plan

    def _fitting(self, plan: Plan) -> str:
        firmware = plan.machine.firmware or plan.needs.firmware
        try:
            with self.place.telling("the types cannot be listed"):
                chosen = sizing.choose(plan.machine, firmware, offers(self.place.session, self.place.zone))
        except TargetError:
            return ""  # check tells why nobody could be asked
        return chosen.name if chosen else ""

    def check(self, plan: Plan) -> Iterator[Finding]:
        return check.findings(self.place, plan if plan.instance_type else self.size(plan))

    def fits(self, plans: Sequence[Plan]) -> Iterator[Finding]:
        try:
            self.place.session.account()
        except TargetError:
            return  # `check` tells
        with self.place.telling("the quotas cannot be read"):
            yield from quotas.quotas([(Place.parse(plan.target.removeprefix("gcp:")), plan) for plan in plans])

    def reserve(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        """A bucket of our own where none was named; addresses and capacity where they were asked for."""
        place, job = self.place, journal.job
        if not place.bucket:
            ref = Ref.of("bucket", place.bucket_of(job), job=job)
            if ref not in journal.refs("bucket") or self._bucket(ref.id) is None:
                with journal.intent("bucket", ref.id, names.labels(job)) as intent:
                    self._make_bucket(ref.id, job)
                    intent.done(ref)
            yield ref
        yield from cards.hold(place, plan, journal)
        if place.reserve_hours:
            ref = Ref.of("reservation", names.name(plan, CAPACITY), job=job)
            if ref not in journal.refs("reservation"):
                with journal.intent("reservation", ref.id, {names.TAG: job}) as intent:
                    place.make(place.in_zone("reservations"), self._reservation(ref.id, plan, job), job)
                    intent.done(ref)
            yield ref

    def _reservation(self, name: str, plan: Plan, job: str) -> dict[str, Any]:
        """It ends by itself: capacity costs while it is held."""
        type = plan.instance_type or self.size(plan).instance_type
        return {
            "name": name,
            "description": names.described(job),
            "specificReservation": {"count": "1", "instanceProperties": {"machineType": type}},
            "specificReservationRequired": True,
            "deleteAfterDuration": {"seconds": str(self.place.reserve_hours * 3600)},
        }

    def _bucket(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.place.session.storage("GET", f"b/{name}")
            return found
        except ApiError as error:
            if error.status == 404:
                return None
            raise refused(error, f"the bucket {name} cannot be looked at") from error
        except failures() as error:
            raise refused(error, f"the bucket {name} cannot be looked at") from error

    def _make_bucket(self, name: str, job: str) -> None:
        body: dict[str, Any] = {
            "name": name,
            "location": self.place.region,
            "labels": names.labels(job),
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
            "softDeletePolicy": {"retentionDurationSeconds": "0"},  # what is removed is gone, and is not billed for a week
            "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": STAGED_DAYS}}]},
        }
        if self.place.kms:
            body["encryption"] = {"defaultKmsKeyName": self.place.kms}
        try:
            self.place.session.storage("POST", "b", body, project=self.place.project)
        except failures() as error:
            found = self._bucket(name) if isinstance(error, ApiError) and error.status == 409 else None
            if found is None or names.tagged(found) != job:
                raise refused(error, f"the bucket {name} was not made") from error

    # ---- the disks ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> Iterator[DiskWriter]:
        number, planned = next((n, p) for n, p in enumerate(plan.disks) if p.disk == disk.id)
        ref = self._staged(journal.job, number, disk.id, planned.target_size)
        bucket, name = _object(ref)
        with UploadWriter(self.place.session, bucket, name, planned.target_size, ref, journal) as writer:
            if ref not in journal.refs("disk"):
                with journal.intent("disk", ref.id, names.labels(journal.job)) as intent:
                    writer.stake()
                    intent.done(ref)
            yield writer

    def _staged(self, job: str, number: int, disk: str, size: int) -> Ref:
        id = f"gs://{self.place.bucket_of(job)}/{names.staged(job, number)}"
        return Ref.of("disk", id, job=job, disk=disk, number=str(number), size=str(size))

    def read(self, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        return read.blocks_of(self.place.session, *_object(disk), int(disk["size"]), indexes)

    def register(self, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
        """An image of each disk, all imported side by side; answers with the boot disk's."""
        place, job = self.place, journal.job
        boot = next((n for n, p in enumerate(plan.disks) if p.disk == caps.boot_disk), 0)
        refs, begun = [], []
        for number, disk in enumerate(disks):
            ref = Ref.of("image", names.name(plan, str(number)), job=job, number=str(number))
            refs.append(ref)
            path = f"global/images/{ref.id}"
            if (found := place.ours(path, job)) is not None and found["status"] == "FAILED":
                place.remove(path)
            body = self._image(ref, disk, caps, first=number == boot)
            with ExitStack() as stack:
                known = ref in journal.refs("image")
                intent = None if known else stack.enter_context(journal.intent("image", ref.id, names.labels(job)))
                begun.append((ref, place.insert("global/images", body, job)))
                if intent:
                    intent.done(ref)
        for ref, operation in begun:
            try:
                place.finished(operation, f"the image {ref.id}")
                self._await_image(ref)
            except TargetError:
                if place.look(f"global/images/{ref.id}") is None:
                    journal.undone(ref)
                raise
        return refs[boot]

    def _await_image(self, ref: Ref) -> None:
        """An image that was adopted may still be in the making."""
        until = time.monotonic() + OPERATION_S
        while True:
            found = self.place.ours(f"global/images/{ref.id}", ref["job"])
            if found is not None and found["status"] == "READY":
                return
            if found is None or found["status"] != "PENDING" or time.monotonic() > until:
                raise TargetError(f"the image {ref.id} was not made", remedy="run the command again", transient=True)
            time.sleep(1.0)

    def _image(self, ref: Ref, disk: Ref, caps: Caps, *, first: bool) -> dict[str, Any]:
        """Features only where the guest has what they promise: none can be taken back later."""
        features = [("VIRTIO_SCSI_MULTIQUEUE", caps.drives("virtio_scsi")), ("GVNIC", caps.drives("gve"))]
        features.insert(0, ("UEFI_COMPATIBLE", caps.firmware is Firmware.UEFI))
        bucket, name = _object(disk)
        return {
            "name": ref.id,
            "rawDisk": {"source": f"https://storage.googleapis.com/{bucket}/{name}", "containerType": "TAR"},
            "architecture": "X86_64",
            "labels": {**names.labels(ref["job"]), names.NUMBER: ref["number"]},
            "storageLocations": [self.place.region],
            **({"imageEncryptionKey": {"kmsKeyName": self.place.kms}} if self.place.kms else {}),
            **({"guestOsFeatures": [{"type": f} for f, has in features if has]} if first else {}),
            **({"licenses": [self.place.license]} if first and self.place.license else {}),
        }

    # ---- the instance ------------------------------------------------------------------------------------------------------

    def launch(self, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Ref:
        type = plan.instance_type or self.size(plan).instance_type
        if not type:
            raise TargetError(f"no type of {self.place.zone} holds {plan.machine.name}", remedy="name one with ?type=")
        return self._launcher.launch(plan, image, placement, type, journal, meter)

    def observe(self, instance: Ref) -> Observation:
        return self._launcher.observe(instance)

    def stop(self, instance: Ref, journal: Journal) -> None:
        self._launcher.stop(instance, journal)

    def finalize(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        """What was staged, the bucket if it is ours, and the reservation are gone: images and instances need none of them. So are
        addresses that no instance has; one that has stays its own."""
        found = list(self.find(journal.job))
        loose = [ref for ref in found if ref.kind == "address" and not self._used(ref)]
        found = [*loose, *(ref for ref in found if ref.kind in ("reservation", "disk", "bucket"))]
        for ref in sorted(found, key=lambda ref: ref.kind == "bucket"):
            self.destroy(ref)
            journal.undone(ref)
            yield ref

    def _used(self, ref: Ref) -> bool:
        return bool((self.place.look(self.place.in_region("addresses", ref.id)) or {}).get("users"))

    # ---- adoption and clean-up ---------------------------------------------------------------------------------------------

    def find(self, job: str) -> Iterator[Ref]:
        place, chosen = self.place, f"labels.{names.TAG}={names.label(job)}"
        with place.telling(f"what job {job} made cannot be listed"):
            found = [*self._find_staged(job)]
            described = f'description="{names.described(job)}"'
            held = [("address", place.in_region("addresses"))] if place.private_ip else []  # its right is asked for only then
            for kind, path in (
                *held,
                ("reservation", place.in_zone("reservations")),
                ("network", "global/networks"),
                ("firewall", "global/firewalls"),
                ("subnetwork", place.in_region("subnetworks")),
            ):
                found += [Ref.of(kind, thing["name"], job=job) for thing in place.session.page(path, filter=described)]
            for thing in place.session.page("global/images", filter=chosen):
                found.append(Ref.of("image", thing["name"], job=job, number=thing["labels"][names.NUMBER]))
            for kind, path in (("volume", place.in_zone("disks")), ("instance", place.in_zone("instances"))):
                for thing in place.session.page(path, filter=chosen):
                    found.append(Ref.of(kind, thing["name"], job=job, role=thing["labels"]["v2c-role"]))
        yield from sorted(found, key=lambda ref: ORDER.index(ref.kind))

    def _find_staged(self, job: str) -> Iterator[Ref]:
        bucket = self.place.bucket_of(job)
        there = self._bucket(bucket)
        if there is None:
            return
        if names.tagged(there) == job:
            yield Ref.of("bucket", bucket, job=job)
        for thing in self.place.session.objects(bucket, f"v2c/{job}/"):
            told = thing.get("metadata", {})
            if told.get(names.TAG) == job and names.NUMBER in told:
                yield self._staged(job, int(told[names.NUMBER]), told["v2c-disk-id"], int(told["v2c-size"]))

    def destroy(self, ref: Ref) -> None:
        if not ref.get("job"):
            raise TargetError(f"the {ref.kind} {ref.id} carries no tag of ours, so it is left alone")
        with self.place.telling(f"the {ref.kind} {ref.id} was not removed"):
            if ref.kind == "disk":
                self._destroy_staged(ref)
            elif ref.kind == "bucket":
                self._destroy_bucket(ref)
            elif ref.kind == "instance":
                self._launcher.remove_instance(ref)
            elif ref.kind in ("image", "reservation"):
                path = f"global/images/{ref.id}" if ref.kind == "image" else self.place.in_zone("reservations", ref.id)
                if self.place.ours(path, ref["job"]) is not None:
                    self.place.remove(path)
            else:
                self._launcher.remove(ref)

    def _destroy_staged(self, ref: Ref) -> None:
        """The object, and the index beside it."""
        bucket, name = _object(ref)
        if self._bucket(bucket) is None:
            return
        for thing in self.place.session.objects(bucket, name):
            if names.tagged(thing) != ref["job"]:
                raise TargetError(f"gs://{bucket}/{thing['name']} is not of job {ref['job']}, so it is left alone")
            self._delete_object(bucket, thing["name"])
        self._forget(bucket, name)

    def _forget(self, bucket: str, name: str) -> None:
        forget(self.place.session, bucket, name)

    def _destroy_bucket(self, ref: Ref) -> None:
        there = self._bucket(ref.id)
        if there is None:
            return
        if names.tagged(there) != ref["job"]:
            raise TargetError(f"the bucket {ref.id} is not of job {ref['job']}, so it is left alone")
        for thing in self.place.session.objects(ref.id, ""):
            self._delete_object(ref.id, thing["name"])
        try:
            self.place.session.storage("DELETE", f"b/{ref.id}")
        except ApiError as error:
            if error.status != 404:
                raise

    def _delete_object(self, bucket: str, name: str) -> None:
        try:
            self.place.session.object("DELETE", bucket, name)
        except ApiError as error:
            if error.status != 404:
                raise

    def dry(self, tell: Tell) -> "GcpTarget":
        from v2c.targets.gcp.dry import DryTarget

        return DryTarget(self.place, tell)


def _object(ref: Ref) -> tuple[str, str]:
    """The bucket and the name that "gs://BUCKET/NAME" means."""
    bucket, _, name = ref.id.removeprefix("gs://").partition("/")
    return bucket, name
