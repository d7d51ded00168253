"""Files as the writers build them, judged by qemu-img and GNU tar; kills in the middle; broken tails."""

import hashlib
import os
import random
import signal
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2c import qemu
from v2c.blocks import BlockMap
from v2c.errors import NoSpaceError, TargetError
from v2c.model import GIB, MIB, DiskFormat, Ref
from v2c.targets.writers import CHUNK, FORMATS, Format, TarWriter, VmdkWriter, part
from v2c.targets.writers.part import GRAIN, leftovers, runs
from v2c.targets.writers.raw import vhd_footer, vhd_geometry
from v2c.targets.writers.stream import Entry, Log
from v2c.targets.writers.tar import merged, sparse_header

READERS = {"raw": DiskFormat.RAW, "qcow2": DiskFormat.QCOW2, "vmdk": DiskFormat.VMDK, "vhd": DiskFormat.VHD}
READERS |= {"vhd-dynamic": DiskFormat.VHD, "vhdx": DiskFormat.VHDX, "vdi": DiskFormat.VDI}
STREAMS = [f for f in FORMATS if f.sequential]
REF = Ref.of("disk", "d0")

every = pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
every_stream = pytest.mark.parametrize("format", STREAMS, ids=lambda f: f.name)


def known(folder: Path, blocks: dict[int, bytes]) -> BlockMap:
    """A block map that says these were written."""
    told = BlockMap.open(folder / f"{len(list(folder.glob('*.blocks')))}.blocks")
    told.begin("capture", "generation", CHUNK)
    for index, data in blocks.items():
        told.wrote(index, hashlib.sha256(data).digest())
    return told


def block(seed: int, *, holes: bool = True) -> bytes:
    """4 MiB, part noise, part text, part zeros."""
    dice = random.Random(seed)
    pieces = [
        dice.randbytes(GRAIN) if n % 3 else bytes(GRAIN) if holes else b"v2c!" * (GRAIN // 4) for n in range(CHUNK // GRAIN)
    ]
    return b"".join(pieces)


def content(seed: int = 0) -> dict[int, bytes]:
    """Blocks of a disk of 1 GiB, far apart and side by side, the last one included."""
    return {index: block(seed + index) for index in (0, 1, 9, 10, 11, 60, 255)}


def put(writer: object, blocks: dict[int, bytes], only: Sequence[int] | None = None) -> None:
    for index in sorted(blocks) if only is None else only:
        writer.put(index, blocks[index], hashlib.sha256(blocks[index]).digest())  # type: ignore[attr-defined]


def reference(path: Path, blocks: dict[int, bytes], size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for index, data in blocks.items():
            file.seek(index * CHUNK)
            file.write(data)
    return path


def same(out: Path, format: Format, expected: Path, size: int) -> None:
    """What independent readers find in the file."""
    if format.name == "tar.gz":
        folder = out.with_name("extracted")
        folder.mkdir(exist_ok=True)
        assert subprocess.run(["gzip", "-t", out], check=False).returncode == 0
        listed = subprocess.run(["tar", "-tvzf", out], capture_output=True, text=True, check=True).stdout
        assert listed.split()[-1] == "disk.raw" and str(size) in listed
        done = subprocess.run(["tar", "-xzf", out, "-C", folder], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        disk = folder / "disk.raw"
        assert subprocess.run(["cmp", disk, expected], check=False).returncode == 0
        assert disk.stat().st_blocks * 512 <= expected.stat().st_blocks * 512 + MIB, "the holes are gone"
    else:
        kind = READERS[format.name]
        assert qemu.info(out, kind).size == size
        assert qemu.compare(out, kind, expected, DiskFormat.RAW)
        qemu.check(out, kind)


@pytest.mark.tool
@every
def test_a_file_holds_what_was_put(tmp_path: Path, format: Format) -> None:
    out, size, blocks = tmp_path / "out", GIB, content()
    with format.open(out, size, REF) as writer:
        writer.expect(sorted(blocks))
        assert list(writer.missing(known(tmp_path, {}))) == []
        put(writer, blocks)
        assert not out.exists()
        writer.flush()
        assert writer.commit() == REF
        assert writer.commit() == REF, "twice is harmless"
    assert not any(leftover.exists() for leftover in leftovers(out))
    assert out.stat().st_mode & 0o777 == 0o600
    same(out, format, reference(tmp_path / "expected", blocks, size), size)
    used = out.stat().st_blocks * 512
    assert used < sum(map(len, blocks.values())) + 40 * MIB, "zeros were written"


@pytest.mark.tool
@every
def test_an_empty_disk(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    with format.open(out, GIB, REF) as writer:
        writer.expect([])
        writer.commit()
    same(out, format, reference(tmp_path / "expected", {}, GIB), GIB)


@pytest.mark.tool
@every
def test_a_kill_loses_nothing_that_was_put(tmp_path: Path, format: Format) -> None:
    """A real process, killed -9 with a qemu-nbd of its own; the next writer misses nothing of what it put."""
    out, blocks = tmp_path / "out", content()
    child = os.fork()
    if child == 0:
        try:
            writer = format.open(out, GIB, REF).__enter__()
            writer.expect(sorted(blocks))
            put(writer, blocks, sorted(blocks)[:4])
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert part(out).exists()
    done = {index: blocks[index] for index in sorted(blocks)[:4]}
    with format.open(out, GIB, REF) as writer:
        writer.expect(sorted(blocks))
        assert list(writer.missing(known(tmp_path, done))) == []
        put(writer, blocks, sorted(blocks)[4:])
        writer.commit()
    same(out, format, reference(tmp_path / "expected", blocks, GIB), GIB)


@pytest.mark.tool
@every
def test_a_file_that_is_gone_misses_everything(tmp_path: Path, format: Format) -> None:
    with format.open(tmp_path / "out", GIB, REF) as writer:
        writer.expect([0, 1, 9])
        assert list(writer.missing(known(tmp_path, {0: block(0), 9: block(9)}))) == [0, 9]
        writer.abandon()
    assert not any(leftover.exists() for leftover in leftovers(tmp_path / "out"))


@pytest.mark.tool
@every
@pytest.mark.parametrize("committed", [False, True])
def test_a_map_that_knows_nothing_begins_anew(tmp_path: Path, format: Format, committed: bool) -> None:
    """Blocks of an attempt whose map is gone may be zeros by now, and nobody would put them."""
    out, blocks = tmp_path / "out", {0: block(0)}
    with format.open(out, GIB, REF) as writer:
        writer.expect([0, 1])
        put(writer, {0: block(0), 1: block(1)})
        if committed:
            writer.commit()
    with format.open(out, GIB, REF) as writer:
        writer.expect([0])
        assert list(writer.missing(known(tmp_path, {}))) == []
        put(writer, blocks)
        writer.commit()
    same(out, format, reference(tmp_path / "expected", blocks, GIB), GIB)


@pytest.mark.tool
@pytest.mark.parametrize("format", [f for f in FORMATS if f.rewritable], ids=lambda f: f.name)
def test_blocks_can_be_put_again_with_other_data(tmp_path: Path, format: Format) -> None:
    """Also after the commit: the machine was repaired anew, and zeros replace what was there."""
    out, blocks = tmp_path / "out", content()
    with format.open(out, GIB, REF) as writer:
        put(writer, blocks)
        writer.commit()
    blocks |= {1: block(77), 10: bytes(CHUNK), 255: block(78)[: CHUNK // 2] + bytes(CHUNK // 2)}
    with format.open(out, GIB, REF) as writer:
        assert list(writer.missing(known(tmp_path, blocks))) == []
        put(writer, blocks, [255, 10, 1])
        assert not out.exists(), "an unfinished file under its final name"
        writer.commit()
    same(out, format, reference(tmp_path / "expected", blocks, GIB), GIB)


@pytest.mark.tool
@every_stream
def test_a_stream_is_cut_back_when_the_disk_changed(tmp_path: Path, format: Format) -> None:
    out, blocks = tmp_path / "out", content()
    with format.open(out, GIB, REF) as writer:
        writer.expect(sorted(blocks))
        put(writer, blocks, sorted(blocks)[:5])
    blocks[9] = block(99)
    with format.open(out, GIB, REF) as writer:
        writer.expect(sorted(blocks))
        put(writer, blocks, [0, 1])
        with pytest.raises(TargetError) as refused:
            put(writer, blocks, [9])
        assert refused.value.transient
    with format.open(out, GIB, REF) as writer:
        writer.expect(sorted(blocks))
        assert list(writer.missing(known(tmp_path, blocks))) == [9, 10, 11, 60, 255]
        put(writer, blocks, [9, 10, 11, 60, 255])
        writer.commit()
    same(out, format, reference(tmp_path / "expected", blocks, GIB), GIB)
    with format.open(out, GIB, REF) as writer:
        writer.expect(sorted(blocks))
        assert list(writer.missing(known(tmp_path, blocks))) == []
        assert writer.commit() == REF


@pytest.mark.tool
@every_stream
@pytest.mark.parametrize("cut", [1, 57])
def test_a_torn_log_costs_only_its_last_blocks(tmp_path: Path, format: Format, cut: int) -> None:
    out, blocks = tmp_path / "out", content()
    with format.open(out, GIB, REF) as writer:
        writer.expect(sorted(blocks))
        put(writer, blocks)
    log = leftovers(out)[1]
    os.truncate(log, log.stat().st_size - cut)
    with part(out).open("ab") as file:
        file.write(b"half a block")
    with format.open(out, GIB, REF) as writer:
        writer.expect(sorted(blocks))
        again = list(writer.missing(known(tmp_path, blocks)))
        assert again == sorted(blocks)[len(blocks) - -(-cut // 56) :]
        put(writer, blocks, again)
        writer.commit()
    same(out, format, reference(tmp_path / "expected", blocks, GIB), GIB)


@every_stream
def test_after_a_power_loss_only_synced_blocks_count(tmp_path: Path, format: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    out, blocks = tmp_path / "out", {0: block(0), 1: block(1), 2: block(2)}
    with format.open(out, GIB, REF) as writer:
        writer.expect([0, 1, 2])
        put(writer, blocks, [0, 1])
        writer.flush()
        put(writer, blocks, [2])
    monkeypatch.setattr("v2c.targets.writers.stream._boot", lambda: b"another".ljust(36))
    with format.open(out, GIB, REF) as writer:
        writer.expect([0, 1, 2])
        assert list(writer.missing(known(tmp_path, blocks))) == [2]


@pytest.mark.tool
def test_expected_blocks_that_are_zeros_are_written_as_zeros(tmp_path: Path) -> None:
    out, blocks = tmp_path / "out", content()
    format = next(f for f in FORMATS if f.name == "tar.gz")
    with format.open(out, GIB, REF) as writer:
        writer.expect([*sorted({*blocks, 2, 3, 100})])
        put(writer, blocks, [0, 1, 9, 10, 11, 60])
        with pytest.raises(TargetError, match="not announced"):
            writer.put(200, block(1), b"1" * 32)
        put(writer, blocks, [255])
        writer.commit()
    expected = reference(tmp_path / "expected", blocks, GIB)
    subprocess.run(["tar", "-xzf", out, "-C", tmp_path], check=True)
    assert subprocess.run(["cmp", tmp_path / "disk.raw", expected], check=False).returncode == 0


@pytest.mark.tool
def test_a_disk_of_terabytes_in_a_tar(tmp_path: Path) -> None:
    """Offsets above 8 GiB are base 256, and 60 extents need three more blocks of head."""
    size = 3000 * GIB
    blocks = {index: block(index) for index in (0, 2100, 5000, *range(6000, 6057 * 2, 2)[:57], size // CHUNK - 1)}
    with TarWriter(tmp_path / "out", size, REF) as writer:
        writer.expect(sorted(blocks))
        put(writer, blocks)
        writer.commit()
    listed = subprocess.run(["tar", "-tvzf", tmp_path / "out"], capture_output=True, text=True, check=True).stdout
    assert str(size) in listed
    subprocess.run(["tar", "-xzf", tmp_path / "out", "-C", tmp_path], check=True)
    with (tmp_path / "disk.raw").open("rb") as disk:
        assert disk.seek(0, os.SEEK_END) == size
        for index, data in blocks.items():
            disk.seek(index * CHUNK)
            assert disk.read(CHUNK) == data
        assert disk.seek(0, os.SEEK_DATA) == 0
        assert disk.seek(CHUNK, os.SEEK_DATA) == 2100 * CHUNK


@given(st.lists(st.integers(0, 400), unique=True).map(sorted), st.integers(0, 40))
@settings(max_examples=30, deadline=None)
@pytest.mark.tool
def test_gnu_tar_reads_every_map(tmp_path_factory: pytest.TempPathFactory, indexes: list[int], extra: int) -> None:
    """The head alone, with data of 512 bytes a block."""
    folder = tmp_path_factory.mktemp("tar")
    size = (401 + extra) * 512
    ranges = [(first * 512, (last + 1) * 512) for first, last in merged(indexes)]
    data = b"".join(hashlib.sha512(str(index).encode()).digest() * 8 for index in indexes)
    (folder / "a.tar").write_bytes(sparse_header("disk.raw", size, ranges) + data + bytes(1024))
    subprocess.run(["tar", "-xf", folder / "a.tar", "-C", folder], check=True)
    expected = bytearray(size)
    for index in indexes:
        expected[index * 512 : index * 512 + 512] = hashlib.sha512(str(index).encode()).digest() * 8
    assert (folder / "disk.raw").read_bytes() == bytes(expected)


def test_the_footer_is_the_specifications() -> None:
    """Azure's own example: 20 MiB, no id, no time, creator "win "."""
    footer = vhd_footer(20 * MIB, uuid.UUID(int=0), 0)
    assert len(footer) == 512
    assert footer[64:68].hex() == "fffff0e6"
    assert vhd_geometry(20 * MIB) == (602, 4, 17)
    assert vhd_geometry(GIB) == (2080, 16, 63)
    assert vhd_geometry(128 * GIB) == (65535, 16, 255)
    assert vhd_geometry(4096 * GIB) == (65535, 16, 255)


@pytest.mark.tool
def test_a_vhd_that_qemu_refuses_to_write(tmp_path: Path) -> None:
    """Above 2040 GiB: the file is right by the specification, and QEMU still reads it."""
    size = 2500 * GIB
    format = next(f for f in FORMATS if f.name == "vhd")
    with format.open(tmp_path / "out", size, REF) as writer:
        put(writer, {0: block(0), size // CHUNK - 1: block(1)})
        writer.commit()
    assert (tmp_path / "out").stat().st_size == size + 512
    with (tmp_path / "out").open("rb") as file:
        file.seek(size)
        footer = file.read()
    assert footer[:8] == b"conectix" and int.from_bytes(footer[48:56], "big") == size
    total = sum(footer) - sum(footer[64:68])
    assert int.from_bytes(footer[64:68], "big") == ~total & 0xFFFFFFFF


@pytest.mark.tool
def test_the_vmdk_is_shaped_like_qemus_own(tmp_path: Path) -> None:
    """The same header, field by field, as qemu-img's streamOptimized output of the same disk."""
    blocks = content()
    source = reference(tmp_path / "source", blocks, GIB)
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run([*argv, source, tmp_path / "qemu.vmdk"], check=True)
    with VmdkWriter(tmp_path / "own.vmdk", GIB, REF) as writer:
        put(writer, blocks)
        writer.commit()
    own, theirs = (tmp_path / "own.vmdk").read_bytes(), (tmp_path / "qemu.vmdk").read_bytes()
    for name, start, end in (("magic, version", 0, 8), ("capacity to table size", 12, 48), ("newlines, compression", 73, 79)):
        assert own[start:end] == theirs[start:end], name
    assert b'createType="streamOptimized"' in own[512 : 21 * 512]
    assert own[-512:] == bytes(512), "no end mark"
    assert own[-1536:-1024][:16] == bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]), "no footer mark"
    assert own[-1024:-512][:4] == b"KDMV"
    assert len(own) < len(theirs) * 1.1


def test_sizes_that_a_format_cannot_hold_are_refused(tmp_path: Path) -> None:
    for name in ("tar.gz", "vhd", "vmdk"):
        format = next(f for f in FORMATS if f.name == name)
        with pytest.raises(TargetError):
            format.open(tmp_path / "out", GIB + 512, REF)


@pytest.mark.parametrize("format", [f for f in FORMATS if f.name in ("raw", "tar.gz", "vmdk")], ids=lambda f: f.name)
def test_blocks_beyond_the_disk_are_refused(tmp_path: Path, format: Format) -> None:
    with format.open(tmp_path / "out", GIB, REF) as writer:
        writer.expect([256])
        with pytest.raises(TargetError, match="beyond"):
            writer.put(256, block(0), b"1" * 32)


@pytest.mark.parametrize("format", [f for f in FORMATS if f.name in ("raw", "tar.gz", "vmdk")], ids=lambda f: f.name)
def test_a_full_disk_says_so_and_the_same_writer_goes_on(tmp_path: Path, format: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    blocks = {0: block(0), 1: block(1)}
    with format.open(tmp_path / "out", GIB, REF) as writer:
        writer.expect([0, 1])
        put(writer, blocks, [0])
        with monkeypatch.context() as patch:
            patch.setattr("os.pwrite", full)
            with pytest.raises(NoSpaceError):
                put(writer, blocks, [1])
        put(writer, blocks, [1])
        writer.commit()
    if format.name != "tar.gz":
        same(tmp_path / "out", format, reference(tmp_path / "expected", blocks, GIB), GIB)
    else:
        assert subprocess.run(["gzip", "-t", tmp_path / "out"], check=False).returncode == 0


@given(st.lists(st.booleans(), max_size=12), st.integers(0, GRAIN))
@settings(max_examples=50, deadline=None)
def test_runs_cover_the_block_once(pieces: list[bool], rest: int) -> None:
    data = b"".join(b"x" * GRAIN if full else bytes(GRAIN) for full in pieces) + bytes(rest)
    position = 0
    last = None
    for start, end, zero in runs(data):
        assert start == position and end > start and zero is not last
        assert any(data[start:end]) is not zero
        position, last = end, zero
    assert position == len(data)


def test_a_log_of_another_stream_is_empty(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", b"a" * 32)
    log.append(Entry(3, 10, 5, b"d" * 32))
    log.close()
    for identity, count in ((b"a" * 32, 1), (b"b" * 32, 0)):
        again = Log(tmp_path / "log", identity)
        assert len(again.entries) == count
        again.close()
