"""A staged disk read back: each block is a deflate piece of its own, so a range of the object is enough to see it."""

import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from v2c.errors import TargetError
from v2c.model import MIB
from v2c.patience import Patience
from v2c.targets.gcp.resumable import media
from v2c.targets.gcp.session import ApiError, Session, failures, passing, refused
from v2c.targets.gcp.tracker import BEGIN
from v2c.targets.gcp.upload import index_of
from v2c.targets.writers.part import CHUNK

AT_ONCE = 8 * MIB  # bytes of the object per request
AHEAD = 2  # requests under way

Place = tuple[int, int, int]  # a block's index, where its piece begins and ends


def blocks_of(session: Session, bucket: str, name: str, size: int, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """(index, bytes) in the order asked; zeros where the archive has a hole. Another reader's inflate, not the writer's."""
    try:
        found = session.object("GET", bucket, name)
        places = _places(session, bucket, index_of(name, str(found["generation"])))
        fetch = partial(_range, session, bucket, name, str(found["generation"]))
        for group, data in _ahead(_groups(indexes, places), fetch):
            base = group[0][1]
            for index, start, end in group:
                whole = min(CHUNK, size - index * CHUNK)
                yield index, _inflated(data[start - base : end - base], whole, name) if end else bytes(whole)
    except failures() as error:
        if isinstance(error, ApiError) and error.status == 404:
            raise TargetError(f"gs://{bucket}/{name} is gone, or was not whole", remedy="run the command with --again") from error
        raise refused(error, f"gs://{bucket}/{name} cannot be read back") from error


def _places(session: Session, bucket: str, name: str) -> dict[int, tuple[int, int]]:
    data = session.patience(lambda: session.send("GET", media(session, bucket, name), params={"alt": "media"}), passing).content
    found: dict[int, tuple[int, int]] = {}
    before = 0
    for index, end in struct.iter_unpack("<QQ", data):
        if index != BEGIN:
            found[index] = (before, end)
        before = end
    return found


def _groups(indexes: Sequence[int], places: dict[int, tuple[int, int]]) -> Iterator[list[Place]]:
    """Neighbours in the object that were asked for one after the other; a hole (0, 0) stands alone."""
    group: list[Place] = []
    for index in indexes:
        start, end = places.get(index, (0, 0))
        if group and (not end or group[-1][2] != start or end - group[0][1] > AT_ONCE):
            yield group
            group = []
        group.append((index, start, end))
    if group:
        yield group


def _ahead(groups: Iterator[list[Place]], fetch: Callable[[list[Place]], bytes]) -> Iterator[tuple[list[Place], bytes]]:
    """Each group with its bytes, which are asked for while those before it are looked at: a line may be long."""
    waiting: deque[tuple[list[Place], Future[bytes]]] = deque()
    with ThreadPoolExecutor(AHEAD, "read back") as pool:
        for group in groups:
            waiting.append((group, pool.submit(fetch, group)))
            if len(waiting) > AHEAD:
                first, data = waiting.popleft()
                yield first, data.result()
        for first, data in waiting:
            yield first, data.result()


def _range(session: Session, bucket: str, name: str, generation: str, group: list[Place]) -> bytes:
    if not group[0][2]:  # a hole
        return b""
    about: dict[str, Any] = {
        "params": {"alt": "media", "ifGenerationMatch": generation},
        "headers": {"Range": f"bytes={group[0][1]}-{group[-1][2] - 1}", "Accept-Encoding": "identity"},
    }
    patience: Patience = session.patience
    return bytes(patience(lambda: session.send("GET", media(session, bucket, name), **about).content, passing))


def _inflated(piece: bytes, whole: int, name: str) -> bytes:
    try:
        data = zlib.decompressobj(-15).decompress(piece)
    except zlib.error as error:
        raise TargetError(
            f"{name} holds something else than was sent ({error})", remedy="run the command with --again"
        ) from error
    if len(data) != whole:
        raise TargetError(f"{name} holds a block of {len(data)} bytes where {whole} were sent", remedy="run it with --again")
    return data
