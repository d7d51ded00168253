"""Page blobs: those behind a managed disk's SAS, which exist already as the disk service makes them, and those of an account.

Ours and not Azurite's: a disk's SAS can be revoked, its blob has the VHD's exact length and cannot be made or resized, pages
over 4 MiB or beyond its end must be refused, and answers must fail on demand; Azurite does none of it (its gaps are shown in
tests/emulators/test_azure_azurite.py, which keeps this double honest where Azurite is faithful).

Reference: Put Page, Get Page Ranges, Get Blob and Get Blob Properties of the Blob service REST API.
"""

import base64
import hashlib
import hmac
import os
import re
import shutil
import threading
import time
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path

from v2c.emulators.azure.answers import Answer, Refusal
from v2c.emulators.azure.ranges import Ranges

PAGE = 512
MOST = 4 << 20  # bytes of one Put Page
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_VERSION = re.compile(r"20\d\d-\d\d-\d\d")


class Blob:
    """A page blob: `path` holds its bytes (sparse), `tail` what follows them that is kept elsewhere (a VHD's footer)."""

    def __init__(self, path: Path, tail: bytes = b"") -> None:
        self.path, self.tail = path, tail
        self.ranges = Ranges(path.with_suffix(".ranges"))
        self.changed = path.stat().st_mtime_ns / 1e9

    @property
    def size(self) -> int:
        """Bytes, the tail's too."""
        return self.path.stat().st_size + len(self.tail)

    def touch(self) -> None:
        """It is another version now, with another ETag, after a restart too."""
        now = time.time_ns() // 1000 * 1000
        os.utime(self.path, ns=(now, now))
        self.changed = now / 1e9

    def read(self, start: int, end: int) -> bytes:
        """Bytes [start, end)."""
        with self.path.open("rb") as file:
            file.seek(start)
            body = file.read(end - start)
        held = self.path.stat().st_size
        return body + self.tail[max(0, start - held) : max(0, end - held)]


class Pages:
    """All blobs below a folder, by name; `secret` signs SAS."""

    def __init__(self, folder: Path, secret: bytes) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._secret = secret
        self._blobs: dict[str, Blob] = {}
        self._lock = threading.RLock()

    def path(self, name: str) -> Path:
        """The file of a blob."""
        return self.folder / f"{name}.raw"

    def create(self, name: str, size: int) -> None:
        """A blob of zeros."""
        descriptor = os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, size)
        os.close(descriptor)

    def copy(self, source: str, name: str) -> None:
        """Another name for what a finished disk holds: nothing writes to either again."""
        os.link(self.path(source), self.path(name))
        shutil.copyfile(self.path(source).with_suffix(".ranges"), self.path(name).with_suffix(".ranges"))

    def imported(self, source: Blob, name: str, size: int) -> None:
        """A blob of `size` bytes with what the source holds so far: a copy, since the source may be written again."""
        self.create(name, size)
        made = self.open(name)
        with made.path.open("r+b") as file:
            for start, end in source.ranges.within(0, size):
                for at in range(start, end, MOST):
                    file.seek(at)
                    file.write(source.read(at, min(at + MOST, end)))
                made.ranges.wrote(start, end)

    def open(self, name: str, tail: bytes = b"") -> Blob:
        """The blob."""
        with self._lock:
            blob = self._blobs.get(name)
            if blob is None:
                blob = self._blobs[name] = Blob(self.path(name))
            blob.tail = tail
            return blob

    def forget(self, name: str) -> None:
        """Removes it."""
        with self._lock:
            if blob := self._blobs.pop(name, None):
                blob.ranges.close()
            for file in (self.path(name), self.path(name).with_suffix(".ranges")):
                file.unlink(missing_ok=True)

    def signature(self, name: str, policy: str) -> str:
        """What `sig` of a SAS under a stored policy must be."""
        mac = hmac.new(self._secret, f"{name}\n{policy}".encode(), hashlib.sha256)
        return base64.b64encode(mac.digest()).decode()

    # ---- the requests ------------------------------------------------------------------------------------------------------

    def answer(self, operation: str, blob: Blob, headers: Mapping[str, str], body: bytes, *, lose: str = "") -> Answer:
        """One request on a blob whose SAS was found good. `lose`: "lost" or "rotten" pages are confirmed all the same."""
        if not _VERSION.fullmatch(headers.get("x-ms-version", "")):
            raise Refusal(400, "InvalidHeaderValue", "x-ms-version is missing or no version of the service")
        if operation == "PutPage":
            return self._put(blob, headers, body, lose)
        if operation == "ClearPages":
            start, end = _bounds(headers, blob.size)
            if body:
                raise Refusal(400, "InvalidHeaderValue", "a clear has no body")
            self._clear(blob, start, end)
            return Answer(201, headers=version(blob))
        if operation == "GetPageRanges":
            start, end = _bounds(headers, blob.size) if asked(headers) else (0, blob.size)
            parts = "".join(
                f"<PageRange><Start>{a}</Start><End>{b - 1}</End></PageRange>" for a, b in blob.ranges.within(start, end)
            )
            text = f'<?xml version="1.0" encoding="utf-8"?><PageList>{parts}</PageList>'
            more = {**version(blob), "x-ms-blob-content-length": str(blob.size)}
            return Answer(200, text.encode(), more, "application/xml")
        if operation == "GetBlob":
            return self._get(blob, headers)
        more = {**version(blob), "x-ms-blob-type": "PageBlob", "Accept-Ranges": "bytes"}
        return Answer(200, b"", more, "application/octet-stream", length=blob.size)

    def _put(self, blob: Blob, headers: Mapping[str, str], body: bytes, lose: str) -> Answer:
        start, end = _bounds(headers, blob.size)
        if end - start > MOST:
            raise Refusal(413, "RequestBodyTooLarge", f"a page write has at most {MOST} bytes")
        if end - start != len(body):
            raise Refusal(400, "InvalidHeaderValue", "the range and the body differ in length")
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        if headers.get("content-md5", digest) != digest:
            raise Refusal(400, "Md5Mismatch", "The MD5 value specified in the request did not match with the one calculated")
        if lose != "lost":
            if lose == "rotten":
                body = bytes([body[0] ^ 1]) + body[1:]
            descriptor = os.open(blob.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(descriptor, body, start)
            finally:
                os.close(descriptor)
            blob.ranges.wrote(start, end)
            blob.touch()
        return Answer(201, headers={**version(blob), "Content-MD5": digest, "x-ms-request-server-encrypted": "true"})

    @staticmethod
    def _clear(blob: Blob, start: int, end: int) -> None:
        zeros = bytes(MOST)
        descriptor = os.open(blob.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for a, b in blob.ranges.within(start, end):
                for at in range(a, b, MOST):
                    os.pwrite(descriptor, zeros[: min(MOST, b - at)], at)
        finally:
            os.close(descriptor)
        blob.ranges.cleared(start, end)
        blob.touch()

    @staticmethod
    def _get(blob: Blob, headers: Mapping[str, str]) -> Answer:
        size = blob.size
        wanted = asked(headers)
        start, end = (int(wanted[1]), min(int(wanted[2] or size) + 1, size)) if wanted else (0, size)
        if start >= size or end <= start:
            raise Refusal(416, "InvalidRange", "The range specified is invalid for the current size of the resource.")
        if end - start > 64 << 20:
            raise Refusal(400, "InvalidInput", "this double answers at most 64 MiB at once")
        body = blob.read(start, end)
        more = {**version(blob), "x-ms-blob-type": "PageBlob", "Accept-Ranges": "bytes"}
        if not wanted:
            return Answer(200, body, more, "application/octet-stream")
        if headers.get("x-ms-range-get-content-md5") == "true":
            if end - start > MOST:
                raise Refusal(400, "InvalidHeaderValue", "a digest is told for at most 4 MiB")
            more["Content-MD5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        more["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return Answer(206, body, more, "application/octet-stream")


def operation(method: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """Which of the service's operations a request is; empty: none that a managed disk's SAS allows."""
    comp = query.get("comp", "")
    if method == "PUT" and comp == "page":
        return {"update": "PutPage", "clear": "ClearPages"}.get(headers.get("x-ms-page-write", "").lower(), "")
    if method == "GET" and comp in ("", "pagelist"):
        return "GetPageRanges" if comp else "GetBlob"
    return "GetBlobProperties" if method == "HEAD" and not comp else ""


def asked(headers: Mapping[str, str]) -> re.Match[str] | None:
    """The range of bytes that a request names: first, and last (empty: to the end)."""
    return _RANGE.fullmatch(headers.get("x-ms-range") or headers.get("range") or "")


def first(headers: Mapping[str, str]) -> str:
    """Where the range begins that a request names; empty: it names none."""
    wanted = asked(headers)
    return wanted[1] if wanted else ""


def _bounds(headers: Mapping[str, str], size: int) -> tuple[int, int]:
    """The range of pages that a request is about, half-open."""
    wanted = asked(headers)
    if wanted is None or not wanted[2]:
        raise Refusal(400, "MissingRequiredHeader", "Range or x-ms-range is missing")
    start, end = int(wanted[1]), int(wanted[2]) + 1
    if start % PAGE or end % PAGE or end <= start or end > size:
        raise Refusal(416, "InvalidPageRange", "The page range specified is invalid.")
    return start, end


def version(blob: Blob) -> dict[str, str]:
    """What every answer says of the blob's version."""
    tag = f'"0x{int(blob.changed * 1e6):X}"'
    return {"ETag": tag, "Last-Modified": formatdate(blob.changed, usegmt=True), "x-ms-blob-sequence-number": "0"}
