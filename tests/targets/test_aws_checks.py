"""What `check` finds before a byte moves, what a test's place looks like, and how locators are read."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aws_places import Places, address, places
from target_contract import CAPS, JOB, TargetContract

from v2c.emulators.aws import AwsEmulator, rights
from v2c.emulators.aws.cards import network
from v2c.errors import TargetError, UsageError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import Firmware, Level, Machine, Placement, Plan, Ref
from v2c.targets.aws import AwsTarget, open_target
from v2c.targets.aws.checking import _PROBES
from v2c.targets.aws.facts import rights as known_rights
from v2c.targets.aws.options import parse
from v2c.targets.aws.quotas import code_of

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with places() as known:
        known[tmp_path_factory.mktemp("cloud")]
        yield known


@pytest.fixture
def cloud(found: Places) -> Iterator[AwsEmulator]:
    (emulator,) = found._known.values()
    yield emulator
    emulator.access.allow("migrator", rights())
    emulator.cloud.quotas.clear()


def target(cloud: AwsEmulator, more: str = "", base: str = "") -> AwsTarget:
    return open_target((base or cloud.locator.removeprefix("aws:")) + more)


def plan(aws: AwsTarget, **machine: Any) -> Plan:
    made = TargetContract().plan(aws)
    return replace(made, machine=replace(made.machine, **machine))


def blockers(aws: AwsTarget, made: Plan) -> dict[str, str]:
    return {f.id: f"{f.subject}: {f.text}" for f in aws.check(aws.size(made)) if f.level is Level.BLOCKER}


def test_a_place_that_fits_has_no_blocker(cloud: AwsEmulator) -> None:
    aws = target(cloud)
    findings = list(aws.check(aws.size(plan(aws))))
    assert [f for f in findings if f.level is not Level.INFO] == []
    assert any(f.id == "aws.identity" and "user/migrator" in f.text for f in findings)


def test_every_missing_right_is_named_at_once(cloud: AwsEmulator) -> None:
    """Each action that is taken away is found missing, and no other."""
    (statement,) = rights()
    taken = ["ebs:PutSnapshotBlock", "ec2:RegisterImage", "ec2:TerminateInstances", "ec2:DeleteSecurityGroup", "ec2:CreateTags"]
    kept = [action for action in statement["Action"] if action not in taken]
    cloud.access.allow("migrator", [{**statement, "Action": kept}])
    aws = target(cloud)
    named = [f.subject for f in aws.check(plan(aws)) if f.id == "aws.rights"]
    assert sorted(action for subject in named for action in subject.split(", ")) == sorted(taken)


def test_every_right_that_can_be_tried_is_tried() -> None:
    tried = {action for group in known_rights() if group.probe != "call" for action in group.actions}
    assert tried == set(_PROBES)


def test_the_listed_rights_are_all_that_is_called(cloud: AwsEmulator) -> None:
    """A whole journey, refused nothing, calls no action that the list lacks, and the list holds none that nobody calls."""
    cloud.requests.clear()
    aws, journal = target(cloud, f"&reserve=1&private-ip={address(cloud, 77)}"), MemoryJournal("job-rights")
    made = aws.size(replace(plan(aws), job="job-rights"))
    list(aws.check(made))
    list(aws.reserve(made, journal))
    disk = TargetContract().disk(aws, made, journal)
    list(aws.read(made, disk, [0]))
    image = aws.register(made, [disk], CAPS, journal)
    test = aws.launch(made, image, Placement(), journal, Meter())
    aws.observe(test)
    aws.stop(test, journal)
    aws.launch(made, image, Placement(isolated=False, cutover=True), journal, Meter())
    list(aws.finalize(made, journal))
    for ref in reversed(journal.refs()):
        aws.destroy(ref)
    assert list(aws.find("job-rights")) == []
    services = {"GetCallerIdentity": "sts", "GetServiceQuota": "servicequotas", "GetAWSDefaultServiceQuota": "servicequotas"}
    direct = {action.partition(":")[2] for group in known_rights() if group.name == "upload" for action in group.actions}
    called = {
        f"{services.get(r.operation, 'ebs' if r.operation in direct else 'ec2')}:{r.operation}"
        for r in cloud.requests
        if r.operation
    }
    listed = {action for group in known_rights() if group.name not in ("key", "licence", "s3-import") for action in group.actions}
    # tags come with what is made; a volume is only deleted when an instance left one; keys and defaults are asked when needed
    assert called <= listed
    assert listed - called <= {"servicequotas:GetAWSDefaultServiceQuota", "ec2:DescribeKeyPairs", "ec2:DeleteVolume"}


@pytest.mark.parametrize(
    ("more", "base", "id", "words"),
    [
        ("", "eu-west-1?subnet=subnet-0123456789abcdef0", "aws.subnet", "no such subnet"),
        (",sg-0123456789abcdef0", "", "aws.security-group", "no such security group"),
        ("&key-name=mine", "", "aws.key-pair", "no such key pair"),
        ("&type=c5.tiny", "", "aws.type", "does not offer"),
        ("&type=t2.micro", "", "aws.type", "no x86_64 type of Nitro|does not boot by"),
        ("&type=c6g.large", "", "aws.type", "does not boot by|no x86_64"),
        ("&kms=arn:aws:kms:eu-west-1:123456789012:key/none", "", "aws.key", "NotFound|does not exist"),
    ],
)
def test_what_is_wrong_with_the_place(cloud: AwsEmulator, more: str, base: str, id: str, words: str) -> None:
    aws = target(cloud, more, base)
    wrong = blockers(aws, plan(aws))
    assert id in wrong, wrong
    import re

    assert re.search(words, wrong[id])


def test_a_machine_that_no_type_holds(cloud: AwsEmulator) -> None:
    aws = target(cloud)
    assert "512 processors" in blockers(aws, plan(aws, vcpus=512))["aws.type"]


def test_the_smallest_type_that_holds_it_is_chosen(cloud: AwsEmulator) -> None:
    aws = target(cloud)
    small = aws.size(plan(aws, vcpus=2, memory_mib=3800)).instance_type
    large = aws.size(plan(aws, vcpus=3, memory_mib=15000)).instance_type
    assert small.endswith(".large") and small[0] == "c" and large.endswith(".xlarge") and large[0] == "m"
    assert aws.size(plan(aws, firmware=Firmware.UEFI)).instance_type
    assert target(cloud, "&type=m5.large").size(plan(aws)).instance_type == "m5.large"
    assert aws.size(plan(aws)).needs.initramfs_required[-1] == "ena", "a guest without it is refused before a byte moves"


def test_quotas(cloud: AwsEmulator) -> None:
    aws = target(cloud)
    cloud.cloud.quotas |= {"L-1216C47A": 1.0, "L-94D7AB7D": 0.0}
    wrong = blockers(aws, plan(aws))
    assert "may run 1 processors" in wrong["aws.vcpu-quota"] and "at most 0" in wrong["aws.pending-snapshots"]
    cloud.cloud.quotas |= {"L-7A658B76": 0.0}
    told = blockers(aws, plan(aws))["aws.storage-quota"]
    assert re.search(r"0 TiB of gp3 volumes; 0 GiB are there, and \S+ needs 1 GiB, and 1 GiB for a test", told)
    assert "aws.storage-quota" not in blockers(target(cloud, "&volume-type=gp2"), plan(aws))
    assert [code_of(kind) for kind in ("c5.large", "g4dn.xlarge", "p4d.24xlarge", "inf1.xlarge", "i3.large", "vt1.3xlarge")] == [
        "L-1216C47A",
        "L-DB2E81BA",
        "L-417A185B",
        "L-1945791B",
        "L-1216C47A",
        "L-DB2E81BA",
    ]


def test_a_quota_that_cannot_be_read_is_no_blocker(cloud: AwsEmulator) -> None:
    (statement,) = rights()
    kept = [action for action in statement["Action"] if not action.startswith("servicequotas")]
    cloud.access.allow("migrator", [{**statement, "Action": kept}])
    aws = target(cloud)
    findings = {f.id: f for f in aws.check(aws.size(plan(aws)))}
    assert findings["aws.vcpu-quota"].level is Level.WARNING


def test_a_test_is_isolated_and_leaves_nothing(cloud: AwsEmulator) -> None:
    """Its own security group without a rule, no public address, no profile, no key; and gone after it, with its volumes."""
    aws, journal = target(cloud, "&key-name=k&role=r"), MemoryJournal("job-test")
    made = aws.size(replace(plan(aws), job="job-test"))
    disk = TargetContract().disk(aws, made, journal)
    image = aws.register(made, [disk], CAPS, journal)
    instance = aws.launch(made, image, Placement(), journal, Meter())
    shown = cloud.cloud.store.table("eu-west-1", "instances")[instance.id]
    (group,) = shown["SecurityGroups"]
    rules = network(cloud.cloud, "eu-west-1").get_security_group_from_id(group["GroupId"])
    assert (rules.ingress_rules, rules.egress_rules) == ([], [])
    assert "PublicIpAddress" not in shown and "IamInstanceProfile" not in shown and "KeyName" not in shown
    assert shown["MetadataOptions"]["HttpTokens"] == "required"
    seen = aws.observe(instance)
    assert (seen.state, seen.alive, seen.addresses) == ("running", True, (shown["PrivateIpAddress"],))
    assert [(status.name, status.words) for status in seen.statuses] == [
        ("system status", "ok"),
        ("instance status", "initializing"),
    ]
    aws.stop(instance, journal)
    assert {ref.kind for ref in aws.find("job-test")} == {"disk", "image"}
    again = aws.launch(made, image, Placement(), journal, Meter())
    assert again != instance
    with pytest.raises(TargetError, match="carries no tag of job"):
        aws.destroy(Ref.of("instance", again.id, job="another"))
    for ref in journal.refs():  # in the order they were made: what stands in the way goes first
        aws.destroy(ref)
    assert list(aws.find("job-test")) == []
    assert not [line for line in cloud.left() if line.startswith(("instance", "volume", "group"))]


def test_capacity_that_is_not_there(cloud: AwsEmulator) -> None:
    aws, journal = target(cloud), MemoryJournal("job-capacity")
    made = aws.size(replace(plan(aws), job="job-capacity"))
    image = aws.register(made, [TargetContract().disk(aws, made, journal)], CAPS, journal)
    cloud.faults.once("RunInstances", "capacity")
    with pytest.raises(TargetError, match="InsufficientInstanceCapacity") as caught:
        aws.launch(made, image, Placement(), journal, Meter())
    assert "another instance type" in caught.value.remedy
    for ref in reversed(list(aws.find("job-capacity"))):
        aws.destroy(ref)


def test_a_reservation_is_made_once_used_and_released(cloud: AwsEmulator) -> None:
    aws, journal = target(cloud, "&reserve=2"), MemoryJournal("job-hold")
    made = aws.size(replace(plan(aws), job="job-hold"))
    (ref,) = list(aws.reserve(made, journal))
    assert list(target(cloud, "&reserve=2").reserve(made, journal)) == [ref] == journal.refs()
    held = cloud.cloud.store.table("eu-west-1", "reservations")[ref.id]
    assert (held["EndDateType"], held["InstanceMatchCriteria"], held["InstanceType"]) == (
        "limited",
        "targeted",
        made.instance_type,
    )
    assert list(aws.finalize(made, journal)) == [ref] and list(aws.find("job-hold")) == []


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("", "names no region"),
        ("europe", "names no region"),
        ("eu-west-1?colour=red", "what may follow the region: subnet="),
        ("eu-west-1?volume-type=floppy", "gp2, gp3"),
        ("eu-west-1?imds=maybe", "required, optional"),
        ("eu-west-1?reserve=long", "number of hours"),
    ],
)
def test_locators_that_make_no_sense(rest: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(rest)


def test_a_hostile_name_names_nothing_else(cloud: AwsEmulator) -> None:
    """The image's name keeps to what RegisterImage takes, whatever the machine is called."""
    aws, journal = target(cloud), MemoryJournal("job-name")
    made = replace(plan(aws), job="job-name")
    made = replace(made, machine=Machine("../../ERP\n<script>{}" + "x" * 300, made.machine.disks))
    image = aws.register(made, [TargetContract().disk(aws, made, journal)], CAPS, journal)
    name = cloud.cloud.store.table("eu-west-1", "images")[image.id]["Name"]
    assert 3 <= len(name) <= 128 and "\n" not in name and "<" not in name
    for ref in aws.find("job-name"):
        aws.destroy(ref)
    assert list(aws.find("job-name")) == [] and JOB
