"""Instances: made of disks that exist or of images, and really booted; console and screen are the guest's own."""

import base64

from v2c.emulators.gcp.calls import Call, Verb
from v2c.emulators.gcp.cards import Cards
from v2c.emulators.gcp.compute import Compute
from v2c.emulators.gcp.operations import Failed
from v2c.emulators.gcp.store import Refusal, Thing
from v2c.emulators.gcp.usage import DISK_TYPES, PROVISIONED, TAKES, counts, used
from v2c.emulators.machines import Hardware, Machines
from v2c.model import MIB, Firmware

RING = MIB  # bytes of a serial port that are kept
GRACE_S = 3.0  # Google gives 90 s to the power button; a rehearsal does not wait for it


class Instances:
    """ "zones/Z/instances/NAME" in the store."""

    def __init__(self, compute: Compute, machines: Machines) -> None:
        self.compute, self.store, self.machines = compute, compute.store, machines
        self.cards = Cards(compute)
        with self.store.changing() as things:  # what ran ended with the double
            for key, thing in things.items():
                if "/instances/" in key and thing["status"] != "TERMINATED":
                    thing["status"] = "TERMINATED"
        self.verbs: dict[str, Verb] = {
            "compute.instances.insert": self.insert,
            "compute.addresses.insert": self.cards.address_insert,
            "compute.instances.delete": self.delete,
            "compute.instances.start": self.start,
            "compute.instances.stop": self.stop,
            "compute.instances.setDiskAutoDelete": self.auto_delete,
            "compute.instances.getSerialPortOutput": self.serial,
            "compute.instances.getScreenshot": self.screenshot,
        }

    # ---- making ------------------------------------------------------------------------------------------------------------

    def insert(self, call: Call) -> Thing:
        if earlier := self.compute.operations.repeated(call):
            return earlier
        scope = self.compute.scope(call)
        kind = self.compute.type(self.compute.key(call.body["machineType"], scope).rsplit("/", 1)[1], scope)
        if not call.body.get("disks") or not call.body["disks"][0].get("boot"):
            raise Refusal(400, "invalid", "Invalid value for field 'resource.disks': the first disk must be the boot disk.")
        for disk in call.body["disks"]:
            if bool(disk.get("source")) == bool(disk.get("initializeParams")):
                raise Refusal(400, "invalid", "Exactly one of source and initializeParams must be given for each disk.")
        nics = self.cards.asked(call.body.get("networkInterfaces", ()), int(kind["guestCpus"]))
        for account in call.body.get("serviceAccounts", ()):
            if "@" not in account.get("email", ""):
                raise Refusal(400, "invalid", f"Invalid service account '{account.get('email', '')}'.")
        more = {
            **{"status": "PROVISIONING", "networkInterfaces": nics, "machineType": kind["selfLink"], "_vcpus": kind["guestCpus"]},
            **{"_memory": kind["memoryMb"], "cpuPlatform": "Intel Cascade Lake"},
        }

        def work(instance: Thing) -> None:
            if call.fault == "capacity":
                raise Failed("ZONE_RESOURCE_POOL_EXHAUSTED", f"The zone '{scope}' does not have enough resources available.")
            self._quota(instance)
            made: list[str] = []
            try:
                self.cards.settle(instance)
                self._step(instance, "STAGING")
                disks = [self._disk(scope, instance, disk, made) for disk in call.body["disks"]]
                with self.store.changing():
                    instance["disks"] = disks
                self._boot(scope, instance)
            except BaseException:
                for key in made:
                    self._forget(key)
                self.cards.freed(instance)
                raise

        return self.compute.insert(call, "instances", more, work)

    def _quota(self, instance: Thing) -> None:
        name = instance["machineType"].rsplit("/", 1)[1]
        for metric, limit in self.compute.limits.items():
            if metric.endswith("CPUS") and counts(name, metric) and used(self.store, metric) > limit:
                raise Failed("QUOTA_EXCEEDED", f"Quota '{metric}' exceeded. Limit: {limit} in region {self.compute.region}.")

    def _disk(self, scope: str, instance: Thing, about: Thing, made: list[str]) -> Thing:
        """The attached disk, made of its image where it is not there yet."""
        attached: Thing = {key: value for key, value in about.items() if key != "initializeParams"}
        if about.get("source"):
            key = self.compute.key(about["source"], scope)
            disk = self.store.things.get(key)
            if disk is None or disk["status"] != "READY":
                raise Failed("RESOURCE_NOT_FOUND", f"The resource '{key}' was not found")
            if disk.get("users"):
                raise Failed("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", f"The disk '{key}' is already being used")
        else:
            params = about["initializeParams"]
            key = f"{scope}/disks/{params.get('diskName', instance['name'])}"
            kind = self.compute.key(params.get("diskType", f"{scope}/diskTypes/pd-standard"), scope)
            if kind.rsplit("/", 1)[1] not in DISK_TYPES:
                raise Failed("RESOURCE_NOT_FOUND", f"The resource '{kind}' was not found")
            body = {"name": key.rsplit("/", 1)[1], "type": self.compute.link(kind), "labels": params.get("labels", {})}
            body |= {field: params[field] for field in PROVISIONED if field in params}
            with self.store.changing() as things:
                if key in things:
                    raise Failed("RESOURCE_ALREADY_EXISTS", f"The resource '{key}' already exists")
                things[key] = disk = self.compute.made(key, body, kind="compute#disk", status="CREATING")
            made.append(key)
            self.compute.fill(disk, self.compute.key(params["sourceImage"], "global"), int(params.get("diskSizeGb", 0)))
        machine, kind = (thing.rsplit("/", 1)[1] for thing in (instance["machineType"], disk["type"]))
        if not kind.startswith(TAKES.get(machine.partition("-")[0], ("",))):
            raise Failed("UNSUPPORTED_OPERATION", f"[{kind}, {machine}] features are not compatible for creating instance.")
        with self.store.changing():
            disk["users"] = [instance["selfLink"]]
        features = {"guestOsFeatures": disk.get("guestOsFeatures", [])}
        return {**attached, **features, "source": disk["selfLink"], "kind": "compute#attachedDisk", "diskSizeGb": disk["sizeGb"]}

    def _boot(self, scope: str, instance: Thing) -> None:
        disks = [self.store.get(self.compute.key(disk["source"], scope)) for disk in instance["disks"]]
        uefi = {"type": "UEFI_COMPATIBLE"} in disks[0].get("guestOsFeatures", [])
        hardware = Hardware(
            "gcp",
            Firmware.UEFI if uefi else Firmware.BIOS,
            memory_mib=instance["_memory"],
            vcpus=instance["_vcpus"],
            nics=len(instance["networkInterfaces"]),
        )
        raws = [(disk["name"], self.compute.folder / disk["_raw"]) for disk in disks]
        self.machines.start(instance["id"], raws, hardware)
        self._step(instance, "RUNNING")

    def _step(self, instance: Thing, status: str) -> None:
        with self.store.changing():
            instance["status"] = status

    # ---- ending and beginning again ----------------------------------------------------------------------------------------

    def delete(self, call: Call) -> Thing:
        if earlier := self.compute.operations.repeated(call):
            return earlier
        key, instance = self._wanted(call)
        if instance.get("deletionProtection"):
            raise Refusal(412, "conditionNotMet", f"Resource cannot be deleted if it's protected against deletion: '{key}'")

        def work() -> None:
            self._step(instance, "STOPPING")
            self.machines.stop(instance["id"])
            for attached in instance.get("disks", ()):
                disk = self.compute.key(attached["source"])
                with self.store.changing() as things:
                    if disk in things:
                        things[disk]["users"] = []
                if attached.get("autoDelete"):
                    self._forget(disk)
            self.cards.freed(instance)
            with self.store.changing() as things:
                things.pop(key, None)

        return self.compute.operations.begin(call, self.compute.scope(call), "delete", key, work)

    def _forget(self, key: str) -> None:
        with self.store.changing() as things:
            disk = things.pop(key, None)
        if disk and disk.get("_raw"):
            (self.compute.folder / disk["_raw"]).unlink(missing_ok=True)

    def start(self, call: Call) -> Thing:
        key, instance = self._wanted(call)
        scope = self.compute.scope(call)
        return self.compute.operations.begin(call, scope, "start", key, lambda: self._boot(scope, instance))

    def stop(self, call: Call) -> Thing:
        key, instance = self._wanted(call)

        def work() -> None:
            self._step(instance, "STOPPING")
            self.machines.stop(instance["id"], GRACE_S)
            self._step(instance, "TERMINATED")

        return self.compute.operations.begin(call, self.compute.scope(call), "stop", key, work)

    def auto_delete(self, call: Call) -> Thing:
        key, instance = self._wanted(call)
        named = [disk for disk in instance["disks"] if disk.get("deviceName") == call.query["deviceName"]]
        if not named:
            raise Refusal(400, "invalid", f"No attached disk found with device name '{call.query['deviceName']}'")

        def work() -> None:
            with self.store.changing():
                named[0]["autoDelete"] = call.query["autoDelete"] == "true"

        return self.compute.operations.begin(call, self.compute.scope(call), "setDiskAutoDelete", key, work)

    # ---- looking at it -----------------------------------------------------------------------------------------------------

    def serial(self, call: Call) -> Thing:
        _, instance = self._wanted(call)
        said = self.machines.console(instance["id"]).encode() if int(call.query.get("port", 1)) == 1 else b""
        oldest = max(0, len(said) - RING)
        start = int(call.query.get("start", 0))
        start = max(oldest, start if start >= 0 else len(said) + start)
        told = said[start:]
        return {
            **{"kind": "compute#serialPortOutput", "start": str(start), "next": str(start + len(told))},
            **{"contents": told.decode(errors="replace"), "selfLink": f"{instance['selfLink']}/serialPort"},
        }

    def screenshot(self, call: Call) -> Thing:
        _, instance = self._wanted(call)
        if not instance.get("displayDevice", {}).get("enableDisplay"):
            raise Refusal(400, "invalid", "Display device is not enabled on the instance.")
        picture = self.machines.screenshot(instance["id"])
        if not picture:
            raise Refusal(400, "resourceNotReady", "The instance shows nothing.")
        return {"kind": "compute#screenshot", "contents": base64.b64encode(picture).decode()}

    def _wanted(self, call: Call) -> tuple[str, Thing]:
        key = f"{self.compute.scope(call)}/instances/{call.params['instance']}"
        instance = self.store.get(key)
        if instance["status"] == "RUNNING" and not self.machines.alive(instance["id"]):
            self._step(instance, "TERMINATED")  # the guest switched itself off
        return key, instance
