"""Azure Migrate: the import template for servers (*Server name, *Cores, *Memory (In MB), Disk 1 size (In GB), ...), and the input
of Microsoft's migration scripts (SOURCE_MACHINE_NAME, TARGET_MACHINE_SIZE, OK_TO_MIGRATE, ...); the header tells which.

The template's columns were compared with published examples of it, the scripts' with their documentation and an Input.csv.
OK_TO_TESTMIGRATE, OK_TO_MIGRATE and OK_TO_CLEANUP are the gates. MB and GB are read as MiB and GiB. Utilisation is an average
there, which does not size a machine by its peak, and is not used. Neither says the region: --to does.
"""

import re

from v2c.manifest.tables.drafts import Column, Draft, Numbered, count, draft, firmware, gib, mib, several, slug, truth
from v2c.manifest.tables.reading import Table, Wrong, normal

TITLE = "Azure Migrate (import template, or the input of the migration scripts)"


def _licence(cell: str, _comma: bool = False) -> str:
    word = cell.casefold().replace(" ", "").replace("_", "")
    if word in ("windowsserver", "rhelbyos", "slesbyos", "byol"):
        return "byol"
    if word in ("nolicensetype", "notspecified"):
        return "included"
    raise Wrong(f'"{cell[:40]}" is no licence type', "write WindowsServer or NoLicenseType")


TEMPLATE = (
    Column(("*Server name", "Server name", "Machine name", "Machine"), ("id",), required=True),
    Column(("IP addresses", "IP address", "IPv4/IPv6"), ("hardware", "addresses"), several),
    Column(("*Cores", "Cores"), ("hardware", "vcpus"), count, required=True),
    Column(("*Memory (In MB)", "Memory (In MB)", "Memory(MB)", "Memory (MB)"), ("hardware", "memory"), mib, required=True),
    Column(("*OS name", "OS name", "Operating system"), ("hardware", "os")),
    Column(("Boot type",), ("hardware", "firmware"), firmware),
    Column(("Network adapters",), ("cards",), count),
    Column(("Number of disks",), ("many",), count),
    Column(("*Storage allocated (In MB)", "Storage allocated (In MB)"), ("allocated",), mib),
    Column(("Storage allocated (In GB)",), ("allocated",), gib),
    Column(("Storage in use (In MB)",), ("used",), mib),
    Column(("Storage in use (In GB)", "*Storage in use (In GB)"), ("used",), gib),
    Numbered(re.compile(r"\*?Disk (\d{1,2}) size \(In GB\)", re.IGNORECASE), lambda m: ("disks", int(m[1]) - 1, "size"), gib),
    Numbered(re.compile(r"\*?Disk (\d{1,2}) size \(In MB\)", re.IGNORECASE), lambda m: ("disks", int(m[1]) - 1, "size"), mib),
)
SCRIPTS = (
    Column(("SOURCE_MACHINE_NAME",), ("id",), required=True),
    Column(("TARGET_MACHINE_NAME",), ("name",)),
    Column(("TARGET_MACHINE_SIZE",), ("size", "type")),
    Column(("TARGET_VNET_NAME", "TARGET_VNET"), ("vnet",)),
    Column(("TARGET_SUBNET_NAME", "TARGET_SUBNET"), ("nics", 0, "subnet")),
    Column(("TARGET_RESOURCE_GROUP_NAME", "TARGET_RESOURCE_GROUP"), ("tags", "resource-group")),
    Column(("TESTMIGRATE_VNET_NAME", "TEST_VNET_NAME"), ("nics", 0, "test", "subnet")),
    Column(("LICENSE_TYPE",), ("licence",), _licence),
    Column(("OS_DISK_ID",), ("disks", 0, "id")),
    Column(("OS_DISK_TYPE",), ("disks", 0, "type")),
    Numbered(re.compile(r"DATA_DISK(\d{1,2})_ID"), lambda m: ("disks", int(m[1]), "id")),
    Numbered(re.compile(r"DATA_DISK(\d{1,2})_TYPE"), lambda m: ("disks", int(m[1]), "type")),
    Column(("TARGET_DISKTYPE",), ("kind",)),
    Column(("OK_TO_TESTMIGRATE",), ("gates", "okToTest"), truth),
    Column(("OK_TO_MIGRATE",), ("gates", "okToCutover"), truth),
    Column(("OK_TO_CLEANUP",), ("gates", "okToFinalize"), truth),
)


def read(tables: list[Table], to: str | None) -> list[Draft]:
    """A draft for each server of each table."""
    made = []
    for table in tables:
        scripts = normal("SOURCE_MACHINE_NAME") in table.headers
        made += [(_script if scripts else _server)(one, to) for one in draft(table, SCRIPTS if scripts else TEMPLATE)]
    return made


def _to(one: Draft, to: str | None) -> None:
    if to:
        one.target = (slug(to), {"to": to})
    elif not any("say --to" in mistake.remedy for mistake in one.table.mistakes):
        one.table.add(1, "", "the file does not say the region", "say --to azure:SUBSCRIPTION/GROUP/LOCATION")
    if one.get("id"):
        one.rename(str(one.get("id")))


def _server(one: Draft, to: str | None) -> Draft:
    disks, many = one.get("disks") or [], one.take("many")
    allocated, used = one.take("allocated"), one.take("used")
    one.take("cards")
    header = "number of disks"
    if many is not None and disks and len(disks) != many:
        one.table.add(one.row, header, f"it says {many} disks, and the sizes of {len(disks)} are given", "correct one of them")
    for index, disk in enumerate(disks):
        if not disk.get("size"):
            one.table.add(one.row, header, f"disk {index + 1} has no size, and a later one has", "fill it in")
        one.put(("disks", index, "id"), f"disk-{index + 1}", header)
    if not disks and allocated:
        one.put(("disks", 0, "id"), "disk-1", header)
        one.put(("disks", 0, "size"), allocated, "storage allocated (in mb)")
    if used and len(one.get("disks") or []) == 1:
        one.put(("disks", 0, "used"), used, "storage in use (in gb)")
    one.machine["disks"] = [dict(sorted(disk.items())) for disk in one.get("disks") or []]
    _to(one, to)
    return one


def _script(one: Draft, to: str | None) -> Draft:
    vnet, kind = one.take("vnet"), one.take("kind")
    subnet = one.get("nics", 0, "subnet")
    if vnet:
        one.put(("nics", 0, "subnet"), f"{vnet}/{subnet}" if subnet else vnet, "target vnet name")
    for index, disk in enumerate(one.get("disks") or []):
        if not disk.get("id"):
            one.table.add(one.row, normal("OS_DISK_ID"), f"disk {index} has no id, and a later one has", "fill it in")
        elif kind and not disk.get("type"):
            one.put(("disks", index, "type"), kind, normal("TARGET_DISKTYPE"))
    if one.get("disks", 0, "id"):
        one.put(("disks", 0, "boot"), True, normal("OS_DISK_ID"))
    _to(one, to)
    return one
