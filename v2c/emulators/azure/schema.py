"""What Azure's own packages say a request must be: routes, API versions, the fields of bodies, which of them are read-only.

Taken from the installed azure-mgmt-compute and azure-mgmt-network, nothing is copied: `build_*_request` functions hold method,
path and api-version; `types` the wire format as TypedDicts; `visibility` of the models' fields what a client may not write.
azure-mgmt-resource has neither, so its few routes are written out here.
"""

import enum
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, ForwardRef, NotRequired, Required, get_args, get_origin
from urllib.parse import parse_qs, urlsplit

from typing_extensions import get_type_hints, is_typeddict

# operation -> (package, builder, type of the body)
OPERATIONS: Mapping[str, tuple[str, str, str]] = {
    "disks.put": ("compute", "disks_create_or_update", "Disk"),
    "disks.patch": ("compute", "disks_update", "DiskUpdate"),
    "disks.get": ("compute", "disks_get", ""),
    "disks.list": ("compute", "disks_list_by_resource_group", ""),
    "disks.delete": ("compute", "disks_delete", ""),
    "disks.grant": ("compute", "disks_grant_access", "GrantAccessData"),
    "disks.revoke": ("compute", "disks_revoke_access", ""),
    "vms.put": ("compute", "virtual_machines_create_or_update", "VirtualMachine"),
    "vms.patch": ("compute", "virtual_machines_update", "VirtualMachineUpdate"),
    "vms.get": ("compute", "virtual_machines_get", ""),
    "vms.list": ("compute", "virtual_machines_list", ""),
    "vms.delete": ("compute", "virtual_machines_delete", ""),
    "vms.view": ("compute", "virtual_machines_instance_view", ""),
    "vms.start": ("compute", "virtual_machines_start", ""),
    "vms.stop": ("compute", "virtual_machines_deallocate", ""),
    "vms.diagnostics": ("compute", "virtual_machines_retrieve_boot_diagnostics_data", ""),
    "groups.put": ("compute", "capacity_reservation_groups_create_or_update", "CapacityReservationGroup"),
    "groups.get": ("compute", "capacity_reservation_groups_get", ""),
    "groups.list": ("compute", "capacity_reservation_groups_list_by_resource_group", ""),
    "groups.delete": ("compute", "capacity_reservation_groups_delete", ""),
    "reservations.put": ("compute", "capacity_reservations_create_or_update", "CapacityReservation"),
    "reservations.get": ("compute", "capacity_reservations_get", ""),
    "reservations.list": ("compute", "capacity_reservations_list_by_capacity_reservation_group", ""),
    "reservations.delete": ("compute", "capacity_reservations_delete", ""),
    "usages.list": ("compute", "usage_list", ""),
    "skus.list": ("compute", "resource_skus_list", ""),
    "nics.put": ("network", "network_interfaces_create_or_update", "NetworkInterface"),
    "nics.get": ("network", "network_interfaces_get", ""),
    "nics.list": ("network", "network_interfaces_list", ""),
    "nics.delete": ("network", "network_interfaces_delete", ""),
    "nsgs.put": ("network", "network_security_groups_create_or_update", "NetworkSecurityGroup"),
    "nsgs.get": ("network", "network_security_groups_get", ""),
    "nsgs.list": ("network", "network_security_groups_list", ""),
    "nsgs.delete": ("network", "network_security_groups_delete", ""),
    "subnets.get": ("network", "subnets_get", ""),
    "vnets.address": ("network", "virtual_networks_check_ip_address_availability", ""),
}
_GROUP = r"/subscriptions/(?P<subscriptionid>[^/]+)/resourcegroups/(?P<resourcegroupname>[^/]+)"
# azure-mgmt-resource and azure-mgmt-authorization: their clients send these versions
WRITTEN = {
    "resourcegroups.put": ("PUT", _GROUP, ("2025-04-01", "2024-11-01", "2022-09-01", "2021-04-01")),
    "resourcegroups.get": ("GET", _GROUP, ("2025-04-01", "2024-11-01", "2022-09-01", "2021-04-01")),
    "resourcegroups.delete": ("DELETE", _GROUP, ("2025-04-01", "2024-11-01", "2022-09-01", "2021-04-01")),
    "resources.list": ("GET", _GROUP + r"/resources", ("2025-04-01", "2024-11-01", "2022-09-01", "2021-04-01")),
    "permissions.list": (
        "GET",
        _GROUP + r"(/providers/microsoft\.storage/storageaccounts/[^/]+)?/providers/microsoft\.authorization/permissions",
        ("2022-04-01", "2018-07-01"),
    ),
    # azure-mgmt-storage, which is not installed: its clients send these versions
    "accounts.list": (
        "GET",
        r"/subscriptions/(?P<subscriptionid>[^/]+)/providers/microsoft\.storage/storageaccounts",
        ("2024-01-01", "2023-05-01"),
    ),
}
OPEN = {"VirtualMachineSizeTypes"}  # the models list sizes of 2017 only; the rest come from the catalogue
# The fields that a resource group's body may have (azure-mgmt-resource has no wire types).
RESOURCE_GROUP = {"location", "tags", "managedBy"}


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: how it is asked for, and what its body is."""

    operation: str
    method: str
    path: re.Pattern[str]
    versions: tuple[str, ...]
    package: str = ""
    body: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """A request that has a route: the operation and the names in its path, lower case keys."""

    route: Route
    names: dict[str, str]


@cache
def routes() -> tuple[Route, ...]:
    """All operations that this double has."""
    return (*map(_built, OPERATIONS), *_written())


def find(method: str, path: str) -> Match | None:
    """The operation of a request, whatever its version; paths are compared without case, as ARM does."""
    for route in routes():
        if route.method == method and (found := route.path.fullmatch(path)):
            return Match(route, found.groupdict())
    return None


def complaints(route: Route, body: object) -> list[str]:
    """What is wrong with the body: unknown fields, wrong types, missing and read-only ones."""
    if not route.body:
        if route.operation != "resourcegroups.put":
            return [] if body is None else ["$: this operation takes no body"]
        unknown = set(body) - RESOURCE_GROUP if isinstance(body, dict) else {"$"}
        return [f"$.{key}: unknown property of ResourceGroup" for key in sorted(unknown)]
    types = import_module(f"azure.mgmt.{route.package}.types")
    models = import_module(f"azure.mgmt.{route.package}.models")
    if route.method == "PATCH":  # null takes a member away (RFC 7396)
        body = _without_nulls(body)
    return list(_check(getattr(types, route.body), body, "$", types, models))


def _without_nulls(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


def _built(operation: str) -> Route:
    package, builder, body = OPERATIONS[operation]
    build = getattr(import_module(f"azure.mgmt.{package}.operations._operations"), f"build_{builder}_request")
    parameters = inspect.signature(build).parameters.values()
    words = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    query = {p.name: "any" for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}  # what it must be asked with
    request = build(*(f"zz{word.replace('_', '')}zz" for word in words), **query)
    parts = urlsplit(request.url)
    pattern = re.sub(r"zz(\w+?)zz", r"(?P<\1>[^/]+)", re.escape(parts.path))
    version = parse_qs(parts.query)["api-version"][0]
    return Route(operation, request.method, re.compile(pattern, re.IGNORECASE), (version,), package, body)


def _written() -> Iterator[Route]:
    for operation, (method, pattern, versions) in WRITTEN.items():
        yield Route(operation, method, re.compile(pattern, re.IGNORECASE), versions)


def _check(kind: Any, value: object, path: str, types: ModuleType, models: ModuleType) -> Iterator[str]:
    """Walks a wire type and a value together."""
    kind = _resolved(kind, types, models)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Required, NotRequired):
        yield from _check(inner[0], value, path, types, models)
    elif origin is typing.Union:
        yield from _check_union(inner, value, path, types, models)
    elif is_typeddict(kind):
        yield from _check_object(kind, value, path, types, models)
    elif origin is list:
        if not isinstance(value, list):
            yield f"{path}: array expected"
            return
        for index, item in enumerate(value):
            yield from _check(inner[0], item, f"{path}[{index}]", types, models)
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{path}: map expected"
            return
        for key, item in value.items():
            yield from _check(inner[1], item, f"{path}.{key}", types, models)
    elif not _plain(kind, value):
        yield f"{path}: {getattr(kind, '__name__', kind)} expected"


def _check_union(inner: tuple[Any, ...], value: object, path: str, types: ModuleType, models: ModuleType) -> Iterator[str]:
    members = [_resolved(member, types, models) for member in inner]
    enums = [m for m in members if isinstance(m, type) and issubclass(m, enum.Enum)]
    if enums:
        known = isinstance(value, str) if enums[0].__name__ in OPEN else value in {word.value for word in enums[0]}
        if not known:
            yield f"{path}: {value!r} is not in {enums[0].__name__}"
        return
    found = [list(_check(member, value, path, types, models)) for member in members]
    if [] not in found:
        yield from found[0]


def _check_object(kind: Any, value: object, path: str, types: ModuleType, models: ModuleType) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: object expected"
        return
    hints = _hints(kind, types, models)
    for key, hint in hints.items():
        if get_origin(hint) is Required and key not in value:
            yield f"{path}.{key}: required"
    hidden = _read_only(getattr(models, kind.__name__, None))
    for key, item in value.items():
        if key not in hints:
            yield f"{path}.{key}: unknown property of {kind.__name__}"
        elif key in hidden:
            yield f"{path}.{key}: read-only property of {kind.__name__}"
        else:
            yield from _check(hints[key], item, f"{path}.{key}", types, models)


@cache
def _hints(kind: Any, types: ModuleType, models: ModuleType) -> dict[str, Any]:
    names = {**vars(models), **vars(types), "_models": models}
    return dict(get_type_hints(kind, globalns=names, localns=names, include_extras=True))


@cache
def _read_only(model: type | None) -> frozenset[str]:
    """The wire names that the service alone writes."""
    found = set()
    for cls in model.__mro__ if model else ():
        for name, field in vars(cls).items():
            # what identifies a resource is read-only in the models, yet a reference to another one is made of its id
            if getattr(field, "_visibility", None) == ["read"] and not (name == "id" and cls.__name__ == "SubResource"):
                found.add(getattr(field, "_rest_name_input", None) or name)
    return frozenset(found)


def _resolved(kind: Any, types: ModuleType, models: ModuleType) -> Any:
    name = kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind if isinstance(kind, str) else ""
    if not name:
        return kind
    word = name.rpartition(".")[2]
    return getattr(types, word, None) or getattr(models, word)


def _plain(kind: Any, value: object) -> bool:
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str) if kind is str else True
