"""What all machines of a subscription share, asked for one or for many together: quotas, and addresses of subnets."""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from v2c.errors import TargetError
from v2c.model import Finding, Level, Plan
from v2c.targets.azure import cards
from v2c.targets.azure.catalogue import facts, sizes
from v2c.targets.azure.place import CUTOVER, JOB, ROLE, name_of, parse
from v2c.targets.azure.session import Session

Going = tuple[Session, Plan]  # a machine, and the way to the place that its locator names


def going(session: Session, plans: Sequence[Plan]) -> list[Going]:
    """Each machine with a way to its place; machines of one place share theirs, and the calls that were made there."""
    ways = {session.place: session}
    found = []
    for plan in plans:
        place = parse(plan.target.removeprefix("azure:"))
        found.append((ways.setdefault(place, Session(place)), plan))
    return found


def fits(machines: Sequence[Going]) -> Iterator[Finding]:
    """Whether all of them fit together. Who nobody is logged in as, and subnets that are not there, `check` tells."""
    try:
        group(machines[0][0])
    except TargetError:
        return
    yield from quotas(machines)
    yield from addresses(machines)


def group(session: Session) -> Any:
    """The resource group; None when there is none. The first question to Azure: it shows whether somebody is logged in."""
    groups, name = session.resources.resource_groups, session.place.group
    return session.once(f"group {name}", lambda: session.look("the resource group cannot be read", lambda: groups.get(name)))


def quotas(machines: Sequence[Going]) -> Iterator[Finding]:
    """Test and real machine do not run at once: the need is one machine's each. Machines whose size is not known count as one,
    without processors. What a machine holds already, it does not need again."""
    has = _held(machines)
    for location in dict.fromkeys(session.place.location for session, _ in machines):
        here = [(session, plan) for session, plan in machines if session.place.location == location]
        session, needs = here[0][0], Counter[str]()
        for _, plan in here:
            own = Counter({"virtualMachines": 1}) + _processors(session, plan.instance_type)
            needs += own - has[plan.job]  # never less than nothing: what one has too much of is no room for others
        known = {str(row.name.value).lower(): row for row in _usage(session, location)}
        who = f"{{}} are needed for the {len(here)} machines together" if len(here) > 1 else "{} are needed"
        for name, need in needs.items():
            row = known.get(name.lower())
            if row is not None and row.current_value + need > row.limit:
                text = f"the quota {name} has {row.limit - row.current_value} left in {location}, and {who.format(need)}"
                remedy = "have the quota raised, or choose another size or location"
                yield Finding("azure.quota", Level.BLOCKER, name, text, remedy)


def _held(machines: Sequence[Going]) -> Mapping[str, Counter[str]]:
    """By job: the machines that were cut over, by their tags, and what was reserved for them; who runs on his reservation counts
    once. A test's is nobody's: it may still stand. A group is asked once for all."""
    found: dict[str, Counter[str]] = {plan.job: Counter() for _, plan in machines}
    for session in {session.place.group_id: session for session, _ in machines}.values():
        if group(session) is None:
            continue
        for vm in every_machine(session):
            tags = vm.tags or {}
            if tags.get(JOB) in found and tags.get(ROLE) == CUTOVER:
                profile = vm.properties.hardware_profile
                found[tags[JOB]] += Counter({"virtualMachines": 1}) + _processors(session, profile.vm_size if profile else "")
    for session, plan in machines:
        if session.place.reserve_capacity and group(session) is not None:
            found[plan.job] |= _reserved(session, plan)
    return found


def every_machine(session: Session) -> list[Any]:
    """The virtual machines of the resource group."""
    machines, group = session.compute.virtual_machines, session.place.group
    listed = partial(session.list, "the machines cannot be listed", lambda: machines.list(group))
    return session.once(f"machines {group}", listed)


def _reserved(session: Session, plan: Plan) -> Counter[str]:
    """What is reserved for the machine. Where it cannot be read, `check` tells which right is missing."""
    reservations, name = session.compute.capacity_reservations, name_of(plan, "capacity")
    try:
        found = session.look("the reservation cannot be read", lambda: reservations.get(session.place.group, name, name))
    except TargetError:
        return Counter()
    if found is None or (found.tags or {}).get(JOB) != plan.job:
        return Counter()
    each = _processors(session, str(found.sku.name))
    return Counter({name: count * int(found.sku.capacity or 0) for name, count in each.items()})


def _processors(session: Session, size: str) -> Counter[str]:
    """What a machine of the size takes: processors, and its family's; of one that is not known nothing."""
    known = sizes(session).get(size)
    return Counter({"cores": known.offer.vcpus, known.family: known.offer.vcpus} if known else {})


def _usage(session: Session, location: str) -> list[Any]:
    usage = session.compute.usage
    return session.once(f"usage {location}", lambda: session.list("the quotas cannot be read", lambda: usage.list(location)))


def addresses(machines: Sequence[Going]) -> Iterator[Finding]:
    """Room for all cards in the subnets of the real machines; in those of tests for the largest, since tests end."""
    real, tests, ways = Counter[str](), Counter[str](), dict[str, Session]()
    owners = dict[str, list[Going]]()
    for session, plan in machines:
        for id, many in cards.subnets(session.place, plan, test=False).items():
            real[id] += many
            owners.setdefault(id, []).append((session, plan))
            ways.setdefault(id, session)
        for id, many in cards.subnets(session.place, plan, test=True).items():
            tests[id] = max(tests[id], many)
            ways.setdefault(id, session)
    for id, session in ways.items():
        here, needed = owners.get(id, []), real[id] or tests[id]
        about = subnet(session, id)
        free = free_of(about, here) if about is not None else needed
        if free < needed:
            words = id.strip("/").split("/")
            name, who = f"{words[7]}/{words[9]}", f" for the {len(here)} machines together" if len(here) > 1 else ""
            text = f"the subnet {name} has {max(0, free)} free addresses, and {needed} are needed{who}"
            yield Finding("azure.subnet", Level.BLOCKER, name, text, "choose another subnet, or free addresses")


def subnet(session: Session, id: str) -> Any:
    """A subnet; None when there is none."""
    words = id.strip("/").split("/")
    group, vnet, name = words[3], words[7], words[9]
    subnets = session.network.subnets
    return session.once(id, lambda: session.look("the subnet cannot be read", lambda: subnets.get(group, vnet, name)))


def ranges(about: Any) -> list[ipaddress.IPv4Network]:
    """The IPv4 addresses of a subnet."""
    prefixes = about.properties.address_prefixes or ([about.properties.address_prefix] if about.properties.address_prefix else [])
    return [ipaddress.IPv4Network(prefix) for prefix in prefixes if ":" not in prefix]


def free_of(about: Any, machines: Sequence[Going]) -> int:
    """Free addresses of a subnet, those that these machines' cards have already among them."""
    held = sum(network.num_addresses - facts().limits.subnet_reserved for network in ranges(about))
    taken = [str(one.id).lower() for one in about.properties.ip_configurations or []]
    numbered = ((session.place, plan, number) for session, plan in machines for number in range(cards.count(plan)))
    own = tuple(f"{cards.id_of(*one)}/".lower() for one in numbered)
    return held - len([id for id in taken if not id.startswith(own)])
