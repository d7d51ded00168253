"""systemd-networkd: .network files that match every Ethernet card, in place of those that name one."""

from collections.abc import Iterable, Iterator

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.network import NETWORKD, NETWORKD_FOLDER, networkd_edits, networkd_files, replaced, set_aside
from v2c.fixes.linux.units import enabled
from v2c.guest import Guest
from v2c.guest.formats.ini import Ini
from v2c.model import Finding, Needs

WHY = "systemd-networkd configures one card of the old machine"
_OTHER = ("wl", "ww", "wg", "tun", "tap", "veth", "docker", "virbr", "lo", "dummy")


def _cards(file: Ini) -> bool:
    """Whether a file is about Ethernet cards (or what is built on them), as far as its [Match] tells."""
    names = " ".join(file.all("Match", "Name")).split()
    if file.get("Match", "Type") in ("wlan", "wwan", "loopback"):
        return False
    return not names or any(not name.startswith(_OTHER) for name in names)


def files(guest: Guest) -> dict[str, Ini]:
    """The .network files of the administrator that are about cards, ours left out."""
    ours = "v2c"
    found = {p: Ini(text(guest, p) or "") for p in guest.glob(f"{NETWORKD_FOLDER}/*.network") if ours not in p.rpartition("/")[2]}
    return {path: file for path, file in found.items() if _cards(file)}


class NetworkdAnyCard(Edits):
    """Files that name cards are set aside, ours take their place. Only where networkd runs at boot."""

    id = "network-networkd"
    title = "systemd-networkd takes whatever card appears"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        if need.keep_network or not enabled(guest, NETWORKD):
            return
        found = files(guest)
        ours = guest.glob(f"{NETWORKD_FOLDER}/*-v2c*.network")
        if not found and not ours:
            return
        for path in found:
            yield set_aside(guest, path, f"{WHY} ({path})")
        yield from networkd_edits(guest, need, WHY)
        for path in ours:
            if path not in networkd_files(need):
                yield Edit(path, "an earlier address of the machine is no longer asked for")

    def findings(self, guest: Guest, need: Needs) -> Iterable[Finding]:
        moved = {edit.path: edit.move for edit in self.edits(guest, need) if edit.move}
        for path, file in files(guest).items():
            if path in moved:
                name = " ".join(file.all("Match", "Name") + file.all("Match", "MACAddress")) or "every card"
                yield replaced(path, [f"{name} {' '.join(file.all('Network', 'Address'))}".strip()], moved[path])
