"""SELinux: files written from outside have no label, so the first boot relabels (and starts once more)."""

import re
from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits, present, text
from v2c.guest import Guest
from v2c.guest.formats.shellvars import ShellVars
from v2c.model import Needs

CONFIG = "/etc/selinux/config"
MARK = "/.autorelabel"


class Relabel(Edits):
    """Asks for a relabel where SELinux is in force."""

    id = "selinux"
    title = "files are labelled anew where SELinux is in force"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        mode = ShellVars(text(guest, CONFIG) or "").get("SELINUX", "disabled") or ""
        if re.fullmatch(r"enforcing|permissive", mode.strip()) and not present(guest, MARK):
            yield Edit(MARK, f"SELinux is {mode.strip()}, and what is written offline has no label", text="")
