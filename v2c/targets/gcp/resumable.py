"""One object of Cloud Storage that one worker at a time may write: its name, the fence around it, and the upload session.

The name is taken by an empty placeholder, whose generation an upload may replace and no other. Who takes the disk over writes the
placeholder anew: from then on an earlier worker's upload can become nothing, since "ifGenerationMatch" is asked again when its
bytes come (googleapis/google-cloud-java issue 201 tried it: the session begins, and its data is refused).
"""

import base64
import json
import secrets
from typing import Any
from urllib.parse import quote, urlsplit

from v2c.errors import BusyError, TargetError
from v2c.model import Ref
from v2c.patience import Patience
from v2c.targets.gcp.names import NUMBER, TAG
from v2c.targets.gcp.session import ApiError, Session, failures, passing, refused

GONE = frozenset({404, 410, 499})  # the session expired (they live a week), was cancelled, or never was
STATE = "v2c-state"  # of an object: "open" for a placeholder, "whole" for a disk, "index"

Thing = dict[str, Any]


class Upload:
    """The object of `ref` (its job, disk, number and size). `patience` waits out what passes."""

    def __init__(self, session: Session, bucket: str, name: str, ref: Ref, patience: Patience) -> None:
        self.session, self.bucket, self.name, self.ref, self.patience = session, bucket, name, ref, patience
        self._url = f"{session.endpoints.storage}/upload/storage/v1/b/{bucket}/o"

    # ---- the name ----------------------------------------------------------------------------------------------------------

    def look(self) -> Thing | None:
        """The object's metadata; None when there is none. TargetError when it is another job's."""
        try:
            found: Thing = self.session.object("GET", self.bucket, self.name)
        except ApiError as error:
            if error.status == 404 and "bucket" not in error.text:
                return None
            raise refused(error, f"{self.ref.id} cannot be looked at") from error
        except failures() as error:
            raise refused(error, f"{self.ref.id} cannot be looked at") from error
        if found.get("metadata", {}).get(TAG) != self.ref["job"]:
            raise TargetError(f"{self.ref.id} is not of this job", remedy="remove it, or name another bucket")
        return found

    def fence(self, found: Thing | None) -> str:
        """Writes the placeholder in place of what was found; returns its generation. From now on nobody else's upload ends."""
        worker = secrets.token_hex(8)
        about = self._about("open", **{"v2c-worker": worker})
        try:
            made = self.insert(about, b"", ifGenerationMatch=str(found["generation"]) if found else "0")
        except ApiError as error:
            again = self.look() if error.status == 412 else None
            if again is None or again["metadata"].get("v2c-worker") != worker:  # else the answer of our own was lost
                raise (self.taken() if error.status == 412 else refused(error, f"{self.ref.id} cannot be written")) from error
            made = again
        except failures() as error:
            raise refused(error, f"{self.ref.id} cannot be written") from error
        return str(made["generation"])

    def insert(self, about: Thing, data: bytes, **query: str) -> Thing:
        """A small object, in one request. Raises what the API raises."""
        line = secrets.token_hex(16)
        parts = (("application/json", json.dumps(about).encode()), (about["contentType"], data))
        body = b"".join(f"--{line}\r\nContent-Type: {kind}\r\n\r\n".encode() + part + b"\r\n" for kind, part in parts)
        request = {
            "params": {"uploadType": "multipart", **query},
            "data": body + f"--{line}--\r\n".encode(),
            "headers": {"Content-Type": f"multipart/related; boundary={line}"},
        }
        made: Thing = self.patience(lambda: self.session.send("POST", self._url, **request).json(), passing)
        return made

    def remove(self, name: str, **query: str) -> None:
        """An object; absent, or another generation than asked for, is success."""
        try:
            self.session.object("DELETE", self.bucket, name, **query)
        except failures() as error:
            if isinstance(error, ApiError) and error.status in (404, 412):
                return
            raise refused(error, f"gs://{self.bucket}/{name} was not removed") from error

    def taken(self) -> BusyError:
        """What a worker is told whose disk has another one now."""
        return BusyError(f"another worker has taken {self.ref.id} over", remedy="leave it to that one, or stop it and run again")

    def _about(self, state: str, **more: str) -> Thing:
        told = {TAG: self.ref["job"], STATE: state, "v2c-disk-id": self.ref["disk"], "v2c-size": self.ref["size"], **more}
        return {"name": self.name, "contentType": "application/gzip", "metadata": told | {NUMBER: self.ref["number"]}}

    # ---- the session -------------------------------------------------------------------------------------------------------

    def begin(self, generation: str) -> str:
        """A new session, which may replace this generation: its URI, which is a secret."""
        query = {"uploadType": "resumable", "ifGenerationMatch": generation}
        headers = {"X-Upload-Content-Type": "application/gzip"}
        about = self._about("whole")
        try:
            answer = self.patience(
                lambda: self.session.send("POST", self._url, params=query, json=about, headers=headers), passing
            )
        except ApiError as error:
            raise (self.taken() if error.status == 412 else refused(error, f"no upload to {self.ref.id} began")) from error
        except failures() as error:
            raise refused(error, f"no upload to {self.ref.id} began") from error
        where = urlsplit(answer.headers["Location"])
        return f"{self.session.endpoints.storage}{where.path}?{where.query}"  # the endpoint that was chosen, by whatever name

    def cancel(self, uri: str) -> None:
        """Ends a session, if it can be reached."""
        try:
            self.session.send("DELETE", uri)
        except failures():
            return  # it is over, or will be within a week; its generation is gone anyway

    def status(self, uri: str, total: str = "*") -> int | Thing:
        """Bytes that a session holds, or the object that it became. Raises what the API raises, at once."""
        answer = self.session.send("PUT", uri, data=b"", headers={"Content-Range": f"bytes */{total}"})
        if answer.status_code == 308:
            return _range(answer)
        made: Thing = answer.json()
        return made

    def send(self, uri: str, data: bytes | memoryview, start: int, *, total: int = 0, crc32c: int = 0) -> Thing:
        """All of it, however many requests that takes; the object when `total` says that it is whole then, else {}."""
        at, end, sure = start, start + len(data), True

        def attempt() -> Thing | None:
            nonlocal at, sure
            if not sure:
                held = self.status(uri, str(total or "*"))
                if not isinstance(held, int):
                    return held
                at, sure = held, True
                if held < start:
                    raise ApiError(410, "gone", "the session forgot what it held")
            if at >= end and not total:
                return {}
            sure = False
            which = f"bytes {at}-{end - 1}" if at < end else "bytes *"
            headers = {"Content-Range": f"{which}/{total or '*'}"}
            if total:
                headers["X-Goog-Hash"] = f"crc32c={told(crc32c)}"
            answer = self.session.send("PUT", uri, data=data[at - start :], headers=headers)
            if answer.status_code == 308:
                at, sure = _range(answer), True
                return {} if at >= end and not total else None
            made: Thing = answer.json()
            return made

        while True:
            done = self.patience(attempt, passing)
            if done is not None:
                return done


def media(session: Session, bucket: str, name: str) -> str:
    """The URL of an object's bytes."""
    return f"{session.endpoints.storage}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"


def extended(crc32c: int, data: bytes) -> int:
    """The CRC32C of what was before, and the data behind it."""
    import google_crc32c

    return int(google_crc32c.extend(crc32c, data))


def told(crc32c: int) -> str:
    """As Cloud Storage writes it."""
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()


def _range(answer: Any) -> int:
    """Bytes that a 308 says are there ("bytes=0-524287"); none when it says nothing."""
    said = answer.headers.get("Range", "")
    return int(said.rpartition("-")[2]) + 1 if said else 0
