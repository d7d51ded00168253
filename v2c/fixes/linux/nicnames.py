"""Names of network cards that are pinned to hardware addresses: old rules rename new cards, or wait for ones that are gone."""

import re
from collections.abc import Iterable, Iterator

from v2c.fixes.fix import Edit, Edits, present, text
from v2c.fixes.linux.network import set_aside
from v2c.fixes.linux.units import link
from v2c.guest import Guest
from v2c.guest.formats.ini import Ini
from v2c.guest.formats.interfaces import Interfaces
from v2c.model import Finding, Level, Needs

RULES = "/etc/udev/rules.d"
GENERATOR = "75-persistent-net-generator.rules"
LINKS = "/etc/systemd/network"
RESOLVER = "/etc/resolv.conf"
PINS = ("MACAddress", "PermanentMACAddress", "Path", "Driver")
# files in which the name of a card decides who may talk to the machine
MENTIONS = (
    "/etc/nftables.conf", "/etc/iptables/rules.v4", "/etc/sysctl.conf", "/etc/sysctl.d/*.conf", "/etc/ufw/*.rules",
    "/etc/default/isc-dhcp-server", "/etc/dnsmasq.conf", "/etc/keepalived/keepalived.conf", "/etc/shorewall/interfaces",
)  # fmt: skip


class PinnedNames(Edits):
    """udev's persistent-net rules and .link files with a hardware address are set aside."""

    id = "nic-names"
    title = "no card's name is pinned to old hardware"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        if need.keep_network:
            return
        for path in guest.glob(f"{RULES}/*.rules"):
            rules = [line for line in (text(guest, path) or "").split("\n") if not line.lstrip().startswith("#")]
            if any(re.search(r'SUBSYSTEM=="net"', r) and re.search(r'\bNAME:?="', r) for r in rules):
                yield set_aside(guest, path, f"{path} names cards by their old hardware addresses")
        for folder in ("/usr/lib/udev/rules.d", "/lib/udev/rules.d"):
            if guest.exists(f"{folder}/{GENERATOR}") and not present(guest, f"{RULES}/{GENERATOR}"):
                yield Edit(f"{RULES}/{GENERATOR}", "udev would pin the names of the first cards it sees", link="/dev/null")
                break
        for path in guest.glob(f"{LINKS}/*.link"):
            file = Ini(text(guest, path) or "")
            if any(file.get("Match", pin) for pin in PINS):
                yield set_aside(guest, path, f"{path} is bound to a card of the old machine")

    def findings(self, guest: Guest, need: Needs) -> Iterable[Finding]:
        """Firewalls and the like that name a card, and name servers written by hand, are left as they are and told of."""
        if need.keep_network:
            return
        servers = [] if link(guest, RESOLVER) else re.findall(r"(?m)^nameserver\s+(\S+)", text(guest, RESOLVER) or "")
        if servers and not any(server.startswith("127.") for server in servers):
            yield Finding(
                "network.resolver",
                Level.WARNING,
                RESOLVER,
                f"{RESOLVER} names {', '.join(servers)} and stays as it is where no DHCP client rewrites it",
                "make sure that these servers are reached from the target, or correct the file",
            )
        names = {n for n in Interfaces(text(guest, "/etc/network/interfaces") or "").names if re.fullmatch(r"en\w+", n)}
        for path in [p for pattern in MENTIONS for p in guest.glob(pattern)] if names else []:
            content = text(guest, path) or ""
            said = sorted(name for name in names if re.search(rf"\b{re.escape(name)}\b", content))
            if said:
                yield Finding(
                    "network.name-mentioned",
                    Level.WARNING,
                    path,
                    f"{path} names the card {', '.join(said)}, which will have another name",
                    "adapt the file in the machine, or address cards without their names",
                )
