"""What a cloud tells an instance about itself, and the command that answers with it. See `imds` for the service."""

import json
from pathlib import Path

from v2c.rehearsal import imds
from v2c.rehearsal.shape import GUEST_ADDRESS, BootSpec

PYTHON = "/usr/bin/python3"
ZONES = {"aws": "eu-west-1a", "gcp": "europe-west1-b", "azure": "westeurope"}


# QEMU cuts a forwarder's text at 1023 bytes (net/slirp.c, slirp_config_str) and its user may read no file of ours: so both the
# program and what it answers travel in QEMU's environment.
COMMAND = f"{PYTHON} -I -S -c 'import os; exec(os.environ[\"V2C_METADATA_CODE\"])'"


def environment(kind: str, spec: BootSpec, log: str = "", secret: str = "") -> dict[str, str]:
    """What COMMAND finds in its environment; `log` is the abstract socket that hears of each request."""
    config = {"kind": kind, "tree": tree(kind, spec), "secret": secret, "log": log}
    return {"V2C_METADATA_CODE": Path(imds.__file__).read_text(encoding="utf-8"), "V2C_METADATA": json.dumps(config)}


def tree(kind: str, spec: BootSpec) -> dict[str, str]:
    """path -> text, as far as agents and cloud-init ask for it on their first boot."""
    return {"aws": _aws, "gcp": _gcp, "azure": _azure}[kind](spec)


def _aws(spec: BootSpec) -> dict[str, str]:
    zone = ZONES["aws"]
    instance = f"i-0{spec.digits('instance', 16)}"
    image = f"ami-0{spec.digits('image', 16)}"
    host = "ip-" + GUEST_ADDRESS.replace(".", "-") + ".eu-west-1.compute.internal"
    mac = spec.mac(0)
    meta = {
        "ami-id": image,
        "ami-launch-index": "0",
        "ami-manifest-path": "(unknown)",
        "block-device-mapping/ami": "/dev/xvda",
        "block-device-mapping/root": "/dev/xvda",
        "hostname": host,
        "instance-action": "none",
        "instance-id": instance,
        "instance-life-cycle": "on-demand",
        "instance-type": "t3.medium",
        "local-hostname": host,
        "local-ipv4": GUEST_ADDRESS,
        "mac": mac,
        f"network/interfaces/macs/{mac}/device-number": "0",
        f"network/interfaces/macs/{mac}/local-hostname": host,
        f"network/interfaces/macs/{mac}/local-ipv4s": GUEST_ADDRESS,
        f"network/interfaces/macs/{mac}/mac": mac,
        f"network/interfaces/macs/{mac}/subnet-ipv4-cidr-block": "169.254.169.0/24",
        "placement/availability-zone": zone,
        "placement/region": zone[:-1],
        "profile": "default-hvm",
        "reservation-id": f"r-0{spec.digits('reservation', 16)}",
        "security-groups": "default",
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
    }
    document = {
        "accountId": "000000000000",
        "architecture": "x86_64",
        "availabilityZone": zone,
        "imageId": image,
        "instanceId": instance,
        "instanceType": "t3.medium",
        "privateIp": GUEST_ADDRESS,
        "region": zone[:-1],
        "version": "2017-09-30",
    }
    return {
        **{f"/latest/meta-data/{key}": value for key, value in meta.items()},
        "/latest/dynamic/instance-identity/document": json.dumps(document, indent=1),
    }


def _gcp(spec: BootSpec) -> dict[str, str]:
    zone = f"projects/0/zones/{ZONES['gcp']}"
    host = f"{spec.name}.{ZONES['gcp']}.c.v2c-rehearsal.internal"
    root = "/computeMetadata/v1"
    instance = {
        "attributes/enable-oslogin": "FALSE",
        "cpu-platform": "Intel Broadwell",
        "description": "",
        "hostname": host,
        "id": str(int(spec.digits("instance", 15), 16)),
        "image": "",
        "machine-type": "projects/0/machineTypes/e2-medium",
        "maintenance-event": "NONE",
        "name": spec.name,
        "network-interfaces/0/ip": GUEST_ADDRESS,
        "network-interfaces/0/mac": spec.mac(0),
        "network-interfaces/0/mtu": "1460",
        "network-interfaces/0/network": "projects/0/networks/default",
        "preempted": "FALSE",
        "zone": zone,
    }
    return {
        **{f"{root}/instance/{key}": value for key, value in instance.items()},
        f"{root}/project/project-id": "v2c-rehearsal",
        f"{root}/project/numeric-project-id": "0",
        f"{root}/project/attributes/enable-oslogin": "FALSE",
    }


def _azure(spec: BootSpec) -> dict[str, str]:
    root = "/metadata/instance"
    compute = {
        "azEnvironment": "AzurePublicCloud",
        "location": ZONES["azure"],
        "name": spec.name,
        "osType": "Linux",
        "placementGroupId": "",
        "platformFaultDomain": "0",
        "platformUpdateDomain": "0",
        "resourceGroupName": "v2c-rehearsal",
        "subscriptionId": "00000000-0000-0000-0000-000000000000",
        "vmId": spec.uuid,
        "vmSize": "Standard_B2s",
    }
    address = f"{root}/network/interface/0"
    return {
        **{f"{root}/compute/{key}": value for key, value in compute.items()},
        f"{address}/ipv4/ipAddress/0/privateIpAddress": GUEST_ADDRESS,
        f"{address}/ipv4/ipAddress/0/publicIpAddress": "",
        f"{address}/ipv4/subnet/0/address": "169.254.169.0",
        f"{address}/ipv4/subnet/0/prefix": "24",
        f"{address}/macAddress": spec.mac(0).replace(":", "").upper(),
    }
