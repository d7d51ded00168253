"""Amazon EC2: disks by EBS direct, an image of them, instances of it.

`aws:REGION[?subnet=ID&security-group=ID[,ID]&type=TYPE&kms=KEY-ARN&volume-type=gp3&key-name=NAME&profile=NAME&role=NAME
&imds=required|optional&reserve=HOURS]`. A job makes: a snapshot per disk, one image, an instance with its volumes, for a test a
security group without rules, and the capacity reservation that was asked for. All carry the tag v2c-job.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.util import find_spec

from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import GIB, Caps, Disk, Finding, Observation, Placement, Plan, Ref
from v2c.sizing import choose
from v2c.targets import Target, TargetFeatures, Tell
from v2c.targets.aws import catalogue, checking, dry, finding, images, readback, reserving, upload
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
        self.session = session or Session(options.region, options.profile)
        self.instances = Instances(self.session, options)
        self.features = TargetFeatures(
            chunk=upload.BLOCK, parallel=upload.PARALLEL, size_unit=GIB, delta=True, readable=True, dry=True
        )

    def size(self, plan: Plan) -> Plan:
        """The type that was named, else the smallest that holds the machine; none when nothing does, which `check` tells."""
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

    def reserve(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        self.session.job = journal.job
        return reserving.reserve(self.session, self.options, self.instances, plan, journal)

    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> AbstractContextManager[DiskWriter]:
        self.session.job = journal.job
        return upload.writing(self.session, self.options, plan, disk, journal, base)

    def read(self, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        self.session.job = plan.job
        return readback.read(self.session, disk, indexes)

    def register(self, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
        self.session.job = journal.job
        return images.register(self.session, self.options, plan, disks, caps, journal)

    def launch(self, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Ref:
        self.session.job = journal.job
        sized = plan if plan.instance_type else self.size(plan)
        return self.instances.launch(sized, image, placement, journal, meter)

    def observe(self, instance: Ref) -> Observation:
        return self.instances.observe(instance)

    def stop(self, instance: Ref, journal: Journal) -> None:
        self.instances.stop(instance, journal)

    def finalize(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        for ref in [ref for ref in self.find(journal.job) if ref.kind in ("reservation", "network", "volume")]:
            finding.destroy(self.session, ref)
            journal.undone(ref)
            yield ref

    def find(self, job: str) -> Iterator[Ref]:
        return finding.find(self.session, job)

    def destroy(self, ref: Ref) -> None:
        finding.destroy(self.session, ref)

    def dry(self, tell: Tell) -> Target:
        return AwsTarget(self.options, dry.DrySession(self.session, tell))
