"""Instances: launched from an image's snapshots, booted for real, and shown with the guest's own console and screen."""

import base64
import threading
from collections.abc import Iterator
from typing import Any

from v2c.emulators.aws import cards, types
from v2c.emulators.aws.cards import network
from v2c.emulators.aws.cloud import Call, Cloud, Operation, dry
from v2c.emulators.aws.store import Record, filtered, new_id, tags_for
from v2c.emulators.aws.wire import Refusal
from v2c.emulators.machines import Hardware
from v2c.errors import V2cError
from v2c.model import Firmware

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
STANDARD_VCPUS = 64.0  # of a fresh account here; AWS gives 5 and raises it
CONSOLE = 64 * 1024  # bytes of console that GetConsoleOutput keeps

_INSTANCE = {
    "instance-id": lambda i: [i["InstanceId"]],
    "instance-state-name": lambda i: [i["State"]["Name"]],
    "image-id": lambda i: [i["ImageId"]],
    "instance-type": lambda i: [i["InstanceType"]],
    "client-token": lambda i: [i.get("ClientToken", "")],
    "subnet-id": lambda i: [i["SubnetId"]],
    "vpc-id": lambda i: [i["VpcId"]],
    "private-ip-address": lambda i: [i["PrivateIpAddress"]],
    "instance.group-id": lambda i: [group["GroupId"] for group in i["SecurityGroups"]],
}


def state(instance: Record, name: str) -> Record:
    """The change to a state."""
    return {"State": {"Code": CODES[name], "Name": name}}


def instances(cloud: Cloud, region: str) -> dict[str, Record]:
    """All, as they are by now: one whose guest powered off is stopped."""
    found = cloud.store.table(region, "instances")
    for id, instance in found.items():
        if instance["State"]["Name"] == "running" and instance.get("_booted") and not cloud.machines.alive(id):
            reason = {"Code": "Client.InstanceInitiatedShutdown", "Message": "Instance initiated shutdown"}
            instance |= {**state(instance, "stopped"), "StateReason": reason}
    return found


def vcpus(cloud: Cloud, region: str) -> float:
    """Processors of the running standard instances."""
    running = [i for i in instances(cloud, region).values() if i["State"]["Name"] in ("pending", "running")]
    return float(
        sum(types.named(i["InstanceType"])["VCpuInfo"]["DefaultVCpus"] for i in running if types.standard(i["InstanceType"]))
    )


def run_instances(cloud: Cloud, call: Call) -> Any:
    """One instance. The same token gives the same one, other arguments under it are refused."""
    params, region = call.params, call.region
    if (params["MinCount"], params["MaxCount"]) != (1, 1):
        raise Refusal("InvalidParameterValue", "this emulator launches one instance at a time")
    token = params.get("ClientToken", "")
    wanted = repr(sorted((key, value) for key, value in params.items() if key != "DryRun"))
    with cloud.store.lock:
        known = instances(cloud, region)
        for instance in known.values():
            if token and instance.get("ClientToken") == token and not params.get("DryRun"):
                if instance["_wanted"] != wanted:
                    raise Refusal("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent")
                return {
                    "ReservationId": instance["_reservation"],
                    "OwnerId": cloud.account,
                    "Instances": [_shown(cloud, region, instance)],
                }
        image = cloud.store.get(region, "images", params.get("ImageId", ""), "InvalidAMIID.NotFound")
        if image["State"] != "available":
            raise Refusal("InvalidAMIID.Unavailable", f"The image ID '{image['ImageId']}' is not yet available")
        kind = types.named(params.get("InstanceType", "m1.small"))
        mode = types.fits(image, kind, params.get("InstanceType", "m1.small"))
        wanted_cards = cards.wanted(cloud, call, kind)
        subnet, public = wanted_cards[0].subnet, wanted_cards[0].public
        if params.get("KeyName") and params["KeyName"] not in network(cloud, region).keypairs:
            raise Refusal("InvalidKeyPair.NotFound", f"The key pair '{params['KeyName']}' does not exist")
        limit = cloud.quotas.get("L-1216C47A", STANDARD_VCPUS)
        if types.standard(kind["InstanceType"]) and vcpus(cloud, region) + kind["VCpuInfo"]["DefaultVCpus"] > limit:
            raise Refusal("VcpuLimitExceeded", f"You have requested more vCPU capacity than your current limit of {limit:.0f}")
        tags = {what: tags_for(params, what, ("instance", "volume", "network-interface")) for what in ("instance", "volume")}
        _reserved(cloud, call, kind["InstanceType"], image["PlatformDetails"])
        dry(call)
        if call.fault == "capacity":
            raise Refusal("InsufficientInstanceCapacity", "There is no Spot capacity ... insufficient capacity.", 500)
        id = new_id("i")
        volumes = [_volume(cloud, call, mapping, id, subnet, tags["volume"]) for mapping in _mappings(image, params)]
        first = cards.attached(cloud, region, wanted_cards, id)[0]
        public = str(subnet.map_public_ip_on_launch).lower() == "true" if public is None else public
        instance = {
            "InstanceId": id,
            "ImageId": image["ImageId"],
            "InstanceType": kind["InstanceType"],
            "Architecture": image["Architecture"],
            "LaunchTime": cloud.now(),
            "ClientToken": token,
            "SubnetId": subnet.id,
            "VpcId": subnet.vpc_id,
            "PrivateIpAddress": first["PrivateIpAddress"],
            **({"PublicIpAddress": f"203.0.113.{len(known) % 250 + 1}"} if public else {}),
            "SecurityGroups": first["Groups"],
            "Placement": {"AvailabilityZone": subnet.availability_zone, "Tenancy": "default"},
            **({"Platform": image["Platform"]} if "Platform" in image else {}),
            "RootDeviceName": image["RootDeviceName"],
            "RootDeviceType": "ebs",
            "VirtualizationType": image["VirtualizationType"],
            "EnaSupport": image["EnaSupport"],
            "Hypervisor": "xen",
            "BlockDeviceMappings": [
                {"DeviceName": v["Attachments"][0]["Device"], "Ebs": {"VolumeId": v["VolumeId"], "Status": "attached"}}
                for v in volumes
            ],
            "MetadataOptions": {"State": "applied", "HttpTokens": "optional", **params.get("MetadataOptions", {})},
            **({"BootMode": image["BootMode"]} if "BootMode" in image else {}),
            "CurrentInstanceBootMode": mode,
            "Tags": tags["instance"],
            **state({}, "pending"),
            "_wanted": wanted,
            "_reservation": new_id("r"),
        }
        if params.get("IamInstanceProfile"):
            named = params["IamInstanceProfile"].get("Name", "")
            instance["IamInstanceProfile"] = {"Arn": f"arn:aws:iam::{cloud.account}:instance-profile/{named}"}
        cloud.store.table(region, "volumes").update({volume["VolumeId"]: volume for volume in volumes})
        known[id] = instance
        cloud.store.later(instance, cloud.pace.pending_s, **state({}, "running"))
        cloud.store.save()
        threading.Thread(target=_boot, args=(cloud, region, instance, kind, volumes), daemon=True, name=f"boot-{id}").start()
        return {
            "ReservationId": instance["_reservation"],
            "OwnerId": cloud.account,
            "Instances": [_shown(cloud, region, instance)],
        }


def _mappings(image: Record, params: Record) -> Iterator[Record]:
    """The image's mappings, each with what the launch says about it, then the launch's own."""
    said = {mapping.get("DeviceName", ""): mapping for mapping in params.get("BlockDeviceMappings", [])}
    for mapping in image["BlockDeviceMappings"]:
        over = said.pop(mapping["DeviceName"], {})
        if "NoDevice" in over:
            continue
        if over.get("Ebs", {}).get("SnapshotId", mapping["Ebs"].get("SnapshotId")) != mapping["Ebs"].get("SnapshotId"):
            raise Refusal("InvalidBlockDeviceMapping", "snapshotId can only be modified on EBS devices without one")
        if over.get("Ebs", {}).get("VolumeSize", mapping["Ebs"]["VolumeSize"]) < mapping["Ebs"]["VolumeSize"]:
            raise Refusal("InvalidBlockDeviceMapping", "Volume of size is smaller than snapshot")
        yield {"DeviceName": mapping["DeviceName"], "Ebs": {**mapping["Ebs"], **over.get("Ebs", {})}}
    for name, mapping in said.items():
        if "Ebs" in mapping:
            yield {"DeviceName": name, "Ebs": {"VolumeType": "gp2", "DeleteOnTermination": False, **mapping["Ebs"]}}


def _volume(cloud: Cloud, call: Call, mapping: Record, instance: str, subnet: Any, tags: list[Record]) -> Record:
    ebs, id = mapping["Ebs"], new_id("vol")
    attachment = {
        "VolumeId": id,
        "InstanceId": instance,
        "Device": mapping["DeviceName"],
        "State": "attached",
        "AttachTime": cloud.now(),
        "DeleteOnTermination": ebs["DeleteOnTermination"],
    }
    return {
        "VolumeId": id,
        "Size": ebs["VolumeSize"],
        "VolumeType": ebs["VolumeType"],
        **{key: ebs[key] for key in ("Iops", "Throughput") if key in ebs},
        "SnapshotId": ebs.get("SnapshotId", ""),
        "AvailabilityZone": subnet.availability_zone,
        "State": "in-use",
        "CreateTime": cloud.now(),
        "Encrypted": bool(ebs.get("Encrypted") or ebs.get("KmsKeyId")),
        "Attachments": [attachment],
        "Tags": tags,
    }


def _boot(cloud: Cloud, region: str, instance: Record, kind: Record, volumes: list[Record]) -> None:
    """Starts the guest from the raw files of its snapshots; the machine writes to a layer that is thrown away."""
    with cloud.store.lock:
        snapshots = cloud.store.table(region, "snapshots")
        order = sorted(volumes, key=lambda v: v["Attachments"][0]["Device"] != instance["RootDeviceName"])
        held = [snapshots[v["SnapshotId"]] for v in order if v["SnapshotId"] in snapshots]
        disks = [(f"disk{number}", cloud.blocks(snapshot).path) for number, snapshot in enumerate(held)]
        nics = len(cards.of(cloud, region, instance["InstanceId"]))
    hardware = Hardware(
        platform="aws",
        firmware=Firmware.UEFI if instance["CurrentInstanceBootMode"] == "uefi" else Firmware.BIOS,
        memory_mib=kind["MemoryInfo"]["SizeInMiB"],
        vcpus=kind["VCpuInfo"]["DefaultVCpus"],
        nics=max(1, nics),
    )
    try:
        cloud.machines.start(instance["InstanceId"], disks, hardware)
        instance["_booted"] = True
    except (V2cError, OSError) as error:
        reason = {"Code": "Server.InternalError", "Message": f"Server.InternalError: {error}"}
        instance |= {**state(instance, "terminated"), "StateReason": reason, "_next": []}
        with cloud.store.lock:
            cards.released(cloud, region, instance["InstanceId"])
        return
    if instance["State"]["Name"] in ("shutting-down", "terminated"):  # it was ended while it started
        cloud.machines.stop(instance["InstanceId"])


def _shown(cloud: Cloud, region: str, instance: Record) -> Record:
    """With its network interfaces as they are by now."""
    return {**instance, "NetworkInterfaces": cards.of(cloud, region, instance["InstanceId"])}


def terminate_instances(cloud: Cloud, call: Call) -> Any:
    """Ends them; their volumes go with them where they were to."""
    with cloud.store.lock:
        known = instances(cloud, call.region)
        for id in call.params["InstanceIds"]:
            if id not in known:
                raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{id}' does not exist")
        dry(call)
        told = []
        for id in call.params["InstanceIds"]:
            instance, before = known[id], dict(known[id]["State"])
            if before["Name"] not in ("terminated", "shutting-down"):
                reason = {"Code": "Client.UserInitiatedShutdown", "Message": "Client.UserInitiatedShutdown: ..."}
                instance |= {**state(instance, "shutting-down"), "StateReason": reason, "_next": []}
                cloud.store.later(instance, cloud.pace.ending_s, **state({}, "terminated"))
                _release(cloud, call.region, id)
            told.append({"InstanceId": id, "CurrentState": instance["State"], "PreviousState": before})
        cloud.store.save()
    for id in call.params["InstanceIds"]:
        cloud.machines.stop(id)
    return {"TerminatingInstances": told}


def _release(cloud: Cloud, region: str, instance: str) -> None:
    cards.released(cloud, region, instance)
    volumes = cloud.store.table(region, "volumes")
    for id, volume in list(volumes.items()):
        for attachment in volume["Attachments"]:
            if attachment["InstanceId"] == instance:
                if attachment["DeleteOnTermination"]:
                    del volumes[id]
                else:
                    volume |= {"State": "available", "Attachments": []}


def _chosen(cloud: Cloud, call: Call) -> list[Record]:
    known, wanted = instances(cloud, call.region), call.params.get("InstanceIds")
    for id in wanted or []:
        if id not in known:
            raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{id}' does not exist")
    return [instance for id, instance in known.items() if not wanted or id in wanted]


def describe_instances(cloud: Cloud, call: Call) -> Any:
    """Each in a reservation of its own; the terminated ones are shown for a while, as EC2 does for an hour."""
    dry(call)
    with cloud.store.lock:
        found = filtered(_chosen(cloud, call), call.params.get("Filters", []), _INSTANCE)
        shown = [(i["_reservation"], _shown(cloud, call.region, i)) for i in found]
        return {"Reservations": [{"ReservationId": id, "OwnerId": cloud.account, "Instances": [one]} for id, one in shown]}


def describe_instance_status(cloud: Cloud, call: Call) -> Any:
    """Status checks: reachability is what the guest's console lets one guess, so it is told as "initializing" until it prints."""
    dry(call)
    with cloud.store.lock:
        found = [i for i in _chosen(cloud, call) if i["State"]["Name"] == "running" or call.params.get("IncludeAllInstances")]
    shown = []
    for instance in found:
        running = instance["State"]["Name"] == "running"
        ready = running and "login:" in cloud.machines.console(instance["InstanceId"])
        system = {"Status": "ok" if running else "not-applicable", "Details": [{"Name": "reachability", "Status": "passed"}]}
        word = "ok" if ready else "initializing" if running else "not-applicable"
        guest = {"Status": word, "Details": [{"Name": "reachability", "Status": "passed" if ready else "initializing"}]}
        shown.append(
            {
                "InstanceId": instance["InstanceId"],
                "AvailabilityZone": instance["Placement"]["AvailabilityZone"],
                "InstanceState": instance["State"],
                "SystemStatus": system,
                "InstanceStatus": guest,
            }
        )
    return {"InstanceStatuses": shown}


def get_console_output(cloud: Cloud, call: Call) -> Any:
    """The last 64 KiB of the guest's own serial console; only Nitro gives the latest."""
    with cloud.store.lock:
        known = instances(cloud, call.region)
        id = call.params["InstanceId"]
        if id not in known:
            raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{id}' does not exist")
        dry(call)
        nitro = types.named(known[id]["InstanceType"]).get("Hypervisor") == "nitro"
    if call.params.get("Latest") and not nitro:
        raise Refusal("UnsupportedOperation", "This instance type does not support retrieving the latest console logs")
    text = cloud.machines.console(id).encode("utf-8", "replace")[-CONSOLE:]
    return {"InstanceId": id, "Timestamp": cloud.now(), "Output": base64.b64encode(text).decode()}


def get_console_screenshot(cloud: Cloud, call: Call) -> Any:
    """The guest's screen. A PNG where EC2 gives a JPEG: nothing here writes JPEGs."""
    with cloud.store.lock:
        id = call.params["InstanceId"]
        if id not in instances(cloud, call.region):
            raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{id}' does not exist")
        dry(call)
    if not cloud.machines.alive(id):
        raise Refusal("IncorrectInstanceState", "The instance is not running")
    return {"InstanceId": id, "ImageData": base64.b64encode(cloud.machines.screenshot(id)).decode()}


def _reserved(cloud: Cloud, call: Call, kind: str, platform: str) -> None:
    """A launch into a capacity reservation must fit it."""
    target = call.params.get("CapacityReservationSpecification", {}).get("CapacityReservationTarget", {})
    if id := target.get("CapacityReservationId", ""):
        found = cloud.store.get(call.region, "reservations", id, "InvalidCapacityReservationId.NotFound")
        if found["State"] != "active" or (found["InstanceType"], found["InstancePlatform"]) != (kind, platform):
            raise Refusal("ReservationCapacityExceeded", f"The requested reservation {id} does not have sufficient capacity")


OPERATIONS: dict[str, Operation] = {
    "RunInstances": run_instances,
    "TerminateInstances": terminate_instances,
    "DescribeInstances": describe_instances,
    "DescribeInstanceStatus": describe_instance_status,
    "GetConsoleOutput": get_console_output,
    "GetConsoleScreenshot": get_console_screenshot,
}
