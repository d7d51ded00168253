"""Network interfaces as the emulator has them: alone, with an instance, and what EC2 refuses of them."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_aws_ebs import ONES, client, complete, linear, put, refused, settled
from test_aws_ec2 import image, until

from v2c.emulators.aws import AwsEmulator, open_emulator
from v2c.emulators.machines import Hardware, Machines

pytestmark = pytest.mark.tool
TAGS = [{"ResourceType": "network-interface", "Tags": [{"Key": "a", "Value": "b"}]}]


class Idle(Machines):
    """Machines of which nobody asks whether they boot."""

    def start(self, id: str, disks: Sequence[tuple[str, Path]], hardware: Hardware) -> None:
        assert hardware.nics >= 1

    def alive(self, id: str) -> bool:
        return True

    def stop(self, id: str, grace_s: float = 0.0) -> None:
        """Nothing runs."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsEmulator]:
    folder = tmp_path_factory.mktemp("aws")
    with open_emulator(folder) as emulator:
        emulator.cloud.machines = Idle(folder)
        pace = emulator.pace
        pace.visible_s = 0.0
        pace.completing_s = pace.image_s = pace.card_s = pace.pending_s = pace.ending_s = 0.05
        yield emulator


@pytest.fixture(scope="module")
def ec2(cloud: AwsEmulator) -> Any:
    """As somebody who may everything: the migrator makes no subnets."""
    return client(cloud, "ec2", dict(cloud.administrator))


@pytest.fixture(scope="module")
def subnets(cloud: AwsEmulator, ec2: Any) -> list[str]:
    """The locator's, one beside it, and one of another zone."""
    first = cloud.locator.partition("subnet=")[2].partition("&")[0]
    about = ec2.describe_subnets(SubnetIds=[first])["Subnets"][0]
    beside = ec2.create_subnet(VpcId=about["VpcId"], CidrBlock="172.31.200.0/28", AvailabilityZone=about["AvailabilityZone"])
    zones = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    away = next(s["SubnetId"] for s in zones if s["AvailabilityZone"] != about["AvailabilityZone"])
    return [first, beside["Subnet"]["SubnetId"], away]


@pytest.fixture(scope="module")
def ami(cloud: AwsEmulator, ec2: Any) -> str:
    ebs = client(cloud, "ebs")
    id = str(ebs.start_snapshot(VolumeSize=1)["SnapshotId"])
    put(ebs, id, 0, ONES)
    complete(ebs, id, 1, linear(ONES))
    assert settled(ec2, id) == "completed"
    return image(ec2, id)


def made(ec2: Any, subnet: str, **other: Any) -> dict[str, Any]:
    """An interface, once it is there."""
    id = ec2.create_network_interface(SubnetId=subnet, **other)["NetworkInterface"]["NetworkInterfaceId"]
    time.sleep(0.1)
    found: dict[str, Any] = ec2.describe_network_interfaces(NetworkInterfaceIds=[id])["NetworkInterfaces"][0]
    return found


def launched(ec2: Any, ami: str, *cards: dict[str, Any], type: str = "c5.large") -> str:
    asked = [{"DeviceIndex": number, **card} for number, card in enumerate(cards)]
    answer = ec2.run_instances(ImageId=ami, InstanceType=type, MinCount=1, MaxCount=1, NetworkInterfaces=asked)
    return str(answer["Instances"][0]["InstanceId"])


def test_an_interface_alone(ec2: Any, subnets: list[str]) -> None:
    beside = subnets[1]

    def free() -> int:
        return int(ec2.describe_subnets(SubnetIds=[beside])["Subnets"][0]["AvailableIpAddressCount"])

    before = free()
    first = ec2.create_network_interface(
        SubnetId=beside, PrivateIpAddress="172.31.200.9", ClientToken="t", TagSpecifications=TAGS
    )
    assert first["NetworkInterface"]["Status"] == "pending" and free() == before - 1
    again = ec2.create_network_interface(
        SubnetId=beside, PrivateIpAddress="172.31.200.9", ClientToken="t", TagSpecifications=TAGS
    )
    id = again["NetworkInterface"]["NetworkInterfaceId"]
    assert id == first["NetworkInterface"]["NetworkInterfaceId"]
    with refused("IdempotentParameterMismatch"):
        ec2.create_network_interface(SubnetId=beside, ClientToken="t")
    filters = [{"Name": "tag:a", "Values": ["b"]}, {"Name": "addresses.private-ip-address", "Values": ["172.31.200.9"]}]
    (found,) = ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
    assert (
        found["NetworkInterfaceId"] == id and found["TagSet"] == TAGS[0]["Tags"] and found["Groups"][0]["GroupName"] == "default"
    )
    with refused("InvalidIPAddress.InUse"):
        ec2.create_network_interface(SubnetId=beside, PrivateIpAddress="172.31.200.9")
    for address in ("172.31.200.0", "172.31.200.3", "172.31.200.15", "10.0.0.1", "none"):
        with refused("InvalidParameterValue"):
            ec2.create_network_interface(SubnetId=beside, PrivateIpAddress=address)
    ec2.delete_network_interface(NetworkInterfaceId=id)
    with refused("InvalidNetworkInterfaceID.NotFound"):
        ec2.delete_network_interface(NetworkInterfaceId=id)
    many = [made(ec2, beside)["NetworkInterfaceId"] for _ in range(before)]
    with refused("InsufficientFreeAddressesInSubnet"):
        made(ec2, beside)
    for id in many:
        ec2.delete_network_interface(NetworkInterfaceId=id)
    assert free() == before


def test_an_interface_of_an_instance_stays_unless_it_is_to_go(ec2: Any, ami: str, subnets: list[str]) -> None:
    held = made(ec2, subnets[1], PrivateIpAddress="172.31.200.9")
    id = held["NetworkInterfaceId"]
    for keep in (True, False):
        instance = launched(ec2, ami, {"SubnetId": subnets[0]}, {"NetworkInterfaceId": id})
        shown = until(ec2, instance, "running")
        cards = {card["NetworkInterfaceId"]: card for card in shown["NetworkInterfaces"]}
        assert cards[id]["PrivateIpAddress"] == "172.31.200.9" and cards[id]["Attachment"]["DeviceIndex"] == 1
        assert [card["Attachment"]["DeleteOnTermination"] for card in shown["NetworkInterfaces"]] == [True, False]
        with refused("InvalidParameterValue"):
            ec2.delete_network_interface(NetworkInterfaceId=id)
        with refused("InvalidNetworkInterface.InUse"):
            launched(ec2, ami, {"NetworkInterfaceId": id})
        change = {"AttachmentId": cards[id]["Attachment"]["AttachmentId"], "DeleteOnTermination": True}
        with refused("InvalidAttachmentID.NotFound"):
            ec2.modify_network_interface_attribute(NetworkInterfaceId=id, Attachment={**change, "AttachmentId": "eni-attach-0"})
        if not keep:
            ec2.modify_network_interface_attribute(NetworkInterfaceId=id, Attachment=change)
        ec2.terminate_instances(InstanceIds=[instance])
        until(ec2, instance, "terminated")
        left = ec2.describe_network_interfaces()["NetworkInterfaces"]
        assert [card["NetworkInterfaceId"] for card in left] == [id] * keep and all(c["Status"] == "available" for c in left)


def test_a_group_of_an_interface_is_in_use(ec2: Any, subnets: list[str]) -> None:
    vpc = ec2.describe_subnets(SubnetIds=subnets[:1])["Subnets"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="held", Description="held", VpcId=vpc)["GroupId"]
    id = made(ec2, subnets[0], Groups=[group])["NetworkInterfaceId"]
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=group)
    ec2.delete_network_interface(NetworkInterfaceId=id)
    ec2.delete_security_group(GroupId=group)


@pytest.mark.parametrize(
    ("code", "cards"),
    [
        ("AttachmentLimitExceeded", [{"SubnetId": "0"}] * 4),
        ("InvalidParameterCombination", [{"SubnetId": "0", "AssociatePublicIpAddress": False}, {"SubnetId": "0"}]),
        ("InvalidParameterValue", [{"SubnetId": "0"}, {"SubnetId": "0", "DeviceIndex": 0}]),
        ("InvalidParameterValue", [{"SubnetId": "0"}, {"SubnetId": "2"}]),
        ("InvalidIPAddress.InUse", [{"SubnetId": "1", "PrivateIpAddress": "172.31.200.8"}] * 2),
        ("InvalidSubnetID.NotFound", [{"SubnetId": "subnet-0"}]),
        ("InvalidNetworkInterfaceID.NotFound", [{"NetworkInterfaceId": "eni-0"}]),
        ("InvalidParameterCombination", [{"NetworkInterfaceId": "eni", "SubnetId": "0"}]),
        ("InvalidParameterCombination", [{"NetworkInterfaceId": "eni", "DeleteOnTermination": True}]),
    ],
)
def test_cards_that_do_not_go_together(ec2: Any, ami: str, subnets: list[str], code: str, cards: list[dict[str, Any]]) -> None:
    held = made(ec2, subnets[0])["NetworkInterfaceId"]
    named = {"0": subnets[0], "1": subnets[1], "2": subnets[2], "eni": held}
    with refused(code):
        launched(ec2, ami, *({key: named.get(str(value), value) for key, value in card.items()} for card in cards))
    ec2.delete_network_interface(NetworkInterfaceId=held)
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []
