"""How an upload to each cloud is measured: the floor of its client library, the staged way, and what points both at the sink."""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2c.model import GIB, KIB, MIB


def chunks(disk: Path, chunk: int) -> Iterator[tuple[int, bytes]]:
    """The blocks of the disk that are not zero."""
    with disk.open("rb") as file:
        for index in range(disk.stat().st_size // chunk):
            data = file.read(chunk)
            if data.count(0) != chunk:
                yield index, data


def tls_sink(folder: Path) -> list[str]:
    """Over TLS, as the cloud itself."""
    from v2c.emulators.tls import authority

    (folder / "tls").mkdir(exist_ok=True)
    authority(folder / "tls")
    return ["--tls", str(folder / "tls")]


# ---- Amazon ----------------------------------------------------------------------------------------------------------------


def aws_floor(disk: Path, threads: int = 32) -> float:
    """put_snapshot_block from memory: a few blocks, again and again, as many as the disk has."""
    from base64 import b64encode

    import boto3
    from botocore.config import Config

    ebs = boto3.client("ebs", config=Config(max_pool_connections=64))
    found = list(chunks(disk, 512 * KIB))
    few = [data for _, data in found[:64]]
    indexes = [index for index, _ in found]
    del found

    def put(number: int) -> None:
        data = few[number % len(few)]
        checksum = b64encode(hashlib.sha256(data).digest()).decode()
        ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=indexes[number],
            BlockData=data,
            DataLength=len(data),
            Checksum=checksum,
            ChecksumAlgorithm="SHA256",
        )

    began = time.monotonic()
    snapshot = ebs.start_snapshot(VolumeSize=disk.stat().st_size // GIB)["SnapshotId"]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(put, range(len(indexes))))
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=len(indexes))
    return time.monotonic() - began


def aws_staged(disk: Path, folder: Path) -> float:
    """A raw file, and boto3's own upload_file into a bucket; the import that AWS does then is not counted."""
    import boto3
    from botocore.config import Config

    s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    began = time.monotonic()
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", str(disk), str(folder / "staged.raw")], check=True)
    s3.upload_file(str(folder / "staged.raw"), "bucket", "disk.raw")
    return time.monotonic() - began


def aws_environment(place: str, folder: Path) -> dict[str, str]:
    """What points the SDK at the sink."""
    return {
        "AWS_ENDPOINT_URL": f"https://{place}",
        "AWS_CA_BUNDLE": str(folder / "tls" / "ca.pem"),
        "REQUESTS_CA_BUNDLE": str(folder / "tls" / "ca.pem"),
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


# ---- Azure -----------------------------------------------------------------------------------------------------------------


def azure_client(place: str, threads: int) -> Any:
    """The SDK's client of the sink's page blob."""
    from azure.storage.blob import BlobClient

    return BlobClient.from_blob_url(f"https://{place}/page/disk?sig=bench", retry_total=0)


def azure_floor(disk: Path, threads: int = 8) -> float:
    """upload_page from memory."""
    blob = azure_client(os.environ["BENCH_PLACE"], threads)
    found = list(chunks(disk, 4 * MIB))
    few = [data for _, data in found[:8]]
    indexes = [index for index, _ in found]
    del found

    def put(number: int) -> None:
        data = few[number % len(few)]
        hashlib.sha256(data).digest()
        blob.upload_page(data, offset=indexes[number] * 4 * MIB, length=4 * MIB)

    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(put, range(len(indexes))))
    return time.monotonic() - began


def azure_staged(disk: Path, folder: Path) -> float:
    """A fixed VHD, and the SDK's own upload_blob, which leaves zeros out."""
    blob = azure_client(os.environ["BENCH_PLACE"], 8)
    file = folder / "staged.vhd"
    began = time.monotonic()
    options = "subformat=fixed,force_size=on"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", options, str(disk), str(file)], check=True)
    with file.open("rb") as data:
        blob.upload_blob(data, blob_type="PageBlob", length=file.stat().st_size, max_concurrency=8)
    return time.monotonic() - began


def azure_environment(place: str, folder: Path) -> dict[str, str]:
    """A service principal that logs in at the sink."""
    return {
        "AZURE_TENANT_ID": "bench",
        "AZURE_CLIENT_ID": "bench",
        "AZURE_CLIENT_SECRET": "bench",
        "AZURE_AUTHORITY_HOST": f"https://{place}",
        "AZURE_RESOURCE_MANAGER_URL": f"https://{place}",
        "REQUESTS_CA_BUNDLE": str(folder / "tls" / "ca.pem"),
        "BENCH_PLACE": place,
    }


# ---- Google ----------------------------------------------------------------------------------------------------------------

GCP_REQUEST = 16 * MIB  # bytes per request, as v2c sends them


def gcp_blob() -> Any:
    """The library's own object of the sink. The environment names the sink, so it asks for no credentials."""
    from google.cloud.storage import Client

    return Client().bucket("bucket").blob("disk.tar.gz", chunk_size=GCP_REQUEST)


class Pieces:
    """What `read` of a file would give, made of the pieces as they are wanted; the library asks for whole requests."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._held, self._at = pieces, bytearray(), 0

    def read(self, count: int = -1) -> bytes:
        while (count < 0 or len(self._held) < count) and (piece := next(self._pieces, b"")):
            self._held += piece
        data = bytes(self._held[: count if count >= 0 else None])
        del self._held[: len(data)]
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at


def gcp_archive(disk: Path, *, packed: bool) -> Iterator[bytes]:
    """The archive of the disk from a few of its blocks, again and again; `packed`: these are packed beforehand."""
    from v2c.targets.writers.tar import Archive

    found = list(chunks(disk, 4 * MIB))
    few = [data for _, data in found[:8]]
    indexes = [index for index, _ in found]
    del found
    archive = Archive(disk.stat().st_size, 4 * MIB)
    archive.announce(indexes)
    ready = [archive.piece(0, data, 0)[0] for data in few] if packed else []

    def pieces() -> Iterator[bytes]:
        head, checksum = archive.head()
        yield head
        for number in range(len(indexes)):
            if packed:
                yield ready[number % len(ready)]
                continue
            data = few[number % len(few)]
            hashlib.sha256(data).digest()
            piece, checksum = archive.piece(indexes[number], data, checksum)
            yield piece
        yield archive.tail(checksum)

    return pieces()


def gcp_floor(disk: Path) -> float:
    """The same blocks from memory, packed as Google imports them and sent by the library's own resumable upload."""
    pieces = gcp_archive(disk, packed=False)
    blob = gcp_blob()
    began = time.monotonic()
    blob.upload_from_file(Pieces(pieces), content_type="application/gzip")
    return time.monotonic() - began


def gcp_wire(disk: Path) -> float:
    """The same bytes, packed beforehand: what the library and the sink take without any packing."""
    pieces = gcp_archive(disk, packed=True)
    blob = gcp_blob()
    began = time.monotonic()
    blob.upload_from_file(Pieces(pieces), content_type="application/gzip")
    return time.monotonic() - began


def gcp_staged(disk: Path, folder: Path) -> float:
    """A raw file, Google's documented tar (but with the fastest gzip), and the library's own upload of a file."""
    blob = gcp_blob()
    blob.chunk_size = None  # the library's own choice: 100 MiB
    began = time.monotonic()
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", str(disk), str(folder / "disk.raw")], check=True)
    pack = ["tar", "--format=oldgnu", "--sparse", "--use-compress-program=gzip -1", "-cf", "image.tar.gz", "disk.raw"]
    subprocess.run(pack, cwd=folder, check=True)
    blob.upload_from_filename(str(folder / "image.tar.gz"), content_type="application/gzip")
    return time.monotonic() - began


def gcp_environment(place: str, folder: Path) -> dict[str, str]:
    """A service account whose token endpoint is the sink: without one, google-auth looks for a metadata server for minutes."""
    from v2c.emulators.tls import key_pair

    account = folder / "account.json"
    private, _ = key_pair()
    about = {"type": "service_account", "project_id": "bench-1", "private_key_id": "1", "private_key": private}
    about |= {"client_email": "bench@bench-1.iam.gserviceaccount.com", "client_id": "1", "token_uri": f"http://{place}/token"}
    account.write_text(json.dumps(about))
    return {
        "GOOGLE_APPLICATION_CREDENTIALS": str(account),
        "GOOGLE_CLOUD_PROJECT": "bench-1",
        "STORAGE_EMULATOR_HOST": f"http://{place}",
        "XDG_STATE_HOME": str(folder / "state"),
    }


@dataclass(frozen=True)
class Cloud:
    """How one cloud is measured. `warm(target)` makes the SDK's clients, so that what they take counts as idle. `wire`: the same
    bytes, made beforehand, where making them is work (packing)."""

    locator: str
    chunk: int
    sink: Callable[[Path], list[str]]
    environment: Callable[[str, Path], dict[str, str]]
    floor: Callable[[Path], float]
    staged: Callable[[Path, Path], float]
    warm: Callable[[Any], None]
    wire: Callable[[Path], float] | None = None


def _aws_warm(target: Any) -> None:
    for service in ("ebs", "ec2"):
        target.session.client(service)


def _azure_warm(target: Any) -> None:
    import azure.storage.blob

    assert target.session.compute and azure.storage.blob


def _gcp_warm(target: Any) -> None:
    import google.auth.transport.requests
    import google_crc32c

    assert target.place.session.account() and google.auth.transport.requests and google_crc32c


CLOUDS = {
    "azure": Cloud("azure:bench/bench/westeurope", 4 * MIB, tls_sink, azure_environment, azure_floor, azure_staged, _azure_warm),
    "aws": Cloud("aws:eu-west-1", 512 * KIB, tls_sink, aws_environment, aws_floor, aws_staged, _aws_warm),
    "gcp": Cloud(
        "gcp:bench-1/europe-west1-b?bucket=bucket",
        4 * MIB,
        lambda _: [],
        gcp_environment,
        gcp_floor,
        gcp_staged,
        _gcp_warm,
        gcp_wire,
    ),
}
