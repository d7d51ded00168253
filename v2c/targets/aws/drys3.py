"""S3 in a dry run: what would be made lies beside what there is, what would be removed is hidden."""

from typing import Any

from v2c.targets.aws.names import tagged
from v2c.targets.aws.session import ApiError, Session

Record = dict[str, Any]
CHANGES = (
    *("create_bucket", "put_bucket_tagging", "delete_bucket", "create_multipart_upload", "upload_part"),
    *("complete_multipart_upload", "abort_multipart_upload", "delete_object"),
)
READS = ("get_bucket_tagging", "list_multipart_uploads", "list_objects_v2", "list_parts", "head_object")


class DryS3:
    """Reads the real S3 by the session."""

    def __init__(self, real: Session) -> None:
        self._real = real
        self._buckets: dict[str, list[dict[str, str]]] = {}
        self._objects: dict[str, set[str]] = {}
        self._uploads: dict[str, dict[str, str]] = {}
        self._gone: set[tuple[str, str]] = set()

    def change(self, method: str, params: Record) -> Record:
        """Answers as if it had been done."""
        bucket, key = params["Bucket"], params.get("Key", "")
        match method:
            case "create_bucket":
                self._buckets[bucket] = []
            case "put_bucket_tagging":
                self._buckets[bucket] = params["Tagging"]["TagSet"]
            case "create_multipart_upload":
                self._uploads.setdefault(bucket, {})[key] = f"upload-new-{key}"
                return {"UploadId": f"upload-new-{key}"}
            case "upload_part":
                return {"ETag": '"new"'}
            case "complete_multipart_upload":
                self._objects.setdefault(bucket, set()).add(key)
                self._over(bucket, key)
            case "abort_multipart_upload":
                self._over(bucket, key)
            case "delete_object":
                self._objects.get(bucket, set()).discard(key)
                self._gone.add((bucket, key))
            case "delete_bucket":
                self._buckets.pop(bucket, None)
                self._gone.add((bucket, ""))
        return {}

    def _over(self, bucket: str, key: str) -> None:
        if self._uploads.get(bucket, {}).pop(key, None) is None:
            self._gone.add((bucket, f"{key} upload"))

    def read(self, method: str, params: Record) -> Record:
        """The sum of both."""
        bucket, key = params["Bucket"], params.get("Key", "")
        if (bucket, "") in self._gone:
            raise ApiError(f"the bucket {bucket} is gone", code="NoSuchBucket")
        if method == "get_bucket_tagging" and bucket in self._buckets:
            return {"TagSet": self._buckets[bucket]}
        if method == "head_object" and key in self._objects.get(bucket, ()):
            return {"ETag": '"new"', "ContentLength": 0}
        if method == "list_parts" and params["UploadId"].startswith("upload-new-"):
            return {"Parts": []}
        if method == "head_object" and (bucket, key) in self._gone:
            raise ApiError(f"{key} is gone", code="404")
        there: Record = {} if bucket in self._buckets else self._asked(method, params)
        prefix = params.get("Prefix", "")
        if method == "list_multipart_uploads":
            found = [one for one in there.get("Uploads") or () if (bucket, f"{one['Key']} upload") not in self._gone]
            mine = self._uploads.get(bucket, {}).items()
            return {"Uploads": [*found, *({"Key": k, "UploadId": id} for k, id in mine if k.startswith(prefix))]}
        if method == "list_objects_v2":
            found = [one for one in there.get("Contents") or () if (bucket, one["Key"]) not in self._gone]
            return {"Contents": [*found, *({"Key": k} for k in self._objects.get(bucket, ()) if k.startswith(prefix))]}
        if method == "head_object" and not there:
            raise ApiError(f"{key} is not there", code="404")
        return there

    def _asked(self, method: str, params: Record) -> Record:
        return self._real.call("s3", method, **params)


def about(method: str, params: Record) -> tuple[str, tuple[tuple[str, str], ...], str]:
    """What a call is about, the tags that it gives, and what else matters."""
    key = params.get("Key", "")
    tags = tagged({"Tags": params.get("Tagging", {}).get("TagSet", [])}) or params.get("Metadata", {})
    detail = "parts of the disk's file" if method == "upload_part" else ""
    return f"s3://{params['Bucket']}{'/' if key else ''}{key}", tuple(tags.items()), detail
