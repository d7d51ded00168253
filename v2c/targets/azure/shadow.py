"""A dry run: Azure is read, and what would change it is told and remembered here, so that the next question finds it changed.

It sits under the SDK, as an adapter of its HTTP session: every client runs its own code, down to the request.
"""

import copy
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.response import HTTPResponse

from v2c.targets import Call, Tell
from v2c.targets.azure.dryblobs import DryBlobs

HOST = "dry-run.invalid"  # RFC 2606: where the SAS of a dry run point
_KIND = re.compile(r".*/providers/(?P<provider>[^/]+)/(?P<rest>.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
LONG_AGO = "Thu, 01 Jan 1970 00:00:00 GMT"
OWN = ("v2c-writer", "v2c-sealed", "v2c-etag")  # tags that hold another value in every run
Answer = tuple[int, object]


@dataclass
class Shadow:
    """What a dry run has changed: ARM ids in lower case to what a GET shows, None: gone. `pages`: ranges by disk."""

    tell: Tell
    made: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    pages: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)  # of the disks that were opened, by name
    blobs: DryBlobs = field(init=False)

    def __post_init__(self) -> None:
        self.blobs = DryBlobs(self.tell)

    def session(self) -> requests.Session:
        """An HTTP session that changes nothing."""
        session = requests.Session()
        session.mount("https://", _Adapter(self))
        return session

    # ---- Resource Manager --------------------------------------------------------------------------------------------------

    def answer(self, method: str, url: str, body: bytes, real: Callable[[str], Any]) -> Answer | None:
        """What the request gets; None: it is asked for in earnest. `real(path)`: what Azure shows there, None: nothing."""
        parts = urlsplit(url)
        path, key = parts.path, parts.path.lower()
        if method == "GET":
            return self._read(path, key, real)
        content = json.loads(body) if body else {}
        action = key.rpartition("/")[2] if method == "POST" else ""
        id = path.rpartition("/")[0] if action else path
        self.tell(Call(f"{method} {_kind(path)}", id.rpartition("/")[2], _tags(content), _detail(content)))
        before = self.made[id.lower()] if id.lower() in self.made else real(id)
        after = copy.deepcopy(before or {})
        if method == "DELETE":
            self._delete(id, before or {}, real)
            return 204, None
        if action:
            return self._act(action, id, after)
        after.update({key: value for key, value in content.items() if key != "properties"})
        after.setdefault("properties", {}).update({"provisioningState": "Succeeded", **content.get("properties", {})})
        if method == "PUT":
            after |= {"id": path, "name": path.rpartition("/")[2], "type": _kind(path)}
            self._begin(path, after, real)
        self.made[id.lower()] = after
        return 200, after

    def _read(self, path: str, key: str, real: Callable[[str], Any]) -> Answer | None:
        if key.endswith("/instanceview") and (found := self.made.get(key.rpartition("/")[0])):
            return 200, {"statuses": [{"code": f"PowerState/{found.get('power', 'running')}"}]}
        if key in self.made:
            found = self.made[key]
            return (200, found) if found is not None else (404, {"error": {"code": "ResourceNotFound", "message": "it is gone"}})
        below = [id for id in self.made if id.rpartition("/")[0] == key or key.endswith("/resources")]
        if not below or "/providers/" not in key + "/resources/providers/":
            return None
        listed = {one["id"].lower(): one for one in (real(path) or {}).get("value", [])}
        for id in below:
            listed.pop(id, None)
            if (one := self.made[id]) is not None and (id.count("/") == 8 or id.rpartition("/")[0] == key):
                listed[id] = one
        return 200, {"value": list(listed.values())}

    def _begin(self, path: str, made: dict[str, Any], real: Callable[[str], Any]) -> None:
        """What follows by itself from a creation: the state of a disk, and who holds disks and cards."""
        about = made["properties"]
        if made["type"].endswith("/disks"):
            about.setdefault("diskState", "ReadyToUpload" if about["creationData"]["createOption"] == "Upload" else "Unattached")
        for id, _ in _held(made):
            self._change(id, real, managedBy=path, diskState="Attached", virtualMachine={"id": path})

    def _delete(self, id: str, before: dict[str, Any], real: Callable[[str], Any]) -> None:
        self.made[id.lower()] = None
        for held, end in _held(before):
            if end == "Delete":
                self.made[held.lower()] = None
            else:
                self._change(held, real, managedBy=None, diskState="Unattached", virtualMachine=None)

    def _change(self, id: str, real: Callable[[str], Any], *, managedBy: str | None, **properties: object) -> None:
        found = self.made[id.lower()] if id.lower() in self.made else copy.deepcopy(real(id))
        if found is None:
            return
        if "/disks/" in id.lower():
            found["managedBy"] = managedBy
            found["properties"]["diskState"] = properties["diskState"]
        else:
            found["properties"]["virtualMachine"] = properties["virtualMachine"]
        self.made[id.lower()] = found

    def _act(self, action: str, id: str, after: dict[str, Any]) -> Answer:
        """A disk's access, a machine's power."""
        self.made[id.lower()] = after
        if action == "begingetaccess":
            after["properties"]["diskState"] = "ActiveUpload"
            self.pages.setdefault(after["name"], [])
            self.ids[after["name"]] = id.lower()
            return 200, {"accessSAS": f"https://{HOST}/disks/{after['name']}?sv=2018-03-28&sr=b&sig=none"}
        if action == "endgetaccess":
            after["properties"]["diskState"] = "Unattached"
        else:
            after["power"] = "running" if action == "start" else "deallocated"
        return 200, None

    # ---- pages -------------------------------------------------------------------------------------------------------------

    def page(self, method: str, url: str, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """A request to a disk's blob."""
        parts = urlsplit(url)
        name = parts.path.rpartition("/")[2]
        disk = self.made[self.ids[name]] or {}
        size = str(disk["properties"]["creationData"]["uploadSizeBytes"])
        told = {
            "Content-Length": size,
            "x-ms-blob-type": "PageBlob",
            "ETag": '"0"',
            "Last-Modified": "Thu, 01 Jan 1970 00:00:00 GMT",
        }
        if method == "HEAD":
            return 200, b"", told
        if method == "GET":
            ranges = "".join(f"<PageRange><Start>{a}</Start><End>{b}</End></PageRange>" for a, b in sorted(self.pages[name]))
            text = f'<?xml version="1.0" encoding="utf-8"?><PageList>{ranges}</PageList>'
            return 200, text.encode(), {**told, "Content-Length": str(len(text)), "Content-Type": "application/xml"}
        asked = _RANGE.fullmatch(headers.get("x-ms-range") or headers.get("range") or "")
        first, last = (int(asked[1]), int(asked[2])) if asked else (0, 0)
        self.tell(Call("PutPage", name, (), f"{last - first + 1} bytes"))
        self.pages[name].append((first, last))
        return 201, b"", {**told, "Content-Length": "0", "x-ms-blob-sequence-number": "0"}


class _Adapter(HTTPAdapter):
    """The HTTP of a dry run: reads go through, the rest is answered by the shadow."""

    def __init__(self, shadow: Shadow) -> None:
        super().__init__(max_retries=0)
        self.shadow = shadow

    def send(self, request: Any, *args: Any, **more: Any) -> requests.Response:
        def real(path: str) -> Any:
            asking = request.copy()
            parts = urlsplit(request.url)
            asking.method, asking.body = "GET", None
            asking.headers.pop("Content-Length", None)
            asking.url = f"{parts.scheme}://{parts.netloc}{path}?{parts.query}"
            answer = super(_Adapter, self).send(asking, *args, **{**more, "stream": False})
            return answer.json() if answer.status_code == 200 else None

        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        parts = urlsplit(request.url)
        if parts.hostname == HOST:
            headers = {key.lower(): value for key, value in request.headers.items()}
            return self._answered(request, *self.shadow.page(request.method, request.url, headers))
        if parts.path.lower().startswith("/subscriptions/"):
            found = self.shadow.answer(request.method, request.url, bytes(body), real)
            if found is not None:
                status, document = found
                text = json.dumps(document).encode() if document is not None else b""
                return self._answered(request, status, text, {"Content-Type": "application/json"})
        if "x-ms-version" in request.headers:  # said to the storage service alone
            headers = {key.lower(): value for key, value in request.headers.items()}
            told = self.shadow.blobs.answer(request.method, request.url, headers, self._stored(request, args, more))
            if told is not None:
                return self._answered(request, *told)
        return super().send(request, *args, **more)

    def _stored(self, request: Any, args: Any, more: Any) -> Callable[[str, str], tuple[int, bytes, Any]]:
        """How the storage service answers in earnest to another question of whoever asks."""

        def real(method: str, url: str) -> tuple[int, bytes, Any]:
            asking = request.copy()
            asking.method, asking.url, asking.body = method, url, None
            kept = ("authorization", "x-ms-version", "x-ms-date", "user-agent")
            for name in [name for name in asking.headers if name.lower() not in kept]:
                asking.headers.pop(name)
            answer = super(_Adapter, self).send(asking, *args, **{**more, "stream": False})
            return answer.status_code, answer.content, answer.headers

        return real

    def _answered(self, request: Any, status: int, body: bytes, headers: dict[str, str]) -> requests.Response:
        raw = HTTPResponse(io.BytesIO(body), headers, status, preload_content=False, request_method=request.method)
        return self.build_response(request, raw)


def _kind(path: str) -> str:
    """The resource's type, and the action behind it: "Microsoft.Compute/disks/beginGetAccess"."""
    found = _KIND.fullmatch(path)
    if found is None:
        return "Microsoft.Resources/resourceGroups"
    # type, name, type, name, ..., and an action where a name would be: only the names are left out
    return "/".join([found["provider"], *found["rest"].split("/")[0::2]])


def _tags(content: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in content.get("tags", {}).items() if key not in OWN))


def _detail(content: dict[str, Any]) -> str:
    about = content.get("properties", {})
    size = about.get("creationData", {}).get("uploadSizeBytes")
    words = [
        f"{size} bytes" if size else "",
        about.get("creationData", {}).get("sourceUri", "").rpartition("/")[2],
        about.get("hardwareProfile", {}).get("vmSize", ""),
        content.get("sku", {}).get("name", ""),
        content.get("access", ""),
        content.get("location", ""),
        *_where(about),
        *_security(about.get("securityProfile", {})),
    ]
    return ", ".join(word for word in words if word)


def _security(profile: dict[str, Any]) -> Iterator[str]:
    """What of a disk or a machine is more than standard."""
    if (kind := profile.get("securityType", "Standard")) != "Standard":
        yield kind
    if profile.get("uefiSettings", {}).get("secureBootEnabled"):
        yield "secure boot"


def _where(about: dict[str, Any]) -> Iterator[str]:
    """Subnet and fixed address of a network card."""
    for configuration in about.get("ipConfigurations", []):
        address = configuration["properties"]
        yield "/".join(address["subnet"]["id"].strip("/").split("/")[7::2])
        yield address.get("privateIPAddress", "")


def _held(shown: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a virtual machine holds, and what becomes of it at its end."""
    about = shown.get("properties", {})
    profile = about.get("storageProfile", {})
    for entry in (profile["osDisk"], *profile.get("dataDisks", [])) if profile else ():
        yield entry["managedDisk"]["id"], entry.get("deleteOption", "Detach")
    for entry in about.get("networkProfile", {}).get("networkInterfaces", []):
        yield entry["id"], entry.get("properties", {}).get("deleteOption", "Detach")
