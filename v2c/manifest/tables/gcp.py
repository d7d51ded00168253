"""Google Cloud Migration Center: vmInfo.csv with diskInfo.csv and tagInfo.csv beside it (the manual import tables).

Unverified: the column names were taken from public examples of these tables, which differ among themselves (MemoryGiB and
MemoryMiB, TotalDiskAllocatedGiB and AllocatedStorageBytes); all of them are read. Performance tables are not used.
"""

from v2c.manifest.tables.drafts import MIB, Column, Draft, count, draft, gib, mac, mib, several, slug
from v2c.manifest.tables.reading import Row, Table, Wrong, normal, whole
from v2c.manifest.values import size

TITLE = "Google Cloud Migration Center (vmInfo, diskInfo and tagInfo)"
SIBLINGS = ("diskInfo", "tagInfo")


def _bytes(cell: str, comma: bool = False) -> str:
    return size(-(-whole(cell, comma) // MIB) * MIB)


INFO = (
    Column(("MachineId",), ("id",), required=True),
    Column(("MachineName",), ("source", "name")),
    Column(("PrimaryIPAddress",), ("hardware", "addresses"), several),
    Column(("PrimaryMACAddress",), ("nics", 0, "mac"), mac),
    Column(("AllocatedProcessorCoreCount", "ProcessorCount"), ("hardware", "vcpus"), count, required=True),
    Column(("MemoryGiB", "MemoryInGiB"), ("hardware", "memory"), gib),
    Column(("MemoryMiB", "MemoryInMiB"), ("hardware", "memory"), mib),
    Column(("OsName", "OsType"), ("hardware", "os")),
    Column(("TotalDiskAllocatedGiB",), ("size_all",), gib),
    Column(("AllocatedStorageBytes",), ("size_all",), _bytes),
    Column(("TotalDiskUsedGiB",), ("used_all",), gib),
)


def read(tables: list[Table], to: str | None) -> list[Draft]:
    """A draft for each machine of the vmInfo tables."""
    disks = [t for t in tables if normal("SizeInGib") in t.headers]
    tags = [t for t in tables if {"key", "value"} <= t.headers.keys()]
    made = [one for table in tables if table not in disks and table not in tags for one in draft(table, INFO)]
    by_id = {str(one.get("id")): one for one in made}
    for table in (*disks, *tags):
        for row in table.rows:
            id = row.cells.get("machineid", "")
            if id not in by_id:
                table.add(row.number, "machineid", f'there is no machine "{id[:60]}" in vmInfo', "correct it, or remove the row")
            elif table in disks:
                _disk(table, row, by_id[id])
            else:
                key, value = row.cells.get("key", ""), row.cells.get("value", "")
                if not key or not value:
                    table.add(row.number, "value" if key else "key", "it is empty", "fill it in, or remove the row")
                else:
                    by_id[id].put(("tags", key), value, "value", table=table, row=row.number)
    for one in made:
        total, used = one.take("size_all"), one.take("used_all")
        if not one.get("disks") and total:
            one.put(("disks", 0, "id"), "all", "totaldiskallocatedgib")
            one.put(("disks", 0, "size"), total, "totaldiskallocatedgib")
            if used:
                one.put(("disks", 0, "used"), used, "totaldiskusedgib")
        if to:
            one.target = (slug(to), {"to": to})
        elif not any("say --to" in mistake.remedy for mistake in one.table.mistakes):
            one.table.add(1, "", "the file does not say where the machines go", "say --to gcp:PROJECT/ZONE")
        if one.get("id"):
            one.rename(str(one.get("id")))
    return made


def _disk(table: Table, row: Row, one: Draft) -> None:
    index = len(one.get("disks") or [])
    one.put(("disks", index, "id"), row.cells.get("disklabel") or f"disk-{index + 1}", "disklabel", table=table, row=row.number)
    for header, field in (("sizeingib", "size"), ("usedingib", "used")):
        if header in row.cells:
            try:
                one.put(("disks", index, field), gib(row.cells[header], table.comma), header, table=table, row=row.number)
            except Wrong as error:
                table.add(row.number, header, error.text, error.remedy)
