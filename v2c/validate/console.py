"""The probe's words on a serial console: lines among the kernel's, repeated, torn, and said by a guest that may lie.

The probe (drivers/payload/v2c-probe.sh) prints `V2C1 NONCE SEQ/TOTAL SHA256 LENGTH CHUNK`, all of it three times. A chunk may be
taken from any repetition. Where the kernel printed into the middle of a line, the line is tried with that message cut out.
What counts in the end is the digest over the whole payload.
"""

import base64
import binascii
import hashlib
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator

from v2c import consoles
from v2c.model import KIB, MIB, Probe

CHUNK = 200  # characters; the last one has the rest
LONGEST = 4 * MIB  # characters of payload that are put together
LARGEST = 16 * MIB  # bytes of JSON that it may unpack to
TRIES = 512  # combinations of differing readings that are tried
SECTION = 256 * KIB  # characters of one section that are kept

_LINE = re.compile(
    r"V2C1 (?P<nonce>[0-9a-f]{1,64}) (?P<seq>\d{1,6})/(?P<total>\d{1,6}) "
    r"(?P<sum>[0-9a-f]{64}) (?P<length>\d{1,8}) (?P<chunk>[A-Za-z0-9+/=]{1,200})(?P<rest>[^\n]*)\n"
)
# a kernel message that begins in the middle of a line takes the rest of it; with its newline cut out, the line is whole again
_KERNEL = re.compile(r"\[ *\d{1,6}\.\d{6}\][^\n]*\n")


def find_probe(console: str, nonce: str) -> Probe | None:
    """What the probe of this nonce told, or None while it is not complete. Bounded for any console."""
    if nonce not in console:
        return None
    text = consoles.clean(console)
    readings = _readings(text, nonce)
    for (total, sum, length), chunks in readings.items():
        if len(chunks) == total:
            for payload in _payloads(chunks, total, length):
                if hashlib.sha256(payload).hexdigest() == sum:
                    return _unpack(payload, nonce)
    return None


Readings = dict[tuple[int, str, int], dict[int, Counter[str]]]


def _readings(text: str, nonce: str) -> Readings:
    """(total, digest, length) -> sequence number -> what it was read as, how convincingly."""
    found: Readings = {}
    for version in (text, _KERNEL.sub("", text)):
        for match in _LINE.finditer(version):
            total, seq, length = int(match["total"]), int(match["seq"]), int(match["length"])
            if match["nonce"] != nonce or not 1 <= seq <= total or length > LONGEST or total != -(-length // CHUNK):
                continue
            if len(match["chunk"]) != (CHUNK if seq < total else length - CHUNK * (total - 1)):
                continue  # torn
            key = (total, match["sum"], length)
            if key not in found and len(found) >= 16:
                continue  # a probe says one thing; who says many is not it
            chunks = found.setdefault(key, {}).setdefault(seq, Counter())
            if match["chunk"] in chunks or len(chunks) < 8:
                chunks[match["chunk"]] += 1 if match["rest"] else 4  # what stands alone on its line is hardly torn
    return found


def _payloads(chunks: dict[int, Counter[str]], total: int, length: int) -> Iterator[bytes]:
    """The payloads that the readings allow, the likeliest first."""
    choices = [[chunk for chunk, _ in chunks[seq].most_common()] for seq in range(1, total + 1)]
    doubtful = [index for index, readings in enumerate(choices) if len(readings) > 1]
    for picks in itertools.islice(itertools.product(*(choices[index] for index in doubtful)), TRIES):
        pieces = [readings[0] for readings in choices]
        for index, pick in zip(doubtful, picks, strict=True):
            pieces[index] = pick
        payload = "".join(pieces)
        if len(payload) == length:
            yield payload.encode("ascii")


def _unpack(payload: bytes, nonce: str) -> Probe | None:
    try:
        # 31: a gzip header and trailer around the stream
        stream = zlib.decompressobj(31)
        document = json.loads(stream.decompress(base64.b64decode(payload, validate=True), LARGEST).decode("utf-8"))
    except (binascii.Error, zlib.error, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("v") != 1 or document.get("nonce") != nonce:
        return None
    sections = document.get("sections")
    if not isinstance(sections, dict):
        return None
    return Probe(nonce, tuple((str(name), _text(value)) for name, value in sections.items()))


def _text(value: object) -> str:
    try:
        return base64.b64decode(str(value), validate=True).decode("utf-8", "replace")[:SECTION]
    except (binascii.Error, ValueError):
        return ""


def failure(console: str) -> str | None:
    """One sentence for a well-known failure that the console shows, or None. See `drivers/console.toml`."""
    found = consoles.recognise(console)
    return found.text if found else None
