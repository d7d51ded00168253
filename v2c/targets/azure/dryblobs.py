"""A storage account in a dry run: what would be made lies beside what there is, what would be removed is hidden."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape, unescape
from urllib.parse import parse_qsl, unquote, urlsplit

from v2c.targets import Call, Tell

Answer = tuple[int, bytes, dict[str, str]]
Real = Callable[[str, str], tuple[int, bytes, Mapping[str, str]]]  # (method, URL) -> what the service answers in earnest
META = "x-ms-meta-"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_PAGES = re.compile(r"<Start>(\d+)</Start>\s*<End>(\d+)</End>")
_STATUS = {"DeleteBlob": 202, "DeleteContainer": 202, "SetBlobMetadata": 200, "break": 202, "release": 200}
_VERSION = {"ETag": '"0x0"', "Last-Modified": "Thu, 01 Jan 1970 00:00:00 GMT"}  # the same in every dry run


@dataclass
class _Thing:
    """A container, or a blob: bytes, metadata, and the pages that it holds."""

    size: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    pages: list[tuple[int, int]] = field(default_factory=list)


class DryBlobs:
    """Things that a dry run has changed, by their URL; None: gone."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._made: dict[str, _Thing | None] = {}

    def answer(self, method: str, url: str, headers: Mapping[str, str], real: Real) -> Answer | None:
        """What the request gets; None: it is asked for in earnest."""
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        at = f"{parts.scheme}://{parts.netloc}{parts.path}"
        container = "restype" in query
        if method in ("GET", "HEAD"):
            if query.get("comp") == "list":
                return self._list(at, query.get("prefix", ""), url, real)
            told = self._read(at, query.get("comp", ""), container)
            return (told[0], b"", told[2]) if told and method == "HEAD" else told
        name = unquote(parts.path.partition("/")[2])
        metadata = {key: value for key, value in headers.items() if key.startswith(META)}
        operation, detail = self._change(method, at, query.get("comp", ""), headers, metadata, container, real)
        tags = sorted((key.removeprefix(META).replace("_", "-"), value) for key, value in metadata.items())
        self._tell(Call(operation, name, tuple(tags), detail))
        status = _STATUS.get(detail if operation == "LeaseBlob" else operation, 201)
        return status, b"", {**_VERSION, "x-ms-lease-id": headers.get("x-ms-proposed-lease-id", "")}

    def _change(
        self, method: str, at: str, comp: str, headers: Mapping[str, str], metadata: dict[str, str], container: bool, real: Real
    ) -> tuple[str, str]:
        """The operation, and what else matters about it."""
        if method == "DELETE":
            self._made[at] = None
            return ("DeleteContainer" if container else "DeleteBlob"), ""
        if container:
            self._made[at] = _Thing(metadata=metadata)
            return "CreateContainer", ""
        if not comp:
            size = int(headers.get("x-ms-blob-content-length", "0"))
            self._made[at] = _Thing(size, metadata)
            return "PutBlob", f"{size} bytes"
        thing = self._found(at, real) or _Thing()
        if comp == "metadata":
            thing.metadata = metadata
            return "SetBlobMetadata", ""
        if comp == "lease":
            return "LeaseBlob", headers.get("x-ms-lease-action", "")
        wanted = _RANGE.fullmatch(headers.get("x-ms-range") or headers.get("range") or "")
        first, last = (int(wanted[1]), int(wanted[2])) if wanted else (0, 0)
        if headers.get("x-ms-page-write", "").lower() == "clear":
            return "ClearPages", f"{last - first + 1} bytes"
        thing.pages.append((first, last))
        return "PutPage", f"{last - first + 1} bytes"

    def _found(self, at: str, real: Real) -> _Thing | None:
        """What is there, remembered from now on; None: nothing."""
        if at not in self._made:
            status, _, told = real("HEAD", at)
            if status != 200:
                return None
            low = {key.lower(): value for key, value in told.items()}
            metadata = {key: value for key, value in low.items() if key.startswith(META)}
            _, listed, _ = real("GET", f"{at}?comp=pagelist")
            ranges = [(int(first), int(last)) for first, last in _PAGES.findall(listed.decode())]
            self._made[at] = _Thing(int(low.get("content-length", "0")), metadata, ranges)
        return self._made[at]

    def _read(self, at: str, comp: str, container: bool) -> Answer | None:
        above = at.partition("/v2c/")[0]  # of a blob of ours: its container
        if at not in self._made:
            # a container that this dry run made or removed holds nothing but what it put there
            return _absent("BlobNotFound") if above != at and above in self._made else None
        if (thing := self._made[at]) is None:
            return _absent("ContainerNotFound" if container else "BlobNotFound")
        if comp == "pagelist":
            pages = "".join(f"<PageRange><Start>{a}</Start><End>{b}</End></PageRange>" for a, b in sorted(thing.pages))
            text = f'<?xml version="1.0" encoding="utf-8"?><PageList>{pages}</PageList>'.encode()
            return 200, text, {**_VERSION, "Content-Type": "application/xml", "Content-Length": str(len(text))}
        more = (
            {}
            if container
            else {"x-ms-blob-type": "PageBlob", "x-ms-lease-state": "available", "Content-Length": str(thing.size)}
        )
        return 200, b"", {**_VERSION, **thing.metadata, **more}

    def _list(self, at: str, prefix: str, url: str, real: Real) -> Answer:
        """The sum of both."""
        if at in self._made and self._made[at] is None:
            return _absent("ContainerNotFound")
        status, body, _ = (404, b"", {}) if at in self._made else real("GET", url)
        if status != 200 and at not in self._made:
            return _absent("ContainerNotFound")
        names = {unescape(name) for name in re.findall(r"<Name>([^<]*)</Name>", body.decode())}
        for path, thing in self._made.items():
            name = unquote(path[len(at) + 1 :]) if path.startswith(f"{at}/") else ""
            if name.startswith(prefix) and name:
                names = names - {name} if thing is None else names | {name}
        blobs = "".join(f"<Blob><Name>{escape(name)}</Name><Properties></Properties></Blob>" for name in sorted(names))
        text = (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>{blobs}</Blobs><NextMarker /></EnumerationResults>'
        )
        return 200, text.encode(), {**_VERSION, "Content-Type": "application/xml"}


def _absent(code: str) -> Answer:
    text = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>it is not there</Message></Error>'
    return 404, text.encode(), {"x-ms-error-code": code, "Content-Type": "application/xml"}
