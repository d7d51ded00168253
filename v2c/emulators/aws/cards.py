"""Network interfaces: made alone or with an instance, attached to one, and gone with it where they were to be.

An address of a subnet is given once. What a launch may not ask for of its interfaces is refused as EC2 refuses it (API reference,
RunInstances and InstanceNetworkInterfaceSpecification).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moto.ec2.models import ec2_backends

from v2c.emulators.aws.cloud import Call, Cloud, Operation, dry
from v2c.emulators.aws.store import Record, filtered, new_id, tags_for
from v2c.emulators.aws.wire import Refusal

KEPT = 4  # addresses at a subnet's beginning that AWS keeps, and one at its end

_CARD = {
    "network-interface-id": lambda c: [c["NetworkInterfaceId"]],
    "addresses.private-ip-address": lambda c: [c["PrivateIpAddress"]],
    "private-ip-address": lambda c: [c["PrivateIpAddress"]],
    "subnet-id": lambda c: [c["SubnetId"]],
    "vpc-id": lambda c: [c["VpcId"]],
    "status": lambda c: [c["Status"]],
    "group-id": lambda c: [group["GroupId"] for group in c["Groups"]],
    "attachment.instance-id": lambda c: [c["Attachment"]["InstanceId"]] if "Attachment" in c else [],
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A card that a launch asks for: a new one, or `held`, an interface that is there. `address` empty: any one. `public`: None:
    as the subnet does."""

    index: int
    subnet: Any
    groups: Sequence[Any]
    address: str = ""
    delete: bool = True
    held: str = ""
    public: bool | None = None


def network(cloud: Cloud, region: str) -> Any:
    """moto's side of EC2: subnets, security groups, key pairs."""
    return ec2_backends[cloud.account][region]


def subnets(cloud: Cloud, region: str) -> dict[str, Any]:
    """moto's subnets by id."""
    return {id: subnet for zone in network(cloud, region).subnets.values() for id, subnet in zone.items()}


def table(cloud: Cloud, region: str) -> dict[str, Record]:
    """All interfaces by id."""
    return cloud.store.table(region, "cards")


# ---- with an instance ----------------------------------------------------------------------------------------------------------


def wanted(cloud: Cloud, call: Call, kind: Record) -> list[Wanted]:
    """The cards of a launch on an instance type, the first one first. Refusal for what does not go together."""
    params = call.params
    asked = params.get("NetworkInterfaces", [])
    if asked and {"SubnetId", "SecurityGroupIds", "PrivateIpAddress"} & set(params):
        message = "Network interfaces and an instance-level subnet ID or security groups may not be specified on the same request"
        raise Refusal("InvalidParameterCombination", message)
    if not asked:
        asked = [{"DeviceIndex": 0, "Groups": params.get("SecurityGroupIds", [])}]
        asked[0] |= {key: params[key] for key in ("SubnetId", "PrivateIpAddress") if key in params}
    if sorted(card.get("DeviceIndex", -1) for card in asked) != list(range(len(asked))):
        raise Refusal("InvalidParameterValue", "Each network interface requires a device index, from 0 on, each once")
    limit = kind.get("NetworkInfo", {}).get("MaximumNetworkInterfaces", 0)
    if limit and len(asked) > limit:
        message = f"Interface count {len(asked)} exceeds the limit for {kind['InstanceType']}"
        raise Refusal("AttachmentLimitExceeded", message)
    if len(asked) > 1 and any("AssociatePublicIpAddress" in card for card in asked):
        message = "The associatePublicIPAddress parameter cannot be specified when launching with multiple network interfaces."
        raise Refusal("InvalidParameterCombination", message)
    found = [_wanted(cloud, call, card, single=len(asked) == 1) for card in sorted(asked, key=lambda card: card["DeviceIndex"])]
    if len({one.subnet.availability_zone for one in found}) > 1:
        raise Refusal("InvalidParameterValue", "All network interfaces of an instance must be in one Availability Zone")
    if len({one.subnet.vpc_id for one in found}) > 1:
        raise Refusal("InvalidParameter", "All network interfaces of a launch must belong to one VPC")
    given = [(one.subnet.id, one.address) for one in found if one.address]
    if len(set(given)) < len(given):
        raise Refusal("InvalidIPAddress.InUse", f"Address {given[-1][1]} is in use.")
    return found


def _wanted(cloud: Cloud, call: Call, card: Record, *, single: bool) -> Wanted:
    known, id = subnets(cloud, call.region), card.get("NetworkInterfaceId", "")
    if id:
        return _held(cloud, call.region, card, id)
    wanted = card.get("SubnetId") or next(id for id, one in known.items() if str(one.default_for_az).lower() == "true")
    if wanted not in known:
        raise Refusal("InvalidSubnetID.NotFound", f"The subnet ID '{wanted}' does not exist")
    subnet = known[wanted]
    groups = _groups(cloud, call.region, card.get("Groups") or [], subnet.vpc_id)
    address = card.get("PrivateIpAddress", "")
    if address:
        _free(cloud, call.region, subnet, address)
    public = card.get("AssociatePublicIpAddress") if single else False
    return Wanted(card["DeviceIndex"], subnet, groups, address, card.get("DeleteOnTermination", True), public=public)


def _held(cloud: Cloud, region: str, card: Record, id: str) -> Wanted:
    """An interface that is there: nothing else may be said of it, least of all that it goes with the instance."""
    found = cloud.store.get(region, "cards", id, "InvalidNetworkInterfaceID.NotFound")
    if found["Status"] != "available":
        raise Refusal("InvalidNetworkInterface.InUse", f"Interface: [{id}] in use.")
    if {"SubnetId", "Groups", "PrivateIpAddress", "AssociatePublicIpAddress"} & set(card):
        message = "A network interface may not specify both a network interface ID and a subnet, groups or an address"
        raise Refusal("InvalidParameterCombination", message)
    if card.get("DeleteOnTermination"):
        raise Refusal("InvalidParameterCombination", "deleteOnTermination can be set for new network interfaces only")
    subnet = subnets(cloud, region)[found["SubnetId"]]
    return Wanted(card["DeviceIndex"], subnet, (), found["PrivateIpAddress"], delete=False, held=id, public=False)


def attached(cloud: Cloud, region: str, cards: Sequence[Wanted], instance: str) -> list[Record]:
    """The interfaces of a new instance: those that were held, and the ones made for it."""
    made = []
    for one in cards:
        record = table(cloud, region)[one.held] if one.held else _made(cloud, region, one.subnet, one.groups, one.address, [])
        attachment: Record = {"AttachmentId": new_id("eni-attach"), "InstanceId": instance, "InstanceOwnerId": cloud.account}
        attachment |= {"DeviceIndex": one.index, "Status": "attached", "DeleteOnTermination": one.delete, "NetworkCardIndex": 0}
        record |= {"Status": "in-use", "Attachment": {**attachment, "AttachTime": cloud.now()}, "_next": []}
        made.append(record)
    return made


def of(cloud: Cloud, region: str, instance: str) -> list[Record]:
    """The interfaces of an instance, as DescribeInstances shows them."""
    found = [card for card in table(cloud, region).values() if card.get("Attachment", {}).get("InstanceId") == instance]
    return sorted(found, key=lambda card: int(card["Attachment"]["DeviceIndex"]))


def released(cloud: Cloud, region: str, instance: str) -> None:
    """The instance is over: its interfaces go with it where they were to, and stay without it where not."""
    known = table(cloud, region)
    for card in of(cloud, region, instance):
        if card.pop("Attachment")["DeleteOnTermination"]:
            del known[card["NetworkInterfaceId"]]
        else:
            card["Status"] = "available"


# ---- alone ---------------------------------------------------------------------------------------------------------------------


def create_network_interface(cloud: Cloud, call: Call) -> Any:
    """One that belongs to no instance. The same token gives the same one, other arguments under it are refused."""
    params, region = call.params, call.region
    tags = tags_for(params, "network-interface", ("network-interface",))
    token = params.get("ClientToken", "")
    asked = repr(sorted((key, value) for key, value in params.items() if key != "DryRun"))
    with cloud.store.lock:
        for known in table(cloud, region).values():
            if token and known.get("_token") == token and not params.get("DryRun"):
                if known["_wanted"] != asked:
                    raise Refusal("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent")
                return {"NetworkInterface": _shown(known), "ClientToken": token}
        subnet = subnets(cloud, region).get(params["SubnetId"])
        if subnet is None:
            raise Refusal("InvalidSubnetID.NotFound", f"The subnet ID '{params['SubnetId']}' does not exist")
        groups = _groups(cloud, region, params.get("Groups") or [], subnet.vpc_id)
        if params.get("PrivateIpAddress"):
            _free(cloud, region, subnet, params["PrivateIpAddress"])
        dry(call)
        record = _made(cloud, region, subnet, groups, params.get("PrivateIpAddress", ""), tags)
        record |= {"Status": "pending", "Description": params.get("Description", ""), "_token": token, "_wanted": asked}
        cloud.store.later(record, cloud.pace.card_s, Status="available")
        cloud.store.save()
        return {"NetworkInterface": _shown(record), "ClientToken": token}


def describe_network_interfaces(cloud: Cloud, call: Call) -> Any:
    """The account's."""
    dry(call)
    with cloud.store.lock:
        ids = call.params.get("NetworkInterfaceIds")
        for id in ids or []:
            cloud.store.get(call.region, "cards", id, "InvalidNetworkInterfaceID.NotFound")
        found = [card for id, card in table(cloud, call.region).items() if not ids or id in ids]
        return {"NetworkInterfaces": [_shown(card) for card in filtered(found, call.params.get("Filters", []), _CARD)]}


def delete_network_interface(cloud: Cloud, call: Call) -> Any:
    """One that is attached to nothing."""
    with cloud.store.lock:
        id = call.params["NetworkInterfaceId"]
        card = cloud.store.get(call.region, "cards", id, "InvalidNetworkInterfaceID.NotFound")
        if "Attachment" in card:
            raise Refusal("InvalidParameterValue", f"Network interface '{id}' is currently in use.")
        dry(call)
        del table(cloud, call.region)[id]
        cloud.store.save()
        return {}


def modify_network_interface_attribute(cloud: Cloud, call: Call) -> Any:
    """What becomes of it when its instance ends; or its groups. One attribute a call."""
    params = call.params
    with cloud.store.lock:
        id = params["NetworkInterfaceId"]
        card = cloud.store.get(call.region, "cards", id, "InvalidNetworkInterfaceID.NotFound")
        said = sorted({"Attachment", "Groups"} & set(params))
        if len(said) != 1:
            raise Refusal("InvalidParameterCombination", "Exactly one attribute must be specified")
        if said == ["Groups"]:
            groups = _groups(cloud, call.region, params["Groups"], card["VpcId"])
            dry(call)
            card["Groups"] = [{"GroupId": group.id, "GroupName": group.name} for group in groups]
        else:
            change = params["Attachment"]
            if card.get("Attachment", {}).get("AttachmentId") != change.get("AttachmentId", ""):
                message = f"The network interface attachment '{change.get('AttachmentId', '')}' does not exist"
                raise Refusal("InvalidAttachmentID.NotFound", message)
            dry(call)
            card["Attachment"]["DeleteOnTermination"] = change["DeleteOnTermination"]
        cloud.store.save()
        return {}


def describe_subnets(cloud: Cloud, call: Call) -> Any:
    """moto tells; what it cannot know is how many addresses our interfaces left."""
    with cloud.store.lock:
        held = [card["SubnetId"] for card in table(cloud, call.region).values()]
        for id, subnet in subnets(cloud, call.region).items():
            subnet._available_ip_addresses = subnet.cidr.num_addresses - KEPT - 1 - held.count(id)
    return None


# ---- both ----------------------------------------------------------------------------------------------------------------------


def _made(cloud: Cloud, region: str, subnet: Any, groups: Sequence[Any], address: str, tags: list[Record]) -> Record:
    address = address or _any(cloud, region, subnet)
    id = new_id("eni")
    record: Record = {
        "NetworkInterfaceId": id,
        "InterfaceType": "interface",
        "SubnetId": subnet.id,
        "VpcId": subnet.vpc_id,
        "AvailabilityZone": subnet.availability_zone,
        "OwnerId": cloud.account,
        "RequesterManaged": False,
        "SourceDestCheck": True,
        "Description": "",
        "Status": "available",
        "MacAddress": "0a:" + ":".join(id[-10:][at : at + 2] for at in range(0, 10, 2)),
        "PrivateIpAddress": address,
        "PrivateIpAddresses": [{"Primary": True, "PrivateIpAddress": address}],
        "Groups": [{"GroupId": group.id, "GroupName": group.name} for group in groups],
        "Tags": tags,
    }
    table(cloud, region)[id] = record
    return record


def _shown(card: Record) -> Record:
    """DescribeNetworkInterfaces has another name for tags than everything else."""
    return {**card, "TagSet": card["Tags"]}


def _groups(cloud: Cloud, region: str, ids: Sequence[str], vpc: str) -> list[Any]:
    """The security groups; the VPC's default one when none is named."""
    backend = network(cloud, region)
    found = [backend.get_security_group_from_id(id) for id in ids]
    if None in found:
        raise Refusal("InvalidGroup.NotFound", f"The security group '{ids[found.index(None)]}' does not exist")
    if any(group.vpc_id != vpc for group in found):
        raise Refusal("InvalidParameter", "Security group and subnet belong to different networks.")
    return found or [group for group in backend.groups[vpc].values() if group.name == "default"]


def _taken(cloud: Cloud, region: str, subnet: Any) -> set[str]:
    return {card["PrivateIpAddress"] for card in table(cloud, region).values() if card["SubnetId"] == subnet.id}


def _free(cloud: Cloud, region: str, subnet: Any, address: str) -> None:
    """Refusal unless the subnet may give this address."""
    network = ipaddress.ip_network(str(subnet.cidr))
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        raise Refusal("InvalidParameterValue", f"invalid value for parameter address: {address}") from None
    if wanted not in network:
        raise Refusal("InvalidParameterValue", f"Address {address} does not fall within the subnet's address range")
    if wanted in (*(network[number] for number in range(KEPT)), network[-1]):
        raise Refusal("InvalidParameterValue", f"Address {address} is in subnet's reserved address range")
    if address in _taken(cloud, region, subnet):
        raise Refusal("InvalidIPAddress.InUse", f"Address {address} is in use.")


def _any(cloud: Cloud, region: str, subnet: Any) -> str:
    """The first address of the subnet that nothing has."""
    taken = _taken(cloud, region, subnet)
    hosts = (str(host) for number, host in enumerate(subnet.cidr.hosts(), 1) if number >= KEPT)
    found = next((host for host in hosts if host not in taken), "")
    if not found:
        message = f"There are not enough free addresses in subnet '{subnet.id}' to satisfy the requested number of instances."
        raise Refusal("InsufficientFreeAddressesInSubnet", message)
    return found


OPERATIONS: dict[str, Operation] = {
    "CreateNetworkInterface": create_network_interface,
    "DescribeNetworkInterfaces": describe_network_interfaces,
    "DeleteNetworkInterface": delete_network_interface,
    "ModifyNetworkInterfaceAttribute": modify_network_interface_attribute,
    "DescribeSubnets": describe_subnets,
}
