"""Staging by way of S3, tried against OpenStack Swift's S3 API: an S3 that is not ours, and checks every digest.

And the double's S3 against it: the same requests to both, the same answers.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_places import REGION
from botocore.exceptions import ClientError
from swift_server import HOME, serving
from target_contract import JOB
from test_aws_via_s3 import TestAwsViaS3 as Suite

from v2c import qemu
from v2c.emulators.aws import open_emulator
from v2c.journal import MemoryJournal
from v2c.model import MIB, DiskFormat, Plan, Ref
from v2c.targets import Target, open_target

pytestmark = pytest.mark.tool
BUCKET = "v2c-staging"
LOCATOR = f"aws:{REGION}?via=s3-import&bucket={BUCKET}"
PART = b"a" * (5 * MIB)

Ask = Callable[[Any], object]


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    if not (HOME / "stamp").exists():
        pytest.skip("./run test installs Swift")
    with serving(tmp_path_factory.mktemp("swift"), REGION) as settings:
        bucket(client(settings))
        yield settings


@pytest.fixture
def pointed(swift: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own variables point there."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in swift.items():
        monkeypatch.setenv(name, value)


def client(settings: Mapping[str, str]) -> Any:
    return boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=settings.get("AWS_ENDPOINT_URL_S3") or settings["AWS_ENDPOINT_URL"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        verify=settings.get("AWS_CA_BUNDLE"),
    )


def bucket(s3: Any) -> None:
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


class Staging:
    """Disks on their way into the bucket, with the contract's own blocks."""

    def __init__(self) -> None:
        self.suite, self.journal = Suite(), MemoryJournal(JOB)
        self.plan: Plan = self.suite.plan(self.target(), 2)

    def target(self) -> Target:
        return open_target(LOCATOR)

    def holds(self, s3: Any, ref: Ref, folder: Path, number: int) -> None:
        """The object that lies there is a VHD, and its disk is the one that was sent; by qemu-img."""
        vhd, raw = folder / "staged.vhd", folder / "staged.raw"
        s3.download_file(BUCKET, ref.id.removeprefix(f"s3://{BUCKET}/"), str(vhd))
        qemu.convert(vhd, DiskFormat.VHD, raw, DiskFormat.RAW)
        self.suite.holds(raw, self.target(), self.plan, self.suite.blocks(self.target(), self.plan, number), number)


def test_disks_lie_there_as_they_were_sent(swift: Mapping[str, str], pointed: None, tmp_path: Path) -> None:
    staging, s3 = Staging(), client(swift)
    for number in range(2):
        ref = staging.suite.disk(staging.target(), staging.plan, staging.journal, number)
        staging.holds(s3, ref, tmp_path, number)
        asked = sorted(staging.suite.blocks(staging.target(), staging.plan, number))
        back = dict(staging.target().read(staging.plan, ref, asked))
        sent = staging.suite.blocks(staging.target(), staging.plan, number)
        assert {index: data[: len(sent[index])] for index, data in back.items()} == sent
    assert len(s3.list_objects_v2(Bucket=BUCKET, Prefix="v2c/")["Contents"]) == 2
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET, Prefix="v2c/")


def test_an_upload_that_was_cut_off_goes_on(swift: Mapping[str, str], pointed: None, tmp_path: Path) -> None:
    """By the parts that Swift lists; and one that was given up is gone."""
    staging, s3 = Staging(), client(swift)
    (tmp_path / "maps").mkdir()
    blocks, disk = staging.suite.blocks(staging.target(), staging.plan), staging.plan.machine.disks[0]
    done = {index: blocks[index] for index in sorted(blocks)[:2]}
    with staging.target().writer(staging.plan, disk, None, staging.journal) as first:
        first.expect(sorted(blocks))
        staging.suite.put(first, done)
        first.flush()
    (upload,) = s3.list_multipart_uploads(Bucket=BUCKET, Prefix="v2c/")["Uploads"]
    before = s3.list_parts(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])["Parts"]
    with staging.target().writer(staging.plan, disk, None, staging.journal) as second:
        second.expect(sorted(blocks))
        assert list(second.missing(staging.suite.known(tmp_path / "maps", staging.target(), done))) == []
        after = s3.list_parts(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])["Parts"]
        assert after == before != [], "what is there was sent again"
        staging.suite.put(second, {index: data for index, data in blocks.items() if index not in done})
        ref = second.commit()
    staging.holds(s3, ref, tmp_path, 0)
    with staging.target().writer(staging.plan, staging.plan.machine.disks[1], None, staging.journal) as third:
        third.expect([0])
        third.abandon()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET, Prefix="v2c/")


# ---- the double against it -------------------------------------------------------------------------------------------------


def outcome(ask: Ask, s3: Any) -> object:
    """What came of it: what of the answer is asked for, or the code of the refusal."""
    try:
        return ask(s3)
    except ClientError as error:
        return error.response["Error"]["Code"]


def digest(data: bytes) -> str:
    return b64encode(hashlib.sha256(data).digest()).decode()


def begun(s3: Any, key: str) -> dict[str, Any]:
    made = s3.create_multipart_upload(Bucket=BUCKET, Key=key, ChecksumAlgorithm="SHA256")
    return {"Bucket": BUCKET, "Key": key, "UploadId": made["UploadId"]}


def part(s3: Any, about: dict[str, Any], number: int, data: bytes, told: bytes | None = None) -> dict[str, Any]:
    checksum = digest(data if told is None else told)
    made = s3.upload_part(**about, PartNumber=number, Body=data, ChecksumSHA256=checksum)
    return {"PartNumber": number, "ETag": made["ETag"], "ChecksumSHA256": checksum}


def complete(s3: Any, about: dict[str, Any], parts: list[dict[str, Any]]) -> object:
    return s3.complete_multipart_upload(**about, MultipartUpload={"Parts": parts}) and None


def whole(s3: Any) -> object:
    about = begun(s3, "whole")
    complete(s3, about, [part(s3, about, 1, PART), part(s3, about, 2, b"the end")])
    there = s3.head_object(Bucket=BUCKET, Key="whole")
    return there["ContentLength"], there["ETag"], s3.get_object(Bucket=BUCKET, Key="whole")["Body"].read() == PART + b"the end"


def lying(s3: Any) -> object:
    return part(s3, begun(s3, "lying"), 1, PART, told=b"other")


def small(s3: Any) -> object:
    about = begun(s3, "small")
    return complete(s3, about, [part(s3, about, 1, b"too small"), part(s3, about, 2, b"the end")])


def unknown_part(s3: Any) -> object:
    about = begun(s3, "unknown")
    first = part(s3, about, 1, PART)
    return complete(s3, about, [first, {**first, "PartNumber": 2}])


def listed(s3: Any) -> object:
    about = begun(s3, "listed")
    part(s3, about, 3, PART)
    part(s3, about, 1, PART)
    return [(one["PartNumber"], one["Size"], one["ETag"]) for one in s3.list_parts(**about)["Parts"]]


def given_up(s3: Any) -> object:
    about = begun(s3, "given-up")
    part(s3, about, 1, PART)
    s3.abort_multipart_upload(**about)
    return outcome(lambda one: one.list_parts(**about), s3), outcome(lambda one: part(one, about, 2, PART), s3)


ASKED: dict[str, Ask] = {
    "whole": whole,
    "a body that is not what its digest says": lying,
    "a part that is too small": small,
    "a part that was never sent": unknown_part,
    "parts are listed in order": listed,
    "an upload that was given up": given_up,
    "nothing to give up": lambda s3: s3.abort_multipart_upload(Bucket=BUCKET, Key="none", UploadId="none"),
    "no object": lambda s3: s3.head_object(Bucket=BUCKET, Key="none"),
    "no object to read": lambda s3: s3.get_object(Bucket=BUCKET, Key="none"),
    "a range": lambda s3: s3.get_object(Bucket=BUCKET, Key="whole", Range="bytes=5242880-5242882")["Body"].read(),
    "a range beyond the end": lambda s3: s3.get_object(Bucket=BUCKET, Key="whole", Range="bytes=9999999-10000000"),
    "no bucket": lambda s3: s3.list_objects_v2(Bucket="nobodys-bucket"),
    "a bucket that is not empty": lambda s3: s3.delete_bucket(Bucket=BUCKET),
    "a bucket twice": bucket,
}


def test_the_double_answers_as_swift_does(swift: Mapping[str, str], tmp_path: Path) -> None:
    with open_emulator(tmp_path) as emulator:
        ours, theirs = client(emulator.environment), client(swift)
        bucket(ours)
        assert {name: outcome(ask, ours) for name, ask in ASKED.items()} == {
            name: outcome(ask, theirs) for name, ask in ASKED.items()
        }
