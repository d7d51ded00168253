"""AWS Application Migration Service: the CSV of its import and export (MGN user guide, "Import parameters"; the columns were
compared with the published table). A row is a server; the user-provided id is its key. Waves, applications and tags come along;
the region becomes a target `aws-REGION`. Cells [RESET_VALUE] and [DELETE_TAG] are commands to MGN and count as empty.

Unused: placement (tenancy, host), instance profiles and network interfaces that exist already, for which a manifest has no words.
"""

import re

from v2c.manifest.tables.aws import aim
from v2c.manifest.tables.drafts import Column, Draft, Numbered, draft, text
from v2c.manifest.tables.reading import Table, Wrong, normal

TITLE = "AWS Application Migration Service (import and export CSV)"


def _licence(cell: str, _comma: bool = False) -> str:
    word = cell.casefold().replace("-", " ").replace("_", " ")
    if word in ("byol", "bring your own license", "bring your own licence"):
        return "byol"
    if word in ("li", "license included", "licence included"):
        return "included"
    raise Wrong(f'"{cell[:40]}" is no licensing', "write LI or BYOL")


COLUMNS = (
    Column(("mgn:server:user-provided-id", "user-provided-id"), ("id",), required=True),
    Column(("mgn:wave:name",), ("wave",)),
    Column(("mgn:app:name",), ("application",)),
    Column(("mgn:region",), ("region",)),
    Column(("mgn:account-id",), ("account",)),
    Column(("mgn:server:platform",), ("hardware", "os")),
    Column(("mgn:server:fqdn-for-action-framework", "mgn:server:fqdn"), ("source", "name")),
    Column(("mgn:launch:instance-type",), ("size", "type")),
    Column(("mgn:launch:placement:operating-system-licensing",), ("licence",), _licence),
    Numbered(re.compile(r"mgn:launch:nic:(\d{1,2}):subnet-id"), lambda m: ("nics", int(m[1]), "subnet")),
    Numbered(
        re.compile(r"mgn:launch:nic:(\d{1,2}):security-group-id:(\d{1,2})"), lambda m: ("groups", int(m[1]), f"{int(m[2]):02}")
    ),
    Numbered(re.compile(r"mgn:launch:nic:(\d{1,2}):private-ip:0"), lambda m: ("nics", int(m[1]), "address")),
    Numbered(re.compile(r"mgn:launch:volume:(.+):type"), lambda m: ("volumes", m[1]), text),
    Numbered(re.compile(r"mgn:(?:wave|app|server):tag:(.+)"), lambda m: ("tags", m[1])),
    Numbered(re.compile(r"mgn:launch:tag:instance:(.+)"), lambda m: ("instance", m[1])),
)


def read(tables: list[Table], to: str | None) -> list[Draft]:
    """A draft for each server of each table."""
    return [_server(one, to) for table in tables for one in draft(table, COLUMNS)]


def _server(one: Draft, to: str | None) -> Draft:
    wave, region, account = one.take("wave"), one.take("region"), one.take("account")
    one.wave = wave or ""
    for index, groups in enumerate(one.take("groups") or []):
        if groups:
            header = normal(f"mgn:launch:nic:{index}:security-group-id:0")
            one.put(("nics", index, "securityGroups"), [groups[key] for key in sorted(groups)], header)
    for index, (device, kind) in enumerate((one.take("volumes") or {}).items()):
        header = normal(f"mgn:launch:volume:{device}:type")
        one.put(("disks", index, "id"), device, header)
        one.put(("disks", index, "type"), kind, header)
    for key, value in (one.take("instance") or {}).items():
        one.put(("tags", key), value, normal(f"mgn:launch:tag:instance:{key}"))
    aim(one, to, region, account, "mgn:region")
    if one.get("id"):
        one.rename(str(one.get("id")))
    return one
