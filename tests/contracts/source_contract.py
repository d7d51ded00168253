"""What every source keeps: run over each member of the family by a class that says how one is made."""

from pathlib import Path

import pytest

from v2c import nbd
from v2c.errors import CaptureLost
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import Machine, Ref
from v2c.sources import Source


class SourceContract:
    """Subclasses give `make(folder)`, twice the same source, and `disks(source)`: the bytes that each disk must show."""

    def make(self, folder: Path) -> Source:
        raise NotImplementedError

    def disks(self, folder: Path) -> list[bytes]:
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        path = tmp_path / "source"
        path.mkdir()
        return path

    @pytest.fixture
    def source(self, folder: Path) -> Source:
        return self.make(folder)

    @pytest.fixture
    def machine(self, source: Source) -> Machine:
        return source.describe("")

    def test_a_machine_is_told_the_same_twice(self, folder: Path, source: Source, machine: Machine) -> None:
        assert source.describe("") == machine
        assert self.make(folder).describe("") == machine
        assert list(source.machines()) == [machine]
        assert machine.fingerprint
        assert len({disk.id for disk in machine.disks}) == len(machine.disks) > 0
        assert all(disk.size % disk.sector_size == 0 and disk.size > 0 for disk in machine.disks)

    def test_a_check_changes_nothing(self, folder: Path, source: Source, machine: Machine) -> None:
        before = picture(folder)
        findings = list(source.check(machine))
        assert all(f.id and f.text and f.subject for f in findings)
        assert picture(folder) == before

    def test_a_capture_is_opened_and_read(self, folder: Path, source: Source, machine: Machine, tmp_path: Path) -> None:
        before = picture(folder)
        capture = source.capture(machine, None, MemoryJournal())
        assert source.capture(machine, None, MemoryJournal()) == capture
        with source.open(capture, machine, tmp_path / "work") as opened:
            for disk, expected in zip(machine.disks, self.disks(folder), strict=True):
                export = opened.export(disk)
                assert export.size == disk.size == len(expected)
                with nbd.connect(export) as client:
                    assert client.read_only
                    position = 0
                    for extent in client.extents():
                        part = expected[extent.offset : extent.offset + extent.length]
                        if extent.data:
                            assert client.pread(extent.offset, extent.length) == part
                        else:
                            assert not any(part)
                        position += extent.length
                    assert position == disk.size
        assert picture(folder) == before
        assert left(tmp_path / "work") == []

    def test_a_capture_is_opened_again_by_another(self, folder: Path, source: Source, machine: Machine, tmp_path: Path) -> None:
        """As after a crash: another process, with nothing but the ref and the machine."""
        capture = source.capture(machine, None, MemoryJournal())
        again = Ref(capture.kind, capture.id, capture.attributes)
        for _ in range(2):
            with self.make(folder).open(again, machine, tmp_path / "work") as opened:
                first = machine.disks[0]
                with nbd.connect(opened.export(first)) as client:
                    assert client.pread(0, 4096) == self.disks(folder)[0][:4096]

    def test_two_open_it_at_once(self, folder: Path, source: Source, machine: Machine, tmp_path: Path) -> None:
        capture = source.capture(machine, None, MemoryJournal())
        with (
            source.open(capture, machine, tmp_path / "work") as one,
            self.make(folder).open(capture, machine, tmp_path / "work") as two,
        ):
            for opened in (one, two):
                with nbd.connect(opened.export(machine.disks[0])) as client:
                    assert client.size == machine.disks[0].size

    def test_a_capture_of_something_else_is_lost(self, source: Source, machine: Machine, tmp_path: Path) -> None:
        opened = source.open(Ref("capture", "something-else"), machine, tmp_path / "work")
        with pytest.raises(CaptureLost), opened:
            pass

    def test_nothing_is_left_and_nothing_to_destroy_is_success(self, source: Source, machine: Machine) -> None:
        capture = source.capture(machine, None, journal := MemoryJournal())
        source.stop(machine, journal, Meter())
        source.stop(machine, journal, Meter())
        source.start(machine, journal)
        source.destroy(capture)
        source.destroy(capture)
        assert list(source.find(journal.job)) == []


def picture(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with size and time of change."""
    return {str(p.relative_to(folder)): (s.st_size, s.st_mtime_ns) for p in folder.rglob("*") if (s := p.stat())}


def left(folder: Path) -> list[Path]:
    """What lies below a folder."""
    return list(folder.rglob("*")) if folder.exists() else []
