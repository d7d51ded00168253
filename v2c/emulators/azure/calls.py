"""What every operation of the double gets: the request, the cloud it is about, and the ids that follow from it."""

import copy
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2c.emulators.azure.answers import Answer, Refusal, in_json
from v2c.emulators.azure.operations import Operations
from v2c.emulators.azure.pages import Pages
from v2c.emulators.azure.store import Resource, Store
from v2c.emulators.machines import Machines


@dataclass
class Cloud:
    """One subscription in one place."""

    folder: Path
    subscription: str
    location: str
    store: Store
    pages: Pages
    operations: Operations
    machines: Machines
    sizes: Mapping[str, dict[str, Any]]
    quotas: dict[str, int]
    actions: list[str]
    data_actions: list[str]


@dataclass(frozen=True, slots=True)
class Call:
    """One request to Resource Manager: `names` from its path, `base` where this server is."""

    operation: str
    names: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    base: str

    @property
    def group(self) -> str:
        """The id of its resource group."""
        return f"/subscriptions/{self.names['subscriptionid']}/resourceGroups/{self.names['resourcegroupname']}"

    def id(self, kind: str, name: str = "") -> str:
        """The id of a resource of the group ("Microsoft.Compute/disks"), or of the kind's collection."""
        return f"{self.group}/providers/{kind}" + (f"/{name}" if name else "")


def made(cloud: Cloud, call: Call, kind: str, name: str) -> Resource:
    """A resource as the body asks for it, not saved yet. The group must be there, and the place be this one."""
    if cloud.store.get(call.group) is None:
        raise Refusal(404, "ResourceGroupNotFound", f"Resource group '{call.names['resourcegroupname']}' could not be found.")
    location = str(call.body.get("location", "")).replace(" ", "").lower()
    if location != cloud.location:
        raise Refusal(400, "LocationNotAvailableForResourceType", f"The location '{location}' is not available for {kind}.")
    shown = copy.deepcopy(call.body)
    shown |= {"id": call.id(kind, name), "name": name, "type": kind, "location": location}
    shown.setdefault("properties", {})["provisioningState"] = "Succeeded"
    return Resource(shown, {"guid": str(uuid.uuid4())})


def known(cloud: Cloud, call: Call, kind: str, name: str) -> Resource:
    """The resource of the path, or ResourceNotFound."""
    found = cloud.store.get(call.id(kind, name))
    if found is None:
        raise Refusal(404, "ResourceNotFound", f"The Resource '{kind}/{name}' was not found.")
    return found


def existing(cloud: Cloud, id: str, kind: str) -> Resource:
    """A resource that a body refers to, or InvalidResourceReference."""
    found = cloud.store.get(id)
    if found is None or found.shown.get("type", "").lower() != kind.lower():
        raise Refusal(400, "InvalidResourceReference", f"Resource {id} referenced by the request was not found.")
    return found


def listed(cloud: Cloud, call: Call, kind: str) -> Answer:
    """All of a kind in the group."""
    if cloud.store.get(call.group) is None:
        raise Refusal(404, "ResourceGroupNotFound", f"Resource group '{call.names['resourcegroupname']}' could not be found.")
    return in_json(200, {"value": [resource.shown for resource in cloud.store.below(call.id(kind))]})


def unchanged(before: Resource, after: dict[str, Any], *path: str) -> None:
    """What cannot change after a resource was made."""
    old: Any = before.shown
    new: Any = after
    for key in path:
        old, new = (old or {}).get(key), (new or {}).get(key)
    if new is not None and old != new:
        raise Refusal(409, "PropertyChangeNotAllowed", f"Changing property '{'.'.join(path[1:])}' is not allowed.")


def put(cloud: Cloud, call: Call, resource: Resource, *, status: int = 201) -> Answer:
    """Keeps what a PUT makes or changes, and answers: `status` when it is new, 200 when it was there."""
    there = cloud.store.get(resource.id) is not None
    cloud.store.save(resource)
    shown = resource.shown
    return cloud.operations.begin(call.base, cloud.subscription, lambda: shown, status=200 if there else status, body=shown)


def adopted(cloud: Cloud, call: Call, before: Resource, *fixed: tuple[str, ...]) -> Answer:
    """The answer to a PUT of what is there already: nothing changes but the tags, and of what is `fixed` nothing may."""
    for path in fixed:
        unchanged(before, call.body, *path)
    before.shown["tags"] = call.body.get("tags", before.shown.get("tags", {}))
    return put(cloud, call, before)
