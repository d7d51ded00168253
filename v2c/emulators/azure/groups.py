"""Resource groups, capacity reservations, permissions, and the catalogues: sizes and quotas."""

from typing import Any

from v2c.emulators.azure import calls, vms
from v2c.emulators.azure.answers import Answer, Refusal, in_json
from v2c.emulators.azure.calls import Call, Cloud, existing, known, listed, made
from v2c.emulators.azure.store import Resource

# kinds of disks and one of their sizes, as resource SKUs tell them: this location has no zone-redundant ones
DISKS = (
    ("Standard_LRS", "S10"),
    ("StandardSSD_LRS", "E10"),
    ("Premium_LRS", "P10"),
    ("PremiumV2_LRS", "P"),
    ("UltraSSD_LRS", "U"),
)


def group_put(cloud: Cloud, call: Call) -> Answer:
    name = call.names["resourcegroupname"]
    before = cloud.store.get(call.group)
    if before and before.shown["location"] != call.body.get("location"):
        raise Refusal(409, "InvalidResourceGroupLocation", f"Invalid resource group location: '{name}' already exists elsewhere.")
    shown: dict[str, Any] = {"id": call.group, "name": name, "type": "Microsoft.Resources/resourceGroups"}
    shown |= {
        "location": call.body["location"],
        "tags": call.body.get("tags", {}),
        "properties": {"provisioningState": "Succeeded"},
    }
    cloud.store.save(Resource(shown))
    return in_json(200 if before else 201, shown)


def group_get(cloud: Cloud, call: Call) -> Answer:
    found = cloud.store.get(call.group)
    if found is None:
        raise Refusal(404, "ResourceGroupNotFound", f"Resource group '{call.names['resourcegroupname']}' could not be found.")
    return in_json(200, found.shown)


def group_delete(cloud: Cloud, call: Call) -> Answer:
    """The group and all in it."""
    if cloud.store.get(call.group) is None:
        raise Refusal(404, "ResourceGroupNotFound", f"Resource group '{call.names['resourcegroupname']}' could not be found.")

    def work() -> None:
        for resource in [r for r in cloud.store.all() if r.id.lower().startswith(call.group.lower() + "/")]:
            if resource.shown["type"] == vms.KIND:
                cloud.machines.stop(resource.hidden["guid"])
            cloud.store.remove(resource.id)
            cloud.pages.forget(resource.hidden.get("guid", "none"))
        cloud.store.remove(call.group)

    return cloud.operations.begin(call.base, cloud.subscription, work)


def group_resources(cloud: Cloud, call: Call) -> Answer:
    """All in the group that stands by itself, of whatever kind."""
    known = [r for r in cloud.store.all() if r.id.lower().startswith(f"{call.group.lower()}/providers/") and r.id.count("/") == 8]
    return in_json(200, {"value": [{key: r.shown.get(key) for key in ("id", "name", "type", "location", "tags")} for r in known]})


def permissions(cloud: Cloud, call: Call) -> Answer:
    """What the caller may do here."""
    granted = {"actions": cloud.actions, "notActions": [], "dataActions": cloud.data_actions, "notDataActions": []}
    return in_json(200, {"value": [granted]})


def usages(cloud: Cloud, call: Call) -> Answer:
    if call.names["location"].lower() != cloud.location:
        raise Refusal(
            400, "NoRegisteredProviderFound", f"No registered resource provider found for location '{call.names['location']}'."
        )
    now = vms.used(cloud)
    names = {"cores", "virtualMachines", *(size["family"] for size in cloud.sizes.values()), *cloud.quotas}
    value = [
        {
            "unit": "Count",
            "currentValue": now.get(name, 0),
            "limit": cloud.quotas.get(name, 100),
            "name": {"value": name, "localizedValue": name},
        }
        for name in sorted(names)
    ]
    return in_json(200, {"value": value})


def skus(cloud: Cloud, call: Call) -> Answer:
    """The sizes in the catalogue's own words."""
    if f"'{cloud.location}'" not in call.query.get("$filter", f"'{cloud.location}'"):
        return in_json(200, {"value": []})
    disks = [_disk_sku(cloud, kind, size) for kind, size in DISKS]
    return in_json(200, {"value": [*disks, *(_sku(cloud, name, size) for name, size in sorted(cloud.sizes.items()))]})


def _disk_sku(cloud: Cloud, kind: str, size: str) -> dict[str, Any]:
    where = {"locations": [cloud.location], "locationInfo": [{"location": cloud.location, "zones": [], "zoneDetails": []}]}
    return {"resourceType": "disks", "name": kind, "tier": kind.partition("_")[0], "size": size, **where, "restrictions": []}


def _sku(cloud: Cloud, name: str, size: dict[str, Any]) -> dict[str, Any]:
    told = {
        "vCPUs": size["vcpus"],
        "MemoryGB": f"{size['memory_mib'] / 1024:g}",
        "MaxDataDiskCount": size["max_data_disks"],
        "MaxNetworkInterfaces": size["max_nics"],
        "HyperVGenerations": ",".join(size["generations"]),
        "DiskControllerTypes": ",".join(size["controllers"]),
        "AcceleratedNetworkingEnabled": size["accelerated"],
        "PremiumIO": True,
        "CpuArchitectureType": size.get("architecture", "x64"),
        **({} if size.get("trusted_launch", True) else {"TrustedLaunchDisabled": True}),
    }
    restricted = {"type": "Location", "values": [cloud.location], "reasonCode": "NotAvailableForSubscription"}
    return {
        "resourceType": "virtualMachines",
        "name": name,
        "tier": "Standard",
        "size": name.partition("_")[2],
        "family": size["family"],
        "locations": [cloud.location],
        "locationInfo": [{"location": cloud.location, "zones": ["1", "2", "3"], "zoneDetails": []}],
        "capabilities": [{"name": key, "value": str(value)} for key, value in told.items()],
        "restrictions": [restricted] if size.get("restricted") else [],
    }


def reservation_group_put(cloud: Cloud, call: Call) -> Answer:
    group = made(cloud, call, vms.GROUP, call.names["capacityreservationgroupname"])
    before = cloud.store.get(group.id)
    cloud.store.save(group)
    return in_json(200 if before else 201, group.shown)


def reservation_group_get(cloud: Cloud, call: Call) -> Answer:
    return in_json(200, known(cloud, call, vms.GROUP, call.names["capacityreservationgroupname"]).shown)


def reservation_group_list(cloud: Cloud, call: Call) -> Answer:
    return listed(cloud, call, vms.GROUP)


def reservation_group_delete(cloud: Cloud, call: Call) -> Answer:
    id = call.id(vms.GROUP, call.names["capacityreservationgroupname"])
    if cloud.store.get(id) is None:
        return Answer(204)
    if any(vms.bound(vm).lower() == id.lower() for vm in cloud.store.all() if vm.shown["type"] == vms.KIND):
        raise Refusal(409, "OperationNotAllowed", "The capacity reservation group is associated with virtual machines.")
    if list(cloud.store.below(f"{id}/capacityReservations")):
        raise Refusal(409, "OperationNotAllowed", "The capacity reservation group still has capacity reservations.")
    cloud.store.remove(id)
    return cloud.operations.begin(call.base, cloud.subscription, lambda: None)


def reservation_put(cloud: Cloud, call: Call) -> Answer:
    """All or nothing: what the quota does not hold is refused."""
    group = known(cloud, call, vms.GROUP, call.names["capacityreservationgroupname"])
    name = f"{group.shown['name']}/capacityReservations/{call.names['capacityreservationname']}"
    reservation = made(cloud, call, vms.GROUP, name)
    reservation.shown |= {"name": call.names["capacityreservationname"], "type": vms.RESERVATION}
    wanted = call.body["sku"]
    size = cloud.sizes.get(wanted.get("name", ""))
    if size is None or size.get("restricted"):
        raise Refusal(409, "SkuNotAvailable", f"The size {wanted.get('name')} is not available in {cloud.location}.")
    if vms.used(cloud).get("cores", 0) + size["vcpus"] * wanted.get("capacity", 1) > cloud.quotas.get("cores", 100):
        raise Refusal(
            409, "OperationNotAllowed", "Operation could not be completed as it results in exceeding approved cores quota."
        )
    return calls.put(cloud, call, reservation)


def reservation_get(cloud: Cloud, call: Call) -> Answer:
    name = f"{call.names['capacityreservationgroupname']}/capacityReservations/{call.names['capacityreservationname']}"
    return in_json(200, known(cloud, call, vms.GROUP, name).shown)


def reservation_list(cloud: Cloud, call: Call) -> Answer:
    group = existing(cloud, call.id(vms.GROUP, call.names["capacityreservationgroupname"]), vms.GROUP)
    return in_json(200, {"value": [r.shown for r in cloud.store.below(f"{group.id}/capacityReservations")]})


def reservation_delete(cloud: Cloud, call: Call) -> Answer:
    name = f"{call.names['capacityreservationgroupname']}/capacityReservations/{call.names['capacityreservationname']}"
    found = cloud.store.get(call.id(vms.GROUP, name))
    if found is None:
        return Answer(204)
    id = call.id(vms.GROUP, call.names["capacityreservationgroupname"])
    users = [vm for vm in cloud.store.all() if vm.shown["type"] == vms.KIND and vms.bound(vm).lower() == id.lower()]
    if found.shown["sku"].get("capacity", 0) and any(vm.hidden["power"] != "deallocated" for vm in users):
        raise Refusal(409, "OperationNotAllowed", "The capacity reservation is used by virtual machines.")
    cloud.store.remove(call.id(vms.GROUP, name))
    return cloud.operations.begin(call.base, cloud.subscription, lambda: None)
