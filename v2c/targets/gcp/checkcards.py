"""Whether the machine's network cards have a place at Google: a subnet each, each of another network, and addresses of theirs."""

import ipaddress
from collections.abc import Iterator
from typing import Any

from v2c.model import Finding, Level, Plan
from v2c.targets.gcp import cards, names
from v2c.targets.gcp.place import Place

Subnet = dict[str, Any]
OWN = "each needs a VPC network of its own"


def findings(place: Place, plan: Plan) -> Iterator[Finding]:
    """Of all cards. Networks of other projects (shared VPC) are only seen by who may use them."""
    count, found = cards.count(plan), dict[int, Subnet]()
    yield from _first(place)
    yield from _missing(place, plan)
    for number in range(count):
        if not (name := place.subnet_of(number)) or "/" in name:
            continue
        subnet = place.look(place.in_region("subnetworks", name))
        if subnet is not None:
            found[number] = subnet
        else:
            text = f"{place.region} has no subnet {name}"
            yield _blocker("gcp.subnet", name, text, "see: gcloud compute networks subnets list")
    if 0 in found and "/" not in place.network and not found[0]["network"].endswith(f"/networks/{place.network}"):
        text = f"the subnet {place.subnet_of(0)} is of the network {_name(found[0])}, not of {place.network}"
        yield _blocker("gcp.subnet", place.subnet_of(0), text, "name the network with ?network=")
    yield from _apart(place, found, count)
    for number in range(count):
        if address := place.address(number):
            yield from _address(place, plan, address, found.get(number))


def _first(place: Place) -> Iterator[Finding]:
    """The network of a first card of which nobody said the subnet."""
    if place.subnet_of(0):
        return
    if "/" in place.network:
        yield _blocker("gcp.subnet", place.network, "a shared network needs its subnet named", "add ?subnet=projects/HOST/...")
        return
    found = place.look(f"global/networks/{place.network}")
    if found is None:
        yield _blocker("gcp.network", place.network, f"there is no network {place.network}", "name one with ?network=")
    elif not found.get("autoCreateSubnetworks"):
        yield _blocker("gcp.subnet", place.network, f"{place.network} has no automatic subnets", "name one with ?subnet=")


def _missing(place: Place, plan: Plan) -> Iterator[Finding]:
    """Cards without a subnet; more subnets or addresses than cards."""
    count, name = cards.count(plan), plan.machine.name
    without = [number for number in range(1, count) if not place.subnet_of(number)]
    if without:
        words = [place.subnet_of(number) or f"SUBNET-{number + 1}" for number in range(count)]
        text = f"the machine has {count} network cards, and {_cards(without)} no subnet: {OWN}"
        yield _blocker("gcp.nics", name, text, f"write subnet={','.join(words)}, each of another network")
    if len(place.subnets) > count:
        text = f"subnet= names {len(place.subnets)} subnets, and the machine has {count} network cards: the rest is not used"
        yield Finding("gcp.nics", Level.WARNING, name, text, "say all the machine's cards, or leave subnets out")
    if len(place.addresses) > count:
        text = f"private-ip= names addresses for {len(place.addresses)} network cards, and the machine has {count}"
        yield _blocker("gcp.private-ip", name, text, "leave some out, or say all the machine's cards")


def _cards(numbers: list[int]) -> str:
    words = ", ".join(str(number + 1) for number in numbers)
    return f"number {words} has" if len(numbers) == 1 else f"numbers {words} have"


def _apart(place: Place, found: dict[int, Subnet], count: int) -> Iterator[Finding]:
    """No two cards in one network, nor in ranges that overlap."""
    seen: dict[str, int] = {}
    for number in range(count):
        subnet = place.subnet_of(number)
        network = _name(found[number]) if number in found else subnet or (place.network if number == 0 else "")
        if network and seen.setdefault(network, number) != number:
            text = f"network cards {seen[network] + 1} and {number + 1} are both in the network {network}: {OWN}"
            yield _blocker("gcp.nics", subnet or network, text, "name subnets of different networks with ?subnet=A,B")
    ranges = {number: ipaddress.ip_network(subnet["ipCidrRange"]) for number, subnet in found.items()}
    for number, mine in ranges.items():
        for other, theirs in ranges.items():
            if other < number and mine.overlaps(theirs) and _name(found[number]) != _name(found[other]):
                text = f"its range {mine} overlaps with {theirs} of {place.subnet_of(other)}: cards of an instance must not"
                yield _blocker("gcp.nics", place.subnet_of(number), text, "name another subnet")


def _address(place: Place, plan: Plan, address: str, subnet: Subnet | None) -> Iterator[Finding]:
    """Of the subnet's range, none that Google keeps, and nobody's in this zone."""
    if subnet is not None:
        network = ipaddress.ip_network(subnet["ipCidrRange"])
        wanted = ipaddress.ip_address(address)
        if wanted not in network or wanted in (network[0], network[1], network[-2], network[-1]):
            text = f"it is no address that an instance of {subnet['name']} ({network}) can have"
            yield _blocker("gcp.private-ip", address, text, "correct private-ip=")
            return
    for other in place.session.page(place.in_zone("instances")):
        nics = other.get("networkInterfaces", ())
        if names.tagged(other) != plan.job and any(_has(nic, address, subnet) for nic in nics):
            yield _blocker("gcp.private-ip", address, f"the instance {other['name']} has this address", "choose another")
    for other in place.session.page(place.in_region("addresses")):
        mine = subnet is None or other.get("subnetwork") == subnet["selfLink"]
        if other.get("address") == address and mine and names.tagged(other) != plan.job:
            yield _blocker("gcp.private-ip", address, f"it is reserved as {other['name']}", "choose another, or release it")


def _has(nic: dict[str, Any], address: str, subnet: Subnet | None) -> bool:
    return nic.get("networkIP") == address and (subnet is None or nic.get("network") == subnet["network"])


def _name(subnet: Subnet) -> str:
    return str(subnet["network"]).rpartition("/")[2]


def _blocker(id: str, subject: str, text: str, remedy: str) -> Finding:
    return Finding(id, Level.BLOCKER, subject, text, remedy)
