"""Amazon EC2 by way of S3 and ImportSnapshot: the contract over the emulator, and what goes wrong on that way."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from aws_places import Places, places
from moto.s3.models import s3_backends
from target_contract import CAPS, JOB, TargetContract

from v2c import qemu
from v2c.emulators.aws import AwsEmulator, s3
from v2c.errors import BusyError, TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import GIB, DiskFormat, Level, Placement, Plan, Ref
from v2c.targets import Target
from v2c.targets.aws.facts import rights

pytestmark = pytest.mark.tool


def objects(emulator: AwsEmulator) -> dict[str, bytes]:
    """Every object there, by bucket and key."""
    buckets = s3_backends[emulator.cloud.account]["aws"].buckets
    return {f"s3://{name}/{key}": bucket.keys[key].value for name, bucket in buckets.items() for key in bucket.keys}


class TestAwsViaS3(TargetContract):
    intents = 4  # bucket, disk, snapshot, image
    lasting = ("snapshot", "image", "instance")  # disks are staged
    more = "&via=s3-import"
    clouds: Places

    @pytest.fixture(autouse=True)
    def _clouds(self, place: Path) -> Iterator[None]:
        with places() as known:
            self.clouds = known
            self.clouds[place]
            yield

    def make(self, folder: Path) -> Target:
        return self.clouds.target(folder, self.more)

    @property
    def emulator(self) -> AwsEmulator:
        (found,) = self.clouds._known.values()
        return found

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        """The staged VHD, by qemu-img."""
        vhd, raw = folder / "staged.vhd", folder / "staged.raw"
        vhd.write_bytes(objects(self.emulator)[disk.id])
        qemu.convert(vhd, DiskFormat.VHD, raw, DiskFormat.RAW)
        return raw

    def inventory(self, place: Path) -> Mapping[str, object]:
        found = dict(self.clouds.inventory(place))
        found |= {name: hash(data) for name, data in objects(self.emulator).items()}
        for name, bucket in s3_backends[self.emulator.cloud.account]["aws"].buckets.items():
            found[f"bucket {name}"] = name
            found |= {f"upload {one.key_name}": repr(one.parts.keys()) for one in bucket.multiparts.values()}
        return found

    def bulky(self, place: Path) -> set[str]:
        return {name for name in self.inventory(place) if name.startswith(("snap-", "vol-", "s3://", "upload"))}

    def kept(self, place: Path, name: str) -> bool:
        return False


class Story:
    """One disk on its way, with the contract's own blocks."""

    def __init__(self, emulator: AwsEmulator, known: Places, place: Path) -> None:
        self.emulator, self.known, self.place = emulator, known, place
        self.suite, self.journal = TestAwsViaS3(), MemoryJournal(JOB)
        self.plan: Plan = self.suite.plan(self.target(), 2)

    def target(self) -> Target:
        return self.known.target(self.place, "&via=s3-import")

    def staged(self) -> list[Ref]:
        target = self.target()
        list(target.reserve(self.plan, self.journal))
        return [self.suite.disk(target, self.plan, self.journal, number) for number in range(2)]


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    with places() as known:
        yield Story(known[tmp_path / "place"], known, tmp_path / "place")


def test_the_whole_way(story: Story) -> None:
    """Only data and its table are sent; what boots holds the disks' bytes; nothing of the staging is left after finalize."""
    refs = story.staged()
    sent = story.emulator.requests.bytes("UploadPart")
    blocks = sum(len(story.suite.blocks(story.target(), story.plan, number)) for number in range(2))
    assert sent <= blocks * story.target().features.chunk * 1.02
    target = story.target()
    image = target.register(story.plan, refs, CAPS, story.journal)
    snapshots = {ref["number"]: ref for ref in story.journal.refs("snapshot")}
    assert len(snapshots) == 2 and story.emulator.requests.done("ImportSnapshot").total() == 2
    for number in range(2):
        raw = story.emulator.disk(snapshots[str(number)].id)
        assert raw.stat().st_size == GIB
        story.suite.holds(raw, target, story.plan, story.suite.blocks(target, story.plan, number), number)
    instance = target.launch(story.plan, image, Placement(isolated=False, cutover=True), story.journal, Meter())
    assert {ref.kind for ref in target.finalize(story.plan, story.journal)} == {"disk", "bucket"}
    assert objects(story.emulator) == {} and instance in set(target.find(JOB)) == set(story.journal.refs())
    for ref in reversed(list(target.find(JOB))):
        target.destroy(ref)
    assert story.emulator.left() == []
    listed = {action for group in rights() if group.name == "s3-import" for action in group.actions}
    asked = {r.operation for r in story.emulator.requests}
    called = {s3.right(name) for name in asked} | {f"ec2:{name}" for name in asked}
    assert listed - called <= {"s3:AbortMultipartUpload", "ec2:CancelImportTask"}, "a right that nobody needs"


def test_one_in_three_fails(story: Story) -> None:
    story.emulator.faults.kinds, story.emulator.faults.share = ("throttle", "internal", "reset", "lost-answer"), 0.3
    refs = story.staged()
    image = story.target().register(story.plan, refs, CAPS, story.journal)
    story.emulator.faults.share = 0.0
    assert len(story.emulator.faults.drawn) > 5
    assert image in set(story.target().find(JOB))
    kinds = [line.split(" ")[0] for line in story.emulator.left()]
    assert (kinds.count("snapshot"), kinds.count("image"), kinds.count("bucket"), kinds.count("upload")) == (2, 1, 1, 0)
    for ref in story.journal.refs("snapshot"):
        number = int(ref["number"])
        blocks = story.suite.blocks(story.target(), story.plan, number)
        story.suite.holds(story.emulator.disk(ref.id), story.target(), story.plan, blocks, number)


def test_a_second_worker_takes_over(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own memory and no map: the first one's upload is over, and changes nothing any more."""
    target = story.target()
    list(target.reserve(story.plan, story.journal))
    (tmp_path / "maps").mkdir()
    blocks = story.suite.blocks(target, story.plan)
    disk = story.plan.machine.disks[0]
    with (
        pytest.raises((BusyError, TargetError), match="another worker has taken"),
        target.writer(story.plan, disk, None, story.journal) as first,
    ):
        first.expect(sorted(blocks))
        story.suite.put(first, blocks, only=2)
        first.flush()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
        with story.target().writer(story.plan, disk, None, story.journal) as second:
            second.expect(sorted(blocks))
            assert list(second.missing(story.suite.known(tmp_path / "maps", target, {}))) == []
            story.suite.put(second, blocks)
            ref = second.commit()
        monkeypatch.undo()
        story.suite.put(first, {index: blocks[index] for index in sorted(blocks)[2:]})
        first.commit()
    story.target().register(story.plan, [ref], CAPS, story.journal)
    (snapshot,) = story.journal.refs("snapshot")
    story.suite.holds(story.emulator.disk(snapshot.id), target, story.plan, blocks)


def test_a_part_that_was_lost_is_noticed(story: Story) -> None:
    """S3 says it took a part and did not keep it: the disk is not said to be there."""
    target = story.target()
    list(target.reserve(story.plan, story.journal))
    blocks = story.suite.blocks(target, story.plan)
    with target.writer(story.plan, story.plan.machine.disks[0], None, story.journal) as writer:
        writer.expect(sorted(blocks))
        story.suite.put(writer, blocks)
        writer.flush()
        for bucket in s3_backends[story.emulator.cloud.account]["aws"].buckets.values():
            for upload in bucket.multiparts.values():
                del upload.parts[1]
                upload.partlist.remove(1)
        with pytest.raises(TargetError) as lost:
            writer.commit()
    assert lost.value.transient


def test_what_cannot_be_imported_says_why(story: Story) -> None:
    (ref, other) = story.staged()
    bucket, _, key = ref.id.removeprefix("s3://").partition("/")
    s3_backends[story.emulator.cloud.account]["aws"].put_object(bucket, key, b"no disk" * 100)
    with pytest.raises(TargetError, match="ClientError: Disk validation failed"):
        story.target().register(story.plan, [ref, other], CAPS, story.journal)


def test_what_stands_in_the_way_is_told(story: Story) -> None:
    target = story.known.target(story.place, "&via=s3-import&bucket=nobodys-bucket")
    large = replace(story.plan, disks=(replace(story.plan.disks[0], target_size=2041 * GIB), story.plan.disks[1]))
    told = {finding.id: finding for finding in target.check(large) if finding.level is Level.BLOCKER}
    assert set(told) == {"aws.bucket", "aws.vhd"} and told["aws.bucket"].subject == "nobodys-bucket"


def test_the_role_is_missed_by_name(story: Story) -> None:
    refs = story.staged()
    target = story.known.target(story.place, "&via=s3-import&import-role=another")
    with pytest.raises(TargetError, match="service role another"):
        target.register(story.plan, refs, CAPS, story.journal)
