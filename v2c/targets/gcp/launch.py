"""From images to an instance: the test in a network of its own that leads nowhere, the real one in the user's subnet."""

import base64
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from v2c import state
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import Observation, Placement, Plan, Ref
from v2c.targets.gcp import cards, names
from v2c.targets.gcp.cards import TEST
from v2c.targets.gcp.catalogue import catalogue
from v2c.targets.gcp.place import Place, gigabytes
from v2c.targets.gcp.session import ApiError, failures, refused

ROLE = "v2c-role"
CUTOVER = "cutover"
PICTURE_S = 3.0  # between screenshots
ALIVE = frozenset({"PROVISIONING", "STAGING", "RUNNING", "REPAIRING", "PENDING"})
CAPACITY = "capacity"  # the reservation's name ends in it


class Launcher:
    """Instances of one place. What their consoles said is kept here: the service keeps the last MB only."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._said: dict[str, tuple[int, list[str]]] = {}
        self._pictured: dict[str, float] = {}

    # ---- launching ---------------------------------------------------------------------------------------------------------

    def launch(self, plan: Plan, image: Ref, placement: Placement, type: str, journal: Journal, meter: Meter) -> Ref:
        job, place = journal.job, self.place
        name = place.instance_name(plan, cutover=placement.cutover)
        role = CUTOVER if placement.cutover else TEST
        ref = Ref.of("instance", name, job=job, role=role)
        boot = self._image(image, type)
        numbers = [int(image["number"]), *(n for n in range(len(plan.disks)) if n != int(image["number"]))]
        with ExitStack() as stack, meter.phase("start"):
            if placement.cutover or not placement.isolated:  # a test that may reach the network is where the real one will be
                if placement.cutover:
                    list(cards.hold(place, plan, journal))
                nics = cards.real(place, plan, cutover=placement.cutover)
            else:
                nics = cards.isolated(place, plan, journal)
            disks = []
            volumes = []
            for number in numbers:
                volume = Ref.of("volume", f"{name[:59].rstrip('-')}-{number}", job=job, role=role)
                if volume not in journal.refs("volume"):
                    volumes.append((stack.enter_context(journal.intent("volume", volume.id, names.labels(job))), volume))
                disks.append(self._disk(plan, number, volume.id, first=number == numbers[0], role=role, job=job))
            body = self._body(name, type, disks, nics, role, plan, boot)
            if ref not in journal.refs("instance"):
                intent = stack.enter_context(journal.intent("instance", name, names.labels(job)))
                volumes.append((intent, ref))
            self._start(name, body, job)
            for intent, made in volumes:
                intent.done(made)
        return ref

    def _image(self, image: Ref, type: str) -> dict[str, Any]:
        """The boot image; TargetError when it is gone, or the type has a card that the guest cannot drive."""
        found = self.place.ours(f"global/images/{image.id}", image["job"])
        if found is None:
            raise TargetError(f"the image {image.id} is gone", remedy="run the command again with --again")
        drives = {feature["type"] for feature in found.get("guestOsFeatures", [])}
        if catalogue().series_of(type).gvnic and "GVNIC" not in drives:
            text = f"the type {type} has gVNIC for its only network card, and the guest has no driver (gve) for it"
            raise TargetError(text, remedy="choose a type of the series n2, n2d or e2 (?type=)")
        return found

    def _disk(self, plan: Plan, number: int, name: str, *, first: bool, role: str, job: str) -> dict[str, Any]:
        place, planned = self.place, plan.disks[number]
        return {
            "boot": first,
            "autoDelete": first or role == TEST,
            "deviceName": f"v2c-{number}",
            "mode": "READ_WRITE",
            **({"diskEncryptionKey": {"kmsKeyName": place.kms}} if place.kms else {}),
            "initializeParams": {
                "diskName": name,
                "sourceImage": place.full(f"global/images/{names.name(plan, str(number))}"),
                "diskSizeGb": str(gigabytes(planned.target_size)),
                "diskType": place.full(place.in_zone("diskTypes", place.type_of(planned))),
                **({"provisionedIops": str(planned.iops)} if planned.iops else {}),
                **({"provisionedThroughput": str(planned.throughput)} if planned.throughput else {}),
                "labels": {**dict(plan.tags), **names.labels(job, v2c_role=role)},
            },
        }

    def _body(
        self,
        name: str,
        type: str,
        disks: list[dict[str, Any]],
        nics: list[dict[str, Any]],
        role: str,
        plan: Plan,
        boot: dict[str, Any],
    ) -> dict[str, Any]:
        """No external address, no service account but for the real instance, serial port and display on."""
        place, job = self.place, plan.job
        series = catalogue().series_of(type)
        body: dict[str, Any] = {
            "name": name,
            "machineType": place.full(place.in_zone("machineTypes", type)),
            "disks": disks,
            "networkInterfaces": [{**nic, "nicType": "GVNIC" if series.gvnic else "VIRTIO_NET"} for nic in nics],
            "metadata": {"items": [{"key": "serial-port-enable", "value": "TRUE"}]},
            "displayDevice": {"enableDisplay": True},
            "labels": {**dict(plan.tags), **names.labels(job, v2c_role=role)},
        }
        if {"type": "UEFI_COMPATIBLE"} in boot.get("guestOsFeatures", []):
            # unasked without: drivers of lifted guests are seldom signed
            shield = {"enableSecureBoot": place.secure_boot, "enableVtpm": True, "enableIntegrityMonitoring": False}
            body["shieldedInstanceConfig"] = shield
        if role == CUTOVER:
            if place.account:
                scopes = ["https://www.googleapis.com/auth/cloud-platform"]
                body["serviceAccounts"] = [{"email": place.account, "scopes": scopes}]
            if place.reserve_hours:
                chosen = {"key": "compute.googleapis.com/reservation-name", "values": [names.name(plan, CAPACITY)]}
                body["reservationAffinity"] = {"consumeReservationType": "SPECIFIC_RESERVATION", **chosen}
        return body

    def _start(self, name: str, body: dict[str, Any], job: str) -> None:
        place = self.place
        path = place.in_zone("instances")
        found = place.ours(f"{path}/{name}", job)
        if found is None:
            self._said.pop(name, None)
            place.make(path, body, job)
        elif found["status"] in ("TERMINATED", "SUSPENDED"):
            with place.telling(f"the instance {name} was not started"):
                place.session.done(place.session.change("POST", f"{path}/{name}/start"))
        until = time.monotonic() + 600
        while (now := place.look(f"{path}/{name}")) is None or now["status"] in ("PROVISIONING", "STAGING"):
            if time.monotonic() > until:
                raise TargetError(f"the instance {name} does not start", remedy="look at it in the console", transient=True)
            time.sleep(0.5)

    # ---- looking at it -----------------------------------------------------------------------------------------------------

    def observe(self, instance: Ref) -> Observation:
        path = self.place.in_zone("instances", instance.id)
        found = self.place.look(path)
        if found is None:
            return Observation("gone", alive=False, console=self._console(instance.id))
        alive = found["status"] in ALIVE
        try:
            self._listen(instance.id, path)
            picture = self._picture(instance.id, path, alive)
        except failures() as error:
            if not isinstance(error, ApiError) or error.status not in (400, 404):  # not ready, or gone meanwhile
                raise refused(error, f"the console of {instance.id} cannot be read") from error
            picture = ""
        addresses = tuple(nic["networkIP"] for nic in found.get("networkInterfaces", ()) if nic.get("networkIP"))
        return Observation(found["status"].lower(), alive, self._console(instance.id), picture, addresses)

    def _console(self, name: str) -> str:
        return "".join(self._said.get(name, (0, []))[1])

    def _listen(self, name: str, path: str) -> None:
        """What the first serial port said since the last time, from where that ended."""
        start, pieces = self._said.setdefault(name, (0, []))
        while True:
            told = self.place.session.compute("GET", f"{path}/serialPort", port="1", start=str(start))
            if int(told.get("start", start)) > start:
                pieces.append("\n[the service kept no more of what came before]\n")
            text, start = told.get("contents", ""), int(told.get("next", start))
            if not text:
                break
            pieces.append(text)
        self._said[name] = (start, pieces)

    def _picture(self, name: str, path: str, alive: bool) -> str:
        file = state.private_folder(state.default_folder() / "screens") / f"{name}.png"
        if alive and time.monotonic() - self._pictured.get(name, -PICTURE_S) >= PICTURE_S:
            self._pictured[name] = time.monotonic()
            told = self.place.session.compute("GET", f"{path}/screenshot")
            _write(file, base64.b64decode(told.get("contents", "")))
        return str(file) if file.exists() else ""

    # ---- ending it ---------------------------------------------------------------------------------------------------------

    def stop(self, instance: Ref, journal: Journal) -> None:
        """A test and all that was made for it are gone; the real instance stays."""
        if instance.get("role") == CUTOVER:
            return
        made = [ref for kind in ("volume", "firewall", "subnetwork", "network") for ref in journal.refs(kind)]
        self.remove_instance(instance)
        journal.undone(instance)
        for ref in made:
            if ref.get("role", TEST) == TEST:
                self.remove(ref)
                journal.undone(ref)

    def remove(self, ref: Ref) -> None:
        """A volume, an address, a firewall rule, a subnet or a network; what uses it and is of the same job goes first."""
        place, job = self.place, ref.get("job")
        path = {
            "volume": place.in_zone("disks", ref.id),
            "address": place.in_region("addresses", ref.id),
            "firewall": f"global/firewalls/{ref.id}",
            "subnetwork": place.in_region("subnetworks", ref.id),
            "network": f"global/networks/{ref.id}",
        }[ref.kind]
        found = place.ours(path, job)
        if found is None:
            return
        if ref.kind in ("volume", "address"):
            for user in found.get("users", []):
                self.remove_instance(Ref.of("instance", user.rpartition("/")[2], job=job))
        if ref.kind in ("network", "subnetwork"):
            for other in self._users(found["selfLink"], ref, job):
                self.remove_instance(other) if other.kind == "instance" else self.remove(other)
        place.remove(path)

    def _users(self, link: str, ref: Ref, job: str) -> Iterator[Ref]:
        place = self.place
        for found in place.session.page(place.in_zone("instances"), filter=f"labels.{names.TAG}={job}"):
            if any(
                names.same(link, nic.get(kind, "")) for nic in found["networkInterfaces"] for kind in ("network", "subnetwork")
            ):
                yield Ref.of("instance", found["name"], job=job)
        if ref.kind == "network":
            for kind, path in (("firewall", "global/firewalls"), ("subnetwork", place.in_region("subnetworks"))):
                for found in place.session.page(path, filter=f'description="{names.described(job)}"'):
                    if not names.same(link, found["network"]):
                        continue
                    yield Ref.of(kind, found["name"], job=job)

    def remove_instance(self, ref: Ref) -> None:
        path = self.place.in_zone("instances", ref.id)
        if self.place.ours(path, ref.get("job")) is not None:
            self.place.remove(path)


def _write(file: Path, data: bytes) -> None:
    if data:
        new = file.with_name(f"{file.name}.new")
        new.touch(mode=0o600)
        new.write_bytes(data)
        new.replace(file)
