"""Network cards: of a test or of the real machine, whose fixed addresses are its own before a byte moves. Each has its subnet;
all of a machine are in one virtual network, as Azure wants it."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import Plan, Ref
from v2c.targets.azure.place import CUTOVER, JOB, ROLE, TEST, Place, name_of
from v2c.targets.azure.session import Session

NIC = "Microsoft.Network/networkInterfaces"


def count(plan: Plan) -> int:
    """How many cards the machine gets: as many as it has, and one at least."""
    return max(1, len(plan.machine.nics))


def subnets(place: Place, plan: Plan, *, test: bool) -> Counter[str]:
    """How many of the machine's cards are in which subnet, by its ARM id; empty when none was named."""
    found = (place.subnet_id(number, test=test) for number in range(count(plan)))
    return Counter(id for id in found if id)


def addresses(place: Place, plan: Plan) -> dict[int, str]:
    """The fixed addresses of the real machine, by card."""
    return {number: address for number in range(count(plan)) if (address := place.address(number))}


def id_of(place: Place, plan: Plan, number: int) -> str:
    """The ARM id of a card of the real machine."""
    return place.id(NIC, name_of(plan, f"nic{number}"))


def reserve(session: Session, plan: Plan, journal: Journal) -> Iterator[Ref]:
    """Each card of the real machine that has a fixed address, so that nobody takes it before the cut-over. Twice is harmless.

    What the guest can drive is not known yet: `card` turns accelerated networking on when it is."""
    for number in addresses(session.place, plan):
        yield card(session, plan, CUTOVER, number, journal, nsg=session.place.nsg_id(), fast=None)


def card(
    session: Session,
    plan: Plan,
    role: str,
    number: int,
    journal: Journal,
    *,
    nsg: str,
    fast: bool | None,
    meter: Meter | None = None,
) -> Ref:
    """The card of that number, made, adopted, or brought to what is wanted. Never a public address.

    `nsg`: id of its security group, empty: none. `fast`: with accelerated networking; None: as it is."""
    place, cards = session.place, session.network.network_interfaces
    subnet = place.subnet_id(number, test=role == TEST)
    if not subnet:
        raise TargetError("no subnet was named", remedy="add ?subnet=VNET/SUBNET to the target")
    name = name_of(plan, *((TEST,) if role == TEST else ()), f"nic{number}")
    ref = Ref.of("nic", place.id(NIC, name), job=journal.job)
    found = session.look("the network card cannot be read", lambda: cards.get(place.group, name), meter)
    if found is not None and (found.tags or {}).get(JOB) != journal.job:
        raise TargetError(f"the network card {name} is not of this job", remedy="choose another machine name")
    is_fast = bool(found is not None and found.properties.enable_accelerated_networking)
    wanted = is_fast if fast is None else fast
    if found is not None and ref in journal.refs("nic") and is_fast == wanted:
        return ref
    fixed = place.address(number) if role == CUTOVER else ""
    address: dict[str, object] = {"subnet": {"id": subnet}}
    address |= {"privateIPAllocationMethod": "Static" if fixed else "Dynamic"}
    address |= {"privateIPAddress": fixed} if fixed else {}
    properties: dict[str, object] = {
        "ipConfigurations": [{"name": "primary", "properties": address}],
        "enableAcceleratedNetworking": wanted,
    }
    if nsg:
        properties["networkSecurityGroup"] = {"id": nsg}
    tags = {**dict(plan.tags), JOB: journal.job, ROLE: role}
    body = {"location": place.location, "tags": tags, "properties": properties}
    with journal.intent("nic", ref.id, tags) as intent:
        begin = partial(cards.begin_create_or_update, place.group, name, body)
        session.run(f"the network card {name} cannot be made", begin, meter)
        intent.done(ref)
    return ref
