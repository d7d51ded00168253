"""What a run would change at Google, told instead of done: the same verbs over a session that answers as if it had been done."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from v2c.blocks import Block, BlockMap
from v2c.journal import Journal
from v2c.model import Disk, Plan, Ref
from v2c.targets import Call, Tell
from v2c.targets.gcp import GcpTarget, names
from v2c.targets.gcp.place import Place
from v2c.targets.gcp.resumable import STATE
from v2c.targets.gcp.session import ApiError, Session
from v2c.targets.writers.part import CHUNK
from v2c.transfer import DiskWriter

Thing = dict[str, Any]
MADE = {"images": "READY", "disks": "READY", "reservations": "READY", "instances": "RUNNING"}
MADE["addresses"] = "RESERVED"


class DrySession(Session):
    """Reads the real place; what would be changed lies in here, above it. Things by "compute/global/images/NAME" and
    "storage/b/BUCKET/o/NAME"."""

    def __init__(self, real: Session, tell: Tell) -> None:
        super().__init__(real.project, real.endpoints, real.patience)
        self.real, self.tell = real, tell
        self.made: dict[str, Thing] = {}
        self.gone: set[str] = set()

    def json(self, method: str, url: str, body: Any, query: Mapping[str, str]) -> Any:
        if method == "GET" or url.endswith((":testIamPermissions", "/wait")):
            return self._read(method, url, body, query)
        return self._change(method, self._key(url), body or {})

    def _key(self, url: str) -> str:
        compute, storage = f"{self.endpoints.compute}/projects/{self.project}", f"{self.endpoints.storage}/storage/v1"
        if url.startswith(compute):
            return f"compute{url.removeprefix(compute)}"
        return f"storage{unquote(url.removeprefix(storage))}" if url.startswith(storage) else url

    def _read(self, method: str, url: str, body: Any, query: Mapping[str, str]) -> Any:
        key = self._key(url)
        if key in self.made:
            return self.made[key]
        if key in self.gone:
            raise ApiError(404, "notFound", f"{key} is gone")
        if not _many(key):
            return self.real.json(method, url, body, query)
        try:
            found = self.real.json(method, url, body, query)
        except ApiError as error:
            if error.status != 404:
                raise
            found = {}
        items = [thing for thing in found.get("items", []) if not {f"{key}/{thing['name']}"} & {*self.gone, *self.made}]
        return {**found, "items": [*items, *(thing for thing in self._under(key) if _wanted(thing, query))]}

    def _under(self, key: str) -> Iterator[Thing]:
        yield from (thing for other, thing in self.made.items() if other.startswith(f"{key}/"))

    def _change(self, method: str, key: str, body: Thing) -> Thing:
        kind, name = _kind(key)
        if method == "DELETE":
            return self._removed(key, kind, name)
        if not _many(key) and key != "storage/b":
            verb = key.rpartition("/")[2]
            self.tell(Call(f"{kind}.{verb}", name))
            return _done(self.project, key)
        self.tell(Call(f"{kind}.insert", body["name"], _tags(body), _detail(kind, body)))
        where = f"{key}/{body['name']}"
        link = f"{self.endpoints.compute}/projects/{self.project}/{where.removeprefix('compute/')}"
        self.made[where] = {**body, "status": MADE.get(kind.rpartition(".")[2], ""), "selfLink": link}
        self.gone.discard(where)
        if kind == "compute.instances":
            for disk in body["disks"]:
                params = disk["initializeParams"]
                at = where.replace("/instances/", "/disks/").rpartition("/")[0] + f"/{params['diskName']}"
                self.made[at] = {
                    "name": params["diskName"],
                    "labels": params["labels"],
                    "users": [link],
                    "auto": disk["autoDelete"],
                }
        return self.made[where] if key.startswith("storage") else _done(self.project, key)

    def _removed(self, key: str, kind: str, name: str) -> Thing:
        self.tell(Call(f"{kind}.delete", name))
        if kind == "compute.instances":
            self._with_its_disks(key)
        if kind == "storage.buckets":
            for other in [other for other in self.made if other.startswith(f"{key}/")]:
                self.made.pop(other)
        self.made.pop(key, None)
        self.gone.add(key)
        return {} if key.startswith("storage") else _done(self.project, key)

    def _with_its_disks(self, key: str) -> None:
        """The disks that an instance takes along."""
        above, _, name = key.rpartition("/instances/")
        for other, disk in list(self.made.items()):
            if any(user.endswith(f"/instances/{name}") for user in disk.get("users", ())):
                if disk.get("auto"):
                    self.made.pop(other)
                    self.gone.add(other)
                else:
                    disk["users"] = []
        if key not in self.made:
            there = self.real.compute("GET", key.removeprefix("compute/"))
            for disk in there.get("disks", ()):
                if disk.get("autoDelete"):
                    self.gone.add(f"{above}/disks/{disk['source'].rpartition('/')[2]}")


class DryTarget(GcpTarget):
    """The verbs of the target, over such a session; only the upload has a stand-in."""

    def __init__(self, place: Place, tell: Tell) -> None:
        self.session = DrySession(place.session, tell)
        super().__init__(replace(place, session=self.session))

    @contextmanager
    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> Iterator[DiskWriter]:
        number, planned = next((n, p) for n, p in enumerate(plan.disks) if p.disk == disk.id)
        ref = self._staged(journal.job, number, disk.id, planned.target_size)
        if ref not in journal.refs("disk"):
            with journal.intent("disk", ref.id, names.labels(journal.job)) as intent:
                intent.done(ref)
        yield DryWriter(self.session, ref)

    def _forget(self, bucket: str, name: str) -> None:
        """What this machine remembers of the real upload stays."""


class DryWriter:
    """Takes blocks and sends none; the object, where it is not whole already, is told once."""

    chunk = CHUNK

    def __init__(self, session: DrySession, ref: Ref) -> None:
        self._session, self._ref = session, ref
        bucket, _, name = ref.id.removeprefix("gs://").partition("/")
        self._key, self._name = f"storage/b/{bucket}/o/{name}", name
        try:
            found = session.object("GET", bucket, name)
        except ApiError:
            found = {}
        self._whole = found.get("metadata", {}).get(STATE) == "whole"

    def expect(self, indexes: Sequence[int]) -> None:
        """Nothing to prepare."""

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        return iter(() if self._whole else list(blocks.written()))

    def put(self, index: int, data: Block, digest: bytes) -> None:
        """Not sent."""

    def flush(self) -> None:
        """Nothing waits."""

    def commit(self) -> Ref:
        if not self._whole:
            told = {names.TAG: self._ref["job"], names.NUMBER: self._ref["number"], STATE: "whole"}
            told |= {"v2c-disk-id": self._ref["disk"], "v2c-size": self._ref["size"]}
            detail = "one resumable upload of a tar.gz that holds disk.raw"
            self._session.tell(Call("storage.objects.insert", self._name, ((names.TAG, self._ref["job"]),), detail))
            self._session.made[self._key] = {"name": self._name, "metadata": told}
            self._whole = True
        return self._ref

    def abandon(self) -> None:
        """Nothing was written."""


def _many(key: str) -> bool:
    """Whether a key is that of a list: "compute/global/images", "compute/zones/Z/disks", "storage/b/BUCKET/o"."""
    parts = key.split("/")
    if parts[0] == "storage":
        return len(parts) == 4 and parts[3] == "o"
    return len(parts) == (3 if parts[1:2] == ["global"] else 4)


def _kind(key: str) -> tuple[str, str]:
    """("compute.images", "NAME") of a key, whatever it is of."""
    parts = key.split("/")
    if parts[0] == "storage":
        return ("storage.objects", "/".join(parts[4:])) if len(parts) > 3 else ("storage.buckets", parts[-1])
    at = 2 if parts[1] == "global" else 3
    return f"compute.{parts[at]}", parts[at + 1] if len(parts) > at + 1 else ""


def _wanted(thing: Thing, query: Mapping[str, str]) -> bool:
    """Whether a list's filter (of a tag) or prefix takes what would be made."""
    if "prefix" in query:
        return str(thing["name"]).startswith(query["prefix"])
    return "filter" not in query or names.tagged(thing) == query["filter"].rstrip('"').rpartition("=")[2]


def _tags(body: Thing) -> tuple[tuple[str, str], ...]:
    job = names.tagged(body)
    return ((names.TAG, job),) if job else ()


def _detail(kind: str, body: Thing) -> str:
    if kind == "compute.instances":
        disks = ", ".join(f"{d['initializeParams']['diskName']} {d['initializeParams']['diskSizeGb']} GB" for d in body["disks"])
        return f"{body['machineType'].rpartition('/')[2]}; {disks}"
    if kind == "compute.addresses":
        return str(body["address"])
    if kind == "compute.images":
        return f"from {body['rawDisk']['source'].removeprefix('https://storage.googleapis.com/')}"
    if kind == "compute.reservations":
        return f"for {int(body['deleteAfterDuration']['seconds']) // 3600} h"
    return f"{body['direction'].lower()} denied" if kind == "compute.firewalls" else ""


def _done(project: str, key: str) -> Thing:
    return {"status": "DONE", "selfLink": f"/projects/{project}/{key}"}
