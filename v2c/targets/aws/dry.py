"""A session for dry runs: reads the real account, tells every call that would change something, and goes on as if it had.

What was made lies here beside what there is, what was removed is hidden, and listings show the sum: so the target's own code runs
on, and the list of calls is what it would do.
"""

from collections.abc import Iterator
from typing import Any

from v2c.targets import Call, Tell
from v2c.targets.aws import drys3
from v2c.targets.aws.drys3 import DryS3
from v2c.targets.aws.names import devices, tagged
from v2c.targets.aws.session import ApiError, Passing, Session

Record = dict[str, Any]

# how things are listed: method -> (the answer's list, the id in an entry, the parameter that names ids, an absent id's code)
LISTS = {
    "describe_snapshots": ("Snapshots", "SnapshotId", "SnapshotIds", "InvalidSnapshot.NotFound"),
    "describe_images": ("Images", "ImageId", "ImageIds", "InvalidAMIID.NotFound"),
    "describe_security_groups": ("SecurityGroups", "GroupId", "GroupIds", "InvalidGroup.NotFound"),
    "describe_volumes": ("Volumes", "VolumeId", "VolumeIds", "InvalidVolume.NotFound"),
    "describe_instances": ("Reservations", "InstanceId", "InstanceIds", "InvalidInstanceID.NotFound"),
    "describe_capacity_reservations": (
        "CapacityReservations",
        "CapacityReservationId",
        "CapacityReservationIds",
        "InvalidCapacityReservationId.NotFound",
    ),
    "describe_network_interfaces": (
        "NetworkInterfaces",
        "NetworkInterfaceId",
        "NetworkInterfaceIds",
        "InvalidNetworkInterfaceID.NotFound",
    ),
    "describe_import_image_tasks": ("ImportImageTasks", "ImportTaskId", "ImportTaskIds", "InvalidConversionTaskId.Malformed"),
    "describe_import_snapshot_tasks": (
        "ImportSnapshotTasks",
        "ImportTaskId",
        "ImportTaskIds",
        "InvalidConversionTaskId.Malformed",
    ),
}
_SUBJECT = (
    *("Name", "GroupName", "SnapshotId", "ImageId", "GroupId", "VolumeId", "CapacityReservationId", "InstanceType"),
    *("PrivateIpAddress", "NetworkInterfaceId"),
)
_GONE = {
    "delete_snapshot": "SnapshotId",
    "deregister_image": "ImageId",
    "delete_security_group": "GroupId",
    "delete_volume": "VolumeId",
    "delete_network_interface": "NetworkInterfaceId",
    "cancel_capacity_reservation": "CapacityReservationId",
    "cancel_import_task": "ImportTaskId",
}


class DrySession(Session):
    """Like the session it reads by. One for each dry run."""

    dry = True

    def __init__(self, real: Session, tell: Tell) -> None:
        super().__init__(real.region, real.profile)
        self.real, self.tell = real, tell
        self._made: dict[str, dict[str, Record]] = {method: {} for method in LISTS}
        self._changed: dict[str, Record] = {}
        self._gone: set[str] = set()
        self._s3 = DryS3(real)

    def client(self, service: str) -> Any:
        return self.real.client(service)

    def probe(self, service: str, method: str, **params: Any) -> Record:
        return self.real.probe(service, method, **params)

    def call(self, service: str, method: str, passing: Passing | None = None, *, patient: bool = True, **params: Any) -> Record:
        if method in LISTS:
            return self._listed(service, method, params)
        if service == "s3" and method in drys3.READS:
            return self._s3.read(method, params)
        if service == "s3" and method in drys3.CHANGES:
            self.tell(Call("".join(part.capitalize() for part in method.split("_")), *drys3.about(method, params)))
            return self._s3.change(method, params)
        change = getattr(self, f"_{method}", None)
        if method in _GONE or change is not None:
            self.tell(Call("".join(part.capitalize() for part in method.split("_")), *_about(method, params)))
            if method in _GONE:
                self._gone.add(params[_GONE[method]])
                return {}
            answer: Record = change(params) if change else {}
            return answer
        return self.real.call(service, method, passing, patient=patient, **params)

    # ---- what would be there -----------------------------------------------------------------------------------------------

    def _listed(self, service: str, method: str, params: Record) -> Record:
        members, id, named, absent = LISTS[method]
        wanted = params.get(named)
        made = self._made[method]
        there: list[Record] = []
        ask = {**params, named: [one for one in wanted if one not in made]} if wanted else params
        if not wanted or ask[named]:
            answer = self.real.call(service, method, **ask)
            there = [thing for group in answer[members] for thing in group.get("Instances", [group])]
            if "NextToken" in answer:
                there += list(_rest(self.real, service, method, members, params, answer["NextToken"]))
        mine = [thing for thing in made.values() if (not wanted or thing[id] in wanted) and _matches(thing, params)]
        found = [thing | self._changed.get(thing[id], {}) for thing in (*there, *mine) if thing[id] not in self._gone]
        if wanted and not found:
            raise ApiError(f"{wanted[0]} is gone", code=absent)
        return {members: [{"Instances": [thing]} for thing in found] if method == "describe_instances" else found}

    def _new(self, method: str, prefix: str, **about: Any) -> Record:
        made = self._made[method]
        id = f"{prefix}-new-{len(made) + 1}"
        made[id] = {LISTS[method][1]: id, **about}
        return made[id]

    # ---- calls, answered as if they had been made --------------------------------------------------------------------------

    def _start_snapshot(self, params: Record) -> Record:
        return self._new("describe_snapshots", "snap", State="pending", Tags=params["Tags"], VolumeSize=params["VolumeSize"])

    def _put_snapshot_block(self, params: Record) -> Record:
        return {}

    def _complete_snapshot(self, params: Record) -> Record:
        self._changed[params["SnapshotId"]] = {"State": "completed"}
        return {"Status": "pending"}

    def _import_snapshot(self, params: Record) -> Record:
        snapshot = self._new("describe_snapshots", "snap", State="completed", Tags=[])["SnapshotId"]
        detail = {"Status": "completed", "SnapshotId": snapshot}
        return self._new("describe_import_snapshot_tasks", "import-snap", Tags=_tags(params), SnapshotTaskDetail=detail)

    def _import_image(self, params: Record) -> Record:
        copies = [self._new("describe_snapshots", "snap", State="completed", Tags=[]) for _ in params["DiskContainers"]]
        mappings = [
            {"DeviceName": device, "Ebs": {"SnapshotId": copy["SnapshotId"]}}
            for device, copy in zip(devices(len(copies)), copies, strict=True)
        ]
        image = self._new("describe_images", "ami", State="available", Tags=[], BlockDeviceMappings=mappings)
        about = {"Status": "completed", "ImageId": image["ImageId"]}
        return self._new("describe_import_image_tasks", "import-ami", Tags=_tags(params), **about)

    def _create_tags(self, params: Record) -> Record:
        for id in params["Resources"]:
            made = next((things[id] for things in self._made.values() if id in things), None)
            if made is None:
                self._changed[id] = {"Tags": params["Tags"]}
            else:
                made["Tags"] = params["Tags"]
        return {}

    def _register_image(self, params: Record) -> Record:
        about = {"Name": params["Name"], "BlockDeviceMappings": params["BlockDeviceMappings"]}
        return self._new("describe_images", "ami", State="available", Tags=_tags(params), **about)

    def _create_security_group(self, params: Record) -> Record:
        everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        about = {"GroupName": params["GroupName"], "VpcId": params["VpcId"], "IpPermissionsEgress": everything}
        return self._new("describe_security_groups", "sg", Tags=_tags(params), **about)

    def _revoke_security_group_egress(self, params: Record) -> Record:
        self._changed[params["GroupId"]] = {"IpPermissionsEgress": []}
        return {}

    def _run_instances(self, params: Record) -> Record:
        groups = [{"GroupId": group} for group in params["NetworkInterfaces"][0].get("Groups", ())]
        about = {"State": {"Name": "running"}, "SecurityGroups": groups, "Tags": _tags(params)}
        made = self._new("describe_instances", "i", **about)
        for card in params["NetworkInterfaces"]:
            if id := card.get("NetworkInterfaceId"):
                attachment = {"AttachmentId": f"{id}-attached", "InstanceId": made["InstanceId"]}
                self._changed[id] = {"Status": "in-use", "Attachment": attachment}
        return {"Instances": [made]}

    def _create_network_interface(self, params: Record) -> Record:
        about = {key: params[key] for key in ("SubnetId", "PrivateIpAddress")}
        made = self._new("describe_network_interfaces", "eni", Status="available", Tags=_tags(params), **about)
        return {"NetworkInterface": made}

    def _modify_network_interface_attribute(self, params: Record) -> Record:
        before = self._changed.get(params["NetworkInterfaceId"], {})
        attachment = {**before.get("Attachment", {}), **params["Attachment"]}
        self._changed[params["NetworkInterfaceId"]] = {**before, "Attachment": attachment}
        return {}

    def _terminate_instances(self, params: Record) -> Record:
        self._gone.update(params["InstanceIds"])
        for id, change in self._changed.items():
            if change.get("Attachment", {}).get("InstanceId") in params["InstanceIds"]:
                self._gone.add(id)  # it was said to go with its instance
        return {}

    def _create_capacity_reservation(self, params: Record) -> Record:
        return {"CapacityReservation": self._new("describe_capacity_reservations", "cr", State="active", Tags=_tags(params))}


def _rest(real: Session, service: str, method: str, members: str, params: Record, token: str) -> Iterator[Record]:
    for group in real.pages(service, method, members, **params, NextToken=token):
        yield from group.get("Instances", [group])


def _tags(params: Record) -> list[dict[str, str]]:
    specified = params.get("TagSpecifications") or [{}]
    tags: list[dict[str, str]] = params.get("Tags") or specified[0].get("Tags", [])
    return tags


def _matches(thing: Record, params: Record) -> bool:
    """Whether the filters let a thing of ours through."""
    seen = {
        "name": [thing.get("Name")],
        "group-name": [thing.get("GroupName")],
        "instance-id": [thing.get("InstanceId")],
        "vpc-id": [thing.get("VpcId")],
        "state": [thing.get("State")],
        "status": [thing.get("State")],
        "instance-state-name": [(thing.get("State") or {}).get("Name")] if isinstance(thing.get("State"), dict) else [],
        "instance.group-id": [group["GroupId"] for group in thing.get("SecurityGroups", ())],
        "block-device-mapping.snapshot-id": [m["Ebs"]["SnapshotId"] for m in thing.get("BlockDeviceMappings", ())],
    }
    tags = tagged(thing)
    for one in params.get("Filters", ()):
        name = one["Name"]
        values = [tags.get(name[4:])] if name.startswith("tag:") else list(tags) if name == "tag-key" else seen.get(name, [])
        if not set(values) & set(one["Values"]):
            return False
    return True


def _about(method: str, params: Record) -> tuple[str, tuple[tuple[str, str], ...], str]:
    """What a call is about, the tags that it gives, and what else matters."""
    subject = next((str(params[key]) for key in _SUBJECT if params.get(key)), "")
    detail = ""
    if method == "start_snapshot":
        subject = params["Description"]
        detail = f"{params['VolumeSize']} GiB{', encrypted' if params.get('Encrypted') else ''}"
        detail += f", on {params['ParentSnapshotId']}" if params.get("ParentSnapshotId") else ""
    elif method == "put_snapshot_block":
        subject, detail = params["SnapshotId"], "a block of 512 KiB"
    elif method == "register_image":
        devices = ", ".join(f"{m['DeviceName']} from {m['Ebs']['SnapshotId']}" for m in params["BlockDeviceMappings"])
        detail = f"{params['BootMode']}, {devices}"
    elif method == "run_instances":
        cards = params["NetworkInterfaces"]
        subject, places = params["ImageId"], ", ".join(card.get("SubnetId") or card["NetworkInterfaceId"] for card in cards)
        detail = f"{params['InstanceType']} in {places}, groups {', '.join(cards[0].get('Groups', ())) or 'of the VPC'}"
    elif method == "import_snapshot":
        place = params["DiskContainer"]["UserBucket"]
        subject, detail = f"s3://{place['S3Bucket']}/{place['S3Key']}", f"as {params['RoleName']}"
    elif method == "import_image":
        subject = ", ".join(container["SnapshotId"] for container in params["DiskContainers"])
        detail = f"{params['Platform']} with {params['LicenseType']}'s licence, {params['BootMode']}, as {params['RoleName']}"
    elif method == "create_network_interface":
        detail = f"in {params['SubnetId']}, groups {', '.join(params.get('Groups', ())) or 'of the VPC'}"
    elif method == "modify_network_interface_attribute":
        detail = "goes with its instance"
    elif method == "create_tags":
        subject = ", ".join(params["Resources"])
    elif method == "terminate_instances":
        subject = ", ".join(params["InstanceIds"])
    elif method == "create_capacity_reservation":
        detail = f"in {params['AvailabilityZone']} until {params['EndDate']:%Y-%m-%d %H:%M}"
    return subject, tuple((tag["Key"], tag["Value"]) for tag in _tags(params)), detail
