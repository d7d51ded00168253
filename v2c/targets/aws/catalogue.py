"""Instance types: AWS's own catalogue as offers, and those of them that a zone has."""

from collections.abc import Iterator
from typing import Any

from v2c.model import Firmware
from v2c.sizing import Offer
from v2c.targets.aws.facts import api
from v2c.targets.aws.session import ApiError, Session

_MODES = {"legacy-bios": Firmware.BIOS, "uefi": Firmware.UEFI}


def offers(session: Session, zone: str, named: str = "") -> list[Offer]:
    """The Nitro types for x86_64 that the zone offers, of those that are chosen unasked; or the one that is `named`."""
    there = {
        offering["InstanceType"]
        for offering in session.pages(
            "ec2",
            "describe_instance_type_offerings",
            "InstanceTypeOfferings",
            LocationType="availability-zone",
            Filters=[{"Name": "location", "Values": [zone]}, *([{"Name": "instance-type", "Values": [named]}] if named else [])],
        )
    }
    return [_offer(kind) for kind in _types(session, named) if kind["InstanceType"] in there]


def _types(session: Session, named: str) -> Iterator[dict[str, Any]]:
    if named:
        try:
            yield from session.call("ec2", "describe_instance_types", InstanceTypes=[named])["InstanceTypes"]
        except ApiError as error:
            if error.code != "InvalidInstanceType" and "InvalidParameterValue" not in error.code:
                raise
        return
    filters = [
        {"Name": "hypervisor", "Values": ["nitro"]},
        {"Name": "current-generation", "Values": ["true"]},
        {"Name": "processor-info.supported-architecture", "Values": ["x86_64"]},
        {"Name": "bare-metal", "Values": ["false"]},
        {"Name": "instance-type", "Values": list(api().types.automatic)},
    ]
    yield from session.pages("ec2", "describe_instance_types", "InstanceTypes", Filters=filters)


def _offer(kind: dict[str, Any]) -> Offer:
    nitro = kind.get("Hypervisor") == "nitro" and "x86_64" in kind["ProcessorInfo"]["SupportedArchitectures"]
    modes = kind.get("SupportedBootModes", ["legacy-bios"]) if nitro else []
    return Offer(
        name=kind["InstanceType"],
        vcpus=kind["VCpuInfo"]["DefaultVCpus"],
        memory_mib=kind["MemoryInfo"]["SizeInMiB"],
        firmware=tuple(_MODES[mode] for mode in modes if mode in _MODES),
        max_disks=kind.get("EbsInfo", {}).get("MaximumEbsAttachments") or api().types.attachments,
        max_nics=kind.get("NetworkInfo", {}).get("MaximumNetworkInterfaces", 0),
        burst=bool(kind.get("BurstablePerformanceSupported")),
        preferred=bool(kind.get("CurrentGeneration")),
    )
