"""An image by ImportImage, for a system whose licence AWS includes: the target's calls over the emulator. No Windows guest is at
hand, so the machine is one that is said to be: its disks hold noise, and what runs on them is not asked."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aws_places import REGION, Places, places
from kept_machines import KeptMachines
from target_contract import JOB, Died, MortalJournal, TargetContract

from v2c.afterwards import undo
from v2c.emulators.aws import AwsEmulator
from v2c.emulators.aws import rights as granted
from v2c.errors import BlockedError, TargetError, UsageError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import GIB, Caps, Firmware, KernelCaps, Level, Placement, Plan, Ref
from v2c.pipeline import Request
from v2c.targets import Call, Target
from v2c.targets.aws.facts import api, rights
from v2c.targets.aws.options import parse
from v2c.verbs import convert, inspect, preview

pytestmark = pytest.mark.tool
WINDOWS = Caps(Firmware.UEFI, boot_disk="d1")  # no Linux kernel in it
LINUX = replace(WINDOWS, kernels=(KernelCaps("6.1"),))
REAL = Placement(isolated=False, cutover=True)


class Story:
    """Two disks at AWS, the second of them the boot disk."""

    def __init__(self, known: Places, folder: Path) -> None:
        self.known, self.folder = known, folder
        self.cloud: AwsEmulator = known[folder]
        self.cloud.cloud.machines = KeptMachines(folder)
        self.suite, self.journal = TargetContract(), MemoryJournal(JOB)
        plan = self.suite.plan(self.target(), 2)
        self.plan: Plan = replace(self.target().size(plan), instance_type="m5.large")

    def target(self, more: str = "&licence=included") -> Target:
        return self.known.target(self.folder, more)

    def sent(self, journal: MemoryJournal | None = None) -> list[Ref]:
        journal = journal or self.journal
        list(self.target().reserve(self.plan, journal))
        return [self.suite.disk(self.target(), self.plan, journal, number) for number in range(2)]

    def image(self, id: str) -> dict[str, object]:
        return self.cloud.cloud.store.table(REGION, "images")[id]

    def tasks(self) -> list[str]:
        return [task["Status"] for _, task in self.cloud.cloud.store.all("image-imports")]


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    with places() as known:
        yield Story(known, tmp_path / "place")


def test_the_whole_way(story: Story) -> None:
    """Billed as Windows, of copies that hold the disks' bytes, the boot disk first; the test and the real instance are launched
    from it; what was uploaded is needed no more; and no right is used that is not listed."""
    disks, target = story.sent(), story.target()
    image = target.register(story.plan, disks, WINDOWS, story.journal)
    shown = story.image(image.id)
    assert (shown["UsageOperation"], shown["PlatformDetails"]) == ("RunInstances:0002", "Windows")
    assert (shown["BootMode"], shown["Platform"]) == ("uefi", "windows")
    copies = [ref.id for ref in story.journal.refs("snapshot")]
    assert len(copies) == 2 and not {*copies} & {ref.id for ref in disks} and story.journal.refs("import") == []
    for id, number in zip(copies, (1, 0), strict=True):
        blocks = story.suite.blocks(target, story.plan, number)
        story.suite.holds(story.cloud.disk(id), target, story.plan, blocks, number)
    assert set(target.find(JOB)) == set(story.journal.refs())
    assert story.target().register(story.plan, disks, WINDOWS, story.journal) == image
    assert story.cloud.requests.done("ImportImage").total() == 1 and not story.cloud.requests.done("RegisterImage")
    test = target.launch(story.plan, image, Placement(), story.journal, Meter())
    target.stop(test, story.journal)
    real = target.launch(story.plan, image, REAL, story.journal, Meter())
    volumes = [v for _, v in story.cloud.cloud.store.all("volumes")]
    assert [v["VolumeType"] for v in volumes] == ["gp3"] * 2, "an import chooses gp2"
    assert set(target.finalize(story.plan, story.journal)) >= set(disks)
    assert {ref.kind for ref in target.find(JOB)} == {"image", "snapshot", "instance"} and real in set(story.journal.refs())
    for ref in reversed(list(target.find(JOB))):
        target.destroy(ref)
    assert story.cloud.left() == [] and list(target.find(JOB)) == []
    listed = {action for group in rights() if group.name == "licence" for action in group.actions}
    assert listed - {f"ec2:{r.operation}" for r in story.cloud.requests} == {"ec2:CancelImportTask"}


def test_a_linux_guest_is_refused_before_anything_is_imported(story: Story) -> None:
    disks = story.sent()
    with pytest.raises(TargetError, match="erp runs Linux, and the licence that AWS includes is for Windows") as refused:
        story.target().register(story.plan, disks, LINUX, story.journal)
    assert refused.value.remedy == "leave &licence=included out" and not story.cloud.requests.done("ImportImage")


def test_a_linux_guest_is_refused_before_a_byte_is_sent(story: Story, tmp_path: Path) -> None:
    """When it was looked into; what was prepared until then is given back, and the trial of a plan says the same."""
    words = 'the guest runs "Debian GNU/Linux 12 \\(bookworm\\)", and the licence that is to come with it is for Windows'
    locator = f"{story.cloud.locator}&licence=included&reserve=1&type=m5.large"
    request = Request("linux", ("memory:erp",), locator, str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    with pytest.raises(BlockedError, match=words) as refused:
        convert(request, tmp_path / "state", tmp_path / "work")
    assert "licence=included" in refused.value.remedy
    assert story.cloud.requests.done("CreateCapacityReservation").total() == 1 and story.cloud.left() == []
    assert not story.cloud.requests.done("StartSnapshot") and not story.cloud.requests.done("ImportImage")
    assert list(story.target().find("linux")) == []
    with pytest.raises(BlockedError, match=words):
        preview(request, tmp_path / "work")
    _, found = inspect(request, tmp_path / "work")
    assert [f.id for f in found if f.level is Level.BLOCKER] == ["guest.licence"]


@pytest.mark.parametrize("at", [3, 4, 5, 6])
def test_a_kill_is_gone_on_with(story: Story, at: int) -> None:
    """After the task was begun, after the image had its tags, after each copy: nothing is imported twice."""
    journal = MortalJournal(JOB, at=at)
    disks: list[Ref] = []
    for attempt in range(2):
        try:
            disks = disks or story.sent(journal)
            image = story.target().register(story.plan, disks, WINDOWS, journal)
            break
        except Died:
            assert attempt == 0 and len(journal.pending()) == 1
    assert journal.pending() == [] and set(journal.refs()) == set(story.target().find(JOB))
    assert story.tasks() == ["completed"] and image.id in [r.id for r in journal.refs("image")]
    undo(journal, story.target())
    assert story.cloud.left() == []


@pytest.mark.parametrize("at", [3, 4, 5])
def test_a_rollback_after_a_kill_leaves_nothing(story: Story, at: int) -> None:
    """Also of a task that is under way, and of an image that has no tag yet."""
    journal = MortalJournal(JOB, at=at)
    story.cloud.pace.import_s = 60.0 if at == 3 else 0.1
    with pytest.raises(Died):
        story.target().register(story.plan, story.sent(journal), WINDOWS, journal)
    undo(journal, story.target())
    assert story.cloud.left() == [] and list(story.target().find(JOB)) == []
    assert story.tasks() == (["deleted"] if at == 3 else ["completed"])


def test_a_task_that_ended_unseen_is_cleaned_up(story: Story) -> None:
    """The process died after the task was begun; the image came, and carries no tag of ours: it is found by the task's."""
    journal = MortalJournal(JOB, at=3)
    with pytest.raises(Died):
        story.target().register(story.plan, story.sent(journal), WINDOWS, journal)
    story.cloud.cloud.offset += 60
    found = [ref for ref in story.target().find(JOB) if ref.kind == "import"]
    assert len(found) == 1 and story.tasks() == ["completed"]
    assert len([line for line in story.cloud.left() if line.startswith("snapshot")]) == 4
    with pytest.raises(TargetError, match="carries no tag of job"):
        story.target().destroy(Ref.of("import", found[0].id, job="another"))
    for ref in list(story.target().find(JOB)):
        story.target().destroy(ref)
    assert story.cloud.left() == []


def test_a_guest_that_aws_does_not_know(story: Story) -> None:
    """AWS's own words; the next try is another task."""
    disks = story.sent()
    story.cloud.faults.once("ImportImage", "unsupported-guest")
    with pytest.raises(TargetError, match="ClientError: Unknown OS") as refused:
        story.target().register(story.plan, disks, WINDOWS, story.journal)
    assert not refused.value.transient
    image = story.target().register(story.plan, disks, WINDOWS, story.journal)
    assert story.tasks() == ["deleted", "completed"] and set(story.target().find(JOB)) == set(story.journal.refs()) > {image}


def test_other_snapshots_make_another_image(story: Story) -> None:
    """A machine that was sent anew: the first image goes, with its copies."""
    disks, target = story.sent(), story.target()
    first = target.register(story.plan, disks, WINDOWS, story.journal)
    second = target.register(story.plan, disks[:1], replace(WINDOWS, boot_disk="d0"), story.journal)
    assert second != first and set(target.find(JOB)) == set(story.journal.refs())
    assert {ref.kind: len([r for r in target.find(JOB) if r.kind == ref.kind]) for ref in target.find(JOB)} == {
        "disk": 2,
        "image": 1,
        "snapshot": 1,
    }


def test_a_dry_run_tells_it(story: Story) -> None:
    calls: list[Call] = []
    target, journal = story.target().dry(calls.append), MemoryJournal(JOB)
    disks = [story.suite.disk(target, story.plan, journal, number) for number in range(2)]
    target.launch(story.plan, target.register(story.plan, disks, WINDOWS, journal), REAL, journal, Meter())
    undo(journal, target)
    told = [call for call in calls if call.name in ("ImportImage", "RegisterImage")]
    assert [call.name for call in told] == ["ImportImage"] and dict(told[0].tags)["v2c-job"] == JOB
    assert told[0].detail == "Windows with AWS's licence, uefi, as vmimport" and story.tasks() == []


def test_what_is_found_before(story: Story) -> None:
    target = story.target()
    told = {f.id: (f.level, f.text) for f in target.check(story.plan)}
    assert told["aws.licence"][0] is Level.INFO and "no guest but a Windows is sent" in told["aws.licence"][1]
    large = replace(
        story.plan, disks=(replace(story.plan.disks[0], target_size=api().image_import.gib * GIB), story.plan.disks[1])
    )
    (found,) = (f for f in target.check(large) if f.level is Level.BLOCKER)
    assert found.id == "aws.licence" and "8192 GiB" in found.text
    (statement,) = granted()
    kept = [action for action in statement["Action"] if action != "ec2:ImportImage"]
    story.cloud.access.allow("migrator", [{**statement, "Action": kept}])
    assert [f.subject for f in target.check(story.plan) if f.id == "aws.rights"] == ["ec2:ImportImage"]
    assert [f for f in story.target("").check(story.plan) if f.id == "aws.rights"] == []


@pytest.mark.parametrize("rest", ["licence=mine", "licence=included&tpm=v2.0", "licence=included&uefi-data=vars"])
def test_what_is_not_understood(rest: str) -> None:
    with pytest.raises(UsageError, match="licence="):
        parse(f"eu-west-1?{rest}")


def test_capacity_is_reserved_for_windows(story: Story) -> None:
    target = story.target("&licence=included&reserve=1")
    image = target.register(story.plan, story.sent(), WINDOWS, story.journal)
    list(target.reserve(story.plan, story.journal))
    (held,) = (record for _, record in story.cloud.cloud.store.all("reservations"))
    assert held["InstancePlatform"] == "Windows"
    target.launch(story.plan, image, REAL, story.journal, Meter())


def test_by_way_of_s3(story: Story) -> None:
    """Staged, imported as snapshots, then as an image of those: after finalize only the image's own are left."""
    target = story.target("&via=s3-import&licence=included")
    plan = story.suite.plan(target, 1)
    list(target.reserve(plan, story.journal))
    disk = story.suite.disk(target, plan, story.journal)
    target.register(plan, [disk], replace(WINDOWS, boot_disk="d0"), story.journal)
    assert set(target.find(JOB)) == set(story.journal.refs())
    list(target.finalize(plan, story.journal))
    assert sorted(line.partition(" ")[0] for line in story.cloud.left()) == ["image", "snapshot"]
    undo(story.journal, target)
    assert story.cloud.left() == []
