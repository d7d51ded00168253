"""The double's storage account refuses what Azure refuses: blobs, leases, tokens, rights, and what a disk is imported from."""

import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import ClientAuthenticationError, ResourceExistsError
from azure.storage.blob import BlobLeaseClient, BlobServiceClient
from test_azure_double import SIZE, Clients, by_hand, refused

from v2c.emulators.azure import ACCOUNT, GROUP, LOCATION, SUBSCRIPTION, AzureEmulator
from v2c.model import MIB
from v2c.targets.writers.raw import vhd_footer

pytestmark = pytest.mark.tool


class Storage(Clients):
    """The SDK at the account, as anybody would use it."""

    def __init__(self, emulator: AzureEmulator) -> None:
        super().__init__(emulator)
        self.service = BlobServiceClient(f"{emulator.url}/account-v2clab", credential=self.credential, retry_total=0)

    def blob(self, name: str = "b.vhd", size: int = SIZE + 512, footer: bytes | None = None) -> Any:
        """A page blob in the container "c", with a footer at its end."""
        with suppress(ResourceExistsError):
            self.service.create_container("c")
        client: Any = self.service.get_blob_client("c", name)
        client.create_page_blob(size)
        footer = vhd_footer(size - 512, uuid.uuid4(), 0) if footer is None else footer
        client.upload_page(footer, offset=size - 512, length=512)
        return client

    def imported(self, url: str, name: str = "d", account: str = ACCOUNT, **more: object) -> Any:
        creation = {"createOption": "Import", "sourceUri": url, **({"storageAccountId": account} if account else {})}
        body = {"location": LOCATION, "properties": {"creationData": creation, "hyperVGeneration": "V1", **more}}
        return self.compute.disks.begin_create_or_update(GROUP, name, body).result()


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    with AzureEmulator(tmp_path / "azure") as running:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", running.environment["REQUESTS_CA_BUNDLE"])
        yield running


@pytest.fixture
def storage(emulator: AzureEmulator) -> Storage:
    return Storage(emulator)


def test_the_account_is_listed_with_its_endpoint(storage: Storage) -> None:
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Storage/storageAccounts?api-version=2024-01-01"
    token = storage.credential.get_token(f"{storage.emulator.url}/.default").token
    answer = requests.get(f"{storage.emulator.url}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=10).json()
    (shown,) = answer["value"]
    assert (shown["id"], shown["kind"], shown["location"], shown["sku"]["name"]) == (
        ACCOUNT,
        "StorageV2",
        LOCATION,
        "Standard_LRS",
    )
    assert shown["properties"]["primaryEndpoints"]["blob"] == f"{storage.emulator.url}/account-v2clab/"
    old = by_hand(storage, "GET", "Microsoft.Storage/storageAccounts/v2clab/providers/Microsoft.Authorization/permissions")
    assert old.json()["error"]["code"] == "InvalidApiVersionParameter" and storage.emulator.left() == []


def test_blobs_that_the_service_would_not_make(storage: Storage) -> None:
    storage.blob()
    client: Any = storage.service.get_blob_client("c", "other")
    refused(lambda: storage.service.create_container("c"), "ContainerAlreadyExists")
    refused(lambda: storage.service.get_blob_client("none", "b").create_page_blob(512), "ContainerNotFound")
    refused(lambda: client.create_page_blob((8 << 40) + 512), "InvalidHeaderValue")
    refused(lambda: client.create_page_blob(512, metadata={"v2c-job": "x"}), "InvalidMetadata")
    refused(lambda: client.upload_blob(b"x"), "InvalidBlobType")
    first: Any = storage.service.get_blob_client("c", "b.vhd")
    refused(lambda: first.create_page_blob(512, match_condition=MatchConditions.IfMissing), "BlobAlreadyExists")
    assert first.get_blob_properties().size == SIZE + 512
    first.create_page_blob(1024)
    assert first.get_blob_properties().size == 1024 and list(first.list_page_ranges()) == []
    account = storage.emulator.cloud.store.get(ACCOUNT)
    assert account
    account.shown["properties"]["isHnsEnabled"] = True
    refused(lambda: client.create_page_blob(512), "FeatureNotSupportedForAccount")


def test_containers_and_blobs_are_listed_and_go(storage: Storage) -> None:
    first = storage.blob("v2c/j/disk-0.vhd")
    storage.blob("v2c/k & l/disk-0.vhd", 1024)
    container: Any = storage.service.get_container_client("c")
    assert list(container.list_blob_names()) == ["v2c/j/disk-0.vhd", "v2c/k & l/disk-0.vhd"]
    assert list(container.list_blob_names(name_starts_with="v2c/k")) == ["v2c/k & l/disk-0.vhd"]
    first.set_blob_metadata({"owner": "me", "more": "yes"})
    assert first.get_blob_properties().metadata == {"owner": "me", "more": "yes"}
    assert len(storage.emulator.left()) == 3 and storage.emulator.blob("c/v2c/j/disk-0.vhd").stat().st_size == SIZE + 512
    first.delete_blob()
    refused(lambda: first.delete_blob(), "BlobNotFound")
    container.delete_container()
    assert storage.emulator.left() == [] and list((storage.emulator.folder / "blobs").iterdir()) == []


def test_who_holds_the_lease_writes_alone(storage: Storage) -> None:
    blob = storage.blob()
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())

    def write(lease: str = "") -> Callable[[], object]:
        return lambda: blob.upload_page(b"x" * 512, offset=0, length=512, **({"lease": lease} if lease else {}))

    refused(lambda: BlobLeaseClient(blob, mine).break_lease(lease_break_period=0), "LeaseNotPresentWithLeaseOperation")
    refused(write(mine), "LeaseNotPresentWithBlobOperation")
    BlobLeaseClient(blob, mine).acquire(lease_duration=-1)
    BlobLeaseClient(blob, mine).acquire(lease_duration=-1)  # the same again
    refused(lambda: BlobLeaseClient(blob, other).acquire(lease_duration=-1), "LeaseAlreadyPresent")
    refused(write(), "LeaseIdMissing")
    refused(write(other), "LeaseIdMismatchWithBlobOperation")
    refused(lambda: blob.clear_page(offset=0, length=512), "LeaseIdMissing")
    refused(lambda: blob.set_blob_metadata({"a": "b"}, lease=other), "LeaseIdMismatchWithBlobOperation")
    refused(lambda: blob.delete_blob(), "LeaseIdMissing")
    refused(lambda: blob.create_page_blob(512), "LeaseIdMissing")
    refused(lambda: BlobLeaseClient(blob, other).release(), "LeaseIdMismatchWithLeaseOperation")
    write(mine)()
    shown = blob.get_blob_properties()
    assert (shown.lease.state, shown.lease.status, shown.lease.duration) == ("leased", "locked", "infinite")
    BlobLeaseClient(blob, other).break_lease(lease_break_period=0)
    assert blob.get_blob_properties().lease.state == "broken"
    refused(write(mine), "LeaseNotPresentWithBlobOperation")
    BlobLeaseClient(blob, other).acquire(lease_duration=-1)
    refused(write(mine), "LeaseIdMismatchWithBlobOperation")
    BlobLeaseClient(blob, other).release()
    assert blob.get_blob_properties().lease.state == "available"
    blob.delete_blob()


def test_tokens_and_rights_of_the_service(storage: Storage) -> None:
    """A token of Resource Manager's opens nothing here, and no token does neither."""
    url = f"{storage.emulator.url}/account-v2clab/c?restype=container"
    version = {"x-ms-version": "2026-02-06"}
    arm = storage.credential.get_token(f"{storage.emulator.url}/.default").token
    for header in ({}, {"Authorization": f"Bearer {arm}"}):
        answer = requests.get(url, headers={**version, **header}, timeout=10)
        assert answer.status_code == 401 and "resource_id=https://storage.azure.com" in answer.headers["WWW-Authenticate"]
    blob = storage.blob()
    storage.emulator.cloud.data_actions[:] = ["Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"]
    assert blob.get_blob_properties().size == SIZE + 512
    for call in (lambda: blob.upload_page(bytes(512), offset=0, length=512), blob.delete_blob):
        refused(call, "AuthorizationPermissionMismatch")
    storage.emulator.cloud.actions.clear()
    refused(lambda: storage.service.create_container("d"), "AuthorizationPermissionMismatch")


def test_a_token_that_is_over_is_asked_for_again(storage: Storage) -> None:
    blob = storage.blob()
    storage.emulator.faults.once("GetBlobProperties", "expired")
    assert blob.get_blob_properties().size == SIZE + 512
    storage.emulator.faults.once("GetBlobProperties", "expired", times=2)
    with pytest.raises(ClientAuthenticationError):
        blob.get_blob_properties()


# ---- what a disk is imported from ------------------------------------------------------------------------------------------


def test_a_disk_of_a_blob_is_a_copy(storage: Storage) -> None:
    blob = storage.blob()
    blob.upload_page(b"x" * 1024, offset=8 * MIB, length=1024)
    disk = storage.imported(blob.url, osType="Linux")
    assert (storage.state(), disk.properties.disk_size_bytes, disk.properties.hyper_v_generation) == ("Unattached", SIZE, "V1")
    assert storage.imported(blob.url, osType="Linux").id == disk.id, "the same again"
    blob.upload_page(b"y" * 512, offset=8 * MIB, length=512)
    blob.delete_blob()
    expected = bytes(8 * MIB) + b"x" * 1024
    assert storage.emulator.disk("d").read_bytes() == expected.ljust(SIZE, b"\0")
    assert storage.emulator.disk("d").stat().st_blocks < 64, "zeros were not written"
    reading = storage.grant(access="Read")
    assert requests.get(reading, headers={"x-ms-version": "2026-02-06", "x-ms-range": f"bytes={SIZE}-"}, timeout=10).content[
        :8
    ] == (b"conectix")
    storage.revoke()
    storage.vm(disk.id, storage.nic().id)
    refused(lambda: storage.imported(blob.url + "2"), "PropertyChangeNotAllowed")


@pytest.mark.parametrize(
    ("size", "footer", "complaint"),
    [
        (SIZE + 512, bytes(512), "cookie 'conectix'"),
        (SIZE + 512, vhd_footer(SIZE + MIB, uuid.uuid4(), 0), f"the footer says {SIZE + MIB} bytes"),
        (SIZE + 512, vhd_footer(SIZE, uuid.uuid4(), 0, dynamic=True), "only fixed disks"),
        (SIZE + 512, vhd_footer(SIZE, uuid.uuid4(), 0)[:-1] + b"\x01", "checksum"),
        (
            SIZE + 512,
            vhd_footer(SIZE, uuid.uuid4(), 0)[:60] + struct.pack(">I", 4) + vhd_footer(SIZE, uuid.uuid4(), 0)[64:],
            "fixed",
        ),
        (SIZE + 1024, None, f"unsupported virtual size of {SIZE + 512} bytes"),
        (512, None, "unsupported virtual size of 0 bytes"),
    ],
)
def test_what_is_no_fixed_vhd_makes_no_disk(storage: Storage, size: int, footer: bytes | None, complaint: str) -> None:
    blob = storage.blob(size=size, footer=footer)
    assert complaint in refused(lambda: storage.imported(blob.url), "InvalidVhd")
    assert storage.emulator.resources("disks") == []


def test_places_that_no_disk_is_imported_from(storage: Storage) -> None:
    blob = storage.blob()
    refused(lambda: storage.imported(blob.url, account=""), "InvalidParameter")
    refused(lambda: storage.imported(blob.url, account=ACCOUNT + "x"), "ResourceNotFound")
    refused(lambda: storage.imported(blob.url + "x"), "BlobNotFound")
    refused(lambda: storage.imported("https://elsewhere.blob.core.windows.net/c/b.vhd"), "InvalidParameter")
    account = storage.emulator.cloud.store.get(ACCOUNT)
    assert account
    account.shown["location"] = "northeurope"
    assert "northeurope" in refused(lambda: storage.imported(blob.url), "InvalidParameter")
    assert storage.emulator.resources("disks") == []


def test_a_blob_is_the_same_when_the_double_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes, its pages, its ETag, who holds it."""
    seen = []
    for number in range(2):
        with AzureEmulator(tmp_path / "azure") as emulator:
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.environment["REQUESTS_CA_BUNDLE"])
            storage = Storage(emulator)
            if number == 0:
                blob = storage.blob()
                BlobLeaseClient(blob, str(uuid.uuid4())).acquire(lease_duration=-1)
            blob = storage.service.get_blob_client("c", "b.vhd")
            shown = blob.get_blob_properties()
            seen.append((shown.etag, shown.size, shown.lease.state, [(one.start, one.end) for one in blob.list_page_ranges()]))
    assert seen[0] == seen[1] and seen[0][1:] == (SIZE + 512, "leased", [(SIZE, SIZE + 511)])
