"""The end of a disk that a target rounds up: its partition table follows, while the blocks stream.

A target that makes disks of whole GiB leaves a GPT whose backup is not in the last sector; firmware and tools complain. The
corrected sectors (`v2c.gpt.moved_backup`) are laid over the blocks as they are read, before they are digested: so the block
map holds the digests of what the target holds, a resumed transfer lays the same bytes, and no block is put twice for it.
"""

from collections.abc import Sequence

from v2c import gpt
from v2c.gpt import Patch
from v2c.nbd import Client

SECTOR = 512


def patches(client: Client, size: int) -> tuple[Patch, ...]:
    """What turns the disk that the client reads into a valid one of `size` bytes; empty when it needs nothing.

    Reads the disk's head, only when the disk grows.
    """
    if size <= client.size or size % SECTOR:
        return ()
    return gpt.moved_backup(client.pread(0, min(gpt.HEAD, client.size)), client.size, size)


def lay(patches: Sequence[Patch], offset: int, block: bytearray) -> None:
    """Writes into the block, which begins at `offset` of the disk, what of the patches falls into it. Harmless twice."""
    for start, data in patches:
        first, last = max(start, offset), min(start + len(data), offset + len(block))
        if first < last:
            block[first - offset : last - offset] = data[first - start : last - start]


def indexes(patches: Sequence[Patch], chunk: int) -> set[int]:
    """The blocks of `chunk` bytes that the patches fill with something, whatever the disk holds there."""
    found: set[int] = set()
    for start, data in patches:
        if any(data):
            found.update(range(start // chunk, (start + len(data) - 1) // chunk + 1))
    return found
