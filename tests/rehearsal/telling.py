"""Disks that boot in a second and print a text on the serial line: a boot sector reads it through the BIOS."""

import base64
import gzip
import hashlib
import json
from pathlib import Path

from v2c.model import MIB

LONGEST = 64 * 512  # bytes of text: what the sector asks the BIOS for
# as --32; objcopy -O binary:
#   stack at 0x7c00; int $0x13 with ah 0x42 (64 sectors from sector 1 to 0x10000); cx = the word at 0x1b0;
#   interrupts off (SeaBIOS prints from its timer); each byte: wait for bit 5 of port 0x3fd, write it to port 0x3f8; hlt for ever
_CODE = base64.b64decode("+jHAjtiO0LwAfPu+Mny0Qs0TchuLDrB9uAAQjtgx9vq6/QPsqCB0+7r4A6zu4vH06/0QAEAAAAAAEAEAAAAAAAAA")


def telling_disk(path: Path, text: str, size: int = 4 * MIB) -> Path:
    """A raw disk of `size` bytes that prints `text`."""
    told = text.encode("ascii")
    assert len(told) <= LONGEST
    sector = bytearray(_CODE.ljust(512, b"\0"))
    sector[0x1B0:0x1B2] = len(told).to_bytes(2, "little")
    sector[510:512] = b"\x55\xaa"
    path.write_bytes(bytes(sector) + told)
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def probe_text(nonce: str, **sections: str) -> str:
    """What the probe prints for these sections, once, between other words."""
    told = {name: base64.b64encode(text.encode()).decode() for name, text in sections.items()}
    document = json.dumps({"v": 1, "nonce": nonce, "sections": told})
    payload = base64.b64encode(gzip.compress(document.encode(), mtime=0)).decode()
    chunks = [payload[at : at + 200] for at in range(0, len(payload), 200)]
    sum = hashlib.sha256(payload.encode()).hexdigest()
    lines = [f"V2C1 {nonce} {n}/{len(chunks)} {sum} {len(payload)} {chunk}" for n, chunk in enumerate(chunks, 1)]
    return "Linux version 6.1\r\n" + "".join(f"\r\n{line}\r\n" for line in lines) + "\r\nerp login: "
