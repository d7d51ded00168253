"""What an account has besides snapshots and machines: volumes, tags, reservations, quotas, groups that are in use."""

from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS

from v2c.emulators.aws import cards, instances
from v2c.emulators.aws.cloud import Call, Cloud, Operation, dry
from v2c.emulators.aws.ebs import PENDING
from v2c.emulators.aws.store import Record, filtered, new_id, tags_for
from v2c.emulators.aws.wire import Refusal

KINDS = {"snap": "snapshots", "ami": "images", "i": "instances", "vol": "volumes", "cr": "reservations", "eni": "cards"}
QUOTAS = {
    ("ec2", "L-1216C47A"): ("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", instances.STANDARD_VCPUS),
    ("ebs", "L-94D7AB7D"): ("Pending snapshots", float(PENDING)),
    ("ebs", "L-309BACF6"): ("Snapshots per Region", 100000.0),
    ("ebs", "L-7A658B76"): ("Storage for General Purpose SSD (gp3) volumes, in TiB", 50.0),
    ("ebs", "L-D18FCD1D"): ("Storage for General Purpose SSD (gp2) volumes, in TiB", 50.0),
    ("ebs", "L-FD252861"): ("Storage for Provisioned IOPS SSD (io1) volumes, in TiB", 50.0),
    ("ebs", "L-09BD8365"): ("Storage for Provisioned IOPS SSD (io2) volumes, in TiB", 20.0),
    ("ebs", "L-82ACEF56"): ("Storage for Throughput Optimized HDD (st1) volumes, in TiB", 50.0),
    ("ebs", "L-17AF77E8"): ("Storage for Cold HDD (sc1) volumes, in TiB", 50.0),
    ("ebs", "L-9CF3C2EB"): ("Storage for Magnetic (standard) volumes, in TiB", 50.0),
}
_VOLUME = {
    "volume-id": lambda v: [v["VolumeId"]],
    "status": lambda v: [v["State"]],
    "volume-type": lambda v: [v["VolumeType"]],
    "attachment.instance-id": lambda v: [a["InstanceId"] for a in v["Attachments"]],
}
_RESERVATION = {"state": lambda r: [r["State"]], "instance-type": lambda r: [r["InstanceType"]]}


def create_tags(cloud: Cloud, call: Call) -> Any:
    """On our own things; None for one of moto's, who then does it."""
    ours = {id: KINDS.get(id.partition("-")[0], "") for id in call.params["Resources"]}
    if not all(ours.values()):
        return None
    dry(call)
    with cloud.store.lock:
        for id, kind in ours.items():
            record = cloud.store.get(call.region, kind, id, "InvalidID")
            new = {tag["Key"]: tag.get("Value", "") for tag in call.params.get("Tags", [])}
            kept = {tag["Key"]: tag["Value"] for tag in record.get("Tags", [])} | new
            record["Tags"] = [{"Key": key, "Value": value} for key, value in kept.items()]
        cloud.store.save()
    return {}


def describe_volumes(cloud: Cloud, call: Call) -> Any:
    """The account's."""
    dry(call)
    with cloud.store.lock:
        volumes = cloud.store.table(call.region, "volumes")
        for id in call.params.get("VolumeIds", []):
            if id not in volumes:
                raise Refusal("InvalidVolume.NotFound", f"The volume '{id}' does not exist.")
        wanted = call.params.get("VolumeIds")
        found = [volume for id, volume in volumes.items() if not wanted or id in wanted]
        return {"Volumes": filtered(found, call.params.get("Filters", []), _VOLUME)}


def delete_volume(cloud: Cloud, call: Call) -> Any:
    """One that is attached to nothing."""
    with cloud.store.lock:
        volume = cloud.store.get(call.region, "volumes", call.params["VolumeId"], "InvalidVolume.NotFound")
        if volume["Attachments"]:
            raise Refusal("VolumeInUse", f"Volume {volume['VolumeId']} is currently attached")
        dry(call)
        del cloud.store.table(call.region, "volumes")[volume["VolumeId"]]
        cloud.store.save()
        return {}


def delete_security_group(cloud: Cloud, call: Call) -> Any:
    """Refused while an instance or a network interface is in it; else None, and moto does it."""
    with cloud.store.lock:
        for card in cards.table(cloud, call.region).values():
            if call.params.get("GroupId") in [group["GroupId"] for group in card["Groups"]]:
                raise Refusal("DependencyViolation", f"resource {call.params['GroupId']} has a dependent object")
        for instance in instances.instances(cloud, call.region).values():
            groups = [group["GroupId"] for group in instance["SecurityGroups"]]
            if instance["State"]["Name"] != "terminated" and call.params.get("GroupId") in groups:
                raise Refusal("DependencyViolation", f"resource {call.params['GroupId']} has a dependent object")
    return None


def create_capacity_reservation(cloud: Cloud, call: Call) -> Any:
    """Holds an instance's place until its end."""
    params = call.params
    tags = tags_for(params, "capacity-reservation", ("capacity-reservation",))
    token = params.get("ClientToken", "")
    zone, kind = params.get("AvailabilityZone", ""), params["InstanceType"]
    offered = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(call.region, [])
    if not any(o["InstanceType"] == kind and o["Location"] == zone for o in offered):
        raise Refusal("Unsupported", f"The requested configuration ({kind} in {zone}) is currently not supported")
    if params.get("EndDateType", "unlimited") == "limited" and "EndDate" not in params:
        raise Refusal("MissingParameter", "EndDateType limited needs EndDate")
    dry(call)
    if call.fault == "capacity":
        raise Refusal("InsufficientInstanceCapacity", "Insufficient capacity.", 500)
    with cloud.store.lock:
        reservations = cloud.store.table(call.region, "reservations")
        for found in reservations.values():
            if token and found["_token"] == token:
                return {"CapacityReservation": found}
        record = {
            "CapacityReservationId": new_id("cr"),
            "OwnerId": cloud.account,
            "InstanceType": kind,
            "InstancePlatform": params["InstancePlatform"],
            "AvailabilityZone": zone,
            "Tenancy": "default",
            "TotalInstanceCount": params["InstanceCount"],
            "AvailableInstanceCount": params["InstanceCount"],
            "State": "active",
            "StartDate": cloud.now(),
            "CreateDate": cloud.now(),
            "EndDateType": params.get("EndDateType", "unlimited"),
            **({"EndDate": params["EndDate"]} if "EndDate" in params else {}),
            "InstanceMatchCriteria": params.get("InstanceMatchCriteria", "open"),
            "Tags": tags,
            "_token": token,
        }
        reservations[record["CapacityReservationId"]] = record
        cloud.store.save()
        return {"CapacityReservation": record}


def describe_capacity_reservations(cloud: Cloud, call: Call) -> Any:
    """The cancelled ones are shown too, as EC2 does for a while."""
    dry(call)
    with cloud.store.lock:
        reservations = cloud.store.table(call.region, "reservations")
        wanted = call.params.get("CapacityReservationIds")
        for id in wanted or []:
            cloud.store.get(call.region, "reservations", id, "InvalidCapacityReservationId.NotFound")
        found = [r for id, r in reservations.items() if not wanted or id in wanted]
        return {"CapacityReservations": filtered(found, call.params.get("Filters", []), _RESERVATION)}


def cancel_capacity_reservation(cloud: Cloud, call: Call) -> Any:
    """Releases it."""
    with cloud.store.lock:
        id = call.params["CapacityReservationId"]
        record = cloud.store.get(call.region, "reservations", id, "InvalidCapacityReservationId.NotFound")
        dry(call)
        if record["State"] != "active":
            raise Refusal("IncorrectState", f"The capacity reservation {id} is {record['State']}")
        record["State"] = "cancelled"
        cloud.store.save()
        return {"Return": True}


def get_ebs_encryption_by_default(cloud: Cloud, call: Call) -> Any:
    """Off, unless the account's quota-like setting says otherwise."""
    dry(call)
    return {"EbsEncryptionByDefault": bool(cloud.quotas.get("encrypted"))}


def _quota(cloud: Cloud, service: str, code: str) -> Record:
    known = QUOTAS.get((service, code))
    if known is None:
        raise Refusal("NoSuchResourceException", "The request failed because the specified resource does not exist.")
    name, value = known
    return {
        "ServiceCode": service,
        "QuotaCode": code,
        "QuotaName": name,
        "Value": cloud.quotas.get(code, value),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


def get_service_quota(cloud: Cloud, call: Call) -> Any:
    """The account's value."""
    return {"Quota": _quota(cloud, call.params["ServiceCode"], call.params["QuotaCode"])}


def list_service_quotas(cloud: Cloud, call: Call) -> Any:
    """All that are known of a service."""
    codes = [code for service, code in QUOTAS if service == call.params["ServiceCode"]]
    return {"Quotas": [_quota(cloud, call.params["ServiceCode"], code) for code in codes]}


EC2: dict[str, Operation] = {
    "CreateTags": create_tags,
    "DescribeVolumes": describe_volumes,
    "DeleteVolume": delete_volume,
    "DeleteSecurityGroup": delete_security_group,
    "CreateCapacityReservation": create_capacity_reservation,
    "DescribeCapacityReservations": describe_capacity_reservations,
    "CancelCapacityReservation": cancel_capacity_reservation,
    "GetEbsEncryptionByDefault": get_ebs_encryption_by_default,
}
QUOTA_OPERATIONS: dict[str, Operation] = {
    "GetServiceQuota": get_service_quota,
    "GetAWSDefaultServiceQuota": get_service_quota,
    "ListServiceQuotas": list_service_quotas,
}
