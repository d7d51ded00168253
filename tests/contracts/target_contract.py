"""What every target promises: each member of the family runs `class TestMine(TargetContract)` with its `make` and `read`."""

from dataclasses import replace
from pathlib import Path

import pytest
from target_story import CAPS, JOB, Died, MortalJournal, TargetStory

from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import KIB, MIB, Level, Placement, Ref
from v2c.targets import Target

__all__ = ["CAPS", "JOB", "Died", "MortalJournal", "TargetContract"]


class TargetContract(TargetStory):
    """The promises; what a member says of itself is in TargetStory."""

    # ---- the promises ------------------------------------------------------------------------------------------------------

    def test_features_make_sense(self, place: Path) -> None:
        features = self.make(place).features
        assert features.chunk % (64 * KIB) == 0 and features.size_unit % 512 == 0 and features.parallel >= 1
        assert not (features.sequential and features.parallel > 1)

    def test_check_writes_nothing(self, place: Path) -> None:
        target = self.make(place)
        plan = self.plan(target, 2)
        before = self.inventory(place)
        assert [f for f in target.check(plan) if f.level is Level.BLOCKER] == []
        assert self.inventory(place) == before
        journal = MemoryJournal(JOB)
        list(target.reserve(plan, journal))
        self.disk(target, plan, journal)
        before = self.inventory(place)
        assert [f for f in self.make(place).check(plan) if f.level is Level.BLOCKER] == [], "our own work stands in our way"
        assert self.inventory(place) == before

    def test_reserve_twice_is_one(self, place: Path) -> None:
        target, plan, journal = self.ready(place, 2)
        before, refs = self.inventory(place), journal.refs()
        assert list(target.reserve(plan, journal)) == list(self.make(place).reserve(plan, journal))
        assert self.inventory(place).keys() == before.keys() and journal.refs() == refs and journal.pending() == []

    def test_a_disk_holds_what_was_put_and_zeros_beyond(self, place: Path, tmp_path: Path) -> None:
        target, plan, journal = self.ready(place, 3)
        for number in range(3):
            ref = self.disk(target, plan, journal, number)
            raw = self.read(target, ref, tmp_path)
            self.holds(raw, target, plan, self.blocks(target, plan, number), number)

    def test_what_was_put_is_read_back(self, place: Path, tmp_path: Path) -> None:
        """Before there is an image of it, in the order asked, and zeros where nothing was put."""
        target, plan, journal = self.ready(place)
        ref, blocks = self.disk(target, plan, journal), self.blocks(target, plan)
        if not target.features.readable:
            with pytest.raises(TargetError):
                list(target.read(plan, ref, [0]))
            return
        whole = dict(self.expected(target, plan, blocks))
        chunk, last = target.features.chunk, (plan.disks[0].target_size - 1) // target.features.chunk
        asked = [last, *range(last)]
        answers = list(self.make(place).read(plan, ref, asked))
        assert [index for index, _ in answers] == asked
        for index, data in answers:
            length = min(chunk, plan.disks[0].target_size - index * chunk)
            start = index * chunk // MIB * MIB
            around = b"".join(whole[at] for at in range(start, index * chunk + length, MIB))
            assert data == around[index * chunk - start :][:length], f"block {index} differs"

    def test_put_and_commit_twice_are_harmless(self, place: Path, tmp_path: Path) -> None:
        target, plan, journal = self.ready(place)
        blocks = self.blocks(target, plan)
        with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
            writer.expect(sorted(blocks))
            for index in sorted(blocks):
                self.put(writer, {index: blocks[index]})
                self.put(writer, {index: blocks[index]})
            writer.flush()
            ref = writer.commit()
            assert writer.commit() == ref
        with self.make(place).writer(plan, plan.machine.disks[0], None, journal) as writer:
            writer.expect(sorted(blocks))
            assert list(writer.missing(self.known(tmp_path, target, blocks))) == []
            assert writer.commit() == ref
        assert journal.refs("disk").count(ref) == 1
        self.holds(self.read(target, ref, tmp_path), target, plan, blocks)

    def test_a_writer_opened_again_goes_on(self, place: Path, tmp_path: Path) -> None:
        target, plan, journal = self.ready(place)
        blocks = self.blocks(target, plan)
        with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
            writer.expect(sorted(blocks))
            self.put(writer, blocks, only=2)
        again = self.make(place)
        done = {index: blocks[index] for index in sorted(blocks)[:2]}
        with again.writer(plan, plan.machine.disks[0], None, journal) as writer:
            writer.expect(sorted(blocks))
            assert list(writer.missing(self.known(tmp_path, target, done))) == []
            self.put(writer, {index: data for index, data in blocks.items() if index not in done})
            ref = writer.commit()
        self.holds(self.read(again, ref, tmp_path), again, plan, blocks)

    def test_what_the_target_lost_is_missing(self, place: Path, tmp_path: Path) -> None:
        target, plan, journal = self.ready(place)
        blocks = self.blocks(target, plan)
        with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
            writer.expect(sorted(blocks))
            assert list(writer.missing(self.known(tmp_path, target, blocks))) == sorted(blocks)

    def test_blocks_beyond_the_disk_are_refused(self, place: Path) -> None:
        target, plan, journal = self.ready(place)
        beyond = -(-plan.disks[0].target_size // target.features.chunk)
        with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
            writer.expect([0, beyond])
            with pytest.raises(TargetError):
                self.put(writer, {beyond: bytes(512)})

    def test_abandon_leaves_no_disk(self, place: Path) -> None:
        target, plan, journal = self.ready(place)
        before = self.bulky(place)
        with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
            blocks = self.blocks(target, plan)
            writer.expect(sorted(blocks))
            self.put(writer, blocks)
            writer.abandon()
        assert self.bulky(place) <= before

    def test_find_lists_ours_and_only_ours(self, place: Path) -> None:
        target, plan, journal = self.ready(place, 2)
        refs = [self.disk(target, plan, journal, number) for number in range(2)]
        image = target.register(plan, refs, self.caps, journal)
        found = list(self.make(place).find(JOB))
        assert {*refs, image} <= set(found)
        assert set(journal.refs()) == set(found), "the journal and the tags tell different stories"
        assert list(target.find("job-2")) == []

    def test_an_unfinished_disk_is_found(self, place: Path) -> None:
        target, plan, journal = self.ready(place)
        blocks = self.blocks(target, plan)
        with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
            writer.expect(sorted(blocks))
            self.put(writer, blocks, only=1)
        assert set(journal.refs("disk")) == {ref for ref in self.make(place).find(JOB) if ref.kind == "disk"} != set()

    def test_register_twice_is_one(self, place: Path) -> None:
        target, plan, journal = self.ready(place)
        refs = [self.disk(target, plan, journal)]
        image = target.register(plan, refs, self.caps, journal)
        before = self.inventory(place).keys()
        assert self.make(place).register(plan, refs, self.caps, journal) == image
        assert self.inventory(place).keys() == before and journal.refs("image").count(image) == 1

    @pytest.mark.parametrize("backwards", [True, False])
    def test_destroying_all_leaves_nothing(self, place: Path, backwards: bool) -> None:
        empty = self.inventory(place).keys()
        target, plan, journal = self.ready(place, 2)
        self.disk(target, plan, journal)
        with target.writer(plan, plan.machine.disks[1], None, journal) as writer:
            writer.expect([0])
            self.put(writer, self.blocks(target, plan, 1), only=1)
        target = self.make(place)
        made = list(reversed(journal.refs())) if backwards else journal.refs()
        for ref in made:
            target.destroy(ref)
        assert list(target.find(JOB)) == []
        assert {name for name in self.inventory(place).keys() - empty if not self.kept(place, name)} == set()
        for ref in made:
            target.destroy(ref)  # absent is success

    def test_what_is_not_ours_is_left_alone(self, place: Path) -> None:
        target, plan, journal = self.ready(place)
        ref = self.disk(target, plan, journal)
        before = self.inventory(place)
        foreign = Ref(ref.kind, ref.id, tuple((k, "job-2" if k == "job" else v) for k, v in ref.attributes))
        for stranger in (foreign, Ref(ref.kind, ref.id)):
            with pytest.raises(TargetError):
                target.destroy(stranger)
        assert self.inventory(place) == before

    def test_another_job_cannot_take_the_same_name(self, place: Path) -> None:
        """Either it gets a place of its own, or a blocker and a refusal: never the first job's disks."""
        target, plan, journal = self.ready(place)
        ref = self.disk(target, plan, journal)
        before = self.inventory(place)
        other, theirs = self.plan(target, job="job-2"), MemoryJournal("job-2")
        refused = [f for f in target.check(other) if f.level is Level.BLOCKER]
        if refused:
            with pytest.raises(TargetError):
                list(target.reserve(other, theirs))
            assert self.inventory(place) == before
        else:
            list(target.reserve(other, theirs))
            assert self.disk(target, other, theirs) != ref
            assert ref in set(target.find(JOB))

    def test_what_a_kill_left_open_is_adopted(self, place: Path, tmp_path: Path, at: int) -> None:
        """The process dies between an effect and its ref; the next one makes nothing a second time."""
        journal = MortalJournal(JOB, at=at)
        told = self.known(tmp_path, self.make(place), {})
        for attempt in range(2):
            target = self.make(place)
            plan = self.plan(target)
            try:
                list(target.reserve(plan, journal))
                ref = self.disk(target, plan, journal, told=told)
                image = target.register(plan, [ref], self.caps, journal)
                break
            except Died:
                assert attempt == 0 and len(journal.pending()) == 1
        assert journal.pending() == []
        assert set(journal.refs()) == set(target.find(JOB))
        assert {ref, image} <= set(journal.refs())
        self.holds(self.read(target, ref, tmp_path), target, plan, self.blocks(target, plan))

    def test_size_reads_only(self, place: Path) -> None:
        """It fills in the types of instance and disks and what it has to say, and nothing else; asked again it says the same."""
        target = self.make(place)
        plan, before = self.plan(target), self.inventory(place)
        sized = target.size(plan)
        disks = tuple(replace(disk, type="") for disk in sized.disks)
        assert replace(sized, instance_type=plan.instance_type, disks=disks, findings=plan.findings, needs=plan.needs) == plan
        assert self.make(place).size(plan) == sized and self.inventory(place) == before

    def test_finalize_leaves_what_was_moved(self, place: Path) -> None:
        """What only the migration needed is gone and is told; disk and image stay, and the second time there is nothing."""
        target, plan, journal = self.ready(place)
        disk = self.disk(target, plan, journal)
        image = target.register(plan, [disk], self.caps, journal)
        before = set(target.find(JOB))
        stays = {ref for ref in before if ref.kind in self.lasting}
        gone = list(target.finalize(plan, journal))
        assert not stays & set(gone) and set(gone) <= before
        assert set(self.make(place).find(JOB)) == before - set(gone) == set(journal.refs())
        assert image in set(target.find(JOB))
        assert list(self.make(place).finalize(plan, journal)) == []

    def test_a_dry_run_tells_and_changes_nothing(self, place: Path) -> None:
        """From reserve to the end of the test, from nothing and again over what is there; then what its removal would take."""
        target, plan, journal = self.make(place), self.plan(self.make(place), 2), MemoryJournal(JOB)
        if not target.features.dry:
            return

        def make(target: Target, journal: MemoryJournal) -> None:
            list(target.reserve(plan, journal))
            refs = [self.disk(target, plan, journal, number) for number in range(2)]
            image = target.register(plan, refs, self.caps, journal)
            if target.features.launches:
                target.stop(target.launch(plan, image, Placement(), journal, Meter()), journal)

        def remove(target: Target, journal: MemoryJournal) -> None:
            for ref in reversed(list(target.find(JOB))):
                target.destroy(ref)
            assert list(target.find(JOB)) == [], "a dry run goes on as if it had been done"

        first = self.dry(place, journal, make)
        assert first == self.dry(place, journal, make), "it says the same twice"
        assert first and all(call.name and call.subject for call in first)
        assert any(dict(call.tags).get("v2c-job") == JOB for call in first), "what is made carries our tag"
        list(target.reserve(plan, journal))
        refs = [self.disk(target, plan, journal, number) for number in range(2)]
        target.register(plan, refs, self.caps, journal)
        again = self.dry(place, journal, make)
        assert len(again) < len(first), "what is there already is not made again"
        gone = self.dry(place, journal, remove)
        assert gone and not {call.name for call in gone} <= {call.name for call in first}

    def test_instances_are_launched_once(self, place: Path) -> None:
        target, plan, journal = self.ready(place)
        refs = [self.disk(target, plan, journal)]
        image = target.register(plan, refs, self.caps, journal)
        if not target.features.launches:
            with pytest.raises(TargetError):
                target.launch(plan, image, Placement(), journal, Meter())
            return
        instance = target.launch(plan, image, Placement(), journal, Meter())
        assert self.make(place).launch(plan, image, Placement(), journal, Meter()) == instance
        assert instance in set(target.find(JOB)) and target.observe(instance).state
        target.stop(instance, journal)
        target.stop(instance, journal)
        assert not target.observe(instance).alive
        target.destroy(instance)
        assert instance not in set(target.find(JOB))
        target.destroy(instance)

    def test_a_cut_over_follows_a_test(self, place: Path) -> None:
        """The real instance is another one than the test's, is launched once, and no stop ends it."""
        target, plan, journal = self.ready(place)
        if not (target.features.launches and target.features.cutover):
            return
        image = target.register(plan, [self.disk(target, plan, journal)], self.caps, journal)
        test = target.launch(plan, image, Placement(), journal, Meter())
        real = Placement(isolated=False, cutover=True)
        instance = target.launch(plan, image, real, journal, Meter())
        assert instance != test
        for one in (test, instance):
            target.stop(one, journal)
        assert self.make(place).launch(plan, image, real, journal, Meter()) == instance
        assert target.observe(instance).state not in ("gone", "stopped", "terminated")
        found = set(target.find(JOB))
        assert instance in found and found == set(journal.refs())
        list(target.finalize(plan, journal))
        assert instance in set(target.find(JOB))
        for ref in reversed(journal.refs()):
            target.destroy(ref)
        assert list(self.make(place).find(JOB)) == []
