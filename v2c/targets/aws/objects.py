"""S3, as far as staging needs it: the job's bucket, its objects, and its uploads that are not over."""

import hashlib
from collections.abc import Iterator
from typing import Any

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Ref
from v2c.targets.aws import names
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import ApiError, Session

_ABSENT = ("404", "NoSuchKey", "NoSuchBucket", "NotFound", "NoSuchUpload")


def key(job: str, number: int) -> str:
    """The name of a staged disk: the job's own, since uploads that are not over carry no tags."""
    return f"v2c/{job}/disk-{number}.vhd"


def bucket_of(session: Session, options: Options, job: str) -> str:
    """The bucket that a job stages in: the one named, else its own, the same each time."""
    if options.bucket:
        return options.bucket
    account = session.call("sts", "get_caller_identity")["Account"]
    return f"v2c-{hashlib.sha256(f'{account}/{options.region}/{job}'.encode()).hexdigest()[:32]}"


def reserve(session: Session, options: Options, journal: Journal) -> Iterator[Ref]:
    """A bucket of the job's own where none was named."""
    if options.bucket:
        return
    ref = Ref.of("bucket", bucket_of(session, options, journal.job), job=journal.job)
    if ref not in journal.refs("bucket") or owner(session, ref.id) is None:
        with journal.intent("bucket", ref.id, {names.TAG: journal.job}) as intent:
            _make(session, options, ref.id, journal.job)
            intent.done(ref)
    yield ref


def _make(session: Session, options: Options, bucket: str, job: str) -> None:
    where: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": options.region}}
    found = owner(session, bucket)
    if found not in (None, "", job):
        raise TargetError(f"the bucket {bucket} is job {found}'s", remedy="name one with &bucket=")
    if found is None:
        try:
            session.call("s3", "create_bucket", Bucket=bucket, **({} if options.region == "us-east-1" else where))
        except ApiError as error:
            if error.code != "BucketAlreadyOwnedByYou":
                raise
    session.call("s3", "put_bucket_tagging", Bucket=bucket, Tagging={"TagSet": names.tags(job, bucket)})


def owner(session: Session, bucket: str) -> str | None:
    """Whose job's bucket it is, empty when it carries no tag; None: there is none."""
    try:
        return names.tagged({"Tags": session.call("s3", "get_bucket_tagging", Bucket=bucket)["TagSet"]}).get(names.TAG, "")
    except ApiError as error:
        if error.code == "NoSuchTagSet":
            return ""
        if error.code in _ABSENT:
            return None
        raise


def uploads(session: Session, bucket: str, prefix: str) -> list[dict[str, Any]]:
    """Uploads below a prefix that are not over. There are a few a job."""
    try:
        found = session.call("s3", "list_multipart_uploads", Bucket=bucket, Prefix=prefix)
    except ApiError as error:
        if error.code not in _ABSENT:
            raise
        return []
    return list(found.get("Uploads") or ())


def parts(session: Session, bucket: str, name: str, upload: str) -> Iterator[dict[str, Any]]:
    """The parts that an upload holds."""
    marker: dict[str, Any] = {}
    while True:
        answer = session.call("s3", "list_parts", Bucket=bucket, Key=name, UploadId=upload, **marker)
        yield from answer.get("Parts") or ()
        if not answer.get("IsTruncated"):
            return
        marker = {"PartNumberMarker": answer["NextPartNumberMarker"]}


def listed(session: Session, bucket: str, job: str) -> Iterator[str]:
    """The keys of a job's objects and of its uploads that are not over."""
    prefix = f"v2c/{job}/"
    try:
        found = session.call("s3", "list_objects_v2", Bucket=bucket, Prefix=prefix).get("Contents") or ()
    except ApiError as error:
        if error.code not in _ABSENT:
            raise
        return
    yield from sorted({one["Key"] for one in (*found, *uploads(session, bucket, prefix))})


def head(session: Session, bucket: str, name: str) -> dict[str, Any] | None:
    """What S3 says of an object; None: there is none."""
    try:
        return session.call("s3", "head_object", Bucket=bucket, Key=name)
    except ApiError as error:
        if error.code not in _ABSENT:
            raise
        return None


def ranged(session: Session, bucket: str, name: str, start: int, length: int) -> bytes:
    """A range of an object's bytes."""

    def once() -> bytes:
        answer = session.client("s3").get_object(Bucket=bucket, Key=name, Range=f"bytes={start}-{start + length - 1}")
        data: bytes = answer["Body"].read()
        return data

    return session.patiently(once, "get_object")


def abort(session: Session, bucket: str, name: str, upload: str) -> None:
    """Ends an upload; absent is success."""
    try:
        session.call("s3", "abort_multipart_upload", Bucket=bucket, Key=name, UploadId=upload)
    except ApiError as error:
        if error.code not in _ABSENT:
            raise


def remove(session: Session, bucket: str, name: str) -> None:
    """An object, and its uploads that are not over; absent is success."""
    for one in uploads(session, bucket, name):
        abort(session, bucket, name, one["UploadId"])
    if head(session, bucket, name) is not None:
        session.call("s3", "delete_object", Bucket=bucket, Key=name)


def remove_bucket(session: Session, bucket: str, job: str) -> None:
    """A bucket of the job's own, with what of the job lies in it; absent is success."""
    found = owner(session, bucket)
    if found is None:
        return
    if found != job:
        raise TargetError(f"the bucket {bucket} carries no tag of job {job}, so it is left alone")
    for name in listed(session, bucket, job):
        remove(session, bucket, name)
    session.call("s3", "delete_bucket", Bucket=bucket)
