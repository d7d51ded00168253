"""RVTools: the tabs vInfo, vDisk and vNetwork as CSV (RVTools_tabvInfo.csv, ...). vInfo makes the machines; the other two add
disks and network cards and are found beside it. Column names are those of RVTools 4 (MiB) with the older ones (MB) and those of
its database as aliases; they were compared with exports and lists of them in public tools, not with the vendor's own document.

Templates and placeholders are left out. Machines are matched by VM UUID where both tabs have it, else by name.
"""

from v2c.manifest.tables.drafts import Column, Draft, count, draft, firmware, mac, mib, several, slug, text
from v2c.manifest.tables.reading import Row, Table, Wrong, flag, normal

TITLE = "RVTools (tabs vInfo, vDisk and vNetwork as CSV)"
SIBLINGS = ("vDisk", "vNetwork")  # tabs that are looked for beside vInfo

VM = ("VM", "vInfoVMName", "VM Name")
INFO = (
    Column(VM, ("id",), required=True),
    Column(("VM UUID", "vInfoUUID"), ("source", "uuid")),
    Column(("Template", "vInfoTemplate"), ("template",)),
    Column(("SRM Placeholder", "vInfoSRMPlaceHolder"), ("placeholder",)),
    Column(("CPUs", "vInfoCPUs", "Num CPUs"), ("hardware", "vcpus"), count, required=True),
    Column(("Memory", "vInfoMemory", "Memory MB", "Memory MiB"), ("hardware", "memory"), mib, required=True),
    Column(("Firmware", "vInfoFirmware"), ("hardware", "firmware"), firmware),
    Column(
        ("OS according to the VMware Tools", "vInfoOSTools", "OS according to the configuration file", "vInfoOS", "OS"),
        ("hardware", "os"),
    ),
    Column(("Provisioned MiB", "Provisioned MB", "vInfoProvisioned", "Total disk capacity MiB"), ("size_all",), mib),
    Column(("In Use MiB", "In Use MB", "vInfoInUse"), ("used_all",), mib),
    *(Column((f"Network #{n}", f"vInfoNetwork{n}"), ("nics", n - 1, "network"), text) for n in range(1, 9)),
    Column(("VI SDK Server", "vInfoVISDKServer"), ("server",)),
    Column(("Primary IP Address", "vInfoPrimaryIPAddress"), ("hardware", "addresses"), several),
)
_DISK = (("Capacity MiB", "Capacity MB"), ("Disk UUID",), ("Disk", "Label"), ("Path", "Disk Path"))


def read(tables: list[Table], to: str | None) -> list[Draft]:
    """A draft for each machine of the vInfo tables."""
    disks = [t for t in tables if any(normal(n) in t.headers for n in _DISK[0]) and normal("Disk") in t.headers]
    cards = [t for t in tables if normal("Mac Address") in t.headers]
    made: list[Draft] = []
    for table in tables:
        if table not in disks and table not in cards:
            kept = (_machine(one, to) for one in draft(table, INFO))
            made += [one for one in kept if one]
    if not made and tables and not any(t.mistakes for t in tables):
        tables[0].add(1, "", "there is no vInfo tab with machines", "name RVTools_tabvInfo.csv")
    for table in disks:
        for row, found in _matched(table, made):
            _disk(table, row, found)
    seen: set[int] = set()
    for table in cards:
        for row, found in _matched(table, made):
            _card(table, row, found, first=id(found) not in seen)
            seen.add(id(found))
    for one in made:
        _whole(one)
        if one.get("id"):
            one.rename(str(one.get("id")))
    return made


def _machine(one: Draft, to: str | None) -> Draft | None:
    for field in ("template", "placeholder"):
        word = one.take(field)
        if word and flag(word):
            one.table.notes.append(f"{one.table.file}: row {one.row}: {one.get('id')} is left out, it is a {field}")
            return None
    server = one.take("server")
    if server:
        one.source = (slug(server), {"type": "vsphere", "at": f"https://{server}/sdk"})
    nics = [nic for nic in one.get("nics") or [] if nic]
    if nics:
        one.machine["nics"] = nics
    if to:
        one.target = (slug(to), {"to": to})
    elif not any("say --to" in mistake.remedy for mistake in one.table.mistakes):
        one.table.add(1, "", "the file does not say where the machines go", "say --to TARGET, as convert takes it")
    return one


def _matched(table: Table, made: list[Draft]) -> list[tuple[Row, Draft]]:
    by_uuid = {str(one.get("source", "uuid")): one for one in made if one.get("source", "uuid")}
    by_name: dict[str, list[Draft]] = {}
    for one in made:
        by_name.setdefault(str(one.get("id")), []).append(one)
    found = []
    for row in table.rows:
        name = next((row.cells[n] for n in map(normal, VM) if n in row.cells), "")
        known = by_uuid.get(row.cells.get("vm uuid", ""))
        same = by_name.get(name, [])
        if known is None and len(same) > 1:
            table.add(row.number, "vm", f'{len(same)} machines are called "{name[:60]}"', "export the column VM UUID too")
        elif known or same:
            found.append((row, known or same[0]))
    return found


def _disk(table: Table, row: Row, one: Draft) -> None:
    capacity, uuid, label, path = (next((n for n in map(normal, names) if n in row.cells), "") for names in _DISK)
    index = len(one.get("disks") or [])
    header = capacity or normal(_DISK[0][0])
    name = row.cells.get(uuid) or row.cells.get(label) or f"disk-{index + 1}"
    one.put(("disks", index, "id"), name, uuid or label, table=table, row=row.number)
    try:
        one.put(("disks", index, "size"), mib(row.cells.get(capacity, ""), table.comma), header, table=table, row=row.number)
    except Wrong as error:
        table.add(row.number, header, error.text if capacity else "it is empty", error.remedy)
    where = row.cells.get(path, "")
    if where.startswith("[") and "]" in where:
        one.put(("disks", index, "datastore"), where[1 : where.index("]")], path, table=table, row=row.number)


def _card(table: Table, row: Row, one: Draft, *, first: bool) -> None:
    if first:  # what this tab says of the cards is more than vInfo does
        one.machine["nics"] = []
    index = len(one.machine["nics"])
    one.put(("nics", index, "mac"), mac(row.cells.get("mac address", "")), "mac address", table=table, row=row.number)
    if "network" in row.cells:
        one.put(("nics", index, "network"), row.cells["network"], "network", table=table, row=row.number)


def _whole(one: Draft) -> None:
    """Without the vDisk tab, all disks are one, of which only the sum is known."""
    size, used = one.take("size_all"), one.take("used_all")
    if not one.get("disks") and size:
        one.put(("disks", 0, "id"), "all", "provisioned mib")
        one.put(("disks", 0, "size"), size, "provisioned mib")
    if used and len(one.get("disks") or []) == 1 and one.get("disks", 0, "id") == "all":
        one.put(("disks", 0, "used"), used, "in use mib")
