"""The in-memory target: the contract, its story of effects, its faults, and what boots on it."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from target_contract import CAPS, JOB, TargetContract

from v2c.errors import TargetError, UsageError
from v2c.events import Meter
from v2c.guest import kept
from v2c.guest.memory import MemoryGuest
from v2c.journal import MemoryJournal
from v2c.model import MIB, Placement, Ref
from v2c.targets import Target, open_target
from v2c.targets.memory import MemoryTarget


class TestMemory(TargetContract):
    locator = "memory:here"

    @pytest.fixture(autouse=True)
    def home(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("V2C_MEMORY", str(place))

    def make(self, folder: Path) -> Target:
        return open_target(self.locator)

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        assert isinstance(target, MemoryTarget)
        path, _ = target.image(disk)
        return path

    def test_every_effect_is_told_once(self, place: Path) -> None:
        target, plan, journal = self.ready(place)
        assert isinstance(target, MemoryTarget)
        ref = self.disk(target, plan, journal)
        target.register(plan, [ref], CAPS, journal)
        told = target.events.read()
        assert [e.id for e in told if e.what == "create"] == [f"reservation {JOB}", f"disk {JOB}-d0", f"image {JOB}"]
        puts = [e.index for e in told if e.what == "put"]
        assert puts == sorted(self.blocks(target, plan)) and {e.pid for e in told} == {os.getpid()}

    def test_a_neighbour_that_comes_and_goes_is_not_stumbled_over(self, place: Path) -> None:
        """Machines of a wave share the folder: what one of them removes may be what another is just listing."""
        target, plan, _ = self.ready(place)
        over = threading.Event()

        def neighbour() -> None:
            other, theirs = self.make(place), replace(plan, job="job-2")
            while not over.is_set():
                for ref in list(other.reserve(theirs, MemoryJournal("job-2"))):
                    other.destroy(ref)

        thread = threading.Thread(target=neighbour)
        thread.start()
        try:
            for _ in range(300):
                assert [ref.kind for ref in target.find(JOB)] == ["reservation"]
                target.dry(lambda call: None)
        finally:
            over.set()
            thread.join()

    def test_all_of_it_survives_a_kill(self, place: Path, tmp_path: Path) -> None:
        child = os.fork()
        if child == 0:
            try:
                target, plan, journal = self.ready(place)
                with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
                    self.put(writer, self.blocks(target, plan), only=2)
                    os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        target, plan, journal = self.ready(place)
        assert isinstance(target, MemoryTarget)
        blocks = self.blocks(target, plan)
        done = {index: blocks[index] for index in sorted(blocks)[:2]}
        with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
            assert list(writer.missing(self.known(tmp_path, target, done))) == []
            self.put(writer, {i: d for i, d in blocks.items() if i not in done})
            ref = writer.commit()
        puts = [e.index for e in target.events.read() if e.what == "put"]
        assert sorted(puts) == sorted(set(puts)) == sorted(blocks)
        self.holds(self.read(target, ref, tmp_path), target, plan, blocks)

    def test_a_kept_guest_boots_and_its_probe_answers(self, place: Path) -> None:
        target, plan, journal = self.ready(place)
        guest = MemoryGuest.from_tree(
            {"/etc/hostname": "erp\n", "/etc/v2c/nonce": "c0ffee\n", "/etc/passwd": "root:x:0:0::/root:/bin/sh\n"}
        )
        with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
            head = kept.image(guest, self.size)
            self.put(writer, {0: head})
            image = target.register(plan, [writer.commit()], CAPS, journal)
        instance = target.launch(plan, image, Placement(), journal, Meter())
        seen = target.observe(instance)
        lines = [line.split(" ") for line in seen.console.splitlines() if line.startswith("V2C1 ")]
        assert seen.alive and lines and "erp login:" in seen.console
        total = int(lines[0][2].split("/")[1])
        assert len(lines) == 3 * total and {line[1] for line in lines} == {"c0ffee"}
        assert max(len(line[5]) for line in lines) <= 200

    def test_a_disk_without_a_guest_does_not_boot(self, place: Path) -> None:
        target, plan, journal = self.ready(place)
        image = target.register(plan, [self.disk(target, plan, journal)], CAPS, journal)
        seen = target.observe(target.launch(plan, image, Placement(), journal, Meter()))
        assert not seen.alive and seen.console.startswith("No bootable device")


class TestRounded(TestMemory):
    """Sizes are rounded up to 8 MiB."""

    locator = f"memory:rounded?unit={8 * MIB}"


def test_faults_strike_before_and_after_and_can_be_outlived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is tried until it succeeds; nothing was made twice though half of the answers were lost."""
    monkeypatch.setenv("V2C_MEMORY", str(tmp_path))
    suite = TestMemory()
    target = open_target("memory:flaky?fail=0.3&seed=4")
    assert isinstance(target, MemoryTarget)
    plan, journal = suite.plan(target), MemoryJournal(JOB)
    struck = 0
    for _ in range(200):
        try:
            list(target.reserve(plan, journal))
            ref = suite.disk(target, plan, journal)
            image = target.register(plan, [ref], CAPS, journal)
            break
        except TargetError as error:
            assert error.transient
            struck += 1
    created = [e.id for e in target.events.read() if e.what == "create"]
    told = [e.id for e in target.events.read() if e.what == "fail"]
    assert struck > 0 and len(told) == struck
    assert any("did nothing" in id for id in told) and any("was lost" in id for id in told)
    assert sorted(created) == sorted(set(created)) and len(created) == 3
    assert set(journal.refs()) == set(target.find(JOB)) >= {ref, image}


@pytest.mark.parametrize("locator", ["memory:", "memory:../x", "memory:a?fail=often", "memory:a?color=red", "memory:a/b"])
def test_locators_that_make_no_sense(locator: str) -> None:
    with pytest.raises(UsageError):
        open_target(locator)


@pytest.mark.parametrize("locator", ["", "disk.qcow2", "vcenter:eu-west-1", "FILE:x.raw", "/tmp/x.qcow2"])
def test_an_unknown_scheme_lists_those_that_are_known(locator: str) -> None:
    with pytest.raises(UsageError, match=r"file:PATH.*local:.*memory:NAME"):
        open_target(locator)
