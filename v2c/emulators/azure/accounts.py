"""Storage accounts: what Resource Manager shows of them, and their blob service, as far as page blobs that are staged need it.

Containers and blobs are resources like all others here, so that what is left of them is listed; a blob's bytes are a file. Every
request carries a token for the storage service, and is judged by the data actions of its caller.

Reference: Create Container, Get Container Properties, Delete Container, List Blobs, Put Blob, Set Blob Metadata, Delete Blob and
Lease Blob of the Blob service REST API.
"""

import fnmatch
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any
from urllib.parse import unquote, urlsplit

from v2c.emulators.azure import leases, pages
from v2c.emulators.azure.answers import Answer, Refusal, in_json
from v2c.emulators.azure.calls import Call, Cloud
from v2c.emulators.azure.pages import Blob
from v2c.emulators.azure.store import Resource

KIND = "Microsoft.Storage/storageAccounts"
CONTAINER = f"{KIND}/blobServices/containers"
BLOB = f"{CONTAINER}/blobs"
AUDIENCE = "https://storage.azure.com"
PLACE = "/account-"  # what the path of an account's blob service begins with
PAGE_KINDS = ("Storage", "StorageV2")
MOST = 8 << 40  # bytes of a page blob
META = "x-ms-meta-"
_DATA = f"{KIND}/blobServices/containers/blobs"
RIGHTS = {"GetBlob": "read", "GetBlobProperties": "read", "GetPageRanges": "read", "ListBlobs": "read", "DeleteBlob": "delete"}
CONTAINER_RIGHTS = {"CreateContainer": "write", "GetContainerProperties": "read", "DeleteContainer": "delete"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to an account's blob service: `key`, the blob's name, is empty when it is about a container."""

    operation: str
    account: str
    container: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    lose: str


def operation(method: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """Which of the service's operations a request is; empty: none that this double has."""
    comp = query.get("comp", "")
    if query.get("restype") == "container":
        if method == "GET" and comp == "list":
            return "ListBlobs"
        names = {"PUT": "CreateContainer", "GET": "GetContainerProperties", "HEAD": "GetContainerProperties"}
        return {**names, "DELETE": "DeleteContainer"}.get(method, "") if not comp else ""
    if method == "PUT" and comp in ("lease", "metadata"):
        return {"lease": "LeaseBlob", "metadata": "SetBlobMetadata"}[comp]
    if method == "PUT" and not comp and "x-ms-blob-type" in headers:
        return "PutBlob"
    return "DeleteBlob" if method == "DELETE" and not comp else pages.operation(method, query, headers)


# ---- Resource Manager ------------------------------------------------------------------------------------------------------


def all_of(cloud: Cloud, call: Call) -> Answer:
    """All accounts of the subscription, each with the endpoint of its blob service."""
    found = [resource.shown for resource in cloud.store.all() if resource.shown["type"] == KIND]
    return in_json(200, {"value": [_with_endpoint(shown, call.base) for shown in found]})


def _with_endpoint(shown: dict[str, Any], base: str) -> dict[str, Any]:
    endpoints = {"blob": f"{base}{PLACE}{shown['name']}/"}
    return {**shown, "properties": {**shown["properties"], "primaryEndpoints": endpoints}}


def imported(cloud: Cloud, creation: Mapping[str, Any], base: str) -> Blob:
    """The blob that a disk is to be made of; Refusal when it is not there, or the account is not what it must be."""
    if not creation.get("storageAccountId"):
        raise Refusal(400, "InvalidParameter", "Required parameter 'storageAccountId' is missing (null).")
    account = cloud.store.get(creation["storageAccountId"])
    if account is None or account.shown["type"] != KIND:
        raise Refusal(404, "ResourceNotFound", f"The Resource '{creation['storageAccountId']}' was not found.")
    if account.shown["location"] != cloud.location:
        text = f"The storage account is in {account.shown['location']}, and the disk in {cloud.location}."
        raise Refusal(400, "InvalidParameter", text)
    source = urlsplit(creation.get("sourceUri", ""))
    at = f"{PLACE}{account.shown['name']}/"
    if f"{source.scheme}://{source.netloc}" != base or not source.path.startswith(at):
        raise Refusal(400, "InvalidParameter", "The value of parameter 'sourceUri' is no blob of the storage account.")
    container, _, key = unquote(source.path[len(at) :]).partition("/")
    blob = cloud.store.get(_blob_id(account, container, key))
    if blob is None:
        raise Refusal(404, "BlobNotFound", f"The blob {creation['sourceUri']} does not exist.")
    return cloud.pages.open(blob.hidden["guid"])


# ---- the blob service ------------------------------------------------------------------------------------------------------


def answer(cloud: Cloud, asked: Asked) -> Answer:
    """One request whose token was believed."""
    account = next((r for r in cloud.store.all() if r.shown["type"] == KIND and r.shown["name"] == asked.account), None)
    if account is None:
        raise Refusal(404, "ResourceNotFound", "The specified resource does not exist.")
    if not asked.operation:
        raise Refusal(400, "UnsupportedHttpVerb", "The resource doesn't support the specified operation.")
    _allow(cloud, asked)
    if asked.key:
        return _about_blob(cloud, account, asked)
    return _about_container(cloud, account, asked)


def _allow(cloud: Cloud, asked: Asked) -> None:
    if what := CONTAINER_RIGHTS.get(asked.operation):
        wanted, given = f"{CONTAINER}/{what}", cloud.actions
    else:
        wanted, given = f"{_DATA}/{RIGHTS.get(asked.operation, 'write')}", cloud.data_actions
    if not any(fnmatch.fnmatchcase(wanted.lower(), pattern.lower()) for pattern in given):
        raise Refusal(
            403,
            "AuthorizationPermissionMismatch",
            "This request is not authorized to perform this operation using this permission.",
        )


def _about_container(cloud: Cloud, account: Resource, asked: Asked) -> Answer:
    id = _container_id(account, asked.container)
    with cloud.store.lock:
        found = cloud.store.get(id)
        if asked.operation == "CreateContainer":
            if found:
                raise Refusal(409, "ContainerAlreadyExists", "The specified container already exists.")
            shown = {"id": id, "name": asked.container, "type": CONTAINER, "tags": _metadata(asked.headers)}
            cloud.store.save(Resource(shown))
            return Answer(201, headers=_version())
        if found is None:
            raise Refusal(404, "ContainerNotFound", "The specified container does not exist.")
        if asked.operation == "GetContainerProperties":
            return Answer(200, headers={**_version(), **_told(found)})
        inside = [r for r in cloud.store.all() if r.id.lower().startswith(f"{id.lower()}/blobs/")]
        if asked.operation == "ListBlobs":
            prefix = asked.query.get("prefix", "")
            names = sorted(r.shown["name"] for r in inside if r.shown["name"].startswith(prefix))
            blobs = "".join(f"<Blob><Name>{escape(name)}</Name><Properties></Properties></Blob>" for name in names)
            attributes = f'ServiceEndpoint="{PLACE}{asked.account}/" ContainerName="{asked.container}"'
            text = f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults {attributes}><Blobs>{blobs}</Blobs><NextMarker />'
            return Answer(200, f"{text}</EnumerationResults>".encode(), type="application/xml")
        if asked.operation != "DeleteContainer":
            raise Refusal(400, "InvalidUri", "The requested URI does not represent any resource on the server.")
        for blob in inside:
            cloud.store.remove(blob.id)
            cloud.pages.forget(blob.hidden["guid"])
        cloud.store.remove(id)
        return Answer(202)


def _about_blob(cloud: Cloud, account: Resource, asked: Asked) -> Answer:
    id = _blob_id(account, asked.container, asked.key)
    with cloud.store.lock:
        if cloud.store.get(_container_id(account, asked.container)) is None:
            raise Refusal(404, "ContainerNotFound", "The specified container does not exist.")
        found = cloud.store.get(id)
        if asked.operation == "PutBlob":
            return _put(cloud, account, asked, found)
        if found is None:
            raise Refusal(404, "BlobNotFound", "The specified blob does not exist.")
        blob = cloud.pages.open(found.hidden["guid"])
        if asked.operation == "LeaseBlob":
            changed = leases.act(found, asked.headers)
            cloud.store.save(found)
            return changed
        if asked.operation in ("SetBlobMetadata", "DeleteBlob", "PutPage", "ClearPages"):
            leases.permit(found, asked.headers)
        if asked.operation == "DeleteBlob":
            cloud.store.remove(id)
            cloud.pages.forget(found.hidden["guid"])
            return Answer(202)
        if asked.operation == "SetBlobMetadata":
            found.shown["tags"] = _metadata(asked.headers)
            cloud.store.save(found)
            blob.touch()
            return Answer(200, headers=pages.version(blob))
    answer = cloud.pages.answer(asked.operation, blob, asked.headers, asked.body, lose=asked.lose)
    return replace(answer, headers={**answer.headers, **_told(found), **leases.told(found)})


def _put(cloud: Cloud, account: Resource, asked: Asked, before: Resource | None) -> Answer:
    """A page blob of zeros; of what was there nothing stays."""
    about = account.shown
    if asked.headers["x-ms-blob-type"] != "PageBlob":
        raise Refusal(400, "InvalidBlobType", "This double has page blobs only.")
    if about["kind"] not in PAGE_KINDS or about["properties"].get("isHnsEnabled"):
        raise Refusal(400, "FeatureNotSupportedForAccount", "Page blobs are not supported for the account type.")
    size = int(asked.headers.get("x-ms-blob-content-length", "-1"))
    if not 0 <= size <= MOST or size % pages.PAGE or asked.body:
        raise Refusal(400, "InvalidHeaderValue", "x-ms-blob-content-length must be a multiple of 512, and the body empty.")
    if before is not None:
        if asked.headers.get("if-none-match") == "*":
            raise Refusal(409, "BlobAlreadyExists", "The specified blob already exists.")
        leases.permit(before, asked.headers)
        cloud.pages.forget(before.hidden["guid"])
    id, guid = _blob_id(account, asked.container, asked.key), str(uuid.uuid4())
    cloud.pages.create(guid, size)
    shown = {"id": id, "name": asked.key, "type": BLOB, "tags": _metadata(asked.headers)}
    cloud.store.save(Resource(shown, {"guid": guid}))
    return Answer(201, headers={**pages.version(cloud.pages.open(guid)), "x-ms-request-server-encrypted": "true"})


def _container_id(account: Resource, name: str) -> str:
    return f"{account.id}/blobServices/default/containers/{name}"


def _blob_id(account: Resource, container: str, key: str) -> str:
    return f"{_container_id(account, container)}/blobs/{key}"


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """What the caller says of it; names are identifiers."""
    found = {name.removeprefix(META): value for name, value in headers.items() if name.startswith(META)}
    if wrong := [name for name in found if not name.isidentifier()]:
        raise Refusal(400, "InvalidMetadata", f"The metadata name {wrong[0]} is no identifier.")
    return found


def _told(resource: Resource) -> dict[str, str]:
    return {f"{META}{name}": value for name, value in resource.shown.get("tags", {}).items()}


def _version() -> dict[str, str]:
    return {"ETag": '"0x1"', "Last-Modified": "Thu, 01 Jan 1970 00:00:00 GMT"}
