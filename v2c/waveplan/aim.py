"""Where a machine goes: what the manifest says of its target and its cards, as one locator."""

import ipaddress
import re
from collections.abc import Sequence
from itertools import takewhile
from urllib.parse import quote

from v2c.manifest import Manifest, Resolved
from v2c.manifest.parts import Nic
from v2c.manifest.schema import NetworkMap
from v2c.platforms import platforms


def aim(manifest: Manifest, one: Resolved) -> str:
    """The machine's target as `--to` takes it, with what the manifest says of its cards and its type."""
    target = manifest.targets[one.machine.target or ""]
    to = target.to
    known = platforms().get(to.partition(":")[0])
    if known is None or not known.locator.words:
        return to
    nics = one.machine.nics or (Nic(),)
    maps = [m for m in manifest.networks if m.target in (None, one.machine.target)]
    mapped = [_mapped(maps, nic.network if one.machine.nics else None) for nic in nics]
    subnets = [nic.subnet or (m.subnet if m else None) or target.subnet for nic, m in zip(nics, mapped, strict=True)]
    addresses = [_address(nic.address) for nic in nics]
    first, over = nics[0], mapped[0]
    said: dict[str, str | None] = {
        "subnet": _subnets(subnets),
        "address": ",".join(addresses).rstrip(","),
        "test": (first.test.subnet if first.test else None) or (over.test_subnet if over else None),
        "groups": ",".join(first.security_groups or (over.security_groups if over else ())),
        "type": one.machine.size.type if one.machine.size else None,
        "licence": "included" if one.machine.licence == "included" else None,
    }
    words = known.locator.words
    for name, value in said.items():
        word = words.get(name)
        if word and value and not re.search(rf"[?&]{word}=", to):
            to += f"{'&' if '?' in to else '?'}{word}={quote(value, safe=',/:')}"
    return to


def _mapped(maps: Sequence[NetworkMap], network: str | None) -> NetworkMap | None:
    """What a network of the source becomes."""
    return next((m for m in maps if network and m.source == network), None) or next((m for m in maps if m.source == "*"), None)


def _subnets(found: Sequence[str | None]) -> str:
    """By card; cards at the end that share theirs need not be told, and one that has none ends the list: the plan says so."""
    known = [name for name in takewhile(bool, found) if name]
    while len(known) == len(found) and len(known) > 1 and known[-1] == known[-2]:
        found, known = found[:-1], known[:-1]
    return ",".join(known)


def _address(said: str) -> str:
    """A card's address without its prefix length; empty: by DHCP, or what it has."""
    try:
        return str(ipaddress.IPv4Interface(said).ip)
    except ValueError:
        return ""
