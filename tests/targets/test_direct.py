"""Writes past the page cache: what is written is there, and what cannot go that way is said before anything was written."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from v2c.blocks import BlockMap
from v2c.model import KIB, MIB, Ref
from v2c.targets.writers.direct import DirectFile
from v2c.targets.writers.raw import RawWriter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "disk.raw"
    made.touch()
    os.truncate(made, 16 * MIB)
    return made


def able(path: Path) -> bool:
    """Whether the file system of these tests has O_DIRECT at all."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_many_threads_write_what_they_were_given(file: Path, kind: type[bytes] | type[bytearray]) -> None:
    """From any place of a buffer, into any aligned place of the file."""
    if not able(file):
        pytest.skip("the file system of the tests has no O_DIRECT")
    whole = random.Random(7).randbytes(16 * MIB)
    direct = DirectFile(file, MIB)

    def one(at: int) -> bool:
        length = 1 * MIB if at % (2 * MIB) else 512 * KIB
        return direct.write(kind(b"before!" + whole[at : at + length]), 7, 7 + length, at)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(0, 16 * MIB, MIB)))
    direct.close()
    held = file.read_bytes()
    for at in range(0, 16 * MIB, MIB):
        length = 1 * MIB if at % (2 * MIB) else 512 * KIB
        assert held[at : at + length] == whole[at : at + length]
        assert held[at + length : at + MIB] == bytes(MIB - length)


@pytest.mark.parametrize(("length", "offset"), [(MIB + 4096, 0), (1000, 0), (4096, 512)])
def test_what_is_not_aligned_is_left_to_the_caller(file: Path, length: int, offset: int) -> None:
    direct = DirectFile(file, MIB)
    assert not direct.write(b"x" * length, 0, length, offset)
    direct.close()
    assert not any(file.read_bytes())


def test_a_file_system_without_it_is_written_through_the_cache() -> None:
    """/dev/shm is a tmpfs, which has O_DIRECT or not, by its kernel; and nothing has it that was closed."""
    with_cache = Path("/dev/shm") / f"v2c-direct-{os.getpid()}.raw"
    data = random.Random(3).randbytes(4 * MIB)
    try:
        with RawWriter(with_cache, 8 * MIB, Ref.of("file", "x")) as writer:
            assert writer._direct is not None
            if not able(with_cache.with_name(with_cache.name + ".part")):
                assert not writer._direct.write(data, 0, 4 * MIB, 0)
            writer._direct.close()
            writer.put(1, data, b"")
            writer.flush()
            writer.commit()
        assert with_cache.read_bytes() == bytes(4 * MIB) + data
    finally:
        with_cache.unlink(missing_ok=True)


def test_the_raw_writer_goes_past_the_cache_and_leaves_holes(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    data = bytearray(random.Random(5).randbytes(4 * MIB))
    data[64 * KIB : 1 * MIB] = bytes(1 * MIB - 64 * KIB)
    with BlockMap.open(tmp_path / "map") as blocks, RawWriter(path, 12 * MIB + 512, Ref.of("file", "x")) as writer:
        blocks.begin("capture", "generation", writer.chunk)
        assert not list(writer.missing(blocks))
        writer.put(1, data, b"")
        writer.put(3, b"e" * 512, b"")
        writer.flush()
        writer.commit()
    assert path.read_bytes() == bytes(4 * MIB) + data + bytes(4 * MIB) + b"e" * 512
    assert path.stat().st_blocks * 512 < 3 * MIB + 512 * KIB
