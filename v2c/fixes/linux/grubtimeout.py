"""The boot menu's time-out: one that waits for a key waits for ever where there is no keyboard."""

import re
from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.bootfiles import ESPS, GrubDefaults, grub_configs
from v2c.guest import Guest
from v2c.model import Needs

SECONDS = "5"  # what GRUB and Debian take when nothing is said
_FORCED = re.compile(r"(?m)^([ \t]*timeout[ \t]+)menu-force[ \t]*$")  # loader.conf(5)
_FOREVER = re.compile(r"(?m)^(\s*set timeout=)[\"']?-1[\"']?[ \t]*$")


class GrubTimeout(Edits):
    """No menu that waits for a key."""

    id = "grub-timeout"
    title = "the boot menu does not wait for a key"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        menus = [(path, _FOREVER) for path in grub_configs(guest)]
        menus += [(f"{esp}/loader/loader.conf", _FORCED) for esp in ESPS]
        for path, pattern in menus:
            old = text(guest, path) or ""
            new = pattern.sub(rf"\g<1>{SECONDS}", old)
            if new != old:
                yield Edit(path, f"the menu of {path} waits for a key, and nobody is there to press it", text=new)
        defaults = GrubDefaults(guest)
        for assignment in defaults.assignments("GRUB_TIMEOUT", "GRUB_RECORDFAIL_TIMEOUT"):
            if assignment.value.strip() == "-1":
                assignment.inner = SECONDS
        yield from defaults.edits("the next update-grub would make the menu wait for a key")
