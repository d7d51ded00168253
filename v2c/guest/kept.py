"""A guest in memory that is kept in a disk image: the machines of `memory:` sources (architecture "memory").

The image holds, from offset 0: the magic, the length of the JSON as 8 bytes (big-endian), the JSON of `MemoryGuest.to_bytes`.
It is read over an NBD export and written back on close, so overlays, transfers and crashes treat it as any other disk.
"""

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from v2c import nbd
from v2c.errors import GuestError, NoSpaceError
from v2c.guest.memory import MemoryGuest, Program
from v2c.model import Finding
from v2c.nbd import Export

MAGIC = b"V2CGUEST"
_LENGTH = struct.Struct(">Q")
_HEAD = len(MAGIC) + _LENGTH.size
_CHUNK = 1 << 20


class KeptGuest(MemoryGuest):
    """A MemoryGuest with the verbs that a guest on disks has beside the protocol. Opened by `open_kept`."""

    findings: tuple[Finding, ...] = ()

    def trim(self) -> None:
        """Nothing to do: it holds no more than its files."""

    def close(self) -> None:
        """Nothing to do: `open_kept` writes it back."""


def image(guest: MemoryGuest, size: int) -> bytes:
    """What the first bytes of its disk are. NoSpaceError when the disk is too small."""
    data = guest.to_bytes()
    if _HEAD + len(data) > size:
        raise NoSpaceError(
            f"a kept guest of {_HEAD + len(data)} bytes does not fit its disk of {size}", remedy="give it a larger one"
        )
    return MAGIC + _LENGTH.pack(len(data)) + data


def parse(head: bytes, *, programs: Mapping[str, Program] | None = None) -> KeptGuest:
    """The guest from (at least) the first bytes of its disk. GuestError when there is none."""
    if not head.startswith(MAGIC) or len(head) < _HEAD:
        raise GuestError(
            "no operating system was found on the disks (no kept guest begins here)", remedy="name a memory: source's disk"
        )
    (length,) = _LENGTH.unpack(head[len(MAGIC) : _HEAD])
    if length > len(head) - _HEAD:
        raise GuestError("the kept guest is cut short", remedy="make the memory source anew")
    found = KeptGuest.from_bytes(head[_HEAD : _HEAD + length], programs=programs)
    assert isinstance(found, KeptGuest)
    return found


@contextmanager
def open_kept(export: Export, *, writable: bool, programs: Mapping[str, Program] | None = None) -> Iterator[KeptGuest]:
    """The guest kept at the beginning of an export; written back and flushed when the block ends without an error."""
    with nbd.connect(export) as client:
        head = client.pread(0, min(_HEAD, client.size))
        if not head.startswith(MAGIC) or len(head) < _HEAD:
            parse(head)
        (length,) = _LENGTH.unpack(head[len(MAGIC) : _HEAD])
        end = min(_HEAD + length, client.size)
        body = b"".join(client.pread(at, min(_CHUNK, end - at)) for at in range(_HEAD, end, _CHUNK))
        guest = parse(head + body, programs=programs)
        before = head + body
        yield guest
        after = image(guest, client.size)
        if writable and after != before:
            for at in range(0, len(after), _CHUNK):
                client.pwrite(at, after[at : at + _CHUNK])
            if len(after) < len(before):
                client.zero(len(after), len(before) - len(after))
            client.flush()
