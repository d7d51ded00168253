"""ifupdown: whatever Ethernet card appears, by the patterns of interfaces(5) (ifupdown 0.8.20 and later: Debian 9 on).

`auto /e*=v2c` brings up every card whose name begins with "e" as the logical interface v2c, in the order of the kernel;
`/e*/1` is the first of them and `mac/...` one by its hardware address. Tried with ifupdown 0.8.41: `ifup -n -a`.
"""

import ipaddress
import posixpath
from collections.abc import Iterable, Iterator

from v2c.errors import GuestError
from v2c.fixes.fix import Edit, Edits, present, text
from v2c.fixes.linux.network import (
    NETWORKD_PROGRAMS,
    NOTE,
    alone,
    manager_runs,
    networkd_edits,
    networkd_enabled,
    replaced,
    set_aside,
    statics,
)
from v2c.guest import FileKind, Guest
from v2c.guest.formats.interfaces import Interfaces
from v2c.model import Finding, Needs

PATH = "/etc/network/interfaces"
PROGRAMS = ("/sbin/ifup", "/usr/sbin/ifup")
CLIENTS = tuple(f"{folder}/{name}" for folder in ("/sbin", "/usr/sbin") for name in ("dhclient", "dhcpcd", "udhcpc", "dhcpcd5"))
LOOPBACK = "auto lo\niface lo inet loopback\n"
WHY = "the network is configured for one card of the old machine"
_DEPTH = 8


def _sourced(guest: Guest, file: Interfaces, base: str) -> list[str]:
    """The files that a file takes in, as ifupdown finds them."""
    found: list[str] = []
    for keyword, word in file.sources:
        pattern = word if word.startswith("/") else posixpath.join(base, word)
        for path in guest.glob(pattern):
            kind = guest.stat(path).kind if present(guest, path) else FileKind.OTHER
            if kind is FileKind.DIRECTORY:
                names = [n for n in guest.names(path) if keyword == "source" or n.replace("-", "").replace("_", "").isalnum()]
                found += [posixpath.join(path, name) for name in names if not name.startswith(".")]
            elif keyword == "source":
                found.append(path)
    return found


def files(guest: Guest) -> dict[str, Interfaces]:
    """Every file that counts, by path; the main one first, those that source each other only once."""
    found: dict[str, Interfaces] = {}
    todo = [(PATH, 0)]
    while todo:
        path, depth = todo.pop(0)
        content = text(guest, path)
        if path in found or content is None or depth > _DEPTH:
            continue
        found[path] = Interfaces(content)
        todo += [(p, depth + 1) for p in _sourced(guest, found[path], posixpath.dirname(path))]
    return found


def _stanza(name: str, address: str, gateway: str | None, dns: tuple[str, ...]) -> str:
    family = "inet6" if ipaddress.ip_interface(address).version == 6 else "inet"
    lines = [f"iface {name} {family} static", f"    address {address}"]
    lines += [f"    gateway {gateway}"] if gateway else []
    lines += [f"    dns-nameservers {' '.join(dns)}"] if dns else []
    return "\n".join(lines) + "\n"


def wanted(main: Interfaces, need: Needs, *, empty: bool) -> str:
    """The main file as it shall be; `empty` when another stack takes the cards."""
    sources = [f"{keyword} {pattern}\n" for keyword, pattern in main.sources]
    parts = [NOTE + "\n" + "".join(sources), LOOPBACK]
    if not empty:
        for position, one in statics(need):
            select = f"mac/{one.mac}" if one.mac else f"/e*/{position + 1}"
            parts.append(f"auto {select}=v2c{position}\n" + _stanza(f"v2c{position}", one.address or "", one.gateway, one.dns))
        if not alone(need):
            parts.append("auto /e*=v2c\niface v2c inet dhcp\n")
    return "\n".join(parts)


class Ifupdown(Edits):
    """The main file is replaced, files that it sources are set aside; without a DHCP client networkd takes over."""

    id = "network-ifupdown"
    title = "ifupdown takes whatever card appears"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        if need.keep_network or not any(map(guest.exists, PROGRAMS)):
            return
        found = files(guest)
        if not found or not any(file.names for file in found.values()):
            return
        main = found[PATH]
        manager = manager_runs(guest)  # two stacks on one card would both ask for a lease
        clientless = not manager and not alone(need) and not any(map(guest.exists, CLIENTS))
        if clientless:
            if not any(map(guest.exists, NETWORKD_PROGRAMS)):
                raise GuestError(
                    "the machine has neither a DHCP client nor systemd-networkd, so it cannot ask for an address",
                    remedy="install isc-dhcp-client in the source machine, or give the machine an address",
                )
            why = f"{WHY}, and ifupdown has no DHCP client"
            yield from networkd_edits(guest, need, why)
            yield from networkd_enabled(guest, why)
        for path, file in found.items():
            if path != PATH and file.names:
                yield set_aside(guest, path, f"{WHY} ({path})", hidden=True)  # "source DIR/*" reads all that has no dot in front
        new = wanted(main, need, empty=manager or clientless)
        if str(main) != new:
            if NOTE not in str(main):
                yield set_aside(guest, PATH, f"{WHY} ({PATH})")
            yield Edit(PATH, f"{WHY} ({PATH})", text=new, mode=0o644)

    def findings(self, guest: Guest, need: Needs) -> Iterable[Finding]:
        moved = {edit.path: edit.move for edit in self.edits(guest, need) if edit.move}
        for path, file in files(guest).items():
            if path in moved:
                had = [
                    f"{s.words[1]} {s.words[3]} {s.option('address')}".strip()
                    for s in file.interfaces
                    if not s.words[1].startswith("v2c")
                ]
                yield replaced(path, had, moved[path])
