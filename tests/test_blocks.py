"""The block map: what it remembers, what it trusts, and what a torn file costs."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2c.blocks import UNKNOWN, BlockMap
from v2c.errors import ToolError

CHUNK = 4096


def digest(what: str) -> bytes:
    return hashlib.sha256(what.encode()).digest()


def began(path: Path, generation: str = "g1", *, capture: str = "c1", boot: str = "boot 1") -> BlockMap:
    blocks = BlockMap.open(path, boot)
    blocks.begin(capture, generation, CHUNK)
    return blocks


def test_remembers_what_was_written(tmp_path: Path) -> None:
    with began(tmp_path / "m") as blocks:
        assert blocks.digest(3) is None
        blocks.intend([3, 4, 5, 9])
        blocks.wrote(3, digest("three"))
        blocks.zeroed(4)
        assert blocks.digest(3) == digest("three")
        fingerprint = blocks.fingerprint()
    with began(tmp_path / "m") as blocks:
        assert blocks.ours(3)
        assert blocks.digest(3) == digest("three")
        assert blocks.digest(4) is None
        assert blocks.digest(5) == UNKNOWN
        assert not blocks.ours(5)
        assert list(blocks.written()) == [3, 5, 9]
        assert blocks.fingerprint() == fingerprint


def test_another_generation_or_capture_is_only_a_hint(tmp_path: Path) -> None:
    with began(tmp_path / "m") as blocks:
        blocks.wrote(3, digest("three"))
    for generation, capture in (("g2", "c1"), ("g1", "c2")):
        with began(tmp_path / "m", generation, capture=capture) as blocks:
            assert blocks.digest(3) == digest("three")
            assert not blocks.ours(3)
    with began(tmp_path / "m", "g2") as blocks:
        blocks.wrote(3, digest("other"))
    with began(tmp_path / "m", "g1") as blocks:
        assert not blocks.ours(3)
        assert blocks.digest(3) == digest("other")


def test_a_power_loss_leaves_doubt_behind_the_last_checkpoint(tmp_path: Path) -> None:
    with began(tmp_path / "m") as blocks:
        blocks.wrote(1, digest("one"))
        position = blocks.position
        blocks.wrote(2, digest("two"))
        blocks.checkpoint(position)
        blocks.wrote(3, digest("three"))
        blocks.zeroed(4)
    with began(tmp_path / "m") as blocks:
        assert [blocks.ours(i) for i in (1, 2, 3)] == [True, True, True]
    for boot in ("boot 2", "boot 2", "boot 3"):  # the doubt stays, whoever looks and however often
        with began(tmp_path / "m", boot=boot) as blocks:
            assert [blocks.digest(i) for i in (1, 2, 3, 4)] == [digest("one"), UNKNOWN, UNKNOWN, UNKNOWN]
            blocks.checkpoint(blocks.position)
    with began(tmp_path / "m", boot="boot 4") as blocks:
        assert blocks.digest(2) == UNKNOWN


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2000), st.binary(max_size=60))
def test_a_torn_tail_is_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("torn") / "m"
    with began(path) as blocks:
        for index in range(20):
            blocks.wrote(index, digest(str(index)))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)] + junk)
    with began(path) as blocks:
        kept = [index for index in range(20) if blocks.ours(index)]
        assert kept == list(range(len(kept)))
        assert len(kept) >= 20 - -(-cut // 52)
        assert all(blocks.digest(index) == digest(str(index)) for index in kept)
        blocks.wrote(30, digest("thirty"))
    with began(path) as blocks:
        assert [index for index in range(40) if blocks.ours(index)] == [*kept, 30]


def test_blocks_of_another_size_are_refused(tmp_path: Path) -> None:
    began(tmp_path / "m").close()
    with BlockMap.open(tmp_path / "m") as blocks, pytest.raises(ToolError, match="another size"):
        blocks.begin("c1", "g1", CHUNK * 2)


def test_many_threads_at_once_lose_and_tear_nothing(tmp_path: Path) -> None:
    """They write without waiting for each other, while one takes checkpoints."""
    with began(tmp_path / "m") as blocks, ThreadPoolExecutor(8) as pool:
        blocks.intend(range(4000))
        written = pool.map(lambda i: blocks.wrote(i, digest(str(i))), range(4000))
        for _ in range(20):
            blocks.checkpoint(blocks.position)
        assert len(list(written)) == 4000
        fingerprint = blocks.fingerprint()
    with began(tmp_path / "m") as blocks:
        assert all(blocks.ours(i) and blocks.digest(i) == digest(str(i)) for i in range(4000))
        assert blocks.fingerprint() == fingerprint
    with began(tmp_path / "m", boot="boot 2") as blocks:  # what the last checkpoint spoke of is trusted, and nothing more
        assert blocks.position > 4000
        assert all(blocks.digest(i) in (digest(str(i)), UNKNOWN) for i in range(4000))
