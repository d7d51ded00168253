"""GRUB's time-out: a menu that waits for a key waits for ever where there is no keyboard."""

import re
from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.bootfiles import GrubDefaults, grub_configs
from v2c.guest import Guest
from v2c.model import Needs

SECONDS = "5"  # what GRUB and Debian take when nothing is said
_FOREVER = re.compile(r"(?m)^(\s*set timeout=)[\"']?-1[\"']?[ \t]*$")


class GrubTimeout(Edits):
    """No menu that waits for a key."""

    id = "grub-timeout"
    title = "the boot menu does not wait for a key"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        for path in grub_configs(guest):
            old = text(guest, path) or ""
            new = _FOREVER.sub(rf"\g<1>{SECONDS}", old)
            if new != old:
                yield Edit(path, f"the menu of {path} waits for a key, and nobody is there to press it", text=new)
        defaults = GrubDefaults(guest)
        for assignment in defaults.assignments("GRUB_TIMEOUT", "GRUB_RECORDFAIL_TIMEOUT"):
            if assignment.value.strip() == "-1":
                assignment.inner = SECONDS
        yield from defaults.edits("the next update-grub would make the menu wait for a key")
