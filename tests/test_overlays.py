"""Overlays: the source stays as it is, a seal survives, and dead attempts leave nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from v2c import nbd, qemu
from v2c.errors import ToolError, WorkLost
from v2c.model import KIB, MIB, Disk, DiskFormat, Machine, Marks
from v2c.nbd import Export
from v2c.overlays import Overlays, open_overlays

pytestmark = pytest.mark.tool

DISKS = (Disk("a", 4 * MIB), Disk("b", 6 * MIB))
MACHINE = Machine("erp", DISKS)


class Open:
    """A capture of two raw files."""

    marks = Marks()

    def __init__(self, exports: dict[str, Export]) -> None:
        self.exports = exports

    def export(self, disk: Disk) -> Export:
        return self.exports[disk.id]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for disk in DISKS:
        (folder / f"{disk.id}.raw").write_bytes(os.urandom(MIB) + bytes(disk.size - MIB))
    return folder


@contextmanager
def capture(source: Path, run: str) -> Iterator[Open]:
    """Served on another socket each time, as after a crash."""
    a, b = (source / f"{disk.id}.raw" for disk in DISKS)
    with (
        qemu.serve(a, DiskFormat.RAW, socket=source / f"{run}a", name="x") as first,
        qemu.serve(b, DiskFormat.RAW, socket=source / f"{run}b", name="y") as second,
    ):
        yield Open({"a": first, "b": second})


def write(overlays: Overlays, disk: Disk, offset: int, data: bytes) -> None:
    with nbd.connect(overlays.export(disk)) as client:
        client.pwrite(offset, data)


def read(overlays: Overlays, disk: Disk, offset: int, length: int) -> bytes:
    with nbd.connect(overlays.export(disk)) as client:
        return client.pread(offset, length)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_sealed_and_opened_again_elsewhere(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    before = [(source / f"{d.id}.raw").read_bytes() for d in DISKS]
    with (
        capture(source, "1") as opened,
        open_overlays(folder, MACHINE, opened, generation=None, writable=True) as overlays,
    ):
        assert [d.id for d, _ in overlays.exports] == ["a", "b"]
        assert overlays.below(DISKS[0]) is None
        write(overlays, DISKS[1], 5 * MIB + 7, b"repaired")
        generation = overlays.seal()
        assert overlays.files == (
            ("a", str(folder / f"disk-a.{generation}.qcow2")),
            ("b", str(folder / f"disk-b.{generation}.qcow2")),
        )
    assert len(generation) == 16
    assert names(folder) == [f"disk-a.{generation}.qcow2", f"disk-b.{generation}.qcow2"]
    assert qemu.info(folder / f"disk-b.{generation}.qcow2", DiskFormat.QCOW2).backing == ""
    with (
        capture(source, "2") as opened,
        open_overlays(folder, MACHINE, opened, generation=generation, writable=False) as overlays,
    ):
        assert read(overlays, DISKS[1], 5 * MIB + 7, 8) == b"repaired"
        assert read(overlays, DISKS[0], 0, MIB) == before[0][:MIB]
        assert overlays.below(DISKS[0]) == opened.export(DISKS[0])
        with nbd.connect(overlays.export(DISKS[1]), contexts=(nbd.ALLOCATION, nbd.DEPTH)) as client:
            assert client.read_only
            assert [(o, n) for o, n, d in client.status(nbd.DEPTH) if d == 1] == [(5 * MIB, 64 * KIB)]
    assert [(source / f"{d.id}.raw").read_bytes() for d in DISKS] == before


def test_a_failed_repair_is_a_deleted_overlay(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with (
        capture(source, "1") as opened,
        pytest.raises(RuntimeError),
        open_overlays(folder, MACHINE, opened, generation=None, writable=True) as overlays,
    ):
        write(overlays, DISKS[0], 0, b"half")
        raise RuntimeError
    assert names(folder) == []


def test_parts_of_the_dead_are_removed_and_those_of_the_living_are_not(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    qemu.create(folder / "disk-a.dead.part.qcow2", DiskFormat.QCOW2, MIB)
    with (
        capture(source, "1") as opened,
        open_overlays(folder, MACHINE, opened, generation=None, writable=True) as first,
        open_overlays(folder, MACHINE, opened, generation=None, writable=True) as second,
    ):
        assert not (folder / "disk-a.dead.part.qcow2").exists()
        write(first, DISKS[0], 0, b"first")
        write(second, DISKS[0], 0, b"other")
        assert read(first, DISKS[0], 0, 5) == b"first"
        assert len(list(folder.glob("*.part.qcow2"))) == 4
    assert names(folder) == []


def test_a_seal_replaces_earlier_generations(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with capture(source, "1") as opened:
        generations = []
        for word in (b"one", b"two"):
            with open_overlays(folder, MACHINE, opened, generation=None, writable=True) as overlays:
                write(overlays, DISKS[0], 0, word)
                generations.append(overlays.seal())
        assert generations[0] != generations[1]
        with open_overlays(folder, MACHINE, opened, generation=generations[1], writable=False) as overlays:
            assert read(overlays, DISKS[0], 0, 3) == b"two"
        gone = open_overlays(folder, MACHINE, opened, generation=generations[0], writable=False)
        with pytest.raises(WorkLost, match="is gone"), gone:
            pass


@pytest.mark.parametrize("sealed", [True, False])
def test_a_throw_away_overlay_leaves_no_trace(source: Path, tmp_path: Path, sealed: bool) -> None:
    folder = tmp_path / "work"
    with capture(source, "1") as opened:
        generation = "none"
        if sealed:
            with open_overlays(folder, MACHINE, opened, generation=None, writable=True) as overlays:
                write(overlays, DISKS[0], 0, b"repaired")
                generation = overlays.seal()
        with open_overlays(folder, MACHINE, opened, generation=generation, writable=False) as overlays:
            kept = read(overlays, DISKS[0], 0, 64)
        with open_overlays(folder, MACHINE, opened, generation=generation, writable=True) as overlays:
            assert read(overlays, DISKS[0], 0, 64) == kept
            write(overlays, DISKS[0], 0, b"booted")
            with pytest.raises(ToolError, match="sealed already"):
                overlays.seal()
        with open_overlays(folder, MACHINE, opened, generation=generation, writable=False) as overlays:
            assert read(overlays, DISKS[0], 0, 64) == kept
    assert len(names(folder)) == (2 if sealed else 0)


def test_without_overlays_the_source_is_served(source: Path, tmp_path: Path) -> None:
    with (
        capture(source, "1") as opened,
        open_overlays(tmp_path / "w", MACHINE, opened, generation="none", writable=False) as overlays,
    ):
        assert overlays.export(DISKS[0]) == opened.export(DISKS[0])
        assert overlays.below(DISKS[0]) is None
        assert overlays.files == ()


def test_a_work_folder_with_a_long_name(source: Path, tmp_path: Path) -> None:
    """A socket's path has at most 107 bytes; the work folder may have more."""
    folder = tmp_path / ("x" * 100) / "work"
    with (
        capture(source, "1") as opened,
        open_overlays(folder, MACHINE, opened, generation=None, writable=True) as overlays,
    ):
        used = Path(overlays.export(DISKS[0]).socket).parent
        assert used.stat().st_mode & 0o777 == 0o700
        write(overlays, DISKS[0], 0, b"x")
    assert not used.exists()
