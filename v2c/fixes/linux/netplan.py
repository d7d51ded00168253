"""netplan: one file that matches every Ethernet card, in place of those that name one."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

from ruamel.yaml import YAML

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.network import NOTE, alone, by_mac, replaced, set_aside, statics
from v2c.guest import Guest
from v2c.guest.formats.netplan import KINDS, Netplan
from v2c.model import Finding, Needs

FOLDER = "/etc/netplan"
OURS = f"{FOLDER}/90-v2c.yaml"
PROGRAMS = ("/usr/sbin/netplan", "/sbin/netplan", "/usr/libexec/netplan/generate", "/lib/netplan/generate")
WHY = "netplan configures one card of the old machine"


def wanted(renderer: str, need: Needs) -> str:
    """Our file."""
    ethernets: dict[str, Any] = {}
    for position, one in by_mac(need):
        card: dict[str, Any] = {"match": {"macaddress": one.mac} if one.mac else {"name": "e*"}, "addresses": [one.address]}
        if one.gateway:
            card["routes"] = [{"to": "::/0" if ":" in one.gateway else "0.0.0.0/0", "via": one.gateway}]
        if one.dns:
            card["nameservers"] = {"addresses": list(one.dns)}
        ethernets[f"v2c{position}"] = card
    if not alone(need) and renderer != "NetworkManager":
        ethernets["v2c"] = {"match": {"name": "e*"}, "dhcp4": True, "dhcp-identifier": "mac"}
    network: dict[str, Any] = {"version": 2, "renderer": renderer or "networkd"}
    if ethernets:  # NetworkManager asks for a lease on every card that no file names
        network["ethernets"] = ethernets
    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump({"network": network}, out)
    return f"{NOTE}\n{out.getvalue()}"


def files(guest: Guest) -> dict[str, Netplan]:
    """netplan's files in /etc, ours left out."""
    return {path: Netplan(text(guest, path) or "") for path in guest.glob(f"{FOLDER}/*.yaml") if path != OURS}


def _names_cards(file: Netplan) -> bool:
    return bool(file.broken) or any(file.devices(kind) for kind in KINDS)


class NetplanAnyCard(Edits):
    """Files that name devices are set aside; ours takes their place, with the same renderer."""

    id = "network-netplan"
    title = "netplan takes whatever card appears"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        if need.keep_network or not any(map(guest.exists, PROGRAMS)):
            return
        found = files(guest)
        old = text(guest, OURS)
        naming = {path: file for path, file in found.items() if _names_cards(file)}
        if not naming and old is None and not statics(need):
            return
        renderers = [file.renderer for file in found.values() if file.renderer]
        if old is not None and Netplan(old).renderer:
            renderers.append(Netplan(old).renderer)
        for path in naming:
            yield set_aside(guest, path, f"{WHY} ({path})")
        new = wanted(renderers[-1] if renderers else "", need)
        if old != new:
            yield Edit(OURS, WHY, text=new, mode=0o600)  # netplan warns when others may read it

    def findings(self, guest: Guest, need: Needs) -> Iterable[Finding]:
        moved = {edit.path: edit.move for edit in self.edits(guest, need) if edit.move}
        for path, file in files(guest).items():
            if path in moved:
                had = [f"{kind} {', '.join(file.devices(kind))}" for kind in KINDS if file.devices(kind)]
                yield replaced(path, [f"it cannot be read: {file.broken}"] if file.broken else had, moved[path])
