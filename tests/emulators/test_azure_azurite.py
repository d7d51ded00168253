"""The double's page blobs against Microsoft's own: the same requests to both, the same answers, but for gaps that are named.

Azurite is not the data plane itself, because of those gaps; a fault of ours that it shares with nobody shows here.
"""

import base64
import hashlib
import os
import random
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient, BlobLeaseClient, BlobSasPermissions, BlobServiceClient, generate_blob_sas
from test_azure_double import SIZE, Clients

from v2c.emulators.azure import AzureEmulator
from v2c.model import MIB

pytestmark = pytest.mark.tool
ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / ".cache" / "npm" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
ACCOUNT = "devstoreaccount1"  # Azurite's well-known account
LENGTH = SIZE + 512

Ask = Callable[[Any], object]


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlobServiceClient]:
    """Azurite on a free port, over an account of this test's own."""
    if not SERVER.exists():
        pytest.skip("./run test installs Azurite")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = base64.b64encode(os.urandom(32)).decode()
    place = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "-l", str(tmp_path_factory.mktemp("azurite"))]
    command = [str(SERVER), "-s", *place, "--skipApiVersionCheck", "--disableTelemetry"]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        service = BlobServiceClient(f"http://127.0.0.1:{port}/{ACCOUNT}", credential=key, retry_total=0)
        until = time.monotonic() + 240  # a busy machine takes its time to start node
        while True:
            try:
                service.create_container("disks")
                break
            except Exception:
                if time.monotonic() > until or server.poll() is not None:
                    raise
                time.sleep(0.2)
        yield service
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def pair(
    azurite: BlobServiceClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Callable[[str], Any], Callable[[str], Any]]]:
    """The same empty blob at both; each as a function from rights ("rw", "r") to a client with a fresh SAS."""
    name = uuid.uuid4().hex
    azurite.get_blob_client("disks", name).create_page_blob(LENGTH)

    def theirs(rights: str) -> Any:
        sas = generate_blob_sas(
            ACCOUNT,
            "disks",
            name,
            account_key=azurite.credential.account_key,
            permission=BlobSasPermissions.from_string(rights),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        return BlobClient.from_blob_url(f"{azurite.url}disks/{name}?{sas}", retry_total=0)

    with AzureEmulator(tmp_path / "azure") as emulator:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.environment["REQUESTS_CA_BUNDLE"])
        clients = Clients(emulator)
        clients.disk()

        def ours(rights: str) -> Any:
            return BlobClient.from_blob_url(clients.grant(access="Write" if "w" in rights else "Read"), retry_total=0)

        yield ours, theirs


def outcome(ask: Ask, client: Any) -> object:
    """What came of it: the answer, or status and code of the refusal."""
    try:
        return ask(client)
    except HttpResponseError as error:
        code: Any = getattr(error, "error_code", None)
        return error.status_code, str(getattr(code, "value", code))


def write(at: int, data: bytes, **more: Any) -> Ask:
    return lambda blob: blob.upload_page(data, offset=at, length=len(data), **more) and len(data)


def clear(at: int, length: int) -> Ask:
    return lambda blob: blob.clear_page(offset=at, length=length) and length


def ranges(blob: Any) -> object:
    """Joined: Azurite lists neighbours apart."""
    found = list[tuple[int, int]]()
    for one in blob.list_page_ranges():
        if found and found[-1][1] + 1 == one.start:
            found[-1] = (found[-1][0], one.end)
        else:
            found.append((one.start, one.end))
    return found


def whole(blob: Any) -> object:
    return hashlib.sha256(blob.download_blob().readall()).hexdigest()


def test_the_same_requests_get_the_same_answers(pair: tuple[Callable[[str], Any], Callable[[str], Any]]) -> None:
    ours, theirs = (make("rw") for make in pair)
    noise = random.Random(1).randbytes(4 * MIB)
    asks: list[Ask] = [
        lambda blob: blob.get_blob_properties().size,
        ranges,
        write(0, noise),
        write(8 * MIB, noise[:MIB]),
        write(LENGTH - 512, noise[:512]),
        write(4 * MIB, noise[: 64 * 1024]),
        write(2 * MIB, noise[:1024]),
        ranges,
        whole,
        clear(MIB, 512),
        clear(6 * MIB, 4 * MIB),
        ranges,
        whole,
        lambda blob: blob.download_blob(offset=MIB - 512, length=2048).readall(),
        lambda blob: blob.download_blob(offset=LENGTH - 100, length=100).readall(),
        clear(0, LENGTH),
        ranges,
        whole,
    ]
    for number, ask in enumerate(asks):
        assert outcome(ask, ours) == outcome(ask, theirs), f"request {number}"


def test_the_same_requests_are_refused(pair: tuple[Callable[[str], Any], Callable[[str], Any]]) -> None:
    ours, theirs = (make("rw") for make in pair)
    for number, ask in enumerate(
        [
            write(LENGTH, bytes(512)),
            write(0, b"x" * 512, headers={"Content-MD5": base64.b64encode(bytes(16)).decode()}),
            clear(LENGTH, 512),
        ]
    ):
        mine, other = outcome(ask, ours), outcome(ask, theirs)
        assert isinstance(mine, tuple) and isinstance(other, tuple) and mine[0] == other[0], f"request {number}: {mine} {other}"


def test_an_account_answers_as_azurite_does(azurite: BlobServiceClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers, blobs, metadata and leases: the same story told to both, each with a container of its own."""
    name = f"v2c-{uuid.uuid4().hex}"
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())
    missing = MatchConditions.IfMissing

    def blob(service: Any) -> Any:
        return service.get_blob_client(name, "v2c/j/disk-0.vhd")

    def page(**more: str) -> Ask:
        return lambda service: bool(blob(service).upload_page(b"x" * 512, offset=512, length=512, **more))

    def lease(id: str, act: str, **more: int) -> Ask:
        return lambda service: getattr(BlobLeaseClient(blob(service), id), act)(**more) and act

    def held(service: Any) -> object:
        found = blob(service).get_blob_properties()
        return found.size, found.metadata, found.lease.state, found.lease.status, found.lease.duration

    acquire: dict[str, int] = {"lease_duration": -1}
    end: dict[str, int] = {"lease_break_period": 0}
    asks: list[Ask] = [
        lambda service: service.get_container_client(name).get_container_properties().metadata,
        lambda service: bool(service.create_container(name, metadata={"v2c_job": "j"})),
        lambda service: bool(service.create_container(name)),
        lambda service: service.get_container_client(name).get_container_properties().metadata,
        lambda service: blob(service).get_blob_properties().size,
        lambda service: bool(blob(service).create_page_blob(LENGTH, metadata={"v2c_job": "j"}, match_condition=missing)),
        lambda service: bool(blob(service).create_page_blob(LENGTH, match_condition=missing)),
        held,
        lease(mine, "break_lease", **end),
        page(lease=mine),
        lease(mine, "acquire", **acquire),
        lease(mine, "acquire", **acquire),
        lease(other, "acquire", **acquire),
        held,
        page(),
        page(lease=other),
        page(lease=mine),
        lambda service: blob(service).delete_blob(),
        lambda service: bool(blob(service).set_blob_metadata({"v2c_job": "j", "v2c_sealed": "yes"}, lease=mine)),
        lambda service: bool(blob(service).set_blob_metadata({}, lease=other)),
        lease(other, "break_lease", **end),
        lease(other, "break_lease", **end),
        page(lease=mine),
        held,
        lease(other, "acquire", **acquire),
        page(lease=mine),
        lease(mine, "release"),
        lease(other, "release"),
        held,
        page(lease=mine),
        page(),
        lambda service: ranges(blob(service)),
        lambda service: list(service.get_container_client(name).list_blob_names(name_starts_with="v2c/j/")),
        lambda service: list(service.get_container_client(name).list_blob_names(name_starts_with="v2c/k/")),
        lambda service: blob(service).delete_blob(),
        lambda service: blob(service).delete_blob(),
        lambda service: service.get_container_client(name).delete_container(),
        lambda service: list(service.get_container_client(name).list_blob_names()),
    ]
    with AzureEmulator(tmp_path / "azure") as emulator:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.environment["REQUESTS_CA_BUNDLE"])
        credential = Clients(emulator).credential
        ours = BlobServiceClient(f"{emulator.url}/account-v2clab", credential=credential, retry_total=0)
        for number, ask in enumerate(asks):
            assert outcome(ask, ours) == outcome(ask, azurite), f"request {number}"
        assert emulator.left() == []


def test_what_azurite_lets_pass_and_we_do_not(pair: tuple[Callable[[str], Any], Callable[[str], Any]]) -> None:
    """Why it is not the data plane. When one of these fails, Azurite has closed the gap: think again."""
    ours, theirs = (make("rw") for make in pair)
    large = write(0, bytes(4 * MIB + 512))
    beyond = write(LENGTH - 512, bytes(1024))
    assert outcome(large, ours) == (413, "RequestBodyTooLarge") and outcome(large, theirs) == 4 * MIB + 512
    assert outcome(beyond, ours) == (416, "InvalidPageRange") and outcome(beyond, theirs) == 1024
    other = pair[0]("rw")
    assert outcome(write(0, bytes(512)), ours) == (403, "AuthenticationFailed"), "a SAS of ours ends when another is made"
    assert outcome(write(0, bytes(512)), theirs) == 512 == outcome(write(0, bytes(512)), other)
