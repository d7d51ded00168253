"""Network cards, security groups and subnets, as far as a moved machine needs them."""

import fnmatch
import ipaddress

from v2c.emulators.azure import calls
from v2c.emulators.azure.answers import Answer, Refusal, in_json
from v2c.emulators.azure.calls import Call, Cloud, existing, known, listed, made
from v2c.emulators.azure.store import Resource

NIC = "Microsoft.Network/networkInterfaces"
NSG = "Microsoft.Network/networkSecurityGroups"
VNET = "Microsoft.Network/virtualNetworks"
SUBNET = "Microsoft.Network/virtualNetworks/subnets"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
RESERVED = 5  # addresses that Azure keeps of each subnet
CHECK = "Microsoft.Network/virtualNetworks/checkIpAddressAvailability/read"


def subnet_get(cloud: Cloud, call: Call) -> Answer:
    names = call.names
    return in_json(200, known(cloud, call, VNET, f"{names['virtualnetworkname']}/subnets/{names['subnetname']}").shown)


def address_check(cloud: Cloud, call: Call) -> Answer:
    """Whether nobody has an address of the virtual network; others of its subnet that are free, when somebody has."""
    if not any(fnmatch.fnmatchcase(CHECK.lower(), pattern.lower()) for pattern in cloud.actions):
        text = f"The client does not have authorization to perform action '{CHECK}' over scope '{call.id(VNET)}'."
        raise Refusal(403, "AuthorizationFailed", text)
    network = known(cloud, call, VNET, call.names["virtualnetworkname"])
    wanted = ipaddress.ip_address(call.query.get("ipAddress", ""))
    ranges = [ipaddress.ip_network(one.properties["addressPrefix"]) for one in cloud.store.below(f"{network.id}/subnets")]
    here = next((one for one in ranges if wanted in one), None)
    if here is None:
        text = f"Private static IP address {wanted} does not belong to the range of any subnet in the virtual network."
        raise Refusal(400, "PrivateIPAddressNotInAnySubnet", text)
    taken = {address for nic in _nics(cloud) if virtual_network(nic) == network.id.lower() for address in _addresses(nic)}
    hosts = [str(address) for address in here if address not in _kept(here)]
    kept = wanted in _kept(here)
    if not kept and str(wanted) not in taken:
        return in_json(200, {"available": True, "availableIPAddresses": [], "isPlatformReserved": False})
    others = [address for address in hosts if address not in taken][:5]
    return in_json(200, {"available": False, "availableIPAddresses": others, "isPlatformReserved": kept})


def nsg_put(cloud: Cloud, call: Call) -> Answer:
    """A security group; two rules of one direction may not share a priority."""
    group = made(cloud, call, NSG, call.names["networksecuritygroupname"])
    seen = set()
    for rule in group.properties.get("securityRules", []):
        about = rule["properties"]
        place = (about["direction"], about.get("priority"))
        if not 100 <= (about.get("priority") or 0) <= 4096 or place in seen:
            raise Refusal(
                400, "SecurityRuleConflict", f"Rule {rule.get('name')}: priority {about.get('priority')} is taken or invalid."
            )
        seen.add(place)
    return calls.put(cloud, call, group)


def nsg_get(cloud: Cloud, call: Call) -> Answer:
    return in_json(200, known(cloud, call, NSG, call.names["networksecuritygroupname"]).shown)


def nsg_list(cloud: Cloud, call: Call) -> Answer:
    return listed(cloud, call, NSG)


def nsg_delete(cloud: Cloud, call: Call) -> Answer:
    group = cloud.store.get(call.id(NSG, call.names["networksecuritygroupname"]))
    if group is None:
        return Answer(204)
    users = [nic.shown["name"] for nic in _nics(cloud) if _nsg_of(nic) == group.id.lower()]
    if users:
        text = f"Network security group {group.shown['name']} cannot be deleted because it is in use by {', '.join(users)}."
        raise Refusal(400, "InUseNetworkSecurityGroupCannotBeDeleted", text)
    cloud.store.remove(group.id)
    return cloud.operations.begin(call.base, cloud.subscription, lambda: None)


def nic_put(cloud: Cloud, call: Call) -> Answer:
    """A card with an address of its subnet."""
    nic = made(cloud, call, NIC, call.names["networkinterfacename"])
    before = cloud.store.get(nic.id)
    if nsg := nic.properties.get("networkSecurityGroup"):
        existing(cloud, nsg["id"], NSG)
    configurations = nic.properties.get("ipConfigurations", [])
    if not configurations:
        raise Refusal(400, "MissingJsonProperty", "A network interface has at least one IP configuration.")
    for number, configuration in enumerate(configurations):
        about = configuration.setdefault("properties", {})
        subnet = existing(cloud, about.get("subnet", {}).get("id", ""), SUBNET)
        if "publicIPAddress" in about:
            raise Refusal(400, "InvalidResourceReference", "The double has no public addresses.")
        configuration["id"] = f"{nic.id}/ipConfigurations/{configuration.get('name', 'ip')}"
        if before is not None:
            about["privateIPAddress"] = before.properties["ipConfigurations"][number]["properties"]["privateIPAddress"]
        else:
            about["privateIPAddress"] = _address(cloud, subnet, about.get("privateIPAddress", ""))
            subnet.properties.setdefault("ipConfigurations", []).append({"id": configuration["id"]})
            cloud.store.save(subnet)
    if before is not None and (vm := before.properties.get("virtualMachine")):
        nic.properties["virtualMachine"] = vm
    return calls.put(cloud, call, nic)


def nic_get(cloud: Cloud, call: Call) -> Answer:
    return in_json(200, known(cloud, call, NIC, call.names["networkinterfacename"]).shown)


def nic_list(cloud: Cloud, call: Call) -> Answer:
    return listed(cloud, call, NIC)


def nic_delete(cloud: Cloud, call: Call) -> Answer:
    nic = cloud.store.get(call.id(NIC, call.names["networkinterfacename"]))
    if nic is None:
        return Answer(204)
    if vm := nic.properties.get("virtualMachine"):
        raise Refusal(400, "NicInUse", f"Network Interface {nic.shown['name']} is used by existing resource {vm['id']}.")
    for configuration in nic.properties["ipConfigurations"]:
        subnet = existing(cloud, configuration["properties"]["subnet"]["id"], SUBNET)
        used = [c for c in subnet.properties["ipConfigurations"] if c["id"] != configuration["id"]]
        subnet.properties["ipConfigurations"] = used
        cloud.store.save(subnet)
    cloud.store.remove(nic.id)
    return cloud.operations.begin(call.base, cloud.subscription, lambda: None)


def _nics(cloud: Cloud) -> list[Resource]:
    return [resource for resource in cloud.store.all() if resource.shown["type"] == NIC]


def virtual_network(nic: Resource) -> str:
    """The id of the virtual network that a card is in, in lower case."""
    subnet = str(nic.properties["ipConfigurations"][0]["properties"]["subnet"]["id"])
    return subnet.lower().partition("/subnets/")[0]


def _nsg_of(nic: Resource) -> str:
    return str(nic.properties.get("networkSecurityGroup", {}).get("id", "")).lower()


def _addresses(nic: Resource) -> list[str]:
    return [str(one["properties"].get("privateIPAddress")) for one in nic.properties["ipConfigurations"]]


def _kept(network: Network) -> tuple[Address, ...]:
    """What Azure keeps of a subnet: its first four addresses and its last."""
    return (*(network[n] for n in range(RESERVED - 1)), network[-1])


def _address(cloud: Cloud, subnet: Resource, wanted: str) -> str:
    network = ipaddress.ip_network(subnet.properties["addressPrefix"])
    taken = {address for nic in _nics(cloud) for address in _addresses(nic)}
    free = (str(address) for address in list(network.hosts())[RESERVED - 2 :] if str(address) not in taken)
    if wanted:
        if ipaddress.ip_address(wanted) not in network:
            raise Refusal(
                400, "PrivateIPAddressNotInSubnet", f"The address {wanted} is not of the subnet {subnet.shown['name']}."
            )
        if ipaddress.ip_address(wanted) in _kept(network):
            raise Refusal(
                400, "PrivateIPAddressInReservedRange", f"The address {wanted} is one that the subnet keeps for itself."
            )
        if wanted in taken:
            raise Refusal(400, "PrivateIPAddressInUse", f"The address {wanted} is allocated to another resource already.")
        return wanted
    address = next(free, "")
    if not address:
        raise Refusal(400, "SubnetIsFull", f"Subnet {subnet.shown['name']} has no free addresses.")
    return address
