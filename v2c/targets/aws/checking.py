"""Before a byte moves: who we are, what we may, and whether the place can hold the machine. Everything is told at once, nothing
is changed: EC2's DryRun, calls about snapshots that do not exist, and calls that only read."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

from v2c.errors import TargetError
from v2c.model import GIB, Finding, Firmware, Level, Plan
from v2c.sizing import choose
from v2c.targets import together
from v2c.targets.aws import catalogue, checkcards, images, names, objects, quotas, volumes
from v2c.targets.aws.facts import api, rights
from v2c.targets.aws.launch import Instances
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import ApiError, Session
from v2c.targets.writers import vhd

ABSENT = "0123456789abcdef0"  # the tail of ids that nothing has
RIGHTS = "give the identity these rights (the README lists all that v2c needs)"


def check(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    """The findings, blockers among them; ids begin with "aws."."""
    try:
        identity = session.call("sts", "get_caller_identity", patient=False)
    except TargetError as error:
        yield _blocker("aws.credentials", options.region, error.text, error.remedy)
        return
    account = f"account {identity['Account']}, {options.region}"
    yield Finding("aws.identity", Level.INFO, account, f"v2c works as {identity['Arn']}")
    yield from _told(_denied(session, options))
    for ask in (
        checkcards.places,
        checkcards.addresses,
        _trust,
        _groups,
        _key_pair,
        _type,
        quotas.quota,
        quotas.pending,
        volumes.check,
        _licence,
        _staging,
        _key,
        _encryption,
        _name,
    ):
        try:
            yield from ask(session, options, instances, plan)
        except ApiError as error:
            if error.code not in api().errors.denied:
                yield _blocker("aws.check", account, error.text, error.remedy)
        except TargetError as error:
            yield _blocker("aws.check", account, error.text, error.remedy)


# ---- rights --------------------------------------------------------------------------------------------------------------------


def _denied(session: Session, options: Options) -> list[tuple[str, str]]:
    """(group, action) of the rights that are missing."""
    skipped = {"key"} if not options.kms else set()
    skipped |= {"reserve"} if not options.hours else set()
    skipped |= {"licence"} if not options.licensed else set()
    skipped |= {"hold"} if not options.private_ip else set()
    skipped |= {"upload"} if options.staged else set()
    asked = [group for group in rights() if group.name not in skipped and group.probe != "call"]

    def ask() -> list[tuple[str, str]]:
        return [(group.name, action) for group in asked for action in group.actions if not _may(session, action)]

    return together.once((session.account, "rights", *sorted(skipped)), ask)


def _may(session: Session, action: str) -> bool:
    """Whether a right is there, by a call that cannot change anything."""
    try:
        _PROBES[action](session)
    except ApiError as error:
        return error.code not in api().errors.denied
    return True


def _dry(method: str, **params: Any) -> Callable[[Session], Any]:
    return lambda session: session.probe("ec2", method, DryRun=True, **params)


def _absent(method: str, **params: Any) -> Callable[[Session], Any]:
    return lambda session: session.probe("ebs", method, **params)


_BLOCK = bytes(api().ebs.block)
_SNAPSHOT = f"snap-{ABSENT}"
_PROBES: dict[str, Callable[[Session], Any]] = {
    # a parent that does not exist: nothing can be started
    "ebs:StartSnapshot": _absent("start_snapshot", VolumeSize=1, ParentSnapshotId=_SNAPSHOT),
    "ebs:PutSnapshotBlock": _absent(
        "put_snapshot_block",
        SnapshotId=_SNAPSHOT,
        BlockIndex=0,
        BlockData=_BLOCK,
        DataLength=len(_BLOCK),
        Checksum=b64encode(sha256(_BLOCK).digest()).decode(),
        ChecksumAlgorithm="SHA256",
    ),
    "ebs:CompleteSnapshot": _absent("complete_snapshot", SnapshotId=_SNAPSHOT, ChangedBlocksCount=0),
    "ebs:ListSnapshotBlocks": _absent("list_snapshot_blocks", SnapshotId=_SNAPSHOT),
    "ebs:GetSnapshotBlock": _absent("get_snapshot_block", SnapshotId=_SNAPSHOT, BlockIndex=0, BlockToken="AAAA"),
    "ec2:CreateTags": _dry("create_tags", Resources=[_SNAPSHOT], Tags=[{"Key": names.TAG, "Value": "check"}]),
    "ec2:RegisterImage": _dry(
        "register_image",
        Name="v2c check",
        Architecture="x86_64",
        VirtualizationType="hvm",
        RootDeviceName="/dev/sda1",
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": _SNAPSHOT}}],
    ),
    "ec2:RunInstances": _dry("run_instances", ImageId=f"ami-{ABSENT}", MinCount=1, MaxCount=1),
    "ec2:GetConsoleOutput": _dry("get_console_output", InstanceId=f"i-{ABSENT}"),
    "ec2:GetConsoleScreenshot": _dry("get_console_screenshot", InstanceId=f"i-{ABSENT}"),
    "ec2:CreateSecurityGroup": _dry("create_security_group", GroupName="v2c check", Description="check"),
    "ec2:DeleteSecurityGroup": _dry("delete_security_group", GroupId=f"sg-{ABSENT}"),
    "ec2:RevokeSecurityGroupEgress": _dry(
        "revoke_security_group_egress", GroupId=f"sg-{ABSENT}", IpPermissions=[{"IpProtocol": "-1"}]
    ),
    "ec2:DeleteSnapshot": _dry("delete_snapshot", SnapshotId=_SNAPSHOT),
    "ec2:DeleteVolume": _dry("delete_volume", VolumeId=f"vol-{ABSENT}"),
    "ec2:DeregisterImage": _dry("deregister_image", ImageId=f"ami-{ABSENT}"),
    "ec2:TerminateInstances": _dry("terminate_instances", InstanceIds=[f"i-{ABSENT}"]),
    "ec2:CancelCapacityReservation": _dry("cancel_capacity_reservation", CapacityReservationId=f"cr-{ABSENT}"),
    "ec2:ImportImage": _dry("import_image", Platform="Windows", DiskContainers=[{"SnapshotId": _SNAPSHOT}]),
    "ec2:DescribeImportImageTasks": _dry("describe_import_image_tasks"),
    "ec2:CancelImportTask": _dry("cancel_import_task", ImportTaskId=f"import-ami-{ABSENT}"),
    "ec2:DescribeNetworkInterfaces": _dry("describe_network_interfaces"),
    "ec2:CreateNetworkInterface": _dry("create_network_interface", SubnetId=f"subnet-{ABSENT}"),
    "ec2:DeleteNetworkInterface": _dry("delete_network_interface", NetworkInterfaceId=f"eni-{ABSENT}"),
    "ec2:ModifyNetworkInterfaceAttribute": _dry(
        "modify_network_interface_attribute", NetworkInterfaceId=f"eni-{ABSENT}", SourceDestCheck={"Value": True}
    ),
    "ec2:CreateCapacityReservation": _dry(
        "create_capacity_reservation", InstanceType="m5.large", InstancePlatform="Linux/UNIX", InstanceCount=1
    ),
}


def _told(denied: list[tuple[str, str]]) -> Iterator[Finding]:
    why = {group.name: group.why for group in rights()}
    for name in dict.fromkeys(name for name, _ in denied):
        actions = ", ".join(action for group, action in denied if group == name)
        yield _blocker("aws.rights", actions, f"the identity may not do this, which v2c needs {why[name]}", RIGHTS)


# ---- the place -----------------------------------------------------------------------------------------------------------------


def _trust(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    """What a TPM and UEFI variables need: UEFI, a type with NitroTPM, a file that can be read."""
    if not (options.tpm or options.uefi_data):
        return
    if (plan.machine.firmware or plan.needs.firmware) is not Firmware.UEFI:
        text = "the machine boots by BIOS, and a TPM and UEFI variables are for machines that boot by UEFI"
        yield _blocker("aws.tpm", plan.machine.name, text, "leave &tpm= and &uefi-data= out")
    if options.uefi_data:
        images.variables(options)  # its error is told
    name = plan.instance_type or options.type
    about = session.call("ec2", "describe_instance_types", InstanceTypes=[name])["InstanceTypes"] if options.tpm and name else []
    if about and about[0].get("NitroTpmSupport") != "supported":
        yield _blocker("aws.tpm", name, "the instance type has no NitroTPM", "name another one with &type=")


def _groups(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    if not options.groups:
        text = "nobody said which security groups the real instance gets: the VPC's default one"
        yield Finding("aws.security-group", Level.INFO, options.region, text, "name them with &security-group=")
        return
    vpc = instances.subnet()["VpcId"]
    for id in options.groups:
        try:
            found = session.call("ec2", "describe_security_groups", GroupIds=[id])["SecurityGroups"][0]
        except ApiError as error:
            if "NotFound" not in error.code and "Malformed" not in error.code:
                raise
            yield _blocker("aws.security-group", id, "there is no such security group in this region", "correct &security-group=")
            continue
        if found["VpcId"] != vpc:
            text = f"it belongs to {found['VpcId']}, and the subnet to {vpc}"
            yield _blocker("aws.security-group", id, text, "name one of the subnet's VPC with &security-group=")


def _key_pair(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    if not options.key_name:
        return
    filters = [{"Name": "key-name", "Values": [options.key_name]}]
    if not session.call("ec2", "describe_key_pairs", Filters=filters)["KeyPairs"]:
        yield _blocker("aws.key-pair", options.key_name, "there is no such key pair in this region", "correct &key-name=")


def _type(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    zone = str(instances.subnet()["AvailabilityZone"])
    firmware = plan.machine.firmware or plan.needs.firmware
    there = catalogue.offers(session, zone, plan.instance_type or options.type)
    name = plan.instance_type or options.type
    if name and not there:
        text = f"{zone} does not offer the instance type, or it is no x86_64 type of Nitro"
        yield _blocker("aws.type", name, text, "name another one with &type=, or a subnet in another zone")
    elif name:
        if why := there[0].holds(plan.machine, firmware):
            yield _blocker(
                "aws.type", name, f"the instance type does not hold the machine: {why}", "name another one with &type="
            )
    elif choose(plan.machine, firmware, there) is None:
        wanted = f"{plan.machine.vcpus} processors and {plan.machine.memory_mib} MiB"
        text = f"no instance type of {zone} has {wanted} and boots by {firmware}"
        yield _blocker("aws.type", plan.machine.name, text, "name one with &type=")


# ---- limits --------------------------------------------------------------------------------------------------------------------


def _licence(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    """What ImportImage takes; whether the guest is a Windows shows when it is looked into, before anything is sent."""
    if not options.licensed:
        return
    known = api().image_import
    text = "AWS provides the licence, and changes the guest as it imports it; no guest but a Windows is sent"
    yield Finding("aws.licence", Level.INFO, plan.machine.name, text)
    if len(plan.disks) > known.disks:
        text = f"the machine has {len(plan.disks)} disks, and AWS imports images of at most {known.disks}"
        yield _blocker("aws.licence", plan.machine.name, text, "leave disks behind, or &licence=included out")
    for disk in plan.disks:
        if disk.target_size >= known.gib * GIB:
            text = f"the disk has {disk.target_size // GIB} GiB, and AWS imports images of disks below {known.gib} GiB"
            yield _blocker("aws.licence", disk.disk, text, "make it smaller, or leave &licence=included out")


def _staging(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    """The bucket that was named, and what a VHD holds."""
    if not options.staged:
        return
    if options.bucket and objects.owner(session, options.bucket) is None:
        yield _blocker("aws.bucket", options.bucket, "there is no such bucket", "correct &bucket=, or leave it out")
    for disk in plan.disks:
        if disk.target_size > vhd.MOST:
            text = f"the disk has {disk.target_size // GIB} GiB, and a VHD, by which it would be imported, {vhd.MOST // GIB}"
            yield _blocker("aws.vhd", disk.disk, text, "leave &via=s3-import out")


def _key(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    if not options.kms:
        return
    try:
        key = session.call("kms", "describe_key", KeyId=options.kms)["KeyMetadata"]
    except ApiError as error:
        yield _blocker("aws.key", options.kms, error.text, error.remedy or "correct &kms=")
        return
    if key.get("KeyState", "Enabled") != "Enabled" or key.get("KeyUsage", "ENCRYPT_DECRYPT") != "ENCRYPT_DECRYPT":
        yield _blocker(
            "aws.key", options.kms, f"the key is {key.get('KeyState')} for {key.get('KeyUsage')}", "name another &kms="
        )
    elif key["Arn"] != options.kms:
        yield _blocker("aws.key", options.kms, "EBS takes a key by its ARN only", f"write &kms={key['Arn']}")


def _encryption(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    if not options.kms and session.call("ec2", "get_ebs_encryption_by_default").get("EbsEncryptionByDefault"):
        text = "the account encrypts all disks by default, with its own key: so will these be"
        yield Finding("aws.encryption", Level.INFO, options.region, text)


def _name(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    name = names.image_name(plan.machine.name, plan.job)
    found = images.named(session, name)
    if found and names.tagged(found).get(names.TAG) != plan.job:
        yield _blocker(
            "aws.name", name, f"an image of that name exists ({found['ImageId']}) and is not this job's", "deregister it"
        )


def _blocker(id: str, subject: str, text: str, remedy: str) -> Finding:
    return Finding(id, Level.BLOCKER, subject, text, remedy)
