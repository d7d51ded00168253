"""What a machine of `sources/memory` shows on its console when it boots at the memory target: what its probe finds.

The kept guest is read from the disk as it was uploaded, and inspected anew: its files answer as the commands of
drivers/payload/v2c-probe.sh would inside a real one. Without a kept guest nothing boots; without the probe nothing is told.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v2c.errors import GuestError
from v2c.guest import Guest, kept
from v2c.guest.inspect import inspect
from v2c.model import MIB, Facts

CHUNK = 200  # characters of payload on a line: consoles wrap and drop what is longer
TIMES = 3  # a kernel message may cut through a line, so all is said again
_NONCE = "/etc/v2c/nonce"
_LARGEST = 256 * MIB  # a kept guest is a few hundred KiB


@dataclass(frozen=True, slots=True)
class Shown:
    """The console's text, and whether the machine still runs."""

    console: str
    alive: bool


def boot(disks: Sequence[Path]) -> Shown:
    """Boots the guest that the first of the disks (raw files) holds."""
    try:
        with disks[0].open("rb") as disk:
            guest = kept.parse(disk.read(_LARGEST))
    except GuestError as nothing:
        return Shown(f"No bootable device: {nothing.text}\n", alive=False)
    known = guest.facts
    facts = inspect(guest, filesystems=known.filesystems, root=known.root, boot_disk=known.boot_disk)
    console = f"Linux version {facts.default_kernel}\n"
    if guest.exists(_NONCE):
        console += probe_lines(guest.text(_NONCE).strip(), _sections(guest, facts, disks))
    return Shown(console + f"{facts.hostname} login: \n", alive=True)


def probe_lines(nonce: str, sections: dict[str, str]) -> str:
    """The answer as drivers/payload/v2c-probe.sh prints it: `V2C1 NONCE SEQ/TOTAL SHA256 LENGTH CHUNK`, all of it three times."""
    inside = {name: base64.b64encode(text.encode()).decode() for name, text in sections.items()}
    document = json.dumps({"v": 1, "nonce": nonce, "sections": inside}).encode()
    payload = base64.b64encode(gzip.compress(document, mtime=0)).decode()
    digest = hashlib.sha256(payload.encode()).hexdigest()
    chunks = [payload[at : at + CHUNK] for at in range(0, len(payload), CHUNK)]
    lines = [f"V2C1 {nonce} {n}/{len(chunks)} {digest} {len(payload)} {chunk}\n" for n, chunk in enumerate(chunks, 1)]
    return "".join(lines * TIMES)


def _sections(guest: Guest, facts: Facts, disks: Sequence[Path]) -> dict[str, str]:
    sizes = (f'NAME="vd{chr(97 + n)}" TYPE="disk" SIZE="{disk.stat().st_size}" SERIAL="" UUID=""' for n, disk in enumerate(disks))
    mounts = (f"{m.where} {m.device or m.spec} {m.type} {m.uuid}" for m in facts.mounts if "noauto" not in m.options.split(","))
    return {
        "hostname": facts.hostname,
        "machine-id": facts.machine_id,
        "kernel": facts.default_kernel,
        "cmdline": f"root=UUID={facts.root_uuid} ro",
        "mounts": "\n".join(mounts),
        "swaps": "\n".join(f"{swap.spec} {swap.uuid}" for swap in facts.swaps),
        "enabled": "\n".join(f"{unit} enabled enabled" for unit in facts.enabled_units),
        "failed": "",
        "passwd": guest.text("/etc/passwd") if guest.exists("/etc/passwd") else "",
        "listening": "",
        "disks": "\n".join(sizes),
        "addresses": "1: lo    inet 127.0.0.1/8 scope host lo\n2: eth0    inet 10.0.2.15/24 scope global dynamic eth0",
        "modules": "Module                  Size  Used by",
        "uptime": "5.00 3.00",
        "state": "running",
    }
