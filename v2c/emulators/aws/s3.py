"""S3 in front of moto's: which operation a request is, which right it needs, and whether its bytes are what their digests say."""

import hashlib
from base64 import b64encode
from urllib.parse import parse_qs

from moto.s3.models import s3_backends

from v2c.emulators.aws.wire import Inquiry, Refusal

_OF_BUCKETS = {
    ("PUT", "tagging"): "PutBucketTagging",
    ("GET", "tagging"): "GetBucketTagging",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "location"): "GetBucketLocation",
    ("GET", ""): "ListObjectsV2",
    ("HEAD", ""): "HeadBucket",
    ("PUT", ""): "CreateBucket",
    ("DELETE", ""): "DeleteBucket",
    ("POST", "delete"): "DeleteObjects",
}
_OF_OBJECTS = {
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("PUT", "uploadId"): "UploadPart",
    ("GET", "uploadId"): "ListParts",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("DELETE", ""): "DeleteObject",
    ("HEAD", ""): "HeadObject",
    ("GET", ""): "GetObject",
    ("PUT", ""): "PutObject",
}
# rights that are not named as their operation is (Service Authorization Reference, Amazon S3)
RIGHTS = {
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "CreateMultipartUpload": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "ListParts": "ListMultipartUploadParts",
    "HeadObject": "GetObject",
    "DeleteObjects": "DeleteObject",
}


def operation(inquiry: Inquiry) -> str:
    """By the API's name; "METHOD s3" for one that nobody here knows."""
    query = parse_qs(inquiry.query, keep_blank_values=True)
    known = _OF_OBJECTS if inquiry.path.strip("/").count("/") else _OF_BUCKETS
    words = [word for method, word in known if method == inquiry.method and word in query]
    return known.get((inquiry.method, words[0] if words else ""), f"{inquiry.method} s3")


def right(name: str) -> str:
    """The action that an identity must be allowed."""
    return f"s3:{RIGHTS.get(name, name)}"


def honest(inquiry: Inquiry) -> None:
    """BadDigest for a body that is not what its SHA-256 says; moto does not look."""
    told = inquiry.headers.get("x-amz-checksum-sha256", "")
    if told and inquiry.method == "PUT" and b64encode(hashlib.sha256(inquiry.body).digest()).decode() != told:
        raise Refusal("BadDigest", "The SHA256 you specified did not match the calculated checksum.", 400)


def living(account: str, inquiry: Inquiry) -> None:
    """NoSuchUpload for an upload that was ended, where moto falls over."""
    upload = parse_qs(inquiry.query).get("uploadId", [""])[0]
    bucket = s3_backends[account]["aws"].buckets.get(inquiry.path.strip("/").partition("/")[0])
    if upload and bucket is not None and upload not in bucket.multiparts:
        raise Refusal("NoSuchUpload", "The specified upload does not exist.", 404)


def subject(inquiry: Inquiry) -> str:
    """What a request is about: the object, and the part of it."""
    query = parse_qs(inquiry.query)
    part = query.get("partNumber", [""])[0]
    return inquiry.path.strip("/") + (f"/{part}" if part else "")
