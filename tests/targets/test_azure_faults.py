"""Azure at its worst: throttled, restarted, cut off in the middle of an answer, lying; and two workers at one disk."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.core.exceptions import ServiceRequestError
from azure_place import CAPS, JOB, Sender, at, azure, content, holds, overtaken, planned, secret_words, uploaded
from clocks import slowness
from target_contract import Died, MortalJournal

from v2c.emulators.azure import KINDS, AzureEmulator
from v2c.errors import Paused, TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import MIB, Placement
from v2c.patience import working
from v2c.targets.azure.session import told

pytestmark = pytest.mark.tool


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    with azure(tmp_path / "azure", monkeypatch) as running:
        yield running


def moved(emulator: AzureEmulator, folder: Path) -> None:
    """A machine of two disks goes there while requests fail, is the same, was made once, and goes again."""
    target, plan, journal = at(emulator), planned(100, 24), MemoryJournal(JOB)
    list(target.reserve(plan, journal))
    refs = [uploaded(target, plan, journal, folder, content(plan, n), n) for n in range(2)]
    image = target.register(plan, refs, CAPS, journal)
    for number, ref in enumerate(refs):
        read = target.read(plan, ref, sorted(content(plan, number)))
        assert all(data == content(plan, number)[index] for index, data in read)
        holds(emulator.disk(ref.id), plan.disks[number].target_size, content(plan, number))
    assert len(emulator.resources("disks")) == 2 and {*refs, image} == set(target.find(JOB))
    for ref in (image, *refs):
        target.destroy(ref)
    assert emulator.left() == []


def test_every_published_failure_is_outlived(emulator: AzureEmulator, tmp_path: Path) -> None:
    """Each kind strikes a page, a grant and a creation; and 5 % of all requests fail besides."""
    for kind in KINDS:
        emulator.faults.once("PutPage", kind)
    for operation, kind in (("disks.put", "lost-answer"), ("disks.grant", "lost-answer"), ("disks.revoke", "throttle")):
        emulator.faults.once(operation, kind)
    emulator.faults.kinds, emulator.faults.share, emulator.faults.seed = KINDS, 0.05, 1
    moved(emulator, tmp_path / "work")
    assert {kind for operation, kind in emulator.faults.drawn if operation == "PutPage"} == set(KINDS)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_five_percent_of_a_kind_is_outlived(emulator: AzureEmulator, tmp_path: Path, kind: str) -> None:
    emulator.faults.kinds, emulator.faults.share, emulator.faults.seed = (kind,), 0.05, 11
    moved(emulator, tmp_path / "work")
    assert len(emulator.faults.drawn) >= 3


def test_login_that_fails_for_a_while_is_outlived(emulator: AzureEmulator) -> None:
    emulator.faults.once("Discovery", "reset")
    emulator.faults.once("Token", "busy")
    assert list(at(emulator).find(JOB)) == []
    assert emulator.faults.drawn == [("Discovery", "reset"), ("Token", "busy")]


def test_an_outage_is_waited_out(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, plan, journal = at(emulator), planned(40), MemoryJournal(JOB)
    sender = Sender(tmp_path / "work", plan)
    blocks = content(plan)
    with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
        sender.send(writer, blocks, only=2)
        emulator.faults.outage(2.0)
        sender.send(writer, blocks)
        ref = writer.commit()
    assert ("PutPage", "outage") in emulator.faults.drawn or ("GetPageRanges", "outage") in emulator.faults.drawn
    holds(emulator.disk(ref.id), plan.disks[0].target_size, blocks)
    assert set(emulator.requests.done("PutPage").values()) == {1}, "no page was sent twice"


def test_somebody_who_wants_to_stop_is_heard_in_an_outage(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, plan, journal = at(emulator), planned(40), MemoryJournal(JOB)
    stop = threading.Event()
    with working(JOB, Meter(JOB, cancelled=stop.is_set)), target.writer(plan, plan.machine.disks[0], None, journal) as writer:
        Sender(tmp_path / "work", plan).send(writer, content(plan), only=1)
        emulator.faults.outage(600.0)
        threading.Timer(0.5, stop.set).start()
        began = time.monotonic()
        with pytest.raises(Paused):
            writer.put(1, bytes([1]) * 4 * MIB, b"")
    assert time.monotonic() - began < 2.5 * slowness()


def test_a_sas_that_runs_out_is_renewed(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, plan, journal = at(emulator), planned(60), MemoryJournal(JOB)
    emulator.faults.once("PutPage", "expired", times=2)
    blocks = content(plan)
    ref = uploaded(target, plan, journal, tmp_path / "work", blocks)
    holds(emulator.disk(ref.id), plan.disks[0].target_size, blocks)
    grants = sum(emulator.requests.done("disks.grant").values())
    assert 2 <= grants <= 4, "once at the beginning, and once for each that ran out"


def test_a_page_that_was_confirmed_and_lost_is_sent_again(emulator: AzureEmulator, tmp_path: Path) -> None:
    """The list of pages tells before the disk is closed."""
    target, plan, journal = at(emulator), planned(60), MemoryJournal(JOB)
    emulator.faults.once("PutPage", "lost")
    blocks = content(plan)
    sender = Sender(tmp_path / "work", plan)
    with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
        sender.send(writer, blocks)
        with pytest.raises(TargetError, match=r"1 blocks of erp-.* were confirmed and are not there") as caught:
            writer.commit()
    assert caught.value.transient
    ref = uploaded(target, plan, journal, tmp_path / "work", blocks)
    holds(emulator.disk(ref.id), plan.disks[0].target_size, blocks)
    sent = emulator.requests.done("PutPage")
    assert sorted(sent.values())[:-2] == [1] * (len(sent) - 2), "only the lost page, and the footer, went twice"


def test_a_page_that_rotted_is_seen_when_it_is_read_back(emulator: AzureEmulator, tmp_path: Path) -> None:
    target, plan, journal = at(emulator), planned(60), MemoryJournal(JOB)
    emulator.faults.once("PutPage", "rotten")
    blocks = content(plan)
    ref = uploaded(target, plan, journal, tmp_path / "work", blocks)
    read = dict(target.read(plan, ref, sorted(blocks)))
    assert [index for index in blocks if read[index] != blocks[index]] != []
    assert emulator.resources("disks")[0]["properties"]["diskState"] == "Unattached", "the read SAS was ended"


def test_a_second_worker_takes_over_and_the_first_changes_nothing(emulator: AzureEmulator, tmp_path: Path) -> None:
    """Another work folder, other contents: what the first put and the second does not know of is gone, and the first, which
    wakes up in between and at the end, is refused by the service."""
    plan, blocks = planned(60), content(planned(60), seed=2)
    first, second, journal = at(emulator), at(emulator), MemoryJournal(JOB)
    ref = overtaken(first, second, plan, journal, tmp_path, blocks)
    assert list(journal.refs("disk")) == [ref] and len(emulator.resources("disks")) == 1
    holds(emulator.disk(ref.id), plan.disks[0].target_size, blocks)


def test_a_disk_that_was_closed_too_early_is_made_anew(emulator: AzureEmulator, tmp_path: Path) -> None:
    """Somebody ends the SAS in the portal: the disk takes no pages any more, and the next try begins with a fresh one."""
    target, plan, journal = at(emulator), planned(60), MemoryJournal(JOB)
    blocks = content(plan)
    sender = Sender(tmp_path / "work", plan)
    with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
        sender.send(writer, blocks, only=3)
        name = emulator.resources("disks")[0]["name"]
        target.session.compute.disks.begin_revoke_access("lab", name).result()
        with pytest.raises(TargetError, match="ended by somebody else") as caught:
            sender.send(writer, blocks)
    assert caught.value.transient
    ref = uploaded(target, plan, journal, tmp_path / "work", blocks)
    holds(emulator.disk(ref.id), plan.disks[0].target_size, blocks)


def test_a_disk_that_another_run_completed_is_sent_again(emulator: AzureEmulator, tmp_path: Path) -> None:
    """A worker whose own map is older than the complete disk does not trust it."""
    target, plan, journal = at(emulator), planned(60), MemoryJournal(JOB)
    uploaded(target, plan, journal, tmp_path / "one", content(plan, seed=1))
    blocks = content(plan, seed=2)
    ref = uploaded(target, plan, journal, tmp_path / "two", blocks)
    holds(emulator.disk(ref.id), plan.disks[0].target_size, blocks)


def test_no_secret_is_told(emulator: AzureEmulator, tmp_path: Path) -> None:
    """Not in errors, nor in the journal: a SAS is as good as a key."""
    target, plan, journal = at(emulator), planned(40), MemoryJournal(JOB)
    errors = list[str]()
    with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
        Sender(tmp_path / "work", plan).send(writer, content(plan), only=1)
        secrets = secret_words(emulator)
        emulator.cloud.store.get(emulator.resources("disks")[0]["id"]).shown["tags"]["v2c-writer"] = "x"  # type: ignore[union-attr]
        emulator.faults.once("PutPage", "expired")
        with pytest.raises(TargetError) as caught:
            writer.put(1, bytes([1]) * 4 * MIB, b"")
        errors += [str(caught.value), repr(caught.value.__cause__), repr(caught.value.__context__)]
    words = ServiceRequestError(
        "HTTPSConnectionPool: Max retries exceeded with url: /md-impexp/x/abcd?si=p&sig=c2VjcmV0%3D (refused)"
    )
    errors.append(str(told("a page cannot be sent", words)))
    said = " ".join([*errors, repr(journal)])
    assert len(secrets) >= 2 and not [word for word in secrets if word in said]
    assert "c2VjcmV0" not in said and "sig=... (refused)" in said and not re.search(r"sig=(?!\.\.\.)", said)


@pytest.mark.parametrize("kill", range(1, 7))
def test_a_kill_in_a_launch_makes_nothing_twice(emulator: AzureEmulator, tmp_path: Path, kill: int) -> None:
    """At each effect: disk, image, copy, security group, card, machine. Then the test ends, and all that is left is ours."""
    plan, journal = planned(24), MortalJournal(JOB, at=kill)
    blocks = content(plan)
    for attempt in range(2):
        target = at(emulator)
        try:
            image = target.register(plan, [uploaded(target, plan, journal, tmp_path / "work", blocks)], CAPS, journal)
            instance = target.launch(plan, image, Placement(), journal, Meter())
            break
        except Died:
            assert attempt == 0 and len(journal.pending()) == 1
    assert journal.pending() == [] and set(journal.refs()) == set(target.find(JOB))
    assert len(emulator.left()) == 5, emulator.left()
    target.stop(instance, journal)
    assert {ref.kind for ref in target.find(JOB)} == {"disk", "image"} == {ref.kind for ref in journal.refs()}
    assert set(emulator.requests.done("PutPage").values()) == {1}
