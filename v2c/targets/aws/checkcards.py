"""Before a byte moves: whether the subnets can hold the machine's network cards, and the addresses are theirs to have."""

import ipaddress
from collections.abc import Iterator
from typing import Any

from v2c.model import Finding, Level, Plan
from v2c.targets.aws import cards, names, quotas
from v2c.targets.aws.launch import Instances
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import ApiError, Session

Subnet = dict[str, Any]


def places(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    """The cards' subnets: there, in one zone and one VPC, with room for the real instance and a test beside it."""
    found: list[Subnet] = []
    for number in range(cards.count(plan)):
        try:
            found += cards.subnets(session, options, [number])
        except ApiError as error:
            if "NotFound" not in error.code:
                raise
            id = cards.named(options, number)
            yield _blocker("aws.subnet", id, "there is no such subnet in this region", "name another one with ?subnet=")
            return
    first = found[0]
    if not options.subnets:
        text = f"nobody said which subnet: {first['SubnetId']} in {first['AvailabilityZone']}, a default one, is taken"
        yield Finding("aws.subnet", Level.INFO, str(first["SubnetId"]), text, "name one with ?subnet=")
    yield from _named(options, plan)
    for subnet in {subnet["SubnetId"]: subnet for subnet in found}.values():
        for key, what in (("AvailabilityZone", "zone"), ("VpcId", "VPC")):
            if subnet[key] != first[key]:
                text = f"it is in {subnet[key]}, and the first card's in {first[key]}: an instance has its cards in one {what}"
                yield _blocker("aws.subnet", subnet["SubnetId"], text, f"name subnets of one {what} with ?subnet=")
    yield from quotas.addresses(session, [(options, plan)])


def _named(options: Options, plan: Plan) -> Iterator[Finding]:
    """Whether as many are named as there are cards."""
    count, subnets, addresses = cards.count(plan), options.subnets, options.addresses
    if len(subnets) > count:
        text = f"?subnet= names {len(subnets)} subnets, and the machine has {count} network cards: those of the rest are not used"
        yield Finding("aws.cards", Level.WARNING, plan.machine.name, text, "say all the machine's cards, or leave subnets out")
    elif 0 < len(subnets) < count:
        text = f"the machine has {count} network cards, and ?subnet= names {len(subnets)} subnets: the rest are in the last one"
        yield Finding("aws.cards", Level.INFO, plan.machine.name, text, "name a subnet for each with ?subnet=A,B")
    if len(addresses) > count:
        text = f"&private-ip= names addresses for {len(addresses)} network cards, and the machine has {count}"
        yield _blocker("aws.private-ip", plan.machine.name, text, "leave some out, or say all the machine's cards")


def addresses(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    """The addresses that the real instance is to have: of their subnets, none that AWS keeps, and nobody's."""
    wanted = {n: address for n, address in enumerate(options.addresses[: cards.count(plan)]) if address}
    for address, subnet in zip(wanted.values(), cards.subnets(session, options, wanted), strict=True):
        yield from _address(session, plan, address, subnet)


def _address(session: Session, plan: Plan, address: str, subnet: Subnet) -> Iterator[Finding]:
    wanted, network = ipaddress.ip_address(address), ipaddress.ip_network(subnet["CidrBlock"])
    kept = {network[0], network[1], network[2], network[3], network[-1]}
    if wanted not in network or wanted in kept:
        text = f"it is no address that an instance of {subnet['SubnetId']} ({network}) can have"
        yield _blocker("aws.private-ip", address, text, "correct &private-ip=")
        return
    filters = [
        {"Name": "addresses.private-ip-address", "Values": [address]},
        {"Name": "vpc-id", "Values": [subnet["VpcId"]]},
    ]
    for card in session.pages("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=filters):
        if names.tagged(card).get(names.TAG) != plan.job:
            user = card.get("Attachment", {}).get("InstanceId", "")
            who = f"the instance {user}" if user else f"{card['NetworkInterfaceId']} ({card.get('Description') or 'unattached'})"
            yield _blocker("aws.private-ip", address, f"{who} has this address", "choose another &private-ip=")


def _blocker(id: str, subject: str, text: str, remedy: str) -> Finding:
    return Finding(id, Level.BLOCKER, subject, text, remedy)
