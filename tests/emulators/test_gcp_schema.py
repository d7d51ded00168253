"""The judge of requests: what Google's discovery documents allow, and what they do not."""

from typing import Any

import pytest

from v2c.emulators.gcp import schema
from v2c.emulators.gcp.schema import Match

PROJECT = "compute/v1/projects/rehearsal-1"


def found(verb: str, path: str) -> Match:
    match = schema.find(verb, path)
    assert match is not None
    return match


@pytest.mark.parametrize(
    ("verb", "path", "id", "params"),
    [
        ("POST", f"{PROJECT}/global/images", "compute.images.insert", {"project": "rehearsal-1"}),
        ("GET", f"{PROJECT}/zones/z/instances/vm1/serialPort", "compute.instances.getSerialPortOutput", {"instance": "vm1"}),
        ("GET", "storage/v1/b/bucket/o/a%2Fb", "storage.objects.get", {"object": "a/b"}),
        ("POST", "v3/projects/p1:testIamPermissions", "cloudresourcemanager.projects.testIamPermissions", {"projectsId": "p1"}),
    ],
)
def test_routes_are_the_documents(verb: str, path: str, id: str, params: dict[str, str]) -> None:
    match = found(verb, path)
    assert match.method.id == id and params.items() <= match.params.items()


@pytest.mark.parametrize(
    ("verb", "path"),
    [("POST", f"{PROJECT}/global/image"), ("PUT", f"{PROJECT}/global/images"), ("GET", "storage/v2/b"), ("GET", "")],
)
def test_other_paths_lead_nowhere(verb: str, path: str) -> None:
    assert schema.find(verb, path) is None


GOOD: dict[str, Any] = {
    "name": "v2c-erp",
    "rawDisk": {"source": "https://storage.googleapis.com/b/o", "containerType": "TAR"},
    "guestOsFeatures": [{"type": "UEFI_COMPATIBLE"}],
    "labels": {"v2c-job": "1"},
}


def test_a_good_image_is_good() -> None:
    assert schema.body_complaints(found("POST", f"{PROJECT}/global/images").method, GOOD) == []


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"name": "Bad"}, "name: 'Bad' does not match"),
        ({"rawdisk": {}}, "Unknown name 'rawdisk': cannot find field in Image"),
        ({"rawDisk": {"containerType": "ZIP"}}, "rawDisk.containerType: 'ZIP' is none of"),
        ({"rawDisk": "x"}, "rawDisk: an object is expected"),
        ({"status": "READY"}, "status: only the server sets this field"),
        ({"selfLink": "x"}, "selfLink: only the server sets this field"),
        ({"guestOsFeatures": [{"type": "NOPE"}]}, "guestOsFeatures[0].type: 'NOPE' is none of"),
        ({"guestOsFeatures": {"type": "GVNIC"}}, "guestOsFeatures: an array is expected"),
        ({"labels": {"a": 1}}, "labels.a: a string is expected"),
        ({"diskSizeGb": "ten"}, "diskSizeGb: 'ten' is not a whole number"),
        ({"params": {"resourceManagerTags": 3}}, "params.resourceManagerTags: an object is expected"),
    ],
)
def test_bad_bodies(more: dict[str, Any], complaint: str) -> None:
    told = schema.body_complaints(found("POST", f"{PROJECT}/global/images").method, {**GOOD, **more})
    assert any(complaint in one for one in told), told


def test_what_is_required() -> None:
    method = found("POST", f"{PROJECT}/global/images").method
    assert schema.body_complaints(method, {}) == [".name: required field is missing"]
    assert schema.body_complaints(found("GET", f"{PROJECT}/global/images").method, {"name": "x"})


def test_what_storage_alone_sets() -> None:
    method = found("POST", "storage/v1/b/bucket/o").method
    assert schema.body_complaints(method, {"name": "x", "metadata": {"v2c-job": "1"}}) == []
    assert schema.body_complaints(method, {"name": "x", "generation": "1"}) == ["generation: only the server sets this field"]


def test_queries() -> None:
    match = found("POST", f"{PROJECT}/global/images")
    assert schema.query_complaints(match.method, match.params, {"requestId": "x", "prettyPrint": "false"}) == []
    assert schema.query_complaints(match.method, match.params, {"request_id": "x"})
    assert schema.query_complaints(match.method, {"project": "Not A Project"}, {})
    bucket = found("POST", "storage/v1/b")
    assert schema.query_complaints(bucket.method, {}, {}) == ["required parameter 'project' is missing"]


def test_answers_are_judged_too() -> None:
    method = found("GET", f"{PROJECT}/global/images/x").method
    assert schema.answer_complaints(method, {**GOOD, "status": "READY", "id": "1"}) == []
    assert schema.answer_complaints(method, {"state": "READY"})
