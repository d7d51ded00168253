"""Cloud Storage: buckets, objects with generations and CRC32C, resumable uploads as published; bytes lie in files.

A double of ours and not the gcp-storage-emulator of PyPI: that one ignores preconditions, which are what fences a worker that was
taken over, accepts chunks that are no multiple of 256 KiB, knows no generations, and forgets sessions when it ends. The routes,
queries and metadata are validated by storage.v1's discovery document, and Google's own client is tried against it in the tests.
"""

import base64
import os
import re
import secrets
from pathlib import Path
from typing import Any

import google_crc32c

from v2c.emulators.gcp.calls import Answer, Call, Verb
from v2c.emulators.gcp.store import Refusal, Store, Thing, now

UNIT = 256 * 1024  # a chunk that is not the last holds whole units (Cloud Storage, "Resumable uploads")
STEP = 1024 * 1024
CANCELLED = 499  # what the deletion of a session is answered with


def absent(what: str) -> Refusal:
    """404, in Cloud Storage's words."""
    return Refusal(404, "notFound", f"No such object: {what}")


class Storage:
    """Buckets are "b/NAME", objects "o/BUCKET/NAME", sessions "u/ID" in the store."""

    def __init__(self, store: Store, project: str) -> None:
        self.store, self.project = store, project
        self.folder = store.folder / "objects"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._recover()
        self.granted: set[str] | None = None  # the permissions that the caller has; None: all
        self.verbs: dict[str, Verb] = {
            "storage.buckets.insert": self.bucket_insert,
            "storage.buckets.get": self.bucket_get,
            "storage.buckets.list": self.bucket_list,
            "storage.buckets.delete": self.bucket_delete,
            "storage.buckets.testIamPermissions": self.permissions,
            "storage.objects.get": self.get,
            "storage.objects.list": self.list,
            "storage.objects.patch": self.patch,
            "storage.objects.delete": self.delete,
        }

    # ---- buckets -----------------------------------------------------------------------------------------------------------

    def bucket_insert(self, call: Call) -> Thing:
        name = call.body.get("name", "")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", name):
            raise Refusal(400, "invalid", f"Invalid bucket name: '{name}'")
        with self.store.changing() as things:
            if f"b/{name}" in things:
                raise Refusal(
                    409, "conflict", "Your previous request to create the named bucket succeeded and you already own it."
                )
            number = str(self.store.number())
            things[f"b/{name}"] = {
                **{"location": "US", "storageClass": "STANDARD", **call.body, "kind": "storage#bucket", "id": name},
                **{"timeCreated": now(), "updated": now(), "metageneration": "1", "projectNumber": "1", "generation": number},
                "locationType": "region" if "-" in call.body.get("location", "US") else "multi-region",
            }
            things[f"b/{name}"]["location"] = things[f"b/{name}"]["location"].upper()
            return things[f"b/{name}"]

    def bucket_get(self, call: Call) -> Thing:
        return self._bucket(call)

    def bucket_list(self, call: Call) -> Thing:
        prefix = call.query.get("prefix", "")
        return {"kind": "storage#buckets", "items": [thing for _, thing in self.store.under(f"b/{prefix}")]}

    def bucket_delete(self, call: Call) -> Answer:
        with self.store.changing() as things:
            self._bucket(call)
            if self.store.under(f"o/{call.params['bucket']}/"):
                raise Refusal(409, "conflict", "The bucket you tried to delete is not empty.")
            del things[f"b/{call.params['bucket']}"]
        return Answer(status=204)

    def permissions(self, call: Call) -> Thing:
        self._bucket(call)
        asked = call.query.get("permissions", "").split(",")
        held = [one for one in asked if self.granted is None or one in self.granted]
        return {"kind": "storage#testIamPermissionsResponse", **({"permissions": held} if held else {})}

    def _bucket(self, call: Call) -> Thing:
        try:
            return self.store.get(f"b/{call.params['bucket']}")
        except Refusal:
            raise Refusal(404, "notFound", "The specified bucket does not exist.") from None

    # ---- objects -----------------------------------------------------------------------------------------------------------

    def path(self, thing: Thing) -> Path:
        """The file with an object's bytes."""
        return self.folder / str(thing["_file"])

    def object(self, bucket: str, name: str) -> Thing:
        """An object as stored; 404."""
        try:
            return self.store.get(f"o/{bucket}/{name}")
        except Refusal:
            raise absent(f"{bucket}/{name}") from None

    def get(self, call: Call) -> Answer | Thing:
        with self.store.lock:
            thing = self._wanted(call)
            if call.query.get("alt") != "media":
                return _shown(thing)
            size, status, start, end = int(thing["size"]), 200, 0, int(thing["size"]) - 1
            if ranged := re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("range", "")):
                start, end = int(ranged[1]), min(int(ranged[2] or end), end)
                if start >= size:
                    raise Refusal(416, "requestedRangeNotSatisfiable", "The requested range cannot be satisfied.")
                status = 206
            headers = {
                "Content-Type": thing.get("contentType", "application/octet-stream"),
                "X-Goog-Hash": f"crc32c={thing['crc32c']}",
                "X-Goog-Generation": thing["generation"],
                "Accept-Ranges": "bytes",
                **({"Content-Range": f"bytes {start}-{end}/{size}"} if status == 206 else {}),
            }
            return Answer(None, status, headers, self.path(thing), start, end - start + 1)

    def list(self, call: Call) -> Thing:
        self._bucket(call)
        found = self.store.under(f"o/{call.params['bucket']}/{call.query.get('prefix', '')}")
        return {"kind": "storage#objects", "items": [_shown(thing) for _, thing in found]}

    def patch(self, call: Call) -> Thing:
        with self.store.changing():
            thing = self._wanted(call)
            if "metadata" in call.body:
                merged = {**thing.get("metadata", {}), **call.body["metadata"]}
                thing["metadata"] = {key: value for key, value in merged.items() if value is not None}
            thing["metageneration"] = str(int(thing["metageneration"]) + 1)
            return _shown(thing)

    def delete(self, call: Call) -> Answer:
        with self.store.changing() as things:
            thing = self._wanted(call)
            del things[f"o/{thing['bucket']}/{thing['name']}"]
            self.path(thing).unlink(missing_ok=True)
        return Answer(status=204)

    def _wanted(self, call: Call) -> Thing:
        self._bucket(call)
        thing = self.object(call.params["bucket"], call.params["object"])
        if call.query.get("generation", thing["generation"]) != thing["generation"]:
            raise absent(f"{call.params['bucket']}/{call.params['object']}#{call.query['generation']}")
        self._agreed(thing, call.query)
        return thing

    @staticmethod
    def _agreed(thing: Thing | None, conditions: Any) -> None:
        """412 unless the preconditions hold."""
        wanted = conditions.get("ifGenerationMatch")
        found = thing["generation"] if thing else "0"
        if wanted is not None and wanted != found:
            raise Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        if (unwanted := conditions.get("ifGenerationNotMatch")) is not None and unwanted == found:
            raise Refusal(304, "notModified", "Not modified.")

    def _current(self, bucket: str, name: str) -> Thing | None:
        with self.store.lock:
            return self.store.things.get(f"o/{bucket}/{name}")

    def _create(self, bucket: str, metadata: Thing, conditions: Any, file: Path, checksum: int) -> Thing:
        """The object out of a file that is complete."""
        told = base64.b64encode(checksum.to_bytes(4, "big")).decode()
        if metadata.get("crc32c", told) != told:
            raise Refusal(400, "invalid", f"Provided CRC32C {metadata['crc32c']!r} doesn't match calculated CRC32C {told!r}.")
        with self.store.changing() as things:
            key = f"o/{bucket}/{metadata['name']}"
            self._agreed(old := things.get(key), conditions)
            things[key] = {
                **metadata,
                **{"kind": "storage#object", "bucket": bucket, "generation": str(self.store.number()), "metageneration": "1"},
                **{"size": str(file.stat().st_size), "crc32c": told, "timeCreated": now(), "updated": now()},
                **{"storageClass": "STANDARD", "_file": file.name},
            }
            if old:
                self.path(old).unlink(missing_ok=True)
            return things[key]

    # ---- uploads -----------------------------------------------------------------------------------------------------------

    def upload(self, call: Call) -> Answer:
        """POST: a small object at once, or the beginning of a session."""
        bucket, metadata = call.params["bucket"], dict(call.body)
        self._bucket(call)
        metadata.setdefault("name", call.query.get("name", ""))
        if not metadata["name"]:
            raise Refusal(400, "required", "Required parameter: name")
        conditions = {key: value for key, value in call.query.items() if key.startswith("if")}
        self._agreed(self._current(bucket, metadata["name"]), conditions)
        file = self.folder / secrets.token_hex(12)
        if call.query.get("uploadType") in ("media", "multipart"):
            checksum, _ = self._take(call, file, call.length, 0)
            if call.headers.get("content-type") and call.query["uploadType"] == "media":
                metadata.setdefault("contentType", call.headers["content-type"])
            try:
                return Answer(_shown(self._create(bucket, metadata, conditions, file, checksum)))
            except Refusal:
                file.unlink(missing_ok=True)
                raise
        file.touch(mode=0o600)
        id = secrets.token_urlsafe(48)
        with self.store.changing() as things:
            about = {"bucket": bucket, "metadata": metadata, "conditions": conditions, "file": file.name, "crc": 0}
            things[f"u/{id}"] = {**about, "state": "open"}
        where = f"{call.base}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={id}"
        return Answer(headers={"Location": where, "X-GUploader-UploadID": id})

    def resume(self, call: Call) -> Answer:
        """PUT to a session: more bytes, or the question how many are there."""
        key = f"u/{call.query['upload_id']}"
        session = self._session(key)
        if call.fault == "expired":
            self._close(key, "expired")
            raise Refusal(410, "gone", "The upload session is no longer available.")
        if session["state"] == "done":
            self._drain(call)
            return Answer(_shown(self.object(session["bucket"], session["metadata"]["name"])))
        ranged = call.headers.get("content-range", f"bytes 0-{call.length - 1}/{call.length}")
        file = self.folder / session["file"]
        held = file.stat().st_size
        if asked := re.fullmatch(r"bytes \*/(\d+|\*)", ranged):
            if asked[1] == "*" or int(asked[1]) != held:
                return _incomplete(held)
            return self._finish(key, session, file, call)
        given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", ranged)
        if given is None or int(given[2]) - int(given[1]) + 1 != call.length:
            raise Refusal(400, "badRequest", f"Invalid Content-Range: {ranged}")
        start, end, total = int(given[1]), int(given[2]) + 1, given[3]
        if start > held:
            self._drain(call)
            raise Refusal(400, "badRequest", f"Invalid request. {held} bytes are persisted, and the chunk begins at {start}.")
        if total == "*" and call.length % UNIT:
            self._drain(call)
            raise Refusal(400, "badRequest", f"Invalid request. A chunk of {call.length} bytes is no multiple of 256 KiB.")
        keep = call.length
        if call.fault == "short":  # as published: a chunk may be persisted in part
            keep = max(0, (call.length // 2) // UNIT * UNIT)
        checksum, done = self._take(call, file, keep, session["crc"], skip=held - start)
        with self.store.changing():
            session["crc"] = checksum
        if total == "*" or int(total) != end or keep < call.length:
            return _incomplete(max(held, start + done))
        return self._finish(key, session, file, call)

    def cancel(self, call: Call) -> Answer:
        """DELETE of a session."""
        key = f"u/{call.query['upload_id']}"
        self._session(key)
        self._close(key, "cancelled")
        return Answer(status=CANCELLED)

    def _session(self, key: str) -> Thing:
        with self.store.lock:
            session = self.store.things.get(key)
        if session is None:
            raise Refusal(404, "notFound", "The upload session was not found.")
        if session["state"] in ("expired", "cancelled"):
            raise Refusal(
                410 if session["state"] == "expired" else CANCELLED, "gone", "The upload session is no longer available."
            )
        return session

    def _close(self, key: str, state: str) -> None:
        with self.store.changing() as things:
            things[key]["state"] = state
            (self.folder / things[key]["file"]).unlink(missing_ok=True)

    def _finish(self, key: str, session: Thing, file: Path, call: Call) -> Answer:
        metadata = dict(session["metadata"])
        if hashed := re.search(r"crc32c=([A-Za-z0-9+/=]+)", call.headers.get("x-goog-hash", "")):
            metadata["crc32c"] = hashed[1]
        made = self._create(session["bucket"], metadata, session["conditions"], file, session["crc"])
        with self.store.changing():
            session["state"] = "done"
        shown = _shown(made)
        if call.fault == "lying-crc":
            with self.store.changing():
                made["crc32c"] = shown["crc32c"] = base64.b64encode((session["crc"] ^ 1).to_bytes(4, "big")).decode()
        return Answer(shown)

    def _take(self, call: Call, file: Path, keep: int, checksum: int, *, skip: int = 0) -> tuple[int, int]:
        """Appends the body to the file but for its first `skip` bytes, which are there already, and what is beyond `keep`."""
        assert call.stream
        at = 0
        with file.open("ab") as out:
            held = out.tell()
            while at < call.length:
                data = call.stream.read(min(STEP, call.length - at))
                if not data:
                    out.truncate(held)
                    raise ConnectionError
                piece = data[max(0, skip - at) : max(0, keep - at)]
                at += len(data)
                out.write(piece)
                checksum = int(google_crc32c.extend(checksum, piece))
        return checksum, keep

    @staticmethod
    def _drain(call: Call) -> None:
        left = call.length
        while left and call.stream and (data := call.stream.read(min(STEP, left))):
            left -= len(data)

    def _recover(self) -> None:
        """After a kill in the midst of a chunk: whole units of what came are kept."""
        for _, session in self.store.under("u/"):
            if session["state"] == "open" and (file := self.folder / session["file"]).exists():
                os.truncate(file, file.stat().st_size // UNIT * UNIT)
                session["crc"] = 0
                with file.open("rb") as data:
                    while piece := data.read(STEP):
                        session["crc"] = int(google_crc32c.extend(session["crc"], piece))


def _incomplete(held: int) -> Answer:
    return Answer(status=308, headers={"Range": f"bytes=0-{held - 1}"} if held else {})


def _shown(thing: Thing) -> Thing:
    return {key: value for key, value in thing.items() if not key.startswith("_")}
