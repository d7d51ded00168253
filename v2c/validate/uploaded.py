"""Reads back what the target holds of a disk, and compares it with what was sent: the block map's digests are the evidence.

A block that was never written has to read as zeros. Which blocks a sample takes is drawn by a seed, so a repeat reads the same.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from v2c.blocks import BlockMap
from v2c.errors import Paused, TargetError, WorkLost
from v2c.events import Meter
from v2c.model import MIB, Check, Compared, Expectation, Ref, Verdict, Verify
from v2c.transfer import TransferResult

SAMPLE_BYTES = 64 * MIB  # of each disk: a second or two of most lines
SAMPLE_LEAST, SAMPLE_MOST = 8, 64  # blocks
HOLES = 16  # blocks that hold nothing: a target that serves another disk, or old data, is caught by any of them

Read = Callable[[Sequence[int]], Iterable[tuple[int, bytes]]]


def read_back(
    read: Read,
    disk: str,
    blocks: BlockMap,
    sent: TransferResult,
    *,
    size: int,
    chunk: int,
    mode: Verify,
    seed: str = "",
    meter: Meter,
) -> Compared:
    """Compares one disk, `size` bytes at the target in blocks of `chunk`. `blocks` has begun with the upload's generation.

    Raises TargetError, which names disk and block, when anything differs or is missing; WorkLost when the map is not that of
    the upload; Paused when the meter is cancelled.
    """
    if blocks.fingerprint() != sent.digest:
        raise WorkLost(f"the block map of {disk} is gone", step="upload")
    written = list(blocks.written())
    total = -(-size // chunk)
    asked = sorted(chosen(written, total, chunk, mode, random.Random(seed)))  # noqa: S311 - a sample, not a secret
    equal = zeros = count = 0
    for index, data in _in_order(read(asked), asked, disk):
        if meter.cancelled():
            raise Paused("stopped while the upload was read back", remedy="the same command goes on")
        length = min(chunk, size - index * chunk)
        if len(data) != length:
            raise _differs(disk, index, chunk, f"{len(data)} bytes came back of {length}")
        digest = blocks.digest(index)
        if digest is None and data.count(0) != len(data):
            raise _differs(disk, index, chunk, "nothing was sent there, and it does not read as zeros")
        if digest is not None and hashlib.sha256(data).digest() != digest:
            raise _differs(disk, index, chunk, "what came back is not what was sent")
        equal, zeros, count = equal + (digest is not None), zeros + (digest is None), count + len(data)
        meter.moved(len(data))
    return Compared(disk, mode, len(written), equal, zeros, count)


def chosen(written: Sequence[int], total: int, chunk: int, mode: Verify, dice: random.Random) -> set[int]:
    """Which blocks are read: the first and the last, all that were written or a sample of them, and some that were not."""
    known = set(written)
    most = min(SAMPLE_MOST, max(SAMPLE_LEAST, SAMPLE_BYTES // chunk))
    picked = set(written) if mode is Verify.FULL or len(written) <= most else {*dice.sample(written, most)}
    picked |= {0, total - 1} | {*written[:1], *written[-1:]}
    for _ in range(4 * HOLES):  # drawn and not listed: a disk may have millions of holes
        hole = dice.randrange(total)
        if len(picked - known) < HOLES + 2 and hole not in known:
            picked.add(hole)
    return picked


def checks(compared: Iterable[Compared], refs: Iterable[Ref]) -> tuple[Check, ...]:
    """What the comparison proves, for the report."""
    made = []
    for one, ref in zip(compared, refs, strict=True):
        expected = f"{one.written} blocks as they were sent, zeros elsewhere"
        whole = "all" if one.blocks == one.written else f"{one.blocks} of {one.written}"
        seen = f"{whole} blocks read back with the same SHA-256, {one.zeros} holes read as zeros ({one.bytes} bytes)"
        note = f"{one.mode}, read from {ref.kind} {ref.id}"
        made.append(Check(f"upload:{one.disk}", f"disk {one.disk}", Expectation.SENT, expected, seen, Verdict.PASS, note))
    return tuple(made)


def _in_order(answers: Iterable[tuple[int, bytes]], asked: Sequence[int], disk: str) -> Iterator[tuple[int, bytes]]:
    """The answers; TargetError when one was left out."""
    expected = iter(asked)
    for index, data in answers:
        if index != next(expected, None):
            raise TargetError(f"{disk} was read back out of order at block {index}")
        yield index, data
    if (left := next(expected, None)) is not None:
        raise TargetError(f"block {left} of {disk} was not given back")


def _differs(disk: str, index: int, chunk: int, how: str) -> TargetError:
    where = f"block {index} of {disk} (at {index * chunk})"
    return TargetError(f"the target does not hold what was sent: {where}: {how}", remedy="send it anew with --again")
