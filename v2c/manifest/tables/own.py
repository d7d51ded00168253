"""v2c's own table: a row is a machine with all that holds for it; a column's name is the path in the manifest ("disks[0].size",
"tags.app", "gates.okToCutover"), so that nothing is lost on the way out and back.

`wave`, `source`, `target` are names; `source.type`, `source.at` and `target.to` say what they are. A list of words is written
"a; b", anything that would not come back so as JSON. Maps, limits, quotas and credentials stay in the YAML.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from v2c.manifest.looks import looks_secret
from v2c.manifest.resolve import ordered, resolve
from v2c.manifest.schema import Manifest
from v2c.manifest.secrets import REMEDY, TEXT
from v2c.manifest.tables.drafts import Draft, slug
from v2c.manifest.tables.reading import BROKEN, NOTHING, Table, Wrong, flag, normal, whole, words
from v2c.manifest.text import Path

EXACT = True  # headers are paths: their case counts
TITLE = "v2c's own table (v2c manifest export)"
FIRST = (
    *("id", "wave", "name", "source", "source.type", "source.at", "source.name", "source.uuid", "source.files"),
    *("target", "target.to"),
)
ALIASES = {
    "machine": "id",
    "server": "id",
    "hostname": "id",
    "vm": "id",
    "vcpus": "hardware.vcpus",
    "cpus": "hardware.vcpus",
    "memory": "hardware.memory",
    "firmware": "hardware.firmware",
    "os": "hardware.os",
    "instance type": "size.type",
    "depends on": "dependsOn",
    "subnet": "nics[0].subnet",
    "address": "nics[0].address",
    "license": "licence",
}
_PART = re.compile(r"([^.\[\]]+)|\[(\d{1,3})\]")
_WORDS = re.compile(
    r"(source\.files|hardware\.addresses|dependsOn|nics\[\d+\]\.(dns|securityGroups)|(hooks|checks)\[\d+\]\.run|blackout\[\d+\]\.days)"
)
_NUMBERS = re.compile(
    r"(hardware\.vcpus|rank|size\.(cpuUsed|memoryUsed|headroom)|disks\[\d+\]\.(iops|throughput)|checks\[\d+\]\.(port|expect))"
)
_CLOCKS = re.compile(r"blackout\[\d+\]\.(start|end)")
_TRUTHS = re.compile(r"(gates\.\w+|disks\[\d+\]\.(include|boot)|(hooks|checks)\[\d+\]\.mustSucceed)")


def export(manifest: Manifest) -> str:
    """The machines as CSV, in the order in which they move; for Excel: with a mark, quoted where needed, formulas defused."""
    rows = []
    for one in ordered(resolve(manifest)):
        plain = one.machine.model_dump(by_alias=True, mode="json", exclude_unset=True, exclude_none=True)
        source, target = manifest.sources[one.machine.source.at], manifest.targets[one.machine.target or ""]
        plain["source"].pop("at")
        rows.append(
            dict(_flat(plain))
            | {"wave": one.wave.name, "source": one.machine.source.at, "source.type": source.type}
            | ({"source.at": source.at} if source.at else {})
            | {"target": one.machine.target or "", "target.to": target.to}
        )
    names = {name: None for row in rows for name in row}
    header = [n for n in FIRST if n in names] + sorted((n for n in names if n not in FIRST), key=_place)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([_safe(str(row.get(name, ""))) for name in header] for row in rows)
    return "\ufeff" + out.getvalue()


def _place(name: str) -> list[tuple[int, str]]:
    """Numbers inside names in order: disks[2] before disks[10]."""
    return [(int(n or 0), w) for w, n in _PART.findall(name)]


def _safe(cell: str) -> str:
    """A cell that a spreadsheet neither calculates, nor takes for nothing, nor strips."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value and all(_PART.fullmatch(key) and _plain(key) for key in value):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{path}[{index}]")
    elif isinstance(value, list) and value and all(_plain(item) for item in value):
        yield path, "; ".join(value)
    elif isinstance(value, str) and not value.startswith(("{", "[", '"')) and _plain(value, words_too=False):
        yield path, value
    else:
        told = json.dumps(value, ensure_ascii=False)
        yield path, told if told.isprintable() else json.dumps(value)


def _plain(item: Any, *, words_too: bool = True) -> bool:
    """Whether a text comes back from a cell as it is."""
    if not isinstance(item, str) or not item or item != " ".join(item.split(" ")).strip() or not item.isprintable():
        return False
    odd = item.casefold() in NOTHING or BROKEN.fullmatch(item) or "\u00a0" in item or item.startswith(("{", "[", '"', "'"))
    return not odd and not (words_too and re.search(r"[;,\n]", item))


def read(tables: list[Table], to: str | None) -> list[Draft]:
    """A draft for each row."""
    return [one for table in tables for one in _drafts(table, to)]


def _drafts(table: Table, to: str | None) -> Iterator[Draft]:
    names = {header: _named(written) for header, written in table.headers.items() if written}
    columns = {header: _path(name) for header, name in names.items()}
    if ("id",) not in columns.values():
        table.add(1, "", 'the column "id" is missing', "add it: the machines' stable ids")
    for row in table.rows:
        one = Draft(table, row.number)
        wave, source, target = "", {"name": "estate", "type": "inventory"}, dict[str, str]()
        for header, cell in row.cells.items():
            path = columns.get(header)
            if path is None:
                table.add(row.number, header, "the column's name is no path of a manifest", "see `v2c manifest schema`")
            elif looks_secret(cell):
                table.add(row.number, header, TEXT, REMEDY)
            elif path == ("wave",):
                wave = cell
            elif path in (("source",), ("source", "type"), ("source", "at")):
                source["name" if len(path) == 1 else str(path[1])] = cell
            elif path in (("target",), ("target", "to")):
                target["name" if len(path) == 1 else "to"] = cell
            else:
                one.put(path, _value(names[header], cell, table), header)
                one.cells[path] = (table, row.number, header)
        one.wave = wave
        name = source.pop("name")
        one.source = (name, dict(source))
        locator = target.get("to") or to
        if locator:
            one.target = (target.get("name") or slug(locator), {"to": locator})
        else:
            table.add(row.number, "target.to", "the row does not say where the machine goes", "fill it in, or say --to TARGET")
        if "id" not in one.machine:
            table.add(row.number, "id", "it is empty", "give the machine its id")
        yield one


def _named(written: str) -> str:
    """The path that a header stands for: itself, a known one in another case, or an alias."""
    known = {normal(name): name for name in FIRST} | ALIASES
    return written if _path(written) and "." in written else known.get(normal(written), written)


def _path(name: str) -> Path | None:
    parts = _PART.findall(name)
    if not parts or "".join(f"[{n}]" if n else f".{w}" for w, n in parts).removeprefix(".") != name:
        return None
    return tuple(int(n) if n else w for w, n in parts)


def _value(name: str, cell: str, table: Table) -> Any:
    """A cell's value by its column: JSON where it is written so, numbers and truth where the manifest has them, else text."""
    if cell.startswith(("{", "[", '"')):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    try:
        if _NUMBERS.fullmatch(name):
            return whole(cell, table.comma)
        if _TRUTHS.fullmatch(name):
            return flag(cell)
    except Wrong:
        return cell
    if _CLOCKS.fullmatch(name) and (clock := re.fullmatch(r"(\d{1,2}:\d\d)(:00)?", cell)):
        return clock[1].rjust(5, "0")  # as Excel shows 08:00
    return list(words(cell)) if _WORDS.fullmatch(name) else cell
