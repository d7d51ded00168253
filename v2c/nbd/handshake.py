"""How client and server agree: fixed newstyle, which export, what replies look like, what may be asked."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from v2c.errors import ToolError
from v2c.nbd.wire import (
    FIXED_NEWSTYLE,
    IHAVEOPT,
    INFO_BLOCK_SIZE,
    INFO_EXPORT,
    NBDMAGIC,
    NO_ZEROES,
    OPT_GO,
    OPT_SET_META,
    OPT_STRUCTURED,
    REP_ACK,
    REP_ERR_UNKNOWN,
    REP_ERR_UNSUP,
    REP_ERROR,
    REPLY_MAGIC,
    Stream,
)

_HANDSHAKE = 1 << 16  # no option reply that we ask for is longer
_PAYLOAD = 32 << 20  # what the protocol lets a client ask for at once when the server names no maximum


@dataclass(frozen=True, slots=True)
class Agreed:
    """Size in bytes, transmission flags, whether replies are structured, least length and alignment of a request, most bytes
    of one, and the numbers of the contexts that the server has."""

    size: int
    flags: int
    structured: bool
    block: int
    payload: int
    contexts: dict[str, int]


def shake(stream: Stream, contexts: Sequence[str]) -> Agreed:
    """Asks for the export by NBD_OPT_GO, for structured replies and for the contexts; the server may lack the latter two."""
    magic, option, flags = struct.unpack(">QQH", stream.read(18))
    if magic != NBDMAGIC or option != IHAVEOPT or not flags & FIXED_NEWSTYLE:
        raise stream.wrong("no fixed newstyle handshake")
    stream.send(struct.pack(">I", FIXED_NEWSTYLE | flags & NO_ZEROES))
    structured = _option(stream, OPT_STRUCTURED, b"") is not None
    known: dict[str, int] = {}
    name = stream.export.name.encode()
    wanted = [c.encode() for c in contexts]
    if structured and wanted:
        body = struct.pack(">I", len(name)) + name + struct.pack(">I", len(wanted))
        body += b"".join(struct.pack(">I", len(c)) + c for c in wanted)
        for reply in _option(stream, OPT_SET_META, body) or ():
            if len(reply) < 4:
                raise stream.wrong("a short name of a context")
            (number,) = struct.unpack_from(">I", reply)
            known[reply[4:].decode("utf-8", "replace")] = number
    go = struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, INFO_BLOCK_SIZE)
    replies = _option(stream, OPT_GO, go)
    if replies is None:
        raise stream.wrong("it lacks NBD_OPT_GO")
    size = transmission = -1
    block, payload = 1, _PAYLOAD
    for reply in replies:
        kind = int.from_bytes(reply[:2], "big")
        if kind == INFO_EXPORT and len(reply) == 12:
            size, transmission = struct.unpack_from(">QH", reply, 2)
        elif kind == INFO_BLOCK_SIZE and len(reply) == 14:
            block, _, largest = struct.unpack_from(">III", reply, 2)
            payload = min(_PAYLOAD, largest)
    if not 0 <= size < 1 << 63:
        raise stream.wrong("no size")
    if not 1 <= block <= 1 << 16 or block & (block - 1) or payload < block:
        raise stream.wrong(f"a block size of {block} bytes, at most {payload} at once")
    return Agreed(size, transmission, structured, block, payload, known)


def _option(stream: Stream, option: int, body: bytes) -> list[bytes] | None:
    """The replies before the acknowledgement; None when the server does not know the option."""
    stream.send(struct.pack(">QII", IHAVEOPT, option, len(body)) + body)
    replies: list[bytes] = []
    while True:
        magic, answered, kind, length = struct.unpack(">QIII", stream.read(20))
        if magic != REPLY_MAGIC or answered != option or length > _HANDSHAKE or len(replies) > 64:
            raise stream.wrong("a broken reply to an option")
        reply = stream.read(length)
        if kind == REP_ACK:
            return replies
        if kind == REP_ERR_UNSUP:
            return None
        if kind == REP_ERR_UNKNOWN:
            raise ToolError(f"{stream.name} is not served there: {reply.decode('utf-8', 'replace')}")
        if kind & REP_ERROR:
            if option in (OPT_STRUCTURED, OPT_SET_META):
                return None
            raise ToolError(f"{stream.name} refused us ({kind & 0xFFFF}): {reply.decode('utf-8', 'replace')}")
        replies.append(reply)
