"""What is prepared: the resource group (`?create-group`), the container that disks go by (`?via=blob`), capacity for the machine
(`?reserve-capacity`), and its addresses (`?private-ip=`)."""

from collections.abc import Iterator

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Plan, Ref
from v2c.targets.azure import accounts, cards
from v2c.targets.azure.place import CAPACITY, JOB, name_of
from v2c.targets.azure.session import Session


def reserve(session: Session, plan: Plan, journal: Journal) -> Iterator[Ref]:
    """Makes it, or finds it made. Twice is harmless."""
    place = session.place
    if place.create_group:
        yield from _group(session, journal)
    if place.staged:
        yield from accounts.reserve(session, journal)
    if place.reserve_capacity:
        yield _capacity(session, plan, journal)
    yield from cards.reserve(session, plan, journal)


def _group(session: Session, journal: Journal) -> Iterator[Ref]:
    """Ours when we made it; one that was there before is used and never removed."""
    place, groups = session.place, session.resources.resource_groups
    ref = Ref.of("group", place.group_id, job=journal.job)
    found = session.look("the resource group cannot be read", lambda: groups.get(place.group))
    if found is not None and (found.tags or {}).get(JOB) != journal.job:
        return
    if found is None or ref not in journal.refs("group"):
        body = {"location": place.location, "tags": {JOB: journal.job}}
        with journal.intent("group", ref.id, {JOB: journal.job}) as intent:
            session.ask(f"the resource group {place.group} cannot be made", lambda: groups.create_or_update(place.group, body))
            intent.done(ref)
    yield ref


def _capacity(session: Session, plan: Plan, journal: Journal) -> Ref:
    """A reservation of one machine of the plan's size: all or nothing, paid for until it is removed."""
    place, compute = session.place, session.compute
    name, size = name_of(plan, "capacity"), place.size or plan.instance_type
    if not size:
        raise TargetError("no size is known to reserve capacity for", remedy="name one with ?size=")
    ref = Ref.of("reservation", place.id(CAPACITY, name), job=journal.job)
    groups, reservations = compute.capacity_reservation_groups, compute.capacity_reservations
    found = session.look("the reservation cannot be read", lambda: groups.get(place.group, name))
    if found is None or ref not in journal.refs("reservation"):
        tags = {JOB: journal.job}
        outer = {"location": place.location, "tags": tags}
        inner = {"location": place.location, "tags": tags, "sku": {"name": size, "capacity": 1}}
        with journal.intent("reservation", ref.id, tags) as intent:
            session.ask(f"capacity for {size} cannot be reserved", lambda: groups.create_or_update(place.group, name, outer))
            begin = reservations.begin_create_or_update
            session.run(f"capacity for {size} cannot be reserved", lambda: begin(place.group, name, name, inner))
            intent.done(ref)
    return ref
