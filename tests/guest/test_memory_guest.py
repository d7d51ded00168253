"""The guest in memory, behind a ledger, and kept in an image: the contract, and what is theirs alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from guest_contract import PROGRAMS, TREE, GuestContract

from v2c import qemu
from v2c.errors import GuestError, NoSpaceError
from v2c.guest import Guest, kept
from v2c.guest.ledger import Ledger
from v2c.guest.memory import MemoryGuest
from v2c.model import MIB, DiskFormat, Filesystem
from v2c.nbd import Export

ROOT = Filesystem("/dev/sda", "ext4", "2dc70bd9-8541-568e-864e-e44525c5d849", disk="disk-0")


def make() -> MemoryGuest:
    return MemoryGuest.from_tree(TREE, filesystems=[ROOT], programs=PROGRAMS)


class TestMemoryGuest(GuestContract):
    @pytest.fixture
    def guest(self) -> Guest:
        return make()


class TestLedger(GuestContract):
    @pytest.fixture
    def guest(self) -> Guest:
        return Ledger(make())


class TestReadBack(GuestContract):
    @pytest.fixture
    def guest(self) -> Guest:
        return MemoryGuest.from_bytes(make().to_bytes(), programs=PROGRAMS)


@contextmanager
def disk(folder: Path, guest: MemoryGuest, size: int = 32 * MIB) -> Iterator[Export]:
    raw = folder / "kept.raw"
    if not raw.exists():
        head = kept.image(guest, size)
        raw.write_bytes(head + bytes(size - len(head)))
    with qemu.serve(raw, DiskFormat.RAW, socket=folder / "s", name="kept", read_only=False) as export:
        yield export


@pytest.mark.tool
class TestKept(GuestContract):
    @pytest.fixture
    def guest(self, tmp_path: Path) -> Iterator[Guest]:
        with disk(tmp_path, make()) as export, kept.open_kept(export, writable=True, programs=PROGRAMS) as guest:
            yield guest


@pytest.mark.tool
def test_a_kept_guest_is_written_back_when_all_went_well_and_only_then(tmp_path: Path) -> None:
    with disk(tmp_path, make()) as export:
        with kept.open_kept(export, writable=True) as guest:
            guest.write("/etc/hostname", "moved\n")
            guest.write("/etc/long", "x" * 100_000)
        with kept.open_kept(export, writable=True) as guest:
            assert guest.text("/etc/hostname") == "moved\n"
            guest.remove("/etc/long")
        with kept.open_kept(export, writable=False) as guest:
            guest.write("/etc/hostname", "tried\n")
        with pytest.raises(RuntimeError), kept.open_kept(export, writable=True) as guest:
            guest.write("/etc/hostname", "failed\n")
            raise RuntimeError
        with kept.open_kept(export, writable=False) as guest:
            assert guest.text("/etc/hostname") == "moved\n" and not guest.exists("/etc/long")
    length = len(kept.image(guest, 32 * MIB))
    assert not (tmp_path / "kept.raw").read_bytes()[length:].strip(b"\0"), "nothing of the longer one is left behind"


@pytest.mark.parametrize("head", [b"", b"\0" * 512, b"V2CGUEST", b"V2CGUEST" + (999).to_bytes(8, "big") + b"{}"])
def test_what_is_no_kept_guest_is_refused(head: bytes) -> None:
    with pytest.raises(GuestError):
        kept.parse(head)


def test_a_kept_guest_must_fit_its_disk() -> None:
    with pytest.raises(NoSpaceError):
        kept.image(make(), 4096)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"nodes": {"/": 3}}', b"\xff"])
def test_other_bytes_are_no_guest(data: bytes) -> None:
    with pytest.raises(GuestError):
        MemoryGuest.from_bytes(data)


def test_equal_guests_give_equal_bytes_and_the_facts_travel() -> None:
    guest = make()
    assert make().to_bytes() == guest.to_bytes()
    facts = guest.facts
    again = MemoryGuest.from_bytes(guest.to_bytes())
    assert again.facts == facts and again.tree == guest.tree
    again.write("/etc/hostname", "x")
    assert again.facts == facts, "facts are those of before the first repair"
    assert MemoryGuest.from_bytes(again.to_bytes()).facts == facts


def test_a_full_guest_is_full() -> None:
    guest = MemoryGuest.from_tree({"/etc/a": "x" * 600}, capacity=1000)
    guest.write("/etc/a", "y" * 900)
    with pytest.raises(NoSpaceError, match="/etc/b"):
        guest.write("/etc/b", "z" * 200)


def test_programs_are_remembered_and_may_run_elsewhere() -> None:
    guest = make()
    done = threading.Thread(target=guest.run, args=(["/usr/bin/say", "x"],))
    done.start()
    done.join()
    assert guest.ran == [("/usr/bin/say", "x")]
