"""Files as the writers build them, judged by qemu-img and GNU tar; kills in the middle; broken tails."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writer_files import REF, block, content, every, every_stream, known, put, reference, same

from v2c.errors import NoSpaceError, TargetError
from v2c.model import GIB, MIB
from v2c.targets.writers import CHUNK, FORMATS, Format, part
from v2c.targets.writers.part import GRAIN, leftovers, runs
from v2c.targets.writers.stream import Entry, Log


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
