"""What is prepared before the upload: the instance's addresses, and a place for it until it is launched or its time is over."""

import datetime
from collections.abc import Iterator
from typing import Any

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Plan, Ref
from v2c.targets.aws import cards, names
from v2c.targets.aws.launch import Instances
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import Session


def reserve(session: Session, options: Options, instances: Instances, plan: Plan, journal: Journal) -> Iterator[Ref]:
    """A network interface for each address of `?private-ip=`, and the capacity reservation of `?reserve=HOURS`, which ends by
    itself; twice is one."""
    yield from cards.hold(session, options, plan, journal)
    if not options.hours:
        return
    if not plan.instance_type:
        raise TargetError("no instance type holds the machine, so there is nothing to reserve", remedy="name one with &type=")
    found = _held(session, journal.job)
    ref = Ref.of("reservation", found["CapacityReservationId"], job=journal.job) if found else None
    if ref is None or ref not in journal.refs("reservation"):
        with journal.intent("reservation", plan.instance_type, {names.TAG: journal.job}) as intent:
            id = found["CapacityReservationId"] if found else _make(session, options, instances, plan, journal)
            ref = intent.done(Ref.of("reservation", id, job=journal.job))
    yield ref


def _held(session: Session, job: str) -> dict[str, Any] | None:
    filters = [*names.ours(job), {"Name": "state", "Values": ["active", "pending"]}]
    return next(session.pages("ec2", "describe_capacity_reservations", "CapacityReservations", Filters=filters), None)


def _make(session: Session, options: Options, instances: Instances, plan: Plan, journal: Journal) -> str:
    key = f"aws/reserved-until/{options.hours}"
    until = journal.noted(key)  # the same in every try: a client token goes with the same arguments
    now = datetime.datetime.now(datetime.UTC)
    if until is None or datetime.datetime.fromisoformat(until) < now + datetime.timedelta(minutes=10):
        until = (now + datetime.timedelta(hours=options.hours)).replace(microsecond=0).isoformat()
        journal.note(key, until)
    made = session.call(
        "ec2",
        "create_capacity_reservation",
        InstanceType=plan.instance_type,
        InstancePlatform="Windows" if options.licensed else "Linux/UNIX",
        AvailabilityZone=str(instances.subnet()["AvailabilityZone"]),
        InstanceCount=1,
        EndDateType="limited",
        EndDate=datetime.datetime.fromisoformat(until),
        InstanceMatchCriteria="targeted",
        ClientToken=names.token(journal.job, "reservation", plan.instance_type, until),
        TagSpecifications=[{"ResourceType": "capacity-reservation", "Tags": names.tags(journal.job, plan.machine.name)}],
    )
    return str(made["CapacityReservation"]["CapacityReservationId"])
