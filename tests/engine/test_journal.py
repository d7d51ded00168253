"""One contract for both journals, and what only the one in the database can do."""

import threading
from pathlib import Path

import pytest

from v2c.journal import Journal, MemoryJournal, SqlJournal
from v2c.model import Ref

DISK = Ref.of("disk", "d1", region="eu")
IMAGE = Ref.of("image", "i1")


@pytest.fixture(params=["memory", "sql"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    return MemoryJournal("j") if request.param == "memory" else SqlJournal(tmp_path / "state", "j")


def _make(journal: Journal, ref: Ref, name: str = "x") -> None:
    with journal.intent(ref.kind, name, {"v2c-job": journal.job}) as intent:
        assert intent.done(ref) is ref


def test_what_was_made_is_listed_in_order(journal: Journal) -> None:
    _make(journal, DISK)
    _make(journal, IMAGE)
    assert journal.refs() == [DISK, IMAGE]
    assert journal.refs("image") == [IMAGE]
    assert journal.pending() == []


def test_an_intent_is_open_until_it_is_done(journal: Journal) -> None:
    with journal.intent("disk", "x", {"v2c-job": "j"}) as intent:
        assert [(i.kind, i.name, i.tags) for i in journal.pending()] == [("disk", "x", {"v2c-job": "j"})]
        intent.done(DISK)
        assert journal.refs() == [DISK]
    with pytest.raises(OSError, match="gone"), journal.intent("image", "y"):
        raise OSError("gone")
    assert [(i.kind, i.name) for i in journal.pending()] == [("image", "y")]


def test_an_open_intent_is_taken_up_again(journal: Journal) -> None:
    with journal.intent("disk", "x"):
        pass
    with journal.intent("disk", "other"):
        pass
    _make(journal, DISK)
    assert [i.name for i in journal.pending()] == ["other"]
    assert journal.refs() == [DISK]


def test_adopting_what_is_there_lists_it_once(journal: Journal) -> None:
    _make(journal, DISK)
    _make(journal, DISK)
    assert journal.refs() == [DISK]
    journal.undone(DISK)
    assert journal.refs() == []


def test_what_is_undone_is_gone_until_it_is_made_again(journal: Journal) -> None:
    _make(journal, DISK)
    _make(journal, IMAGE)
    journal.undone(DISK)
    assert journal.refs() == [IMAGE]
    _make(journal, DISK)
    assert set(journal.refs()) == {DISK, IMAGE}


def test_notes_overwrite(journal: Journal) -> None:
    assert journal.noted("mark") is None
    journal.note("mark", "1")
    journal.note("mark", "2")
    assert journal.noted("mark") == "2"


def test_acts_say_who_did_what_from_where(journal: Journal) -> None:
    _make(journal, DISK)
    journal.act("roll back", "asked for by the operator")
    journal.undone(DISK)
    assert [(a.what, a.detail) for a in journal.acts()] == [
        ("make disk", "x"),
        ("roll back", "asked for by the operator"),
        ("remove disk", "d1"),
    ]
    assert all(a.who and a.host and a.pid and a.at for a in journal.acts())


def test_jobs_do_not_see_each_other(tmp_path: Path) -> None:
    one, two = SqlJournal(tmp_path / "state", "one"), SqlJournal(tmp_path / "state", "two")
    _make(one, DISK)
    one.note("k", "1")
    two.undone(DISK)
    assert (two.refs(), two.noted("k"), one.refs()) == ([], None, [DISK])


def test_a_ref_is_remembered_though_the_body_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="late"), SqlJournal(tmp_path / "state", "j").intent("disk", "x") as intent:
        intent.done(DISK)
        raise OSError("late")
    again = SqlJournal(tmp_path / "state", "j")
    assert (again.refs(), again.pending()) == ([DISK], [])


def test_many_threads_write_one_journal(tmp_path: Path) -> None:
    journal = SqlJournal(tmp_path / "state", "j")
    refs = [Ref.of("disk", str(n)) for n in range(40)]

    def make(part: list[Ref]) -> None:
        for ref in part:
            _make(journal, ref, ref.id)

    threads = [threading.Thread(target=make, args=(part,)) for part in (refs[:20], refs[20:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(journal.refs()) == set(refs)
    assert journal.pending() == []
