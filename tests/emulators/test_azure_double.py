"""The double of Azure refuses what Azure refuses: asked by the SDK, and by hand where the SDK would not ask so."""

import json
import os
import struct
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import ClientSecretCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.network import NetworkManagementClient
from azure.storage.blob import BlobClient

from v2c.emulators import open_emulator
from v2c.emulators.azure import CLIENT, GROUP, LOCATION, SUBNET, SUBSCRIPTION, TENANT, AzureEmulator, schema, vhd
from v2c.emulators.azure.ranges import Ranges
from v2c.model import MIB
from v2c.targets.writers.raw import vhd_footer

pytestmark = pytest.mark.tool
SIZE = 24 * MIB
UPLOAD = {"createOption": "Upload", "uploadSizeBytes": SIZE + 512}


class Clients:
    """The SDK as anybody would use it."""

    def __init__(self, emulator: AzureEmulator, password: str = "") -> None:
        self.emulator = emulator
        secret = password or emulator.environment["AZURE_CLIENT_SECRET"]
        self.credential = ClientSecretCredential(TENANT, CLIENT, secret, authority=emulator.url, disable_instance_discovery=True)
        settings: dict[str, Any] = {"base_url": emulator.url, "credential_scopes": [f"{emulator.url}/.default"]}
        self.compute: Any = ComputeManagementClient(self.credential, SUBSCRIPTION, retry_total=0, polling_interval=1, **settings)
        self.network: Any = NetworkManagementClient(self.credential, SUBSCRIPTION, retry_total=0, polling_interval=1, **settings)

    def disk(self, name: str = "d", **properties: object) -> Any:
        body = {"location": LOCATION, "properties": {"creationData": UPLOAD, "osType": "Linux", **properties}}
        return self.compute.disks.begin_create_or_update(GROUP, name, body).result()

    def grant(self, name: str = "d", access: str = "Write", seconds: int = 600) -> str:
        wanted = {"access": access, "durationInSeconds": seconds}
        return str(self.compute.disks.begin_grant_access(GROUP, name, wanted).result()["accessSAS"])

    def revoke(self, name: str = "d") -> None:
        self.compute.disks.begin_revoke_access(GROUP, name).result()

    def state(self, name: str = "d") -> str:
        return str(self.compute.disks.get(GROUP, name).properties.disk_state.value)

    def complete(self, name: str = "d", **properties: object) -> str:
        """An uploaded disk; its id."""
        id = str(self.disk(name, **properties).id)
        blob(self.grant(name)).upload_page(vhd_footer(SIZE, uuid.uuid4(), 0), offset=SIZE, length=512)
        self.revoke(name)
        return id

    def nic(self, name: str = "n", **more: object) -> Any:
        address = {"name": "ip", "properties": {"subnet": {"id": SUBNET}}}
        body = {"location": LOCATION, "properties": {"ipConfigurations": [address], **more}}
        return self.network.network_interfaces.begin_create_or_update(GROUP, name, body).result()

    def vm(self, disk: str, nic: str, name: str = "v", size: str = "Standard_D2s_v5", **more: object) -> Any:
        properties: dict[str, object] = {
            "hardwareProfile": {"vmSize": size},
            "storageProfile": {"osDisk": {"createOption": "Attach", "osType": "Linux", "managedDisk": {"id": disk}}},
            "networkProfile": {"networkInterfaces": [{"id": nic}]},
            "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
            **more,
        }
        body = {"location": LOCATION, "properties": properties}
        return self.compute.virtual_machines.begin_create_or_update(GROUP, name, body).result()


def blob(sas: str) -> BlobClient:
    return BlobClient.from_blob_url(sas, retry_total=0)


def refused(call: Any, code: str) -> str:
    """The message of the refusal, whose code it must be."""
    with pytest.raises(HttpResponseError) as caught:
        call()
    error: Any = caught.value
    found = getattr(error, "error_code", None) or (error.error.code if error.error else "")
    assert str(getattr(found, "value", found)) == code, error
    return str(error.message)


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    with AzureEmulator(tmp_path / "azure") as running:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", running.environment["REQUESTS_CA_BUNDLE"])
        yield running


@pytest.fixture
def clients(emulator: AzureEmulator) -> Clients:
    return Clients(emulator)


# ---- requests --------------------------------------------------------------------------------------------------------------


def by_hand(clients: Clients, method: str, path: str, body: Any = None, version: str = "2026-03-02") -> requests.Response:
    token = clients.credential.get_token(f"{clients.emulator.url}/.default").token
    url = f"{clients.emulator.url}/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/{path}?api-version={version}"
    return requests.request(method, url, headers={"Authorization": f"Bearer {token}"}, json=body, timeout=10)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"hyperVGeneration": "V3"}, "'V3' is not in HyperVGeneration"),
        ({"hypervgeneration": "V2"}, "$.properties.hypervgeneration: unknown property of DiskProperties"),
        ({"diskState": "Unattached"}, "$.properties.diskState: read-only property of DiskProperties"),
        ({"creationData": {"uploadSizeBytes": 1}}, "$.properties.creationData.createOption: required"),
        ({"creationData": {**UPLOAD, "uploadSizeBytes": "20"}}, "$.properties.creationData.uploadSizeBytes: int expected"),
        ({"supportedCapabilities": {"acceleratedNetwork": "yes"}}, "acceleratedNetwork: bool expected"),
    ],
)
def test_bodies_are_what_the_sdk_says_they_are(clients: Clients, more: dict[str, object], complaint: str) -> None:
    body = {"location": LOCATION, "properties": {"creationData": UPLOAD, **more}}
    answer = by_hand(clients, "PUT", "Microsoft.Compute/disks/d", body)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "InvalidRequestContent"
    assert complaint in answer.json()["error"]["message"]
    assert clients.emulator.left() == []


def test_every_operation_of_the_double_has_a_route_of_the_sdk() -> None:
    from v2c.emulators.azure.server import OPERATIONS

    assert {route.operation for route in schema.routes()} == set(OPERATIONS)
    assert all(route.versions and all(v[:2] == "20" for v in route.versions) for route in schema.routes())


def test_versions_tokens_and_places_that_do_not_exist(clients: Clients) -> None:
    assert (
        by_hand(clients, "GET", "Microsoft.Compute/disks", version="2016-01-01").json()["error"]["code"]
        == "InvalidApiVersionParameter"
    )
    assert by_hand(clients, "GET", "Microsoft.Compute/galleries").status_code == 404
    assert by_hand(clients, "POST", "Microsoft.Compute/disks/d/endGetAccess", {"a": 1}).status_code == 400
    url = f"{clients.emulator.url}/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}?api-version=2021-04-01"
    for header in ("", "Bearer x", "Bearer a.b.c"):
        assert requests.get(url, headers={"Authorization": header}, timeout=10).status_code == 401
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        list(Clients(clients.emulator, "wrong").compute.disks.list_by_resource_group(GROUP))
    body = {"location": "mars", "properties": {"creationData": UPLOAD}}
    assert (
        by_hand(clients, "PUT", "Microsoft.Compute/disks/d", body).json()["error"]["code"]
        == "LocationNotAvailableForResourceType"
    )


# ---- disks -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SIZE, SIZE + 1024, 10 * MIB + 512, (33 << 40) + 512])
def test_sizes_are_whole_mib_and_a_footer(clients: Clients, size: int) -> None:
    refused(lambda: clients.disk(creationData={"createOption": "Upload", "uploadSizeBytes": size}), "InvalidParameter")


def test_the_states_of_a_disk(clients: Clients) -> None:
    clients.disk()
    assert clients.state() == "ReadyToUpload"
    refused(lambda: clients.grant(access="Read"), "OperationNotAllowed")
    sas = clients.grant()
    assert clients.state() == "ActiveUpload"
    refused(lambda: clients.compute.disks.begin_delete(GROUP, "d").result(), "OperationNotAllowed")
    blob(sas).upload_page(vhd_footer(SIZE, uuid.uuid4(), 0), offset=SIZE, length=512)
    clients.revoke()
    assert clients.state() == "Unattached"
    refused(clients.grant, "OperationNotAllowed")
    reading = clients.grant(access="Read")
    assert clients.state() == "ActiveSAS"
    assert blob(reading).download_blob().readall() == bytes(SIZE) + vhd_read(clients)
    refused(lambda: blob(reading).upload_page(bytes(512), offset=0, length=512), "AuthorizationPermissionMismatch")
    clients.revoke()
    with pytest.raises(ClientAuthenticationError):
        blob(reading).download_blob(offset=0, length=512)
    clients.compute.disks.begin_delete(GROUP, "d").result()
    clients.compute.disks.begin_delete(GROUP, "d").result()  # absent is success
    assert clients.emulator.left() == [] and list((clients.emulator.folder / "blobs").iterdir()) == []


def vhd_read(clients: Clients) -> bytes:
    return bytes.fromhex(next(r for r in clients.emulator.cloud.store.all() if "footer" in r.hidden).hidden["footer"])


def test_a_new_sas_ends_the_one_before(clients: Clients) -> None:
    clients.disk()
    first, second = clients.grant(), clients.grant()
    with pytest.raises(ClientAuthenticationError, match="AuthenticationFailed"):
        blob(first).upload_page(bytes(512), offset=0, length=512)
    blob(second).upload_page(bytes(512), offset=0, length=512)
    third = clients.grant(seconds=1)
    threading.Event().wait(1.1)
    with pytest.raises(ClientAuthenticationError, match="AuthenticationFailed"):
        blob(third).upload_page(bytes(512), offset=0, length=512)


@pytest.mark.parametrize(
    ("footer", "complaint"),
    [
        (bytes(512), "conectix"),
        (vhd_footer(SIZE + MIB, uuid.uuid4(), 0), f"the footer says {SIZE + MIB} bytes"),
        (
            vhd_footer(SIZE, uuid.uuid4(), 0)[:60] + struct.pack(">I", 3) + vhd_footer(SIZE, uuid.uuid4(), 0)[64:],
            "only fixed disks",
        ),
        (vhd_footer(SIZE, uuid.uuid4(), 0)[:-1] + b"\x01", "checksum"),
    ],
)
def test_what_is_no_fixed_vhd_cannot_be_used(clients: Clients, footer: bytes, complaint: str) -> None:
    disk = clients.disk()
    blob(clients.grant()).upload_page(footer, offset=SIZE, length=512)
    clients.revoke()
    nic = clients.nic()
    assert complaint in refused(lambda: clients.vm(disk.id, nic.id), "InvalidVhd")
    assert complaint in refused(lambda: clients.grant(access="Read"), "InvalidVhd")
    clients.compute.disks.begin_delete(GROUP, "d").result()


def test_a_footer_is_read_as_the_specification_says() -> None:
    assert vhd.complaint(vhd_footer(SIZE, uuid.uuid4(), 1_700_000_000), SIZE) == ""


# ---- machines and network --------------------------------------------------------------------------------------------------


def test_machines_that_azure_would_not_make(clients: Clients) -> None:
    first, second = clients.complete("gen1", hyperVGeneration="V1"), clients.complete("gen2", hyperVGeneration="V2")
    nic = str(clients.nic().id)
    assert "Generation '1'" in refused(lambda: clients.vm(first, nic, size="Standard_D2s_v6"), "BadRequest")
    assert "DiskControllerType" in refused(lambda: clients.vm(second, nic, size="Standard_D2s_v6"), "InvalidParameter")
    refused(lambda: clients.vm(first, nic, size="Standard_NC6s_v3"), "SkuNotAvailable")
    refused(lambda: clients.vm(first, nic, size="Standard_X1"), "InvalidParameter")
    refused(lambda: clients.vm(first, nic, securityProfile={"securityType": "TrustedLaunch"}), "BadRequest")
    refused(lambda: clients.vm(first, nic, osProfile={"computerName": "x"}), "PropertyChangeNotAllowed")
    refused(lambda: clients.vm(first, nic.replace("/n", "/m")), "InvalidResourceReference")
    clients.emulator.cloud.quotas["cores"] = 1
    assert "quota" in refused(lambda: clients.vm(first, nic), "OperationNotAllowed")
    assert clients.emulator.resources("virtualMachines") == []


def test_a_machine_holds_its_disk_and_its_card_until_it_is_gone(clients: Clients) -> None:
    disk, nic = clients.complete(), str(clients.nic().id)
    vm = clients.vm(disk, nic)
    assert clients.state() == "Attached" and vm.properties.storage_profile.os_disk.managed_disk.id == disk
    refused(lambda: clients.compute.disks.begin_delete(GROUP, "d").result(), "OperationNotAllowed")
    refused(lambda: clients.network.network_interfaces.begin_delete(GROUP, "n").result(), "NicInUse")
    refused(lambda: clients.vm(disk, nic, name="w"), "OperationNotAllowed")
    view = clients.compute.virtual_machines.instance_view(GROUP, "v")
    assert "PowerState/running" in [status.code for status in view.statuses]
    told = clients.compute.virtual_machines.retrieve_boot_diagnostics_data(GROUP, "v", sas_uri_expiration_time_in_minutes=5)
    assert requests.get(told.serial_console_log_blob_uri, timeout=10).status_code == 200
    assert requests.get(told.serial_console_log_blob_uri.replace("sig=", "sig=x"), timeout=10).status_code == 403
    assert requests.get(told.console_screenshot_blob_uri, timeout=10).content.startswith(b"\x89PNG")
    clients.compute.virtual_machines.begin_deallocate(GROUP, "v").result()
    assert clients.emulator.cloud.machines.alive(vm.properties.vm_id) is False
    clients.compute.virtual_machines.begin_delete(GROUP, "v").result()
    clients.network.network_interfaces.begin_delete(GROUP, "n").result()
    clients.compute.disks.begin_delete(GROUP, "d").result()
    assert clients.emulator.left() == []


def test_a_subnet_runs_out_of_addresses(clients: Clients) -> None:
    subnet = clients.emulator.cloud.store.get(SUBNET)
    assert subnet
    subnet.properties["addressPrefix"] = "10.20.0.0/29"
    addresses = [clients.nic(f"n{number}").properties.ip_configurations[0].properties.private_ip_address for number in range(3)]
    assert len(set(addresses)) == 3
    refused(lambda: clients.nic("n3"), "SubnetIsFull")
    clients.network.network_interfaces.begin_delete(GROUP, "n1").result()
    assert clients.nic("n3").properties.ip_configurations[0].properties.private_ip_address == addresses[1]


# ---- the double itself -----------------------------------------------------------------------------------------------------


def test_it_is_the_same_cloud_when_it_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = open_emulator("azure", tmp_path / "azure")
    assert isinstance(emulator, AzureEmulator)
    with emulator:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.environment["REQUESTS_CA_BUNDLE"])
        before = {key: value for key, value in emulator.environment.items() if emulator.url not in value}
        clients = Clients(emulator)
        clients.disk()
        sas = clients.grant()
        blob(sas).upload_page(b"x" * 512, offset=MIB, length=512)
    with AzureEmulator(tmp_path / "azure") as again:
        assert {key: value for key, value in again.environment.items() if again.url not in value} == before
        assert Clients(again).state() == "ActiveUpload"
        there = blob(Clients(again).grant())
        assert [(one.start, one.end) for one in there.list_page_ranges()] == [(MIB, MIB + 511)]
        assert again.disk("d").read_bytes()[MIB : MIB + 512] == b"x" * 512


def test_operations_take_their_time(clients: Clients) -> None:
    clients.emulator.cloud.operations.pace_s = 0.5
    poller = clients.compute.disks.begin_create_or_update(
        GROUP, "d", {"location": LOCATION, "properties": {"creationData": UPLOAD}}
    )
    assert not poller.done()
    assert poller.result().name == "d"
    asked = [r for r in clients.emulator.requests if r.operation == "operations.get"]
    assert len(asked) >= 2


def test_its_memory_does_not_grow_with_what_it_is_given(clients: Clients) -> None:
    clients.disk(creationData={"createOption": "Upload", "uploadSizeBytes": 512 * MIB + 512})
    there = blob(clients.grant())
    page = os.urandom(4 * MIB)
    for number in range(4):
        there.upload_page(page, offset=number * 4 * MIB, length=4 * MIB)
    before = resident()
    for number in range(4, 100):
        there.upload_page(page, offset=number * 4 * MIB, length=4 * MIB)
    assert resident() - before < 48 * MIB


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_secrets_of_the_double_are_its_owners(emulator: AzureEmulator) -> None:
    keys = emulator.folder / "keys.json"
    assert keys.stat().st_mode & 0o777 == 0o600 and emulator.folder.stat().st_mode & 0o777 == 0o700
    assert set(json.loads(keys.read_text())) == {"password", "secret"}


def test_ranges_are_joined_cut_and_remembered(tmp_path: Path) -> None:
    ranges = Ranges(tmp_path / "r")
    for start, end in ((0, 10), (20, 30), (10, 20), (40, 50), (45, 60)):
        ranges.wrote(start, end)
    ranges.cleared(5, 25)
    ranges.cleared(100, 200)
    assert ranges.within(0, 100) == [(0, 5), (25, 30), (40, 60)] == Ranges(tmp_path / "r").within(0, 100)
    assert ranges.within(3, 41) == [(3, 5), (25, 30), (40, 41)] and ranges.within(5, 25) == []
