"""Snapshots by EBS direct, read: what they list, and their blocks, each checked against the digest that comes with it."""

import hashlib
import sys
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from v2c.errors import TargetError
from v2c.model import Ref
from v2c.targets.aws.facts import api
from v2c.targets.aws.session import Session

BLOCK = api().ebs.block
READERS = 16
PAGE = 10000  # blocks a page of a listing: the most there are


def listed(session: Session, snapshot: str) -> Iterator[dict[str, Any]]:
    """The written blocks of a completed snapshot."""
    return session.pages("ebs", "list_snapshot_blocks", "Blocks", SnapshotId=snapshot, MaxResults=PAGE)


def read(session: Session, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Blocks of a completed snapshot, each checked against the digest that came with it; read ahead by many threads."""
    with ThreadPoolExecutor(READERS, "read-back") as pool:
        ahead: deque[tuple[int, Future[bytes] | None]] = deque()
        for index, token in _tokens(session, disk.id, indexes):
            ahead.append((index, pool.submit(_get, session, disk.id, index, token) if token else None))
            while len(ahead) > READERS:
                yield _arrived(*ahead.popleft())
        while ahead:
            yield _arrived(*ahead.popleft())


def _tokens(session: Session, snapshot: str, indexes: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Each index with its block's token, empty where nothing was written. Holds one page of the listing, whatever the size."""
    page: dict[int, str] = {}
    first, last = 0, -1  # what the page tells about
    for index in indexes:
        if not first <= index <= last:
            answer = session.call("ebs", "list_snapshot_blocks", SnapshotId=snapshot, StartingBlockIndex=index, MaxResults=PAGE)
            page = {block["BlockIndex"]: block["BlockToken"] for block in answer.get("Blocks") or ()}
            token = answer.get("NextToken")
            while token and not page:  # a page may be empty though there is more
                answer = session.call("ebs", "list_snapshot_blocks", SnapshotId=snapshot, NextToken=token, MaxResults=PAGE)
                page = {block["BlockIndex"]: block["BlockToken"] for block in answer.get("Blocks") or ()}
                token = answer.get("NextToken")
            first, last = index, max(page) if token else sys.maxsize
        yield index, page.get(index, "")


def _arrived(index: int, future: "Future[bytes] | None") -> tuple[int, bytes]:
    return index, future.result() if future else bytes(BLOCK)


def _get(session: Session, snapshot: str, index: int, token: str) -> bytes:
    def once() -> tuple[bytes, str]:
        answer = session.client("ebs").get_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockToken=token)
        return answer["BlockData"].read(), answer["Checksum"]

    for _ in range(3):
        data, checksum = session.patiently(once, "get_snapshot_block")
        if len(data) == BLOCK and b64encode(hashlib.sha256(data).digest()).decode() == checksum:
            return data
    raise TargetError(
        f"block {index} of {snapshot} comes back other than AWS says it is", remedy="run the command again with --again"
    )
