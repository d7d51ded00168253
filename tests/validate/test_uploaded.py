"""Reading an upload back: every lie is noticed, and what was compared is told."""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from v2c.blocks import BlockMap
from v2c.errors import Paused, TargetError, WorkLost
from v2c.events import Meter
from v2c.model import KIB, MIB, Compared, Expectation, Ref, Verdict, Verify
from v2c.transfer import TransferResult
from v2c.validate.uploaded import HOLES, SAMPLE_MOST, checks, chosen, read_back

CHUNK = 64 * KIB
TOTAL = 1000
SIZE = TOTAL * CHUNK - 512  # the last block is short
WRITTEN = sorted({0, 7, TOTAL - 1, *range(100, 400)})


def content(index: int) -> bytes:
    length = min(CHUNK, SIZE - index * CHUNK)
    return random.Random(index).randbytes(length) if index in WRITTEN else bytes(length)


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[BlockMap]:
    with BlockMap.open(tmp_path / "disk.blocks") as known:
        known.begin("capture", "generation", CHUNK)
        for index in WRITTEN:
            known.wrote(index, hashlib.sha256(content(index)).digest())
        known.zeroed(500)
        yield known


def sent(blocks: BlockMap) -> TransferResult:
    return TransferResult(len(WRITTEN), 0, 0, blocks.fingerprint())


Content = Callable[[int], bytes]


def compare(blocks: BlockMap, mode: Verify, held: Content = content, meter: Meter | None = None, seed: str = "") -> Compared:
    def read(indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        return ((index, held(index)) for index in indexes)

    return read_back(read, "d0", blocks, sent(blocks), size=SIZE, chunk=CHUNK, mode=mode, seed=seed, meter=meter or Meter())


def test_a_faithful_target(blocks: BlockMap) -> None:
    full = compare(blocks, Verify.FULL)
    assert (full.disk, full.written, full.blocks) == ("d0", len(WRITTEN), len(WRITTEN)) and HOLES <= full.zeros <= HOLES + 2
    assert full.bytes == (full.blocks + full.zeros) * CHUNK - 512
    sample = compare(blocks, Verify.SAMPLE)
    assert SAMPLE_MOST <= sample.blocks <= SAMPLE_MOST + 2 and sample.zeros == full.zeros


def lost(index: int) -> bytes:
    return bytes(len(content(index))) if index == 7 else content(index)


def swapped(index: int) -> bytes:
    return content({200: 201, 201: 200}.get(index, index))


def cut(index: int) -> bytes:
    return content(index)[:-512] if index == TOTAL - 1 else content(index)


def flipped(index: int) -> bytes:
    data = bytearray(content(index))
    data[-1] ^= index == 399
    return bytes(data)


@pytest.mark.parametrize(
    ("held", "block"), [(lost, 7), (swapped, 200), (cut, TOTAL - 1), (flipped, 399)], ids=lambda v: getattr(v, "__name__", "")
)
def test_a_full_comparison_finds_one_wrong_block(blocks: BlockMap, held: Content, block: int) -> None:
    with pytest.raises(TargetError, match=rf"block {block} of d0 \(at {block * CHUNK}\)") as wrong:
        compare(blocks, Verify.FULL, held)
    assert wrong.value.remedy and not wrong.value.transient


@pytest.mark.parametrize("mode", [Verify.SAMPLE, Verify.FULL])
def test_holes_that_hold_something_are_found_in_a_sample_too(blocks: BlockMap, mode: Verify) -> None:
    with pytest.raises(TargetError, match="does not read as zeros"):
        compare(blocks, mode, lambda index: content(index) if index in WRITTEN else content(index)[:-1] + b"x")


def test_a_sample_finds_another_disk(blocks: BlockMap) -> None:
    with pytest.raises(TargetError, match="is not what was sent"):
        compare(blocks, Verify.SAMPLE, lambda index: random.Random(f"other {index}").randbytes(len(content(index))))


def test_answers_that_are_left_out_or_mixed_up(blocks: BlockMap) -> None:
    for give, why in ((lambda i: i[:-1], f"block {TOTAL - 1} of d0 was not given back"), (lambda i: i[::-1], "out of order")):
        with pytest.raises(TargetError, match=why):
            read_back(
                lambda indexes, give=give: ((i, content(i)) for i in give(indexes)),  # type: ignore[misc]
                "d0",
                blocks,
                sent(blocks),
                size=SIZE,
                chunk=CHUNK,
                mode=Verify.SAMPLE,
                meter=Meter(),
            )


def test_the_same_seed_reads_the_same_and_another_one_others() -> None:
    def drawn(seed: str) -> set[int]:
        return chosen(WRITTEN, TOTAL, CHUNK, Verify.SAMPLE, random.Random(seed))

    assert drawn("a") == drawn("a") != drawn("b")
    assert {0, 7 if 7 in drawn("a") else 0, TOTAL - 1} <= drawn("a"), "the ends are always read"


@pytest.mark.parametrize(("written", "total"), [([], 1), ([0], 1), ([], 3), ([0, 1, 2], 3), ([2], 3)])
def test_small_disks(written: list[int], total: int) -> None:
    picked = chosen(written, total, 4 * MIB, Verify.SAMPLE, random.Random(0))
    assert {0, total - 1, *written} <= picked <= set(range(total))


def test_a_terabyte_of_holes_is_not_listed() -> None:
    assert len(chosen([5], 1 << 40, CHUNK, Verify.FULL, random.Random(0))) <= HOLES + 5


def test_a_map_of_another_upload_is_no_evidence(blocks: BlockMap) -> None:
    with pytest.raises(WorkLost, match="block map of d0") as gone:
        read_back(
            lambda _: [], "d0", blocks, replace(sent(blocks), digest="0"), size=SIZE, chunk=CHUNK, mode=Verify.FULL, meter=Meter()
        )
    assert gone.value.step == "upload"


def test_ctrl_c_is_heard(blocks: BlockMap) -> None:
    with pytest.raises(Paused):
        compare(blocks, Verify.FULL, meter=Meter(cancelled=lambda: True))


def test_what_the_report_says(blocks: BlockMap) -> None:
    (check,) = checks([compare(blocks, Verify.SAMPLE)], [Ref("snapshot", "snap-1")])
    assert (check.id, check.subject, check.verdict, check.expectation) == ("upload:d0", "disk d0", Verdict.PASS, Expectation.SENT)
    assert "of 303 blocks read back with the same SHA-256" in check.seen and "bytes)" in check.seen
    assert check.note == "sample, read from snapshot snap-1"
    assert "all blocks read back" in checks([compare(blocks, Verify.FULL)], [Ref("disk", "d")])[0].seen
