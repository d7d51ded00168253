"""Cloud Storage's double, judged by Google's own client and by the rules that are published."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from gcp_places import impatient

from v2c.emulators.faults import Faults
from v2c.emulators.gcp import BUCKET, GcpEmulator, open_emulator
from v2c.targets.gcp.session import ApiError, Endpoints, Session

pytestmark = pytest.mark.tool
UNIT = 256 * 1024
JUDGE = """
import io, os, sys
import google.auth
from google.api_core.exceptions import PreconditionFailed
from google.cloud import storage
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
client = storage.Client(project=project, credentials=credentials)
bucket = client.bucket(sys.argv[1])
blob = bucket.blob("a/b c")
blob.chunk_size = 262144
data = os.urandom(1000000)
blob.upload_from_file(io.BytesIO(data), size=len(data), if_generation_match=0, checksum="crc32c")
assert blob.download_as_bytes(checksum="crc32c") == data
assert blob.download_as_bytes(start=10, end=19, checksum=None) == data[10:20]
try:
    blob.upload_from_string(b"x", if_generation_match=0)
    sys.exit("a precondition was ignored")
except PreconditionFailed:
    pass
blob.metadata = {"k": "v"}
blob.patch()
assert bucket.get_blob("a/b c").metadata == {"k": "v"}
assert [b.name for b in client.list_blobs(bucket, prefix="a/")] == ["a/b c"]
blob.delete(if_generation_match=blob.generation)
assert bucket.get_blob("a/b c") is None
other = client.create_bucket("another-bucket-1", location="europe-west1")
assert other.test_iam_permissions(["storage.objects.create"]) == ["storage.objects.create"]
other.delete()
"""


@pytest.fixture
def double(tmp_path: Path) -> Iterator[GcpEmulator]:
    with open_emulator(tmp_path / "cloud") as double:
        yield double


@pytest.fixture
def session(double: GcpEmulator, monkeypatch: pytest.MonkeyPatch) -> Session:
    return impatient(double, monkeypatch)


def begun(session: Session, name: str = "x", **query: str) -> str:
    url = f"{session.endpoints.storage}/upload/storage/v1/b/{BUCKET}/o"
    answer = session.send("POST", url, params={"uploadType": "resumable", **query}, json={"name": name})
    return str(answer.headers["Location"])


def put(session: Session, uri: str, data: bytes, ranged: str, **headers: str) -> Any:
    return session.send("PUT", uri, data=data, headers={"Content-Range": ranged, **headers})


def test_googles_own_client_is_content(double: GcpEmulator) -> None:
    done = subprocess.run(
        [sys.executable, "-c", JUDGE, BUCKET],
        env={**os.environ, **double.environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert double.left() == []


def test_chunks(session: Session) -> None:
    uri = begun(session)
    assert put(session, uri, b"", "bytes */*").headers.get("Range") is None
    assert put(session, uri, b"a" * UNIT, f"bytes 0-{UNIT - 1}/*").headers["Range"] == f"bytes=0-{UNIT - 1}"
    with pytest.raises(ApiError, match="256 KiB"):
        put(session, uri, b"b" * 1000, f"bytes {UNIT}-{UNIT + 999}/*")
    with pytest.raises(ApiError, match="persisted"):
        put(session, uri, b"b" * UNIT, f"bytes {2 * UNIT}-{3 * UNIT - 1}/*")
    again = put(session, uri, b"x" * UNIT + b"c" * UNIT, f"bytes 0-{2 * UNIT - 1}/*")
    assert again.headers["Range"] == f"bytes=0-{2 * UNIT - 1}", "what is persisted already is ignored"
    made = put(session, uri, b"d" * 10, f"bytes {2 * UNIT}-{2 * UNIT + 9}/{2 * UNIT + 10}").json()
    whole = b"a" * UNIT + b"c" * UNIT + b"d" * 10
    assert int(made["size"]) == len(whole)
    assert made["crc32c"] == base64.b64encode(google_crc32c.value(whole).to_bytes(4, "big")).decode()
    assert put(session, uri, b"", "bytes */*").json()["generation"] == made["generation"]


def test_a_wrong_checksum_makes_no_object(double: GcpEmulator, session: Session) -> None:
    with pytest.raises(ApiError, match="CRC32C"):
        put(session, begun(session), b"abc", "bytes 0-2/3", **{"X-Goog-Hash": "crc32c=AAAAAA=="})
    assert not [key for key in double.store.things if key.startswith("o/")]


def test_preconditions_are_asked_at_both_ends(session: Session) -> None:
    first, second = begun(session, ifGenerationMatch="0"), begun(session, ifGenerationMatch="0")
    put(session, first, b"abc", "bytes 0-2/3")
    for tried in (lambda: put(session, second, b"xyz", "bytes 0-2/3"), lambda: begun(session, ifGenerationMatch="0")):
        with pytest.raises(ApiError) as refused:
            tried()
        assert refused.value.status == 412


def test_sessions_end(double: GcpEmulator, session: Session) -> None:
    uri = begun(session)
    with pytest.raises(ApiError) as cancelled:
        session.send("DELETE", uri)
    assert cancelled.value.status == 499
    with pytest.raises(ApiError) as gone:
        put(session, uri, b"abc", "bytes 0-2/3")
    assert gone.value.status == 499
    with pytest.raises(ApiError) as unknown:
        put(session, uri[:-3] + "abc", b"abc", "bytes 0-2/3")
    assert unknown.value.status == 404
    double.faults = Faults()
    double.faults.once("upload", "expired")
    with pytest.raises(ApiError) as expired:
        put(session, begun(session), b"abc", "bytes 0-2/3")
    assert expired.value.status == 410


def test_a_session_outlives_the_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cloud"
    with open_emulator(folder) as double:
        port = double.port
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        session = Session("rehearsal-1", Endpoints.chosen({}))
        uri = begun(session)
        put(session, uri, b"a" * UNIT, f"bytes 0-{UNIT - 1}/*")
    with open_emulator(folder, port=port) as double:
        session = Session("rehearsal-1", Endpoints.chosen({}))
        session.patience.first_s = 0.01
        assert put(session, uri, b"", "bytes */*").headers["Range"] == f"bytes=0-{UNIT - 1}"
        made = put(session, uri, b"b", f"bytes {UNIT}-{UNIT}/{UNIT + 1}").json()
        assert made["crc32c"] == base64.b64encode(google_crc32c.value(b"a" * UNIT + b"b").to_bytes(4, "big")).decode()
        assert double.storage.path(double.storage.object(BUCKET, "x")).read_bytes() == b"a" * UNIT + b"b"


def test_who_has_no_token_gets_nothing(double: GcpEmulator) -> None:
    import urllib.error
    import urllib.request

    base = double.environment["STORAGE_EMULATOR_HOST"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{base}/storage/v1/b/{BUCKET}")
    assert refused.value.code == 401
    with pytest.raises(urllib.error.HTTPError) as forged:
        form = b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJhbGciOiJSUzI1NiJ9.e30.AAAA"
        urllib.request.urlopen(f"{base}/token", data=form)
    assert forged.value.code == 400


def test_large_objects_stay_on_disk(double: GcpEmulator, session: Session) -> None:
    """The double holds a chunk's piece at a time, whatever comes."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    uri, data = begun(session), bytes(16 * 1024 * 1024)
    put(session, uri, data, f"bytes 0-{len(data) - 1}/*")
    before = resident()
    for number in range(1, 8):
        put(session, uri, data, f"bytes {number * len(data)}-{(number + 1) * len(data) - 1}/*")
    assert resident() - before < 24 * 1024 * 1024
