"""Compute Engine's double: images out of archives, state machines, operations, quotas, and what is refused."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gcp_places import impatient

from v2c.emulators.faults import Faults
from v2c.emulators.gcp import BUCKET, ZONE, GcpEmulator, open_emulator
from v2c.emulators.gcp.archive import Unfit, unpack
from v2c.emulators.gcp.store import Thing
from v2c.model import GIB, MIB
from v2c.targets.gcp.session import ApiError, Session

pytestmark = pytest.mark.tool


@pytest.fixture
def double(tmp_path: Path) -> Iterator[GcpEmulator]:
    with open_emulator(tmp_path / "cloud") as double:
        yield double


@pytest.fixture
def session(double: GcpEmulator, monkeypatch: pytest.MonkeyPatch) -> Session:
    return impatient(double, monkeypatch)


def archive(
    folder: Path, size: int = GIB, *, name: str = "disk.raw", format: str = "oldgnu", more: str = "", cut: int = 0
) -> bytes:
    """A tarball of zeros with text at its head, by GNU tar itself, sparse."""
    for member, length in ((name, size), *(((more, 10),) if more else ())):
        with (folder / member).open("wb") as file:
            file.write(b"boot")
            file.truncate(length)
    words = ["tar", f"--format={format}", *(["-S"] if format != "ustar" else []), "-czf", "-", name, *([more] if more else [])]
    data = subprocess.run(words, cwd=folder, capture_output=True, check=True).stdout
    return data[: len(data) - cut]


@pytest.fixture
def good(tmp_path: Path) -> bytes:
    return archive(tmp_path)


def staged(session: Session, data: bytes, name: str = "disk.tar.gz") -> str:
    url = f"{session.endpoints.storage}/upload/storage/v1/b/{BUCKET}/o"
    session.send("POST", url, params={"uploadType": "media", "name": name}, data=data)
    return f"https://storage.googleapis.com/{BUCKET}/{name}"


def imaged(session: Session, source: str, name: str = "img", **more: Any) -> Thing:
    body = {"name": name, "rawDisk": {"source": source}, "labels": {"v2c-job": "1"}, **more}
    session.done(session.change("POST", "global/images", body))
    found: Thing = session.compute("GET", f"global/images/{name}")
    return found


def instance(name: str = "vm", **more: Any) -> Thing:
    disk = {"boot": True, "autoDelete": True, "deviceName": "d", "initializeParams": {"sourceImage": "global/images/img"}}
    return {
        "name": name,
        "machineType": f"zones/{ZONE}/machineTypes/n2-highcpu-2",
        "disks": [disk],
        "networkInterfaces": [{"network": "global/networks/default"}],
        **more,
    }


# ---- archives --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"name": "other.raw", "size": MIB}, "not a file named disk.raw"),
        ({"size": GIB + 512}, "no whole GiB"),
        ({"size": 5 * MIB}, "no whole GiB"),
        ({"format": "pax", "size": MIB}, "not in the oldgnu format"),
        ({"format": "ustar", "size": MIB}, "not in the oldgnu format"),
        ({"more": "second"}, "holds more than disk.raw"),
        ({"cut": 20}, "ends too early|not a supported file"),
    ],
)
def test_archives_that_make_no_image(tmp_path: Path, about: dict[str, Any], why: str) -> None:
    (tmp_path / "a").write_bytes(archive(tmp_path, **about))
    with pytest.raises(Unfit, match=why):
        unpack(tmp_path / "a", tmp_path / "raw")


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"KDMV" * 100)
    with pytest.raises(Unfit, match="not a supported file"):
        unpack(tmp_path / "a", tmp_path / "raw")


def test_an_image_is_unpacked(double: GcpEmulator, session: Session, good: bytes) -> None:
    image = imaged(session, staged(session, good))
    assert image["status"] == "READY" and image["diskSizeGb"] == "1" and int(image["archiveSizeBytes"]) == len(good)
    raw = double.disk("img")
    assert raw.stat().st_size == GIB and raw.stat().st_blocks * 512 < 8 * MIB
    with raw.open("rb") as file:
        assert file.read(8) == b"boot\0\0\0\0"


def test_a_bad_archive_fails_the_operation(session: Session, tmp_path: Path) -> None:
    with pytest.raises(ApiError) as failed:
        imaged(session, staged(session, archive(tmp_path, 5 * MIB)))
    assert failed.value.reason == "INVALID_IMAGE" and "whole GiB" in failed.value.text
    with pytest.raises(ApiError) as gone:
        session.compute("GET", "global/images/img")
    assert gone.value.status == 404


# ---- operations ------------------------------------------------------------------------------------------------------------


def test_the_same_request_id_is_the_same_operation(session: Session, good: bytes) -> None:
    body, id = {"name": "img", "rawDisk": {"source": staged(session, good)}}, str(uuid.uuid4())
    first = session.compute("POST", "global/images", body, requestId=id)
    assert first["status"] == "RUNNING"
    assert session.compute("POST", "global/images", body, requestId=id)["name"] == first["name"]
    session.done(first)
    with pytest.raises(ApiError) as taken:
        session.compute("POST", "global/images", body, requestId=str(uuid.uuid4()))
    assert (taken.value.status, taken.value.reason) == (409, "alreadyExists")
    with pytest.raises(ApiError, match="requestId"):
        session.compute("POST", "global/images", {**body, "name": "other"}, requestId="00000000-0000-0000-0000-000000000000")


def test_an_operation_that_died_with_the_double_is_over(tmp_path: Path) -> None:
    with open_emulator(tmp_path) as double, double.store.changing() as things:
        things["global/operations/x"] = {"status": "RUNNING", "name": "x"}
    with open_emulator(tmp_path) as double:
        assert double.store.get("global/operations/x")["error"]["errors"][0]["code"] == "INTERNAL_ERROR"


# ---- instances -------------------------------------------------------------------------------------------------------------


def test_an_instance_from_birth_to_death(double: GcpEmulator, session: Session, good: bytes) -> None:
    imaged(session, staged(session, good))
    path = f"zones/{ZONE}/instances"
    begun = session.change("POST", path, instance(displayDevice={"enableDisplay": True}))
    assert session.compute("GET", f"{path}/vm")["status"] in ("PROVISIONING", "STAGING", "RUNNING")
    session.done(begun)
    shown = session.compute("GET", f"{path}/vm")
    assert shown["status"] == "RUNNING" and shown["disks"][0]["diskSizeGb"] == "10", "the least a persistent disk has"
    assert session.compute("GET", f"zones/{ZONE}/disks/vm")["users"] == [shown["selfLink"]]
    with pytest.raises(ApiError) as used:
        session.compute("DELETE", f"zones/{ZONE}/disks/vm")
    assert used.value.reason == "resourceInUseByAnotherResource"
    assert session.compute("GET", f"{path}/vm/screenshot")["contents"]
    session.done(session.change("POST", f"{path}/vm/stop"))
    assert session.compute("GET", f"{path}/vm")["status"] == "TERMINATED"
    session.done(session.change("DELETE", f"{path}/vm"))
    assert session.page(path) == [] and session.page(f"zones/{ZONE}/disks") == [], "its disk goes with it"


def test_the_serial_port_tells_where_it_goes_on(double: GcpEmulator, session: Session, good: bytes, tmp_path: Path) -> None:
    imaged(session, staged(session, good))
    path = f"zones/{ZONE}/instances"
    session.done(session.change("POST", path, instance()))
    id = session.compute("GET", f"{path}/vm")["id"]
    double.machines.stop(id)
    (double.machines.folder / id / "console.log").write_bytes(b"0123456789" + b"x" * MIB)
    told = session.compute("GET", f"{path}/vm/serialPort", start="0")
    assert (told["start"], len(told["contents"]), told["next"]) == ("10", MIB, str(MIB + 10)), "the last MiB is kept"
    assert session.compute("GET", f"{path}/vm/serialPort", start=told["next"])["contents"] == ""
    assert session.compute("GET", f"{path}/vm/serialPort", start="-3")["contents"] == "xxx"
    assert session.compute("GET", f"{path}/vm/serialPort", port="2")["contents"] == ""
    with pytest.raises(ApiError, match="Display"):
        session.compute("GET", f"{path}/vm/screenshot")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"machineType": f"zones/{ZONE}/machineTypes/z9-mega-1"}, "not found"),
        ({"machineType": "zones/europe-west1-c/machineTypes/n2-highcpu-2"}, "Cross-zone"),
        ({"disks": []}, "boot disk"),
        ({"disks": [{"boot": True}]}, "Exactly one of source and initializeParams"),
        ({"networkInterfaces": []}, "networkInterfaces"),
        ({"networkInterfaces": [{"network": "global/networks/nowhere"}]}, "not found"),
        ({"serviceAccounts": [{"email": "nobody"}]}, "service account"),
        ({"status": "RUNNING"}, "only the server sets"),
    ],
)
def test_instances_that_are_refused(session: Session, more: Thing, why: str) -> None:
    with pytest.raises(ApiError, match=why):
        session.compute("POST", f"zones/{ZONE}/instances", instance(**more))


def test_quota_and_capacity(double: GcpEmulator, session: Session, good: bytes) -> None:
    imaged(session, staged(session, good))
    double.compute.limits["N2_CPUS"] = 1.0
    path = f"zones/{ZONE}/instances"
    with pytest.raises(ApiError) as quota:
        session.done(session.change("POST", path, instance()))
    assert quota.value.reason == "QUOTA_EXCEEDED"
    double.compute.limits["N2_CPUS"] = 24.0
    double.faults = Faults()
    double.faults.once("instances.insert", "capacity")
    with pytest.raises(ApiError) as capacity:
        session.done(session.change("POST", path, instance()))
    assert capacity.value.reason == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert session.page(path) == [] and session.page(f"zones/{ZONE}/disks") == [], "nothing of it is left"


def test_networks_are_kept_while_they_are_used(session: Session) -> None:
    session.done(session.change("POST", "global/networks", {"name": "n", "autoCreateSubnetworks": False}))
    rule = {"name": "f", "network": "global/networks/n", "direction": "EGRESS", "denied": [{"IPProtocol": "all"}]}
    session.done(session.change("POST", "global/firewalls", rule))
    with pytest.raises(ApiError) as used:
        session.change("DELETE", "global/networks/n")
    assert used.value.reason == "resourceInUseByAnotherResource"
    for path in ("global/firewalls/f", "global/networks/n"):
        session.done(session.change("DELETE", path))


def test_permissions(double: GcpEmulator, session: Session) -> None:
    double.granted = {"compute.images.create"}
    url = f"{session.endpoints.projects}/projects/rehearsal-1:testIamPermissions"
    asked = {"permissions": ["compute.images.create", "compute.images.delete"]}
    assert session.json("POST", url, asked, {}) == {"permissions": ["compute.images.create"]}
