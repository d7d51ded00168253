"""The calls of a cloud that an upload makes, answered by `bench.sink` as if all were well."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from bench.sink import Answer, Call

BLOCK = 512 * 1024  # bytes of an EBS block
_EC2 = "http://ec2.amazonaws.com/doc/2016-11-15/"


class Aws:
    """EBS direct, DescribeSnapshots, and S3's multipart upload."""

    def __init__(self) -> None:
        self.snapshots: dict[str, dict[str, object]] = {}

    def __call__(self, call: "Call") -> "Answer":
        from bench.sink import Answer

        place = urlsplit(call.path)
        parts = place.path.strip("/").split("/")
        query = parse_qs(place.query, keep_blank_values=True)
        if parts[0] == "snapshots":
            return self._ebs(call, parts)
        if call.method == "POST" and place.path == "/":
            return self._ec2({name: values[0] for name, values in parse_qs(call.body.decode()).items()})
        if "uploads" in query:
            return _xml("<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>")
        if call.method == "POST":
            return _xml("<CompleteMultipartUploadResult><ETag>one</ETag></CompleteMultipartUploadResult>")
        return Answer(200, b"", (("ETag", '"one"'),))

    def _ebs(self, call: "Call", parts: list[str]) -> "Answer":
        from bench.sink import Answer

        if len(parts) == 1:
            asked = json.loads(call.body)
            id = f"snap-{len(self.snapshots):017x}"
            self.snapshots[id] = {"size": asked["VolumeSize"], "tags": asked.get("Tags", []), "state": "pending"}
            said = {
                "SnapshotId": id,
                "BlockSize": BLOCK,
                "VolumeSize": asked["VolumeSize"],
                "Status": "pending",
                "Tags": asked.get("Tags"),
            }
            return Answer(201, json.dumps(said).encode(), (("Content-Type", "application/json"),))
        if parts[1] == "completion":
            self.snapshots[parts[2]]["state"] = "completed"
            return Answer(202, b'{"Status": "completed"}', (("Content-Type", "application/json"),))
        sums = (("x-amz-Checksum", call.headers.get("x-amz-checksum", "")), ("x-amz-Checksum-Algorithm", "SHA256"))
        return Answer(201, b"{}", (("Content-Type", "application/json"), *sums))

    def _ec2(self, asked: dict[str, str]) -> "Answer":
        if asked["Action"] != "DescribeSnapshots":
            raise NotImplementedError(f"the sink knows nothing of {asked['Action']}")
        items = "".join(
            f"<item><snapshotId>{id}</snapshotId><status>{known['state']}</status><progress>100%</progress>"
            f"<volumeSize>{known['size']}</volumeSize><tagSet>{_tags(known['tags'])}</tagSet></item>"
            for id, known in self.snapshots.items()
        )
        return _xml(f'<DescribeSnapshotsResponse xmlns="{_EC2}"><snapshotSet>{items}</snapshotSet></DescribeSnapshotsResponse>')


def _tags(tags: object) -> str:
    assert isinstance(tags, list)
    return "".join(f"<item><key>{escape(tag['Key'])}</key><value>{escape(tag['Value'])}</value></item>" for tag in tags)


def _xml(text: str) -> "Answer":
    from bench.sink import Answer

    return Answer(200, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode(), (("Content-Type", "text/xml"),))


class Azure:
    """A login, one managed disk of Resource Manager, and its page blob."""

    def __init__(self) -> None:
        self.disk: dict[str, Any] = {}
        self.size = 0
        self.pages: list[tuple[int, int]] = []

    def __call__(self, call: "Call") -> "Answer":
        place = urlsplit(call.path)
        if place.path.startswith("/page/"):
            return self._blob(call, parse_qs(place.query))
        if "/oauth2/" in place.path:
            return _json({"token_type": "Bearer", "expires_in": 3600, "access_token": "bench"})
        if place.path.endswith("/openid-configuration"):
            base = f"https://{call.headers['host']}/bench"
            ends = {"authorization_endpoint": f"{base}/oauth2/v2.0/authorize", "token_endpoint": f"{base}/oauth2/v2.0/token"}
            return _json({"issuer": f"{base}/v2.0", **ends})
        return self._arm(call, place.path)

    def _arm(self, call: "Call", path: str) -> "Answer":
        what = path.rpartition("/")[2]
        if what == "beginGetAccess":
            self._state("ActiveUpload")
            return _json({"accessSAS": f"https://{call.headers['host']}/page/disk?sig=bench"})
        if what == "endGetAccess":
            self._state("Unattached")
            return _json({})
        if call.method in ("PUT", "PATCH"):
            asked = json.loads(call.body)
            if call.method == "PUT":
                self.size = asked["properties"]["creationData"]["uploadSizeBytes"]
                self.disk = {"id": path, "name": what, "type": "Microsoft.Compute/disks", **asked}
                self.disk["properties"] |= {"provisioningState": "Succeeded"}
                self._state("ReadyToUpload")
            self.disk |= {"tags": asked["tags"]}
            return _json(self.disk)
        if not self.disk:
            return _json({"error": {"code": "ResourceNotFound", "message": path}}, 404)
        return _json(self.disk)

    def _state(self, state: str) -> None:
        self.disk["properties"]["diskState"] = state

    def _blob(self, call: "Call", query: dict[str, list[str]]) -> "Answer":
        from bench.sink import Answer

        stamp = ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if call.method == "PUT" and "x-ms-range" not in call.headers:  # made anew by the SDK's own upload
            return Answer(201, b"", (("ETag", '"1"'), stamp))
        if call.method == "PUT":
            start, end = call.headers["x-ms-range"].removeprefix("bytes=").split("-")
            self.pages.append((int(start), int(end)))
            return Answer(201, b"", (("ETag", '"1"'), stamp, ("x-ms-blob-sequence-number", "0")))
        if query.get("comp") == ["pagelist"]:
            items = "".join(f"<PageRange><Start>{s}</Start><End>{e}</End></PageRange>" for s, e in sorted(self.pages))
            return _xml(f"<PageList>{items}</PageList>")
        about = (("x-ms-blob-type", "PageBlob"), ("ETag", '"1"'), stamp, ("Content-Length", str(self.size)))
        return Answer(200, b"", (*about, ("x-ms-blob-sequence-number", "0")))


def _json(document: object, status: int = 200) -> "Answer":
    from bench.sink import Answer

    return Answer(status, json.dumps(document).encode(), (("Content-Type", "application/json"),))


class Google:
    """A token, and one bucket's objects: placeholders at once, disks by resumable uploads, which are believed their checksum."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.count = 0

    def __call__(self, call: "Call") -> "Answer":
        place = urlsplit(call.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        if place.path == "/token":
            return _json({"access_token": "bench", "expires_in": 3600, "token_type": "Bearer"})
        if "upload_id" in query:
            return self._more(call, query["upload_id"])
        if query.get("uploadType") == "resumable":
            return self._begin(call, query)
        if query.get("uploadType") == "multipart":
            _, _, rest = call.body.partition(b"\r\n\r\n")
            return _json(self._made(json.loads(rest.partition(b"\r\n--")[0]), 0))
        found = self.objects.get(unquote(place.path.rpartition("/o/")[2]))
        return _json(found) if found else _json({"error": {"code": 404, "message": "No such object"}}, 404)

    def _begin(self, call: "Call", query: dict[str, str]) -> "Answer":
        from bench.sink import Answer

        about = json.loads(call.body or b"{}")
        about.setdefault("name", query.get("name", ""))
        id = f"upload-{len(self.sessions)}"
        self.sessions[id] = {"about": about, "held": 0}
        where = f"http://{call.headers['host']}/upload/storage/v1/b/bucket/o?uploadType=resumable&upload_id={id}"
        return Answer(200, b"", (("Location", where),))

    def _more(self, call: "Call", id: str) -> "Answer":
        from bench.sink import Answer

        session = self.sessions[id]
        session["held"] += call.length
        total = call.headers["content-range"].rpartition("/")[2]
        if total == "*" or int(total) > session["held"]:
            return Answer(308, b"", (("Range", f"bytes=0-{session['held'] - 1}"),) if session["held"] else ())
        told = call.headers.get("x-goog-hash", "").removeprefix("crc32c=")
        return _json(self._made({**session["about"], "crc32c": told}, session["held"]))

    def _made(self, about: dict[str, Any], size: int) -> dict[str, Any]:
        self.count += 1
        self.objects[about["name"]] = {**about, "bucket": "bucket", "size": str(size), "generation": str(self.count)}
        return self.objects[about["name"]]


ROUTES: dict[str, Callable[[], Callable[["Call"], "Answer"]]] = {"aws": Aws, "azure": Azure, "gcp": Google}
