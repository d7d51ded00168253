"""What the probe told, read from the raw output of its commands. Hostile text: unknown shapes are passed over, nothing raises."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from v2c.model import Probe, User

_PAIR = re.compile(r'([A-Z]+)="([^"]*)"')
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")
_VOLATILE = re.compile(r"(?:zram|ram|fd|nbd|loop|sr)\d+")  # block devices that are no disks of the machine
_MANY = 4096  # lines of a section that are looked at


@dataclass(frozen=True, slots=True)
class SeenMount:
    """One line of findmnt."""

    source: str
    type: str
    uuid: str


def lines(probe: Probe, section: str) -> Iterator[str]:
    """The lines of a section that say something."""
    for line in probe[section].splitlines()[:_MANY]:
        if line.strip():
            yield line.strip()


def first(probe: Probe, section: str) -> str:
    """The first line of a section."""
    return next(lines(probe, section), "")


def units(probe: Probe, section: str) -> tuple[str, ...]:
    """The units that systemctl lists (before a failed one stands a dot)."""
    words = (line.lstrip("●* ").split() for line in lines(probe, section))
    return tuple(word[0] for word in words if word and "." in word[0])


def block_devices(probe: Probe) -> tuple[dict[str, str], ...]:
    """lsblk's pairs, a device each."""
    return tuple(dict(_PAIR.findall(line)) for line in lines(probe, "disks"))


def disks(probe: Probe) -> tuple[int, ...]:
    """The sizes of the disks in bytes, smallest first."""
    found = (d for d in block_devices(probe) if d.get("TYPE") == "disk" and not _VOLATILE.fullmatch(d.get("NAME", "")))
    return tuple(sorted(int(d["SIZE"]) for d in found if d.get("SIZE", "").isdigit() and d["SIZE"] != "0"))


def mounts(probe: Probe) -> dict[str, SeenMount]:
    """Mount point -> what is mounted there; the last one where several lie over each other."""
    uuids = {d.get("NAME", ""): d.get("UUID", "") for d in block_devices(probe)}
    found = {}
    for line in lines(probe, "mounts"):
        words = [_ESCAPE.sub(lambda match: chr(int(match[1], 16)), word) for word in line.split(" ")]
        if len(words) >= 3:
            source = words[1]
            uuid = words[3] if len(words) > 3 and words[3] else uuids.get(source.rpartition("/")[2], "")
            found[words[0]] = SeenMount(source, words[2], uuid)
    return found


def swaps(probe: Probe) -> tuple[set[str], set[str]]:
    """UUIDs and names of the active swap areas."""
    words = [line.split() for line in lines(probe, "swaps")]
    uuids = {d.get("NAME", ""): d.get("UUID", "") for d in block_devices(probe)}
    every = {word for line in words for word in line}
    known = {uuids.get(name.rpartition("/")[2], "") for name in every}
    return (every | known) - {""}, {line[0] for line in words}


def users(probe: Probe) -> dict[str, User]:
    """The accounts of getent passwd."""
    found = {}
    for line in lines(probe, "passwd"):
        words = line.split(":")
        if len(words) == 7 and words[2].isdigit() and words[3].isdigit():
            found[words[0]] = User(words[0], int(words[2]), int(words[3]), words[5], words[6])
    return found


def listening(probe: Probe) -> tuple[str, ...]:
    """Ports that something listens on, "tcp 8080"; what only the machine itself reaches says so, "tcp 631 (local)"."""
    found: dict[tuple[str, int], bool] = {}
    for line in lines(probe, "listening"):
        words = line.split()
        local = words[4] if len(words) > 4 else ""
        address, _, port = local.rpartition(":")
        if words and port.isdigit() and words[0] in ("tcp", "udp"):
            only_here = address.split("%")[0].startswith(("127.", "[::1]", "[::ffff:127."))
            key = (words[0], int(port))
            found[key] = found.get(key, True) and only_here
    return tuple(f"{kind} {port}{' (local)' if only_here else ''}" for (kind, port), only_here in sorted(found.items()))


def addresses(probe: Probe) -> dict[str, tuple[str, ...]]:
    """Interface -> its addresses ("10.0.2.15/24"), without loopback and what IPv6 gives itself."""
    found: dict[str, tuple[str, ...]] = {}
    for line in lines(probe, "addresses"):
        words = line.split()
        if len(words) > 3 and words[2] in ("inet", "inet6") and not words[3].startswith(("127.", "::1/", "fe80:")):
            found[words[1]] = (*found.get(words[1], ()), words[3])
    return found
