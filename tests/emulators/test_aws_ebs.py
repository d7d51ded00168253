"""EBS direct as the emulator speaks it: every check of the service, the real block size, and what is on disk."""

import hashlib
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from v2c.emulators.aws import AwsEmulator, open_emulator
from v2c.emulators.aws.blocks import BLOCK

pytestmark = pytest.mark.tool

ONES, TWOS = b"\x01" * BLOCK, b"\x02" * BLOCK


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsEmulator]:
    with open_emulator(tmp_path_factory.mktemp("aws")) as emulator:
        emulator.pace.visible_s = 0.0
        emulator.pace.completing_s = 0.05
        yield emulator


def client(cloud: AwsEmulator, service: str, keys: dict[str, str] | None = None) -> Any:
    env = dict(cloud.environment) | (keys or {})
    return boto3.client(
        service,
        region_name="eu-west-1",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        verify=env["AWS_CA_BUNDLE"],
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )


@pytest.fixture(scope="module")
def ebs(cloud: AwsEmulator) -> Any:
    return client(cloud, "ebs")


@pytest.fixture(scope="module")
def ec2(cloud: AwsEmulator) -> Any:
    return client(cloud, "ec2")


def digest(data: bytes) -> str:
    return b64encode(hashlib.sha256(data).digest()).decode()


def linear(*blocks: bytes) -> str:
    return b64encode(hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).digest()).decode()


def put(ebs: Any, snapshot: str, index: int, data: bytes, **other: Any) -> Any:
    usual = {"DataLength": len(data), "Checksum": digest(data), "ChecksumAlgorithm": "SHA256"}
    return ebs.put_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockData=data, **(usual | other))


def complete(ebs: Any, snapshot: str, count: int, checksum: str) -> None:
    method = {"ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR"}
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=count, Checksum=checksum, **method)


def settled(ec2: Any, snapshot: str) -> str:
    deadline = time.monotonic() + 10
    while (state := ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"]) == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return str(state)


def refused(code: str, reason: str = "") -> Any:
    return pytest.raises(
        ClientError, check=lambda e: e.response["Error"]["Code"] == code and e.response.get("Reason", "") == reason
    )


def test_the_published_digests(ebs: Any, ec2: Any, cloud: AwsEmulator) -> None:
    """What AWS's own checksums of known blocks are; the blocks lie in a sparse raw file."""
    assert digest(ONES) == "M6FQvOsTwamSIx5ltPrRaBUhL8Bs20CJltMu6yzvnrs="
    assert linear(ONES, TWOS) == "fccGN1xyY7l5uqsw58BLULbsU8thbz9pDvzr9oCk5yk="
    started = ebs.start_snapshot(VolumeSize=2, Tags=[{"Key": "a", "Value": "b"}])
    assert (started["BlockSize"], started["Status"], started["VolumeSize"]) == (524288, "pending", 2)
    id = started["SnapshotId"]
    put(ebs, id, 5, TWOS)
    put(ebs, id, 0, TWOS)
    put(ebs, id, 0, ONES)  # again, with other data: the last one counts, once
    complete(ebs, id, 2, "fccGN1xyY7l5uqsw58BLULbsU8thbz9pDvzr9oCk5yk=")
    assert settled(ec2, id) == "completed"
    path = cloud.disk(id)
    assert path.stat().st_size == 2 << 30 and path.stat().st_blocks * 512 <= 2 * BLOCK + 65536
    with path.open("rb") as raw:
        assert raw.read(BLOCK) == ONES and raw.read(BLOCK) == bytes(BLOCK)
    blocks = ebs.list_snapshot_blocks(SnapshotId=id)["Blocks"]
    assert [block["BlockIndex"] for block in blocks] == [0, 5]
    got = ebs.get_snapshot_block(SnapshotId=id, BlockIndex=5, BlockToken=blocks[1]["BlockToken"])
    assert got["BlockData"].read() == TWOS and got["Checksum"] == digest(TWOS)
    with refused("ValidationException", "INVALID_BLOCK_TOKEN"):
        ebs.get_snapshot_block(SnapshotId=id, BlockIndex=5, BlockToken=blocks[0]["BlockToken"])
    with refused("ValidationException", "INVALID_SNAPSHOT_ID"):
        put(ebs, id, 1, ONES)


@pytest.mark.parametrize(
    ("count", "checksum"),
    [(1, linear(ONES, TWOS)), (2, linear(TWOS, ONES)), (3, linear(ONES, TWOS))],
    ids=["few", "order", "many"],
)
def test_a_wrong_sum_spoils_the_snapshot(ebs: Any, ec2: Any, count: int, checksum: str) -> None:
    id = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(ebs, id, 0, ONES)
    put(ebs, id, 1, TWOS)
    complete(ebs, id, count, checksum)
    assert settled(ec2, id) == "error"


def test_blocks_that_are_refused(ebs: Any) -> None:
    id = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    for index, data, other in (
        (0, ONES, {"Checksum": digest(TWOS)}),
        (0, ONES[:-512], {}),
        (2048, ONES, {}),
    ):
        with refused("ValidationException", "INVALID_BLOCK"):
            put(ebs, id, index, data, **other)
    with refused("ValidationException"):
        put(ebs, id, 0, ONES, ChecksumAlgorithm="MD5")
    with refused("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"):
        put(ebs, "snap-0123456789abcdef0", 0, ONES)


def test_a_token_is_a_snapshot(ebs: Any) -> None:
    first = ebs.start_snapshot(VolumeSize=1, ClientToken="t1", Timeout=60)
    assert ebs.start_snapshot(VolumeSize=1, ClientToken="t1", Timeout=60)["SnapshotId"] == first["SnapshotId"]
    assert ebs.start_snapshot(VolumeSize=1, ClientToken="t2", Timeout=60)["SnapshotId"] != first["SnapshotId"]
    with refused("ConflictException"):
        ebs.start_snapshot(VolumeSize=2, ClientToken="t1", Timeout=60)


def test_a_started_snapshot_is_not_visible_at_once(ebs: Any, cloud: AwsEmulator) -> None:
    cloud.pace.visible_s = 0.4
    try:
        id = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
        with refused("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"):
            put(ebs, id, 0, ONES)
        time.sleep(0.5)
        put(ebs, id, 0, ONES)
    finally:
        cloud.pace.visible_s = 0.0


def test_an_idle_snapshot_is_given_up(ebs: Any, ec2: Any, cloud: AwsEmulator) -> None:
    id = ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
    put(ebs, id, 0, ONES)
    cloud.cloud.offset += 9 * 60
    put(ebs, id, 1, ONES)  # which starts the time anew
    cloud.cloud.offset += 9 * 60
    put(ebs, id, 2, ONES)
    cloud.cloud.offset += 11 * 60
    with refused("ValidationException", "INVALID_SNAPSHOT_ID"):
        put(ebs, id, 3, ONES)
    assert ec2.describe_snapshots(SnapshotIds=[id])["Snapshots"][0]["State"] == "error"


def test_a_child_holds_what_its_parent_held(ebs: Any, ec2: Any, cloud: AwsEmulator) -> None:
    parent = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(ebs, parent, 0, ONES)
    put(ebs, parent, 1, ONES)
    with refused("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"):
        ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent)  # it is not complete
    complete(ebs, parent, 2, linear(ONES, ONES))
    assert settled(ec2, parent) == "completed"
    child = ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent)["SnapshotId"]
    put(ebs, child, 1, TWOS)
    complete(ebs, child, 1, linear(TWOS))
    assert settled(ec2, child) == "completed"
    assert [b["BlockIndex"] for b in ebs.list_snapshot_blocks(SnapshotId=child)["Blocks"]] == [0, 1]
    administrator = client(cloud, "ebs", dict(cloud.administrator))  # it is no right that a migration needs
    changed = administrator.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)["ChangedBlocks"]
    assert [b["BlockIndex"] for b in changed] == [1]
    ec2.delete_snapshot(SnapshotId=parent)
    with cloud.disk(child).open("rb") as raw:
        assert raw.read(2 * BLOCK) == ONES + TWOS
    assert [b["BlockIndex"] for b in ebs.list_snapshot_blocks(SnapshotId=child)["Blocks"]] == [0, 1]


def test_lists_come_in_pages(ebs: Any, ec2: Any, cloud: AwsEmulator) -> None:
    id = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    for index in range(0, 14, 2):
        put(ebs, id, index, ONES)
    complete(ebs, id, 7, linear(*[ONES] * 7))
    settled(ec2, id)
    cloud.pace.page = 3
    try:
        pages: list[list[int]] = []
        token: dict[str, str] = {}
        while True:
            page = ebs.list_snapshot_blocks(SnapshotId=id, MaxResults=100, **token)
            pages.append([block["BlockIndex"] for block in page["Blocks"]])
            if "NextToken" not in page:
                break
            token = {"NextToken": page["NextToken"]}
    finally:
        cloud.pace.page = 10000
    assert pages == [[0, 2, 4], [6, 8, 10], [12]]


def test_what_the_model_does_not_know_is_refused(ebs: Any) -> None:
    with refused("ValidationException", "INVALID_PARAMETER_VALUE"):
        _raw(ebs, {"VolumeSize": 1, "Colour": "red"})
    with refused("ValidationException"):
        _raw(ebs, {"VolumeSize": "1"})
    with refused("ValidationException"):
        _raw(ebs, {"VolumeSize": 1, "Timeout": 5})
    with refused("ValidationException", "INVALID_PARAMETER_VALUE"):
        _raw(ebs, {})


def _raw(ebs: Any, body: dict[str, Any]) -> None:
    """A StartSnapshot whose body botocore did not make."""
    import json

    def replace(request: Any, **_: Any) -> None:
        request.data = json.dumps(body).encode()
        request.headers["Content-Length"] = str(len(request.data))

    ebs.meta.events.register("before-sign.ebs.StartSnapshot", replace)
    try:
        ebs.start_snapshot(VolumeSize=1)
    finally:
        ebs.meta.events.unregister("before-sign.ebs.StartSnapshot", replace)


def test_it_is_the_same_cloud_when_it_is_opened_again(tmp_path: Path) -> None:
    with open_emulator(tmp_path) as cloud:
        ebs, ec2 = client(cloud, "ebs"), client(cloud, "ec2")
        cloud.pace.visible_s = 0.0
        id = ebs.start_snapshot(VolumeSize=1, ClientToken="t")["SnapshotId"]
        put(ebs, id, 3, ONES)
        group = ec2.create_security_group(GroupName="mine", Description="d")["GroupId"]
        ec2.revoke_security_group_egress(
            GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        )
        left, environment, locator = cloud.left(), dict(cloud.environment), cloud.locator
    with open_emulator(tmp_path) as again:
        same = {key: value for key, value in environment.items() if key != "AWS_ENDPOINT_URL"}
        assert {key: value for key, value in again.environment.items() if key != "AWS_ENDPOINT_URL"} == same
        assert again.left() == left == [f"group {group}", f"snapshot {id}"] and again.locator == locator
        ebs, ec2 = client(again, "ebs"), client(again, "ec2")
        assert ebs.start_snapshot(VolumeSize=1, ClientToken="t")["SnapshotId"] == id
        complete(ebs, id, 1, linear(ONES))
        assert settled(ec2, id) == "completed"
        found = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
        assert (found["GroupName"], found["IpPermissionsEgress"]) == ("mine", [])
