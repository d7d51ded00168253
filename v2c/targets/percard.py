"""What a locator says of the machine's network cards: `subnet=A,B` and `private-ip=,10.0.0.6`, a value for each card in order."""

import ipaddress
from collections.abc import Iterator

REMEDY = "write private-ip=10.0.0.5, for one"


def values(text: str) -> list[str]:
    """The values by card, an empty one where none is said; no value at all: nobody said any."""
    return text.split(",") if text else []


def strange(addresses: list[str]) -> Iterator[str]:
    """Those that are no IPv4 addresses; an empty one is by DHCP."""
    for address in filter(None, addresses):
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            yield address
