"""Amazon EC2: disks by EBS direct, or by way of S3 and VM Import, an image of them, instances of it.

`aws:REGION[?subnet=ID[,ID]&security-group=ID[,ID]&type=TYPE&kms=KEY-ARN&volume-type=gp3&key-name=NAME&profile=NAME&role=NAME
&private-ip=ADDRESS[,ADDRESS]&imds=required|optional&reserve=HOURS&via=ebs-direct|s3-import&bucket=NAME&import-role=vmimport
&licence=included]`.
A job makes: a snapshot per disk, one image, an instance with its volumes, for a test a security group without rules, a network
interface for each address and the capacity reservation that were asked for, and by way of S3 a bucket, unless one is named, and a
staged object per disk. All carry the tag v2c-job; objects have the job in their names.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.util import find_spec

from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import GIB, Caps, Disk, Finding, Observation, Placement, Plan, Ref
from v2c.platforms import platform
from v2c.sizing import choose
from v2c.targets import Target, TargetFeatures, Tell, together
from v2c.targets.aws import (
    cards,
    catalogue,
    checking,
    dry,
    finding,
    images,
    importing,
    licensed,
    objects,
    quotas,
    readback,
    reserving,
    staging,
    upload,
)
from v2c.targets.aws.launch import Instances
from v2c.targets.aws.options import Options, parse
from v2c.targets.aws.session import Session
from v2c.transfer import DiskWriter

if find_spec("boto3") is None:
    raise ModuleNotFoundError("boto3 is not installed", name="boto3")


def open_target(rest: str) -> "AwsTarget":
    """The target for what follows "aws:"."""
    return AwsTarget(parse(rest))


class AwsTarget:
    """One region of the account that the SDK's own settings name."""

    platform = "aws"

    def __init__(self, options: Options, session: Session | None = None) -> None:
        self.options = options
        at = (options.region, options.profile)
        self.session = session or together.once(("aws", *at), lambda: Session(*at))
        self.instances = Instances(self.session, options)
        if options.staged:
            self.features = TargetFeatures(
                chunk=staging.CHUNK,
                parallel=1,
                sequential=True,
                rewritable=False,
                size_unit=GIB,
                readable=True,
                dry=True,
                account=self.session.account,
                reserves=options.hours or None,
            )
            return
        self.features = TargetFeatures(
            chunk=upload.BLOCK,
            parallel=upload.PARALLEL,
            size_unit=GIB,
            delta=True,
            readable=True,
            dry=True,
            account=self.session.account,
            reserves=options.hours or None,
        )

    def size(self, plan: Plan) -> Plan:
        """The type that was named, else the smallest that holds the machine; none when nothing does, which `check` tells. And its
        disks' types, the driver of Nitro's network card, and which system the guest must be where AWS provides its licence."""
        plan = plan.typed(self.options.volume_type)
        plan = replace(plan, needs=plan.needs.driving(images.CARD))
        if self.options.licensed:
            plan = replace(plan, needs=replace(plan.needs, system=platform(self.platform).limits.licensed))
        try:
            if self.options.type:
                return replace(plan, instance_type=self.options.type)
            zone = str(self.instances.subnet()["AvailabilityZone"])
            firmware = plan.machine.firmware or plan.needs.firmware
            chosen = choose(plan.machine, firmware, catalogue.offers(self.session, zone))
        except TargetError:
            return plan  # `check` asks again, and tells
        return replace(plan, instance_type=chosen.name if chosen else "")

    def check(self, plan: Plan) -> Iterator[Finding]:
        self.session.job = plan.job
        return checking.check(self.session, self.options, self.instances, plan)

    def fits(self, plans: Sequence[Plan]) -> Iterator[Finding]:
        try:
            self.session.call("sts", "get_caller_identity", patient=False)
        except TargetError:
            return  # `check` tells
        yield from quotas.fits(self.session, [(parse(plan.target.removeprefix("aws:")), plan) for plan in plans])

    def reserve(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        self.session.job = journal.job
        if self.options.staged:
            yield from objects.reserve(self.session, self.options, journal)
        yield from reserving.reserve(self.session, self.options, self.instances, plan, journal)

    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> AbstractContextManager[DiskWriter]:
        self.session.job = journal.job
        if self.options.staged:
            bucket = objects.bucket_of(self.session, self.options, journal.job)
            return staging.writing(self.session, bucket, plan, disk, journal)
        return upload.writing(self.session, self.options, plan, disk, journal, base)

    def read(self, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        self.session.job = plan.job
        if self.options.staged:
            return staging.read(self.session, plan, disk, indexes)
        return readback.read(self.session, disk, indexes)

    def register(self, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
        self.session.job = journal.job
        if self.options.staged:
            disks = importing.snapshots(self.session, self.options, plan, disks, journal)
        make = licensed.register if self.options.licensed else images.register
        return make(self.session, self.options, plan, disks, caps, journal)

    def launch(self, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Ref:
        self.session.job = journal.job
        sized = plan if plan.instance_type else self.size(plan)
        return self.instances.launch(sized, image, placement, journal, meter)

    def observe(self, instance: Ref) -> Observation:
        return self.instances.observe(instance)

    def stop(self, instance: Ref, journal: Journal) -> None:
        self.instances.stop(instance, journal)

    def finalize(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        found = list(self.find(journal.job))
        over = [ref for ref in found if ref.kind in ("reservation", "network", "volume")]
        over += [ref for ref in found if ref.kind == "nic" and not self._attached(ref)]  # one that is stays the instance's
        if self.options.licensed:  # the image has copies of its own
            over += [ref for ref in found if ref.kind in ("disk", "snapshot") and not ref.get("copy") and "s3://" not in ref.id]
        if self.options.staged:  # snapshots and image need nothing of it; an own bucket goes after what lies in it
            over += sorted((ref for ref in found if ref.kind in ("disk", "bucket")), key=lambda ref: ref.kind == "bucket")
        for ref in over:
            finding.destroy(self.session, ref)
            journal.undone(ref)
            yield ref
        for ref in journal.refs("reservation"):  # a token that is used again answers with a reservation that was ended
            if ref not in found:
                journal.undone(ref)

    def _attached(self, ref: Ref) -> bool:
        return "Attachment" in (cards.described(self.session, ref.id) or {})

    def find(self, job: str) -> Iterator[Ref]:
        bucket = objects.bucket_of(self.session, self.options, job) if self.options.staged else ""
        return finding.find(self.session, job, bucket, held=bool(self.options.private_ip), imported=self.options.licensed)

    def destroy(self, ref: Ref) -> None:
        finding.destroy(self.session, ref)

    def dry(self, tell: Tell) -> Target:
        return AwsTarget(self.options, dry.DrySession(self.session, tell))
