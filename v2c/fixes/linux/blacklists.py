"""modprobe.d: lines that keep a driver of the target from loading."""

from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.kernelwords import drivers
from v2c.guest import Guest
from v2c.guest.formats.modprobe import Modprobe
from v2c.model import Needs

OWN = "/etc/modprobe.d"
PACKAGED = ("/usr/lib/modprobe.d", "/lib/modprobe.d")


class Blacklists(Edits):
    """Lines in /etc become comments; a packaged file is overridden by an edited copy in /etc (modprobe.d(5))."""

    id = "blacklists"
    title = "no blacklist hits a driver of the target"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        wanted = drivers(need)
        own = guest.glob(f"{OWN}/*.conf")
        names = {path.rpartition("/")[2] for path in own}
        packaged: dict[str, str] = {}
        for folder in PACKAGED:
            for path in guest.glob(f"{folder}/*.conf"):
                packaged.setdefault(path.rpartition("/")[2], path)
        for path in [*own, *(path for name, path in sorted(packaged.items()) if name not in names)]:
            file = Modprobe(text(guest, path) or "")
            bites = sorted(file.blocked & wanted)
            if bites:
                file.allow(set(bites))
                where = f"{OWN}/{path.rpartition('/')[2]}"
                yield Edit(where, f"{path} keeps {', '.join(bites)} from loading", text=str(file))
