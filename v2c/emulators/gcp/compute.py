"""Compute Engine but for its instances: images that are really unpacked, disks, networks, reservations, catalogues, quotas."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from v2c.emulators.gcp.archive import Unfit, unpack
from v2c.emulators.gcp.calls import Call, Verb
from v2c.emulators.gcp.operations import Failed, Operations
from v2c.emulators.gcp.storage import Storage
from v2c.emulators.gcp.store import Refusal, Store, Thing, missing, now
from v2c.emulators.gcp.usage import DISK_SIZES, DISK_TYPES, LIMITS, LIMITS_PROJECT, PROVISIONED, TYPES, used
from v2c.model import GIB

ZONES = ("a", "b", "c")
LEAST_GB = 10  # of a persistent disk (diskTypes.get, validDiskSize)
BUILT_IN = ("global/networks/default", "regions/{region}/subnetworks/default")
KINDS = ("images", "networks", "firewalls", "disks", "instances", "reservations", "subnetworks", "addresses")


class Compute:
    """Things by the path that Google names them by: "global/images/NAME", "zones/Z/disks/NAME"."""

    def __init__(self, store: Store, storage: Storage, project: str, region: str) -> None:
        self.store, self.storage, self.project, self.region = store, storage, project, region
        self.operations = Operations(store, project)
        self.folder = store.folder / "raw"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.limits, self.limits_project = dict(LIMITS), dict(LIMITS_PROJECT)
        self._built_in()
        o = self.operations
        self.verbs: dict[str, Verb] = {
            "compute.images.insert": self.image_insert,
            "compute.disks.insert": self.disk_insert,
            "compute.networks.insert": self.network_insert,
            "compute.subnetworks.insert": self.subnetwork_insert,
            "compute.firewalls.insert": self.firewall_insert,
            "compute.reservations.insert": self.reservation_insert,
            "compute.machineTypes.get": self.type_get,
            "compute.machineTypes.list": self.type_list,
            "compute.diskTypes.get": self.disk_type_get,
            "compute.zones.get": self.zone_get,
            "compute.regions.get": self.region_get,
            "compute.projects.get": self.project_get,
            **{f"compute.{scope}Operations.get": o.get for scope in ("global", "region", "zone")},
            **{f"compute.{scope}Operations.wait": o.wait for scope in ("global", "region", "zone")},
            **{f"compute.{scope}Operations.delete": o.delete for scope in ("global", "region", "zone")},
            **{f"compute.{kind}.get": self._get(kind) for kind in KINDS},
            **{f"compute.{kind}.list": self._list(kind) for kind in KINDS},
            **{f"compute.{kind}.delete": self._delete(kind) for kind in KINDS if kind != "instances"},
        }

    def _built_in(self) -> None:
        """What every project begins with: the default network."""
        with self.store.changing() as things:
            network, subnet = (key.format(region=self.region) for key in BUILT_IN)
            for key, more in ((network, {"autoCreateSubnetworks": True}), (subnet, {"ipCidrRange": "10.132.0.0/20"})):
                if key not in things:
                    kind = "network" if key == network else "subnetwork"
                    things[key] = self.made(key, {"name": "default", **more}, kind=f"compute#{kind}")
            things[subnet] |= {"network": self.link(network), "region": self.link(f"regions/{self.region}")}

    # ---- what all kinds have in common -------------------------------------------------------------------------------------

    def link(self, key: str) -> str:
        return self.operations.link(key)

    def key(self, url: str, scope: str = "") -> str:
        """The key that a full or partial URL of this project names."""
        partial = re.sub(r"^(https://(www|compute)\.googleapis\.com/)?(compute/v1/)?", "", url)
        partial = partial.removeprefix(f"projects/{self.project}/")
        if "/" not in partial or partial.startswith("projects/"):
            raise Refusal(400, "invalid", f"Invalid value for field: '{url}'. The URL is malformed.")
        if scope and not partial.startswith(f"{scope}/"):
            raise Refusal(400, "invalid", f"Invalid value for field: '{url}'. Cross-zone references are not allowed.")
        return partial

    def made(self, key: str, body: Thing, **more: object) -> Thing:
        """A thing with what the server adds to what the client said."""
        scope = key.rsplit("/", 2)[0]
        where = {"zone": self.link(scope)} if scope.startswith("zones/") else {}
        return {**body, **where, "id": str(self.store.number()), "creationTimestamp": now(), "selfLink": self.link(key), **more}

    def scope(self, call: Call) -> str:
        """Where the call's things live."""
        return next((f"{kind}s/{call.params[kind]}" for kind in ("zone", "region") if kind in call.params), "global")

    def insert(self, call: Call, kind: str, more: Thing, work: Callable[[Thing], None]) -> Thing:
        """The operation that makes a thing. 409 when there is one of that name."""
        if earlier := self.operations.repeated(call):
            return earlier
        key = f"{self.scope(call)}/{kind}/{call.body['name']}"
        with self.store.changing() as things:
            if key in things:
                raise Refusal(409, "alreadyExists", f"The resource 'projects/{self.project}/{key}' already exists")
            things[key] = thing = self.made(key, call.body, kind=f"compute#{singular(kind)}", **more)

        def working() -> None:
            try:
                work(thing)
            except BaseException:
                with self.store.changing() as things:
                    things.pop(key, None)
                raise

        return self.operations.begin(call, self.scope(call), "insert", key, working)

    def _get(self, kind: str) -> Verb:
        def get(call: Call) -> Thing:
            with self.store.lock:
                return shown(self.store.get(f"{self.scope(call)}/{kind}/{call.params[singular(kind)]}"))

        return get

    def _list(self, kind: str) -> Verb:
        def listed(call: Call) -> Thing:
            found = [shown(thing) for _, thing in self.store.under(f"{self.scope(call)}/{kind}/")]
            kept = [thing for thing in found if _matches(call.query.get("filter", ""), thing)]
            return {"kind": f"compute#{singular(kind)}List", "id": kind, "items": kept, "selfLink": self.link(kind)}

        return listed

    def _delete(self, kind: str) -> Verb:
        def delete(call: Call) -> Thing:
            if earlier := self.operations.repeated(call):
                return earlier
            key = f"{self.scope(call)}/{kind}/{call.params[singular(kind)]}"
            self.store.get(key)
            if user := self._user(key):
                what = f"The resource '{self.link(key)}' is already being used by '{user}'"
                raise Refusal(400, "resourceInUseByAnotherResource", what)

            def work() -> None:
                with self.store.changing() as things:
                    if (thing := things.pop(key, None)) and thing.get("_raw"):
                        (self.folder / thing["_raw"]).unlink(missing_ok=True)

            return self.operations.begin(call, self.scope(call), "delete", key, work)

        return delete

    def _user(self, key: str) -> str:
        """Who still uses the thing."""
        link = self.link(key)
        if "/addresses/" in key:
            return str(next(iter(self.store.get(key).get("users", ())), ""))
        for other, thing in self.store.under(""):
            uses = [
                *(thing.get(k) for k in ("network", "subnetwork")),
                *(n.get(k) for n in thing.get("networkInterfaces", ()) for k in ("network", "subnetwork")),
            ]
            uses += [disk.get("source") for disk in thing.get("disks", ())]
            if other != key and link in uses:
                return str(thing.get("selfLink", other))
        return ""

    # ---- images and disks --------------------------------------------------------------------------------------------------

    def image_insert(self, call: Call) -> Thing:
        """From an archive in Cloud Storage."""
        self.quota_project("IMAGES", 1, len(self.store.under("global/images/")))
        source = call.body.get("rawDisk", {}).get("source", "")
        named = re.fullmatch(r"https://storage\.googleapis\.com/([^/]+)/(.+)", source)
        if named is None:
            raise Refusal(400, "invalid", f"Invalid value for field 'resource.rawDisk.source': '{source}'.")
        if call.body["rawDisk"].get("containerType", "TAR") != "TAR":
            raise Refusal(400, "invalid", "Invalid value for field 'resource.rawDisk.containerType'.")

        def work(image: Thing) -> None:
            raw = f"image-{image['id']}"
            try:
                size = unpack(self.storage.path(self.storage.object(named[1], named[2])), self.folder / raw)
            except (Unfit, Refusal) as error:
                (self.folder / raw).unlink(missing_ok=True)
                raise Failed("INVALID_IMAGE", str(error)) from error
            with self.store.changing():
                image |= {"status": "READY", "_raw": raw, "diskSizeGb": str(size // GIB)}
                image["archiveSizeBytes"] = self.storage.object(named[1], named[2])["size"]

        return self.insert(call, "images", {"status": "PENDING", "sourceType": "RAW"}, work)

    def disk_insert(self, call: Call) -> Thing:
        """From an image, or empty."""
        image = self.key(call.body["sourceImage"], "global") if "sourceImage" in call.body else ""
        scope = self.scope(call)
        more = {"status": "CREATING"}

        def work(disk: Thing) -> None:
            self.fill(disk, image, int(call.body.get("sizeGb", 0)))

        kind = self.key(call.body["type"], scope).rsplit("/", 1)[1] if "type" in call.body else "pd-standard"
        if kind not in DISK_TYPES:
            raise missing(f"projects/{self.project}/{scope}/diskTypes/{kind}")
        return self.insert(call, "disks", {**more, "type": self.link(f"{scope}/diskTypes/{kind}")}, work)

    def fill(self, disk: Thing, image: str, size_gb: int) -> None:
        """Gives a disk its bytes; Failed when its image is not there or it is too small."""
        raw = f"disk-{disk['id']}"
        features: list[Thing] = []
        kind = disk["type"].rsplit("/", 1)[1]
        least = DISK_SIZES.get(kind, (LEAST_GB, 65536))[0]
        if size_gb and size_gb < least:
            raise Failed("INVALID_FIELD_VALUE", f"Disk size: '{size_gb}' must be at least {least} GB.")
        for field, kinds in PROVISIONED.items():
            if field in disk and kind not in kinds:
                raise Failed("INVALID_FIELD_VALUE", f"{field} is not supported for disks of the type {kind}.")
        if image:
            made = self.store.things.get(image)
            if made is None or made["status"] != "READY":
                raise Failed("RESOURCE_NOT_FOUND", f"The resource '{image}' was not found or is not ready")
            size_gb = size_gb or max(LEAST_GB, int(made["diskSizeGb"]))
            if size_gb < int(made["diskSizeGb"]):
                raise Failed("INVALID_FIELD_VALUE", f"Requested disk size {size_gb} GB is smaller than the image's")
            (self.folder / raw).hardlink_to(
                self.folder / made["_raw"]
            )  # nobody writes to it: boots write to a layer of their own
            if size_gb > int(made["diskSizeGb"]):
                _copy(self.folder / made["_raw"], self.folder / raw, size_gb * GIB)
            features = made.get("guestOsFeatures", [])
        else:
            with (self.folder / raw).open("wb") as empty:
                empty.truncate(size_gb * GIB)
        metric = DISK_TYPES[kind]
        if used(self.store, metric) - int(disk.get("sizeGb", 0)) + size_gb > self.limits[metric]:
            (self.folder / raw).unlink()
            raise Failed("QUOTA_EXCEEDED", f"Quota '{metric}' exceeded. Limit: {self.limits[metric]} in region {self.region}.")
        with self.store.changing():
            disk |= {"status": "READY", "_raw": raw, "sizeGb": str(size_gb), "guestOsFeatures": features}
            disk |= {"sourceImage": self.link(image)} if image else {}

    # ---- networks ----------------------------------------------------------------------------------------------------------

    def network_insert(self, call: Call) -> Thing:
        self.quota_project("NETWORKS", 1, len(self.store.under("global/networks/")))
        return self.insert(call, "networks", {}, lambda _: None)

    def subnetwork_insert(self, call: Call) -> Thing:
        network = self.key(call.body["network"])
        self.store.get(network)
        if not re.fullmatch(r"\d+\.\d+\.\d+\.\d+/(2[0-9]|1[0-9]|[89])", call.body.get("ipCidrRange", "")):
            raise Refusal(400, "invalid", "Invalid value for field 'resource.ipCidrRange'.")
        more = {"network": self.link(network), "region": self.link(self.scope(call))}
        return self.insert(call, "subnetworks", more, lambda _: None)

    def firewall_insert(self, call: Call) -> Thing:
        network = self.key(call.body.get("network", "global/networks/default"))
        self.store.get(network)
        if bool(call.body.get("allowed")) == bool(call.body.get("denied")):
            raise Refusal(400, "invalid", "Exactly one of allowed and denied must be given.")
        return self.insert(call, "firewalls", {"network": self.link(network)}, lambda _: None)

    # ---- capacity and catalogues -------------------------------------------------------------------------------------------

    def reservation_insert(self, call: Call) -> Thing:
        kind = call.body.get("specificReservation", {}).get("instanceProperties", {}).get("machineType", "")
        if all(name != kind for name, *_ in TYPES):
            raise missing(f"projects/{self.project}/{self.scope(call)}/machineTypes/{kind}")

        def work(reservation: Thing) -> None:
            if call.fault == "capacity":
                raise Failed("ZONE_RESOURCE_POOL_EXHAUSTED", f"The zone '{self.scope(call)}' does not have enough resources.")
            with self.store.changing():
                reservation["status"] = "READY"

        return self.insert(call, "reservations", {"status": "CREATING"}, work)

    def quota_project(self, metric: str, more: int, used: int) -> None:
        """403 when the project would hold more than it may."""
        if used + more > self.limits_project[metric]:
            limit = self.limits_project[metric]
            raise Refusal(403, "quotaExceeded", f"Quota '{metric}' exceeded. Limit: {limit} globally.")

    def type(self, name: str, scope: str) -> Thing:
        """A machine type of a zone; 404."""
        self._zone(scope.removeprefix("zones/"))
        for number, (known, vcpus, memory, shared) in enumerate(TYPES):
            if known == name:
                return {
                    **{"kind": "compute#machineType", "id": str(1000 + number), "name": known, "guestCpus": vcpus},
                    **{"memoryMb": memory, "isSharedCpu": shared, "architecture": "X86_64", "maximumPersistentDisks": 128},
                    **{"zone": scope.removeprefix("zones/"), "selfLink": self.link(f"{scope}/machineTypes/{known}")},
                }
        raise missing(f"projects/{self.project}/{scope}/machineTypes/{name}")

    def type_get(self, call: Call) -> Thing:
        return self.type(call.params["machineType"], self.scope(call))

    def type_list(self, call: Call) -> Thing:
        items = [self.type(name, self.scope(call)) for name, *_ in TYPES]
        return {"kind": "compute#machineTypeList", "id": "types", "items": items, "selfLink": self.link("machineTypes")}

    def disk_type_get(self, call: Call) -> Thing:
        self._zone(call.params["zone"])
        name = call.params["diskType"]
        if name not in DISK_TYPES:
            raise missing(f"projects/{self.project}/{self.scope(call)}/diskTypes/{name}")
        link = self.link(f"{self.scope(call)}/diskTypes/{name}")
        least, most = DISK_SIZES.get(name, (LEAST_GB, 65536))
        return {"kind": "compute#diskType", "name": name, "validDiskSize": f"{least}GB-{most}GB", "selfLink": link}

    def _zone(self, name: str) -> None:
        if name not in [f"{self.region}-{letter}" for letter in ZONES]:
            raise missing(f"projects/{self.project}/zones/{name}")

    def zone_get(self, call: Call) -> Thing:
        self._zone(call.params["zone"])
        region = self.link(f"regions/{self.region}")
        return {"kind": "compute#zone", "id": "1", "name": call.params["zone"], "status": "UP", "region": region}

    def region_get(self, call: Call) -> Thing:
        if call.params["region"] != self.region:
            raise missing(f"projects/{self.project}/regions/{call.params['region']}")
        quotas = [{"metric": m, "limit": limit, "usage": used(self.store, m)} for m, limit in self.limits.items()]
        return {"kind": "compute#region", "id": "1", "name": self.region, "status": "UP", "quotas": quotas}

    def project_get(self, call: Call) -> Thing:
        held = {"IMAGES": "global/images/", "NETWORKS": "global/networks/", "FIREWALLS": "global/firewalls/"}
        quotas = [
            {"metric": m, "limit": limit, "usage": float(len(self.store.under(held[m])) if m in held else 0)}
            for m, limit in self.limits_project.items()
        ]
        return {"kind": "compute#project", "id": "1", "name": self.project, "quotas": quotas}


def singular(kind: str) -> str:
    """ "image" of "images", "address" of "addresses"."""
    return kind.removesuffix("es" if kind.endswith("sses") else "s")


def shown(thing: Thing) -> Thing:
    """A thing without the double's own notes."""
    return {key: value for key, value in thing.items() if not key.startswith("_")}


def _matches(filter: str, thing: Thing) -> bool:
    """The small part of the filter language that clients of v2c use: labels.KEY=VALUE, labels.KEY:*, name=VALUE,
    description=VALUE."""
    if not filter:
        return True
    if there := re.fullmatch(r"labels\.([a-z0-9_-]+):\*", filter):
        return there[1] in thing.get("labels", {})
    named = re.fullmatch(r'(labels\.[a-z0-9_-]+|name|description)\s*(?:=|eq)\s*"?([^"]*?)"?', filter)
    if named is None:
        raise Refusal(400, "invalid", f"Invalid value for field 'filter': '{filter}'. Invalid list filter expression.")
    field, value = named[1], named[2]
    found = thing.get("labels", {}).get(field[7:]) if field.startswith("labels.") else thing.get(field)
    return bool(found == value)


def _copy(image: Path, disk: Path, size: int) -> None:
    """A larger disk needs bytes of its own; holes stay holes."""
    disk.unlink()
    with image.open("rb") as old, disk.open("wb") as new:
        new.truncate(size)
        at, end = 0, image.stat().st_size
        while at < end:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: holes to the end
                return
            stop = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            while at < stop:
                at += os.copy_file_range(old.fileno(), new.fileno(), min(stop - at, GIB), at, at)
