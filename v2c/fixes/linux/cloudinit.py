"""cloud-init: looks for the target's datasource, and leaves the machine who it is.

A machine that moves gets a new instance id, and cloud-init then runs its per-instance modules again: by default it makes new
ssh host keys, sets the hostname, locks the default user's password and rewrites the network and apt's sources (cloud-init,
cc_ssh, cc_set_hostname, cc_users_groups, cc_apt_configure).
"""

import re
from collections.abc import Iterator

from v2c.fixes.fix import Edit, Edits, aside, present, text
from v2c.guest import Guest
from v2c.guest.formats.lines import split_lines
from v2c.model import Needs

FOLDER = "/etc/cloud/cloud.cfg.d"
OURS = f"{FOLDER}/99-v2c.cfg"
PROGRAMS = ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init")
IDENTIFY = "/etc/cloud/ds-identify.cfg"
_LIST = re.compile(r"^datasource_list\s*:")
_PIN = re.compile(r"(?m)^\s*(?:datasource|policy)\s*:")
IDENTITY = """\
# who the machine is stays as it was
preserve_hostname: true
manage_etc_hosts: false
ssh_deletekeys: false
ssh_genkeytypes: []
ssh_pwauth: unchanged
allow_public_ssh_keys: false
users: []
locale: false
apt: {preserve_sources_list: true}
"""
NETWORK = """\
# the network is configured by the machine itself
network: {config: disabled}
"""


def here(guest: Guest) -> bool:
    """Whether cloud-init is installed and was not switched off by the administrator."""
    return any(map(guest.exists, PROGRAMS)) and not present(guest, "/etc/cloud/cloud-init.disabled")


def _without_list(old: str) -> str:
    """The text with its datasource_list as a comment, over all its lines."""
    out: list[str] = []
    inside = False
    for line in split_lines(old):
        inside = bool(_LIST.match(line)) or (inside and bool(re.match(r"[ \t\-\]]", line)))
        out.append(f"#{line}" if inside else line)
    return "".join(out)


class CloudInit(Edits):
    """One file that is read last, and no other that says something else."""

    id = "cloud-init"
    title = "cloud-init looks for the target's datasource"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        if not need.datasources or not here(guest):
            return
        listed = ", ".join(need.datasources)
        # on one line, because ds-identify reads it with a shell
        wanted = f"datasource_list: [ {listed} ]\n{IDENTITY}{'' if need.keep_network else NETWORK}"
        for path in ["/etc/cloud/cloud.cfg", *guest.glob(f"{FOLDER}/*.cfg")]:
            old = text(guest, path)
            if path != OURS and old is not None and _without_list(old) != old:
                yield Edit(path, f"{path} makes cloud-init look for another platform", text=_without_list(old))
        if _PIN.search(text(guest, IDENTIFY) or ""):
            yield Edit(IDENTIFY, f"{IDENTIFY} pins cloud-init to another platform", move=aside(guest, IDENTIFY))
        if text(guest, OURS) != wanted:
            yield Edit(OURS, f"cloud-init must look for {listed} and keep the machine's identity", text=wanted)
