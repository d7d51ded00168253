"""What the network fixes share: which cards are matched, and systemd-networkd's files, which any stack can fall back to.

A card's name depends on the bus it hangs on (ens192, enp0s2, eth0), so nothing here names one: every stack is told to
take whatever Ethernet card appears. What stood there is kept beside it as *.v2c-before.
"""

import ipaddress
from collections.abc import Iterable, Iterator

from v2c.errors import GuestError
from v2c.fixes.fix import Edit, aside, present, text
from v2c.fixes.linux.units import ETC, NOWHERE, VENDOR, enabled, link
from v2c.guest import Guest
from v2c.model import AddressNeed, Finding, Level, Needs

NOTE = "# Written by v2c for a machine that moved; what stood here before is kept as *.v2c-before."
NETWORKD = "systemd-networkd.service"
WAIT_ONLINE = "systemd-networkd-wait-online.service"
NETWORKD_PROGRAMS = ("/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd")
NETWORKD_FOLDER = "/etc/systemd/network"
MANAGER = "NetworkManager.service"


def statics(need: Needs) -> list[tuple[int, AddressNeed]]:
    """(position from 0, what is asked) for each card that gets a fixed address."""
    found = [(position, one) for position, one in enumerate(need.addresses) if one.address]
    for _, one in found:
        try:
            ipaddress.ip_interface(one.address or "")
        except ValueError as error:
            raise GuestError(f"the address {one.address} is none: {error}", remedy="give it as 192.0.2.10/24") from error
    return found


def by_mac(need: Needs) -> list[tuple[int, AddressNeed]]:
    """`statics` for stacks that cannot count cards: with several cards each must be named by its hardware address."""
    found = statics(need)
    if len(need.addresses) > 1 and any(not one.mac for _, one in found):
        raise GuestError(
            "several network cards, and one with a fixed address is not named by its hardware address",
            remedy="give the card's hardware address (MAC) with each fixed address",
        )
    return found


def alone(need: Needs) -> bool:
    """Whether one fixed address is all there is, for whatever card appears."""
    return len(need.addresses) == 1 and bool(need.addresses[0].address) and not need.addresses[0].mac


def networkd_files(need: Needs) -> dict[str, str]:
    """systemd-networkd's files that do what is asked."""
    files: dict[str, str] = {}
    for position, one in by_mac(need):
        match = f"MACAddress={one.mac}" if one.mac else "Name=en* eth*"
        lines = [NOTE, "[Match]", match, "", "[Network]", f"Address={one.address}"]
        lines += [f"Gateway={one.gateway}"] if one.gateway else []
        lines += [f"DNS={dns}" for dns in one.dns]
        files[f"{NETWORKD_FOLDER}/10-v2c-{position}.network"] = "\n".join(lines) + "\n"
    if not alone(need):
        lines = [NOTE, "[Match]", "Name=en* eth*", "", "[Network]", "DHCP=yes", "", "[DHCPv4]", "ClientIdentifier=mac"]
        files[f"{NETWORKD_FOLDER}/20-v2c.network"] = "\n".join(lines) + "\n"
    return files


def networkd_edits(guest: Guest, need: Needs, why: str) -> Iterator[Edit]:
    """Writes them."""
    for path, content in networkd_files(need).items():
        if text(guest, path) != content:
            yield Edit(path, why, text=content, mode=0o644)


def networkd_enabled(guest: Guest, why: str) -> Iterator[Edit]:
    """Makes systemd-networkd run at boot, and what needs a network wait for it, as `systemctl enable` would."""
    home = next((folder for folder in VENDOR if guest.exists(f"{folder}/{NETWORKD}")), VENDOR[0])
    if link(guest, f"{ETC}/{NETWORKD}") == NOWHERE:
        yield Edit(f"{ETC}/{NETWORKD}", why)
    for unit, target in ((NETWORKD, "multi-user.target"), (WAIT_ONLINE, "network-online.target")):
        path = f"{ETC}/{target}.wants/{unit}"
        if not present(guest, path) and guest.exists(f"{home}/{unit}"):
            yield Edit(path, why, link=f"{home}/{unit}")


def manager_runs(guest: Guest) -> bool:
    """Whether NetworkManager runs at boot."""
    return enabled(guest, MANAGER) and any(map(guest.exists, ("/usr/sbin/NetworkManager", "/usr/bin/NetworkManager")))


def set_aside(guest: Guest, path: str, why: str, *, hidden: bool = False) -> Edit:
    """Keeps a file under a name that its stack does not read."""
    return Edit(path, why, move=aside(guest, path, hidden=hidden))


def replaced(path: str, had: Iterable[str], kept: str) -> Finding:
    """What the user is told about a configuration that gave way."""
    what = "; ".join(had) or "it named one card"
    return Finding(
        "network.replaced",
        Level.WARNING,
        path,
        f"{path} was made for the old machine ({what}): the network now comes up on whatever card appears",
        f"the old file is kept as {kept}; give an address with the machine to keep a fixed one",
    )
