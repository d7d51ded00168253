"""NetworkManager: one profile for every Ethernet card, in place of those bound to a name or a hardware address.

Every file of system-connections is read whatever its suffix; only names with a dot in front are not (nm-settings-keyfile).
"""

import ipaddress
from collections.abc import Iterable, Iterator

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.network import NOTE, alone, by_mac, manager_runs, replaced, set_aside, statics
from v2c.guest import Guest
from v2c.guest.formats.ini import Ini
from v2c.model import Finding, Needs

FOLDER = "/etc/NetworkManager/system-connections"
WHY = "NetworkManager's profile is bound to a card of the old machine"
BUILT = ("bond", "bridge", "team", "vlan")


def wanted(need: Needs) -> dict[str, str]:
    """Our profiles."""
    profiles: dict[str, str] = {}
    for position, one in by_mac(need):
        family = ipaddress.ip_interface(one.address or "").version
        lines = [NOTE, "[connection]", f"id=v2c-{position}", "type=ethernet", "autoconnect-priority=10", ""]
        lines += ["[ethernet]", f"mac-address={one.mac}", ""] if one.mac else []
        lines += [f"[ipv{family}]", "method=manual", f"address1={one.address}"]
        lines += [f"gateway={one.gateway}"] if one.gateway else []
        lines += [f"dns={';'.join(one.dns)};"] if one.dns else []
        profiles[f"{FOLDER}/v2c-{position}.nmconnection"] = "\n".join(lines) + "\n"
    if not alone(need):
        lines = [NOTE, "[connection]", "id=v2c", "type=ethernet", "multi-connect=3", ""]  # 3: on several cards at once
        lines += ["[ipv4]", "method=auto", "", "[ipv6]", "method=auto"]
        profiles[f"{FOLDER}/v2c.nmconnection"] = "\n".join(lines) + "\n"
    return profiles


def files(guest: Guest) -> dict[str, Ini]:
    """The profiles of cards and of what is built on them, ours left out."""
    found: dict[str, Ini] = {}
    for name in guest.names(FOLDER):
        file = Ini(text(guest, f"{FOLDER}/{name}") or "")
        kind = file.get("connection", "type")
        if not name.startswith((".", "v2c")) and kind in ("ethernet", "802-3-ethernet", *BUILT):
            found[f"{FOLDER}/{name}"] = file
    return found


class NetworkManagerAnyCard(Edits):
    """Profiles are set aside (hidden, with their mode, for they may hold secrets); ours takes their place."""

    id = "network-manager"
    title = "NetworkManager takes whatever card appears"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        if need.keep_network or not manager_runs(guest):
            return
        found = files(guest)
        ours = [f"{FOLDER}/{name}" for name in guest.names(FOLDER) if name.startswith("v2c")]
        if not found and not ours and not statics(need):
            return  # NetworkManager asks for a lease on cards without a profile
        for path in found:
            yield set_aside(guest, path, f"{WHY} ({path})", hidden=True)
        profiles = wanted(need)
        for path, content in profiles.items():
            if text(guest, path) != content:
                yield Edit(path, WHY, text=content, mode=0o600)
        for path in ours:
            if path not in profiles:
                yield Edit(path, "an earlier address of the machine is no longer asked for")

    def findings(self, guest: Guest, need: Needs) -> Iterable[Finding]:
        moved = {edit.path: edit.move for edit in self.edits(guest, need) if edit.move}
        for path, file in files(guest).items():
            if path in moved:
                had = [
                    file.get("connection", "interface-name"),
                    file.get("ethernet", "mac-address"),
                    file.get("ipv4", "address1"),
                ]
                yield replaced(path, [" ".join(filter(None, had))], moved[path])
