"""Azure without an account: identity, Resource Manager (disks, machines, network, quotas), and page blobs: those behind a disk's
SAS, and those of a storage account.

Resource Manager's double validates every request against the wire types and routes of Azure's own packages (schema.py). An
uploaded disk is a raw file on disk; a machine made of it boots in QEMU, and its boot diagnostics are the guest's own.
"""

import json
import os
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from v2c import platforms
from v2c.emulators import tls
from v2c.emulators.azure import accounts, disks, network, schema
from v2c.emulators.azure.calls import Cloud
from v2c.emulators.azure.identity import Identity
from v2c.emulators.azure.operations import Operations
from v2c.emulators.azure.pages import Pages
from v2c.emulators.azure.server import KINDS, Server
from v2c.emulators.azure.store import Resource, Store
from v2c.emulators.faults import Faults
from v2c.emulators.ledger import Requests
from v2c.emulators.machines import Machines

__all__ = ["KINDS", "AzureEmulator", "open_emulator"]

SUBSCRIPTION = "00000000-1111-2222-3333-444444444444"
TENANT = "55555555-6666-7777-8888-999999999999"
CLIENT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
GROUP, LOCATION = "lab", "westeurope"
_PREFIX = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
SUBNET = f"{_PREFIX}/providers/{network.VNET}/lab/subnets/default"
NSG = f"{_PREFIX}/providers/{network.NSG}/lab"
ACCOUNT = f"{_PREFIX}/providers/{accounts.KIND}/v2clab"


def open_emulator(folder: Path, *, port: int = 0) -> "AzureEmulator":
    """The Azure that `folder` holds."""
    return AzureEmulator(folder, port)


class AzureEmulator:
    """One subscription with a resource group, a network, a storage account and nothing else. `quotas`, `actions` and
    `data_actions` (what its user may do) can be changed while it runs."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.faults, self.requests = Faults(kinds=KINDS), Requests()
        self._port = port
        self._keys = _keys(folder / "keys.json")
        secret = self._keys["secret"].encode()
        self.identity = Identity(TENANT, CLIENT, self._keys["password"], secret)
        self.cloud = Cloud(
            folder=folder,
            subscription=SUBSCRIPTION,
            location=LOCATION,
            store=Store(folder / "resources"),
            pages=Pages(folder / "blobs", secret),
            operations=Operations(),
            machines=Machines(folder / "machines"),
            sizes=_sizes(),
            quotas={},
            actions=["*"],
            data_actions=["*"],
        )
        self._server: Server | None = None
        if self.cloud.store.get(SUBNET) is None:
            self._furnish()

    def __enter__(self) -> Self:
        schema.routes()
        (self.folder / "tls").mkdir(mode=0o700, exist_ok=True)
        context = tls.authority(self.folder / "tls").context()
        self._server = Server(self._port, context, self.cloud, self.identity, self.faults, self.requests)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cloud.machines.close()
        if self._server:
            self._server.close()
            self._server = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server, "it runs between __enter__ and __exit__"
        return self._server.base

    @property
    def environment(self) -> Mapping[str, str]:
        """What the SDK reads: a service principal, where it logs in, where Resource Manager is, and whom to trust."""
        return {
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_CLIENT_SECRET": self._keys["password"],
            "AZURE_AUTHORITY_HOST": self.url,
            "AZURE_RESOURCE_MANAGER_URL": self.url,
            "REQUESTS_CA_BUNDLE": str(tls.authority(self.folder / "tls").trusted),
        }

    @property
    def locator(self) -> str:
        """A place with a network."""
        return f"azure:{SUBSCRIPTION}/{GROUP}/{LOCATION}?subnet=lab/default&nsg=lab"

    def left(self) -> list[str]:
        """What was made and is not gone."""
        return [f"{r.shown['type']} {r.id}" for r in self.cloud.store.all() if not r.hidden.get("furniture")]

    def disk(self, id: str) -> Path:
        """The raw file of a managed disk, by its ARM id or its name in the group."""
        found = self.cloud.store.get(id) or self.cloud.store.get(f"{_PREFIX}/providers/{disks.KIND}/{id}")
        if found is None:
            raise KeyError(id)
        return self.cloud.pages.path(found.hidden["guid"])

    def blob(self, name: str) -> Path:
        """The file of a page blob of the storage account, by "CONTAINER/NAME": a fixed VHD, its footer included."""
        container, _, key = name.partition("/")
        found = self.cloud.store.get(f"{ACCOUNT}/blobServices/default/containers/{container}/blobs/{key}")
        if found is None:
            raise KeyError(name)
        return self.cloud.pages.path(found.hidden["guid"])

    def resources(self, kind: str) -> list[dict[str, Any]]:
        """All resources whose type ends so ("disks"), as a GET shows them."""
        return [r.shown for r in self.cloud.store.all() if r.shown["type"].endswith(f"/{kind}")]

    def _furnish(self) -> None:
        """A resource group, a network with a subnet, a security group, a storage account."""
        made = {"location": LOCATION, "tags": {}}
        for id, kind, properties in (
            (_PREFIX, "Microsoft.Resources/resourceGroups", {}),
            (SUBNET.partition("/subnets/")[0], network.VNET, {"addressSpace": {"addressPrefixes": ["10.20.0.0/16"]}}),
            (SUBNET, network.SUBNET, {"addressPrefix": "10.20.0.0/24"}),
            (NSG, network.NSG, {"securityRules": []}),
            (ACCOUNT, accounts.KIND, {"isHnsEnabled": False}),
        ):
            shown = {"id": id, "name": id.rpartition("/")[2], "type": kind, **made}
            shown["properties"] = {"provisioningState": "Succeeded", **properties}
            if kind == accounts.KIND:
                shown |= {"kind": "StorageV2", "sku": {"name": "Standard_LRS", "tier": "Standard"}}
            self.cloud.store.save(Resource(shown, {"furniture": True}))


def _keys(file: Path) -> dict[str, str]:
    """The secrets of this cloud; made at the first time."""
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as writing:
            json.dump({"password": secrets.token_urlsafe(24), "secret": secrets.token_urlsafe(32)}, writing)
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _sizes() -> dict[str, dict[str, Any]]:
    """The catalogue of sizes: drivers/azure/emulator.toml, the site's own where there is one."""
    file = next(f / "azure" / "emulator.toml" for f in reversed(platforms.folders()) if (f / "azure" / "emulator.toml").is_file())
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    return {name: {**document["common"], **size} for name, size in document["sizes"].items()}
