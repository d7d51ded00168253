"""Whether the machine's network cards have a place: subnets of one virtual network, with room for them, and their addresses."""

import ipaddress
from collections.abc import Iterator
from functools import partial

from v2c.errors import TargetError
from v2c.model import Finding, Level, Plan
from v2c.targets.azure import cards, quotas
from v2c.targets.azure.catalogue import facts
from v2c.targets.azure.place import JOB, Place
from v2c.targets.azure.session import Session


def network(session: Session, plan: Plan) -> Iterator[Finding]:
    """All that there is to say of subnets, addresses and the security group; reads only."""
    place = session.place
    if not place.subnet:
        text = "no subnet was named, and a machine must be in one"
        yield _blocker("azure.subnet", plan.machine.name, text, "add ?subnet=VNET/SUBNET to the target")
        return
    yield from _named(place, plan)
    real, test = (list(cards.subnets(place, plan, test=test)) for test in (False, True))
    yield from _together("subnet", real)
    if place.test_subnet:
        yield from _together("test-subnet", test)
    for id in dict.fromkeys((*real, *test)):
        if quotas.subnet(session, id) is None:
            yield _blocker("azure.subnet", _name(id), f"there is no subnet {_name(id)}", "correct ?subnet=")
    for number, address in cards.addresses(place, plan).items():
        yield from _address(session, plan, number, address)
    yield from quotas.addresses([(session, plan)])
    if nsg := place.nsg_id():
        group, name = nsg.split("/")[4], nsg.rpartition("/")[2]
        groups = session.network.network_security_groups
        ask = partial(session.look, "the security group cannot be read", lambda: groups.get(group, name))
        if session.once(nsg, ask) is None:
            yield _blocker("azure.nsg", name, f"there is no security group {name}", "correct ?nsg=")


def _named(place: Place, plan: Plan) -> Iterator[Finding]:
    """Whether as many are named as there are cards."""
    count, name = cards.count(plan), plan.machine.name
    tests = [("test-subnet", place.subnets(test=True))] if place.test_subnet else []
    for word, named in (("subnet", place.subnets(test=False)), *tests):
        if len(named) > count:
            text = (
                f"{word}= names {len(named)} subnets, and the machine has {count} network cards: those of the rest are not used"
            )
            yield Finding("azure.cards", Level.WARNING, name, text, "say all the machine's cards, or leave subnets out")
        elif len(named) < count:
            text = f"the machine has {count} network cards, and {word}= names {len(named)} subnets: the rest are in the last one"
            yield Finding("azure.cards", Level.INFO, name, text, f"name a subnet for each with {word}=A,B")
    if len(place.addresses) > count:
        text = f"private-ip= names addresses for {len(place.addresses)} network cards, and the machine has {count}"
        yield _blocker("azure.private-ip", name, text, "leave some out, or say all the machine's cards")


def _together(word: str, ids: list[str]) -> Iterator[Finding]:
    """A machine has all its cards in one virtual network (Azure: "Network interface VM constraints")."""
    first = ids[0].rpartition("/subnets/")[0]
    for id in ids[1:]:
        if id.rpartition("/subnets/")[0].lower() != first.lower():
            text = (
                f"the subnet {_name(id)} is not of {first.rpartition('/')[2]}, the first card's virtual network, and all must be"
            )
            yield _blocker("azure.subnet", _name(id), text, f"name subnets of one virtual network with ?{word}=A,B")


def _address(session: Session, plan: Plan, number: int, address: str) -> Iterator[Finding]:
    """Of the card's subnet, none that Azure keeps, and nobody's but ours."""
    id = session.place.subnet_id(number, test=False)
    about = quotas.subnet(session, id)
    if about is None:
        return
    if not any(_usable(address, network) for network in quotas.ranges(about)):
        text = f"the subnet {_name(id)} has no address {address} for a machine"
        yield _blocker("azure.private-ip", address, text, "choose an address of the subnet with ?private-ip=")
        return
    words, networks = id.strip("/").split("/"), session.network.virtual_networks
    what = f"whether the address {address} is free cannot be asked"
    try:
        ask = partial(networks.check_ip_address_availability, words[3], words[7], ip_address=address)
        found = session.look(what, ask)
    except TargetError as error:
        remedy = f"have the right {', '.join(facts().rights.address)} on {words[7]}, or see that nobody has the address"
        yield Finding("azure.private-ip", Level.WARNING, address, error.text, remedy)
        return
    if found is None or found.available is not False or _ours(session, plan, number, address):
        return
    others = ", ".join((found.available_ip_addresses or [])[:3])
    text = f"Azure keeps the address {address}" if found.is_platform_reserved else f"somebody has the address {address}"
    remedy = f"choose another with ?private-ip={f' ({others} are free)' if others else ''}, or free this one"
    yield _blocker("azure.private-ip", address, f"{text} of {_name(id)}", remedy)


def _ours(session: Session, plan: Plan, number: int, address: str) -> bool:
    """Whether it is held by the job's own card."""
    place, every = session.place, session.network.network_interfaces
    name = cards.id_of(place, plan, number).rpartition("/")[2]
    card = session.look("the network card cannot be read", lambda: every.get(place.group, name))
    if card is None or (card.tags or {}).get(JOB) != plan.job:
        return False
    return address in [one.properties.private_ip_address for one in card.properties.ip_configurations or []]


def _usable(address: str, network: ipaddress.IPv4Network) -> bool:
    """Whether a machine may have it: Azure keeps a subnet's first four and its last (virtual networks FAQ)."""
    wanted = ipaddress.IPv4Address(address)
    return wanted in network and network[3] < wanted < network[-1]


def _name(id: str) -> str:
    """ "VNET/SUBNET" of a subnet's ARM id."""
    return "/".join(id.strip("/").split("/")[7::2])


def _blocker(id: str, subject: str, text: str, remedy: str) -> Finding:
    return Finding(id, Level.BLOCKER, subject, text, remedy)
