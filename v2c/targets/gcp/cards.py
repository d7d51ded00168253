"""The machine's network cards: each in a VPC network of its own, which Google demands; those of a test in networks that lead
nowhere, one for each card; and the addresses of the real instance, reserved beforehand."""

import ipaddress
import time
from collections.abc import Iterator
from typing import Any

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Plan, Ref
from v2c.targets.gcp import names
from v2c.targets.gcp.place import Place

TEST = "test"
RANGE = "10.255.255.240/28"  # of the test's subnet: a network of its own overlaps with nobody; further cards have those below it
DENY = ("INGRESS", "EGRESS")
ADDRESS = "ip"  # the names of reserved addresses end in it
SETTLING_S = 120.0

Nic = dict[str, Any]


def count(plan: Plan) -> int:
    """How many cards the instance gets: as many as the machine has, and one at least."""
    return max(1, len(plan.machine.nics))


def real(place: Place, plan: Plan, *, cutover: bool) -> list[Nic]:
    """The cards in the user's subnets, with the addresses that he named when it is the real instance's. TargetError for a card
    whose subnet nobody said."""
    made = []
    for number in range(count(plan)):
        subnet = place.subnet_path(number)
        if number and not subnet:
            text = f"network card {number + 1} has no subnet, and each needs a VPC network of its own"
            raise TargetError(text, remedy=f"write subnet= with {count(plan)} subnets, separated by commas")
        fixed = place.address(number) if cutover else ""
        where = {"subnetwork": subnet} if subnet else {"network": place.network_path()}
        made.append({**where, **({"networkIP": fixed} if fixed else {})})
    return made


def hold(place: Place, plan: Plan, journal: Journal) -> Iterator[Ref]:
    """A reserved internal address for each that the real instance is to have; twice is one. TargetError when another's instance
    has it: Google would reserve it all the same, for that one, and keep it as long as that one has it."""
    for number in range(count(plan)):
        if not (address := place.address(number)):
            continue
        ref = Ref.of("address", names.name(plan, f"{ADDRESS}{number or ''}"), job=journal.job)
        path = place.in_region("addresses")
        if ref not in journal.refs("address") or place.look(f"{path}/{ref.id}") is None:
            body = {
                "name": ref.id,
                "description": names.described(journal.job),
                "address": address,
                "addressType": "INTERNAL",
                "purpose": "GCE_ENDPOINT",
                # an automatic network's subnets have its name (VPC, "Auto mode VPC networks")
                "subnetwork": place.subnet_path(number) or place.full(place.in_region("subnetworks", place.network)),
            }
            if user := _holder(place, address, str(body["subnetwork"]), journal.job):
                raise TargetError(f"the instance {user} has the address {address}", remedy="choose another private-ip=")
            with journal.intent("address", ref.id, {names.TAG: journal.job}) as intent:
                place.make(path, body, journal.job)
                intent.done(ref)
        if user := _user(place, f"{path}/{ref.id}", journal.job):
            journal.undone(ref)
            text = f"the instance {user} has the address {address}, and {ref.id} reserves it for that one now"
            raise TargetError(text, remedy=f"choose another private-ip=, and release {ref.id} when {user} is gone")
        yield ref


def _holder(place: Place, address: str, subnet: str, job: str) -> str:
    """The instance of this zone that has an address of a subnet and is none of the job's; empty: there is none."""
    for found in place.session.page(place.in_zone("instances")):
        for nic in found.get("networkInterfaces", ()) if names.tagged(found) != job else ():
            if nic.get("networkIP") == address and names.same(subnet, nic.get("subnetwork", "")):
                return str(found["name"])
    return ""


def _user(place: Place, path: str, job: str) -> str:
    """The instance that has a reserved address and is none of the job's; empty: there is none."""
    until = time.monotonic() + SETTLING_S
    while (found := place.ours(path, job)) is not None and found.get("status") == "RESERVING" and time.monotonic() < until:
        time.sleep(0.5)
    for link in (found or {}).get("users", ()):
        user = place.look(link.rpartition(f"projects/{place.project}/")[2])
        if user is None or names.tagged(user) != job:
            return str(link.rpartition("/")[2])
    return ""


def isolated(place: Place, plan: Plan, journal: Journal) -> list[Nic]:
    """The test's cards, and their networks, which are made where they are not there."""
    return [_isolated(place, plan, number, journal) for number in range(count(plan))]


def _isolated(place: Place, plan: Plan, number: int, journal: Journal) -> Nic:
    name = names.name(plan, f"{TEST}{number or ''}")
    described = {"name": name, "description": names.described(journal.job)}
    network = place.full(f"global/networks/{name}")
    first = ipaddress.ip_network(RANGE)
    range = f"{first.network_address - number * first.num_addresses}/{first.prefixlen}"
    made = [
        ("network", "global/networks", name, {**described, "autoCreateSubnetworks": False}),
        *(("firewall", "global/firewalls", f"{name}-{way.lower()}", _deny(described, network, way)) for way in DENY),
        (
            "subnetwork",
            place.in_region("subnetworks"),
            name,
            {**described, "network": network, "ipCidrRange": range, "privateIpGoogleAccess": False},
        ),
    ]
    for kind, path, id, body in made:
        ref = Ref.of(kind, id, job=journal.job)
        if ref in journal.refs(kind) and place.look(f"{path}/{id}") is not None:
            continue
        with journal.intent(kind, id, {names.TAG: journal.job}) as intent:
            place.make(path, body, journal.job)
            intent.done(ref)
    return {"subnetwork": place.full(place.in_region("subnetworks", name))}


def _deny(described: dict[str, Any], network: str, way: str) -> dict[str, Any]:
    """All of one direction. The metadata service, which is the host itself, answers all the same."""
    ranges = "sourceRanges" if way == "INGRESS" else "destinationRanges"
    rule = {"network": network, "direction": way, "priority": 0, "denied": [{"IPProtocol": "all"}], ranges: ["0.0.0.0/0"]}
    return {**described, "name": f"{described['name']}-{way.lower()}", **rule}
