"""Images, instances, rights, quotas and faults as the emulator has them."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from test_aws_ebs import ONES, client, complete, linear, put, refused, settled

from v2c.emulators.aws import AwsEmulator, open_emulator

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsEmulator]:
    with open_emulator(tmp_path_factory.mktemp("aws")) as emulator:
        emulator.pace.visible_s = 0.0
        emulator.pace.completing_s = emulator.pace.image_s = emulator.pace.pending_s = emulator.pace.ending_s = 0.05
        yield emulator


@pytest.fixture(scope="module")
def ec2(cloud: AwsEmulator) -> Any:
    return client(cloud, "ec2")


@pytest.fixture(scope="module")
def snapshot(cloud: AwsEmulator, ec2: Any) -> str:
    ebs = client(cloud, "ebs")
    id = str(ebs.start_snapshot(VolumeSize=1)["SnapshotId"])
    put(ebs, id, 0, ONES)
    complete(ebs, id, 1, linear(ONES))
    assert settled(ec2, id) == "completed"
    return id


def image(ec2: Any, snapshot: str, **other: Any) -> str:
    usual = {
        "Name": f"image {time.monotonic_ns()}",
        "Architecture": "x86_64",
        "VirtualizationType": "hvm",
        "RootDeviceName": "/dev/sda1",
        "EnaSupport": True,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot, "VolumeType": "gp3"}}],
    }
    id = str(ec2.register_image(**(usual | other))["ImageId"])
    time.sleep(0.1)
    return id


def test_an_image_keeps_what_it_was_registered_with(ec2: Any, snapshot: str) -> None:
    tags = [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}]
    id = image(ec2, snapshot, Name="kept", BootMode="uefi", TpmSupport="v2.0", ImdsSupport="v2.0", TagSpecifications=tags)
    found = ec2.describe_images(ImageIds=[id], Owners=["self"])["Images"][0]
    assert found["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] == snapshot and found["State"] == "available"
    kept = [found[key] for key in ("Architecture", "VirtualizationType", "BootMode", "TpmSupport", "ImdsSupport", "EnaSupport")]
    assert kept == ["x86_64", "hvm", "uefi", "v2.0", "v2.0", True] and found["Tags"] == tags[0]["Tags"]
    with refused("InvalidAMIName.Duplicate"):
        image(ec2, snapshot, Name="kept")
    with refused("InvalidSnapshot.InUse"):
        ec2.delete_snapshot(SnapshotId=snapshot)


def test_what_is_not_said_gets_the_service_s_own_defaults(ec2: Any, snapshot: str) -> None:
    mapping = [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}]
    id = ec2.register_image(Name="bare", RootDeviceName="/dev/sda1", BlockDeviceMappings=mapping)["ImageId"]
    found = ec2.describe_images(ImageIds=[id])["Images"][0]
    assert (found["Architecture"], found["VirtualizationType"], found["EnaSupport"]) == ("i386", "paravirtual", False)


@pytest.mark.parametrize(
    ("code", "other"),
    [
        ("InvalidSnapshot.NotFound", {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-0"}}]}),
        ("InvalidBlockDeviceMapping", {"RootDeviceName": "/dev/sdb"}),
        ("InvalidParameterCombination", {"TpmSupport": "v2.0"}),
        ("InvalidParameterCombination", {"VirtualizationType": "paravirtual"}),
        ("InvalidAMIName.Malformed", {"Name": "what?"}),
        ("InvalidParameterValue", {"BootMode": "floppy"}),
        ("UnknownParameter", {"Colour": "red"}),
        ("InvalidParameterValue", {"TagSpecifications": [{"ResourceType": "volume", "Tags": []}]}),
    ],
)
def test_images_that_are_refused(ec2: Any, snapshot: str, code: str, other: dict[str, Any]) -> None:
    if code == "UnknownParameter":
        ec2.meta.events.register("before-sign.ec2.RegisterImage", _coloured)
    try:
        with refused(code):
            image(ec2, snapshot, **{key: value for key, value in other.items() if key != "Colour"})
    finally:
        ec2.meta.events.unregister("before-sign.ec2.RegisterImage", _coloured)


def _coloured(request: Any, **_: Any) -> None:
    request.data = {**request.data, "Colour": "red"}


def test_an_image_of_an_unfinished_snapshot_is_refused(cloud: AwsEmulator, ec2: Any) -> None:
    id = client(cloud, "ebs").start_snapshot(VolumeSize=1)["SnapshotId"]
    with refused("IncorrectState"):
        image(ec2, id)


def launch(cloud: AwsEmulator, ec2: Any, ami: str, type: str = "c5.large", **other: Any) -> dict[str, Any]:
    subnet = cloud.locator.partition("subnet=")[2].partition("&")[0]
    card = {"DeviceIndex": 0, "SubnetId": subnet, "AssociatePublicIpAddress": False}
    usual = {"ImageId": ami, "InstanceType": type, "MinCount": 1, "MaxCount": 1, "NetworkInterfaces": [card]}
    found: dict[str, Any] = ec2.run_instances(**(usual | other))["Instances"][0]
    return found


def until(ec2: Any, id: str, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        found: dict[str, Any] = ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]
        if found["State"]["Name"] == state:
            return found
        assert time.monotonic() < deadline, found["State"]
        time.sleep(0.1)


def test_an_instance_boots_what_was_uploaded(cloud: AwsEmulator, ec2: Any, snapshot: str) -> None:
    """SeaBIOS itself tells that the disk holds no system: console and screen are the machine's own."""
    ami = image(ec2, snapshot)
    made = launch(cloud, ec2, ami, ClientToken="one")
    assert made["State"]["Name"] == "pending" and "PublicIpAddress" not in made
    assert launch(cloud, ec2, ami, ClientToken="one")["InstanceId"] == made["InstanceId"]
    with refused("IdempotentParameterMismatch"):
        launch(cloud, ec2, ami, "c5.xlarge", ClientToken="one")
    id = made["InstanceId"]
    running = until(ec2, id, "running")
    (mapping,) = running["BlockDeviceMappings"]
    volume = ec2.describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"][0]
    assert volume["SnapshotId"] == snapshot and volume["State"] == "in-use"
    deadline = time.monotonic() + 60
    while "boot" not in (text := ec2.get_console_output(InstanceId=id, Latest=True).get("Output", "").lower()):
        assert time.monotonic() < deadline, text
        time.sleep(0.5)
    picture = base64.b64decode(ec2.get_console_screenshot(InstanceId=id)["ImageData"])
    assert picture.startswith(b"\x89PNG")
    status = ec2.describe_instance_status(InstanceIds=[id])["InstanceStatuses"][0]
    assert (status["SystemStatus"]["Status"], status["InstanceStatus"]["Status"]) == ("ok", "initializing")
    ec2.terminate_instances(InstanceIds=[id])
    until(ec2, id, "terminated")
    assert not cloud.cloud.machines.alive(id)
    with refused("InvalidVolume.NotFound"):
        ec2.describe_volumes(VolumeIds=[volume["VolumeId"]])


@pytest.mark.parametrize(
    ("code", "about", "type"),
    [
        ("InvalidParameterCombination", {"EnaSupport": False}, "c5.large"),
        ("InvalidParameterValue", {"BootMode": "uefi"}, "t2.micro"),
        ("InvalidParameterValue", {}, "m6g.large"),
        ("InvalidParameterValue", {}, "m5.tiny"),
    ],
    ids=["no ena", "no uefi", "arm", "no such type"],
)
def test_types_that_do_not_start_an_image(
    cloud: AwsEmulator, ec2: Any, snapshot: str, code: str, about: dict[str, Any], type: str
) -> None:
    ami = image(ec2, snapshot, **about)
    with pytest.raises(ClientError, match=code):
        launch(cloud, ec2, ami, type)


def test_dry_runs_rights_and_quotas(cloud: AwsEmulator, ec2: Any, snapshot: str) -> None:
    ami = image(ec2, snapshot)
    with refused("DryRunOperation"):
        launch(cloud, ec2, ami, DryRun=True)
    with refused("UnauthorizedOperation"):
        ec2.stop_instances(InstanceIds=["i-0123456789abcdef0"])  # which nobody gave a right for
    quotas = client(cloud, "service-quotas")
    code = {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}
    assert quotas.get_service_quota(**code)["Quota"]["Value"] == 64.0
    cloud.cloud.quotas["L-1216C47A"] = 1
    try:
        with refused("VcpuLimitExceeded"):
            launch(cloud, ec2, ami)
    finally:
        cloud.cloud.quotas.clear()
    with refused("NoSuchResourceException"):
        quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-0")


def test_signatures_are_checked(cloud: AwsEmulator) -> None:
    wrong = {"AWS_SECRET_ACCESS_KEY": "x" * 40}
    with refused("AuthFailure"):
        client(cloud, "ec2", wrong).describe_images(Owners=["self"])
    with refused("SignatureDoesNotMatch"):
        client(cloud, "ebs", wrong).start_snapshot(VolumeSize=1)
    with refused("AuthFailure"):
        client(cloud, "ec2", {"AWS_ACCESS_KEY_ID": "AKIA" + "A" * 16}).describe_images(Owners=["self"])


def test_a_lost_answer_was_an_effect_and_a_reset_was_none(cloud: AwsEmulator) -> None:
    ebs = client(cloud, "ebs")
    cloud.requests.clear()
    for kind in ("lost-answer", "reset"):
        cloud.faults.once("StartSnapshot", kind)
        with pytest.raises(ConnectionClosedError):
            ebs.start_snapshot(VolumeSize=1, ClientToken=kind)
    assert cloud.requests.done("StartSnapshot") == {"lost-answer": 1}
    cloud.faults.once("StartSnapshot", "throttle")
    with refused("RequestThrottledException", "ACCOUNT_THROTTLED"):
        ebs.start_snapshot(VolumeSize=1)
