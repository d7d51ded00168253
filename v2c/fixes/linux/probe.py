"""The validation probe: a one-shot unit that tells on the serial console what came up."""

import re
from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.units import ETC, link
from v2c.guest import Guest
from v2c.guest.formats.ini import Ini
from v2c.model import Needs

UNIT = "v2c-probe.service"
SCRIPT = "/etc/v2c/probe.sh"
NONCE = "/etc/v2c/nonce"
DEVICE = "/etc/v2c/device"


class ProbePlanted(Edits):
    """The script, its nonce and console, its unit, and the symlinks that `systemctl enable` would make."""

    id = "probe"
    title = "the validation probe is planted"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        probe = need.probe
        if probe is None or not probe.unit:
            return
        why = "the machine must tell on its console what came up"
        files = {SCRIPT: (probe.script, 0o755), NONCE: (f"{probe.nonce}\n", 0o644), DEVICE: (f"{probe.device}\n", 0o644)}
        files[f"{ETC}/{UNIT}"] = (probe.unit, 0o644)
        for path, (content, mode) in files.items():
            if text(guest, path) != content:
                yield Edit(path, why, text=content, mode=mode)
        install = Ini(probe.unit)
        for kind, key in (("wants", "WantedBy"), ("requires", "RequiredBy")):
            for target in " ".join(install.all("Install", key)).split():
                path = f"{ETC}/{target}.{kind}/{UNIT}"
                if re.fullmatch(r"[\w@.\-]+", target) and link(guest, path) != f"{ETC}/{UNIT}":
                    yield Edit(path, why, link=f"{ETC}/{UNIT}")
