"""Rows to machines: a layout says which column means what; drafts become a manifest, its mistakes are told by row."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from v2c.manifest.check import check
from v2c.manifest.explain import close, located
from v2c.manifest.looks import looks_secret
from v2c.manifest.mistakes import ManifestError, Mistake
from v2c.manifest.schema import Manifest
from v2c.manifest.secrets import REMEDY, TEXT
from v2c.manifest.tables.reading import Row, Table, Wrong, flag, normal, number, whole, words
from v2c.manifest.text import Path
from v2c.manifest.values import size

Parse = Callable[[str, bool], Any]  # the cell's text, and whether numbers have a decimal comma
MIB, GIB = 1024**2, 1024**3


def text(cell: str, _comma: bool = False) -> str:
    return cell


def count(cell: str, comma: bool = False) -> int:
    return whole(cell, comma)


def mib(cell: str, comma: bool = False) -> str:
    """Mebibytes (the vendors say MB and mean 1024 * 1024)."""
    return size(whole(cell, comma) * MIB)


def gib(cell: str, comma: bool = False) -> str:
    """Gibibytes, perhaps with a fraction; whole mebibytes come out."""
    return size(round(number(cell, comma) * 1024) * MIB)


def several(cell: str, _comma: bool = False) -> list[str]:
    return list(words(cell))


def truth(cell: str, _comma: bool = False) -> bool:
    return flag(cell)


def firmware(cell: str, _comma: bool = False) -> str:
    word = cell.casefold()
    if word in ("efi", "uefi", "bios"):
        return "bios" if word == "bios" else "uefi"
    raise Wrong(f'"{cell[:40]}" is no firmware', "write BIOS or UEFI")


def mac(cell: str, _comma: bool = False) -> str:
    return cell.lower().replace("-", ":")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a layout: its names (the vendor's own first), where its value goes in a machine, how it is read."""

    names: tuple[str, ...]
    to: Path
    parse: Parse = text
    required: bool = False


@dataclass(frozen=True, slots=True)
class Numbered:
    """Columns that are counted or named in their header: `pattern` over the written header, `to` of the match."""

    pattern: re.Pattern[str]
    to: Callable[[re.Match[str]], Path]
    parse: Parse = text


@dataclass(slots=True)
class Draft:
    """A machine being made: plain values as in a manifest, and which column each came from. `wave`, `source` and `target` are
    names with what they are; what a layout does not know stays empty."""

    table: Table
    row: int
    machine: dict[str, Any] = field(default_factory=dict)
    cells: dict[Path, tuple[Table, int, str]] = field(default_factory=dict)
    wave: str = ""
    source: tuple[str, dict[str, Any]] = ("estate", {"type": "inventory"})
    target: tuple[str, dict[str, Any]] | None = None

    def put(self, path: Path, value: Any, header: str = "", *, table: Table | None = None, row: int = 0) -> None:
        """Sets a value, making mappings and lists on the way; lists grow by empty mappings."""
        self.cells[path] = (table or self.table, row or self.row, header)
        place: Any = self.machine
        for part, following in zip(path, (*path[1:], None), strict=True):
            if isinstance(place, list):
                assert isinstance(part, int)
                while len(place) <= part:
                    place.append({})
                if following is None:
                    place[part] = value
                place = place[part]
            elif following is None:
                place[part] = value
            else:
                place = place.setdefault(part, [] if isinstance(following, int) else {})

    def get(self, *path: int | str) -> Any:
        """The value at a path; None when there is none."""
        place: Any = self.machine
        for part in path:
            try:
                place = place[part]
            except (KeyError, IndexError, TypeError):
                return None
        return place

    def take(self, *path: int | str) -> Any:
        """The value at a path of mappings, which is removed; None when there is none."""
        parent = self.get(*path[:-1])
        return parent.pop(path[-1], None) if isinstance(parent, dict) else None

    def rename(self, was: str) -> None:
        """The id made of a name: what an id may not hold becomes a dash, and the name stays as the source's."""
        id = slug(was)
        self.machine = {"id": id, **{k: v for k, v in self.machine.items() if k != "id"}}
        if id != was and self.get("source", "name") is None:
            self.put(("source", "name"), was, self.cells.get(("id",), (self.table, self.row, ""))[2])


def slug(name: str) -> str:
    """A name as an id."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:63].strip("-._") or "unnamed"


def draft(table: Table, columns: Sequence[Column | Numbered]) -> list[Draft]:
    """A draft for each row. Unknown columns are noted, missing ones and cells that cannot be read are mistakes."""
    known: dict[str, Column | tuple[Numbered, Path]] = {}
    for column in columns:
        if isinstance(column, Column):
            present = [n for n in map(normal, column.names) if n in table.headers]
            if not present and column.required:
                near = close(column.names[0], [h for h in table.headers.values() if h])
                table.add(1, "", f'the column "{column.names[0]}" is missing', near if near.startswith("did") else "add it")
            known.update(dict.fromkeys(present, column))
    for name, written in table.headers.items():
        for column in columns:
            if isinstance(column, Numbered) and name not in known and (found := column.pattern.fullmatch(written)):
                known[name] = (column, column.to(found))
    unused = [written for name, written in table.headers.items() if name not in known and written]
    if unused:
        table.notes.append(f"{table.file}: not used: {', '.join(unused)}")
    return [_drafted(table, row, known, columns) for row in table.rows]


def _drafted(table: Table, row: Row, known: dict[str, Any], columns: Sequence[Column | Numbered]) -> Draft:
    made = Draft(table, row.number)
    for header in known:  # names of one column in their order: the first that is filled in counts
        cell = row.cells.get(header)
        if cell is None:
            continue
        column = known[header]
        parse, path = (column.parse, column.to) if isinstance(column, Column) else (column[0].parse, column[1])
        if path in made.cells:
            continue
        if looks_secret(cell):
            table.add(row.number, header, TEXT, REMEDY)
            continue
        try:
            made.put(path, parse(cell, table.comma), header)
        except Wrong as error:
            table.add(row.number, header, error.text, error.remedy)
            made.cells[path] = (table, row.number, header)
    for column in columns:
        if isinstance(column, Column) and column.required and column.to not in made.cells:
            header = next((n for n in map(normal, column.names) if n in table.headers), "")
            if header:
                table.add(row.number, header, "it is empty", "fill it in, or remove the row")
    return made


def assemble(drafts: Iterable[Draft], tables: Iterable[Table], name: str) -> Manifest:
    """The manifest of the drafts. ManifestError with the mistakes of every table, and of what they make together."""
    found = [mistake for table in tables for mistake in table.mistakes]
    if found:
        raise ManifestError(found)
    waves: dict[str, tuple[str, list[Draft]]] = {}
    document: dict[str, Any] = {"version": 1, "name": slug(name), "sources": {}, "targets": {}, "waves": []}
    for one in drafts:
        key = slug(one.wave or "wave-1")
        waves.setdefault(key, (one.wave, []))[1].append(one)
        document["sources"].setdefault(one.source[0], one.source[1])
        one.machine.setdefault("source", {})
        one.machine["source"] = {"at": one.source[0], **one.machine["source"]}
        if one.target:
            document["targets"].setdefault(one.target[0], one.target[1])
            one.machine["target"] = one.target[0]
    for key, (written, members) in waves.items():
        said = {"description": written} if written and written != key else {}
        document["waves"].append({"name": key, **said, "machines": [one.machine for one in members]})
    order = [members for _, members in waves.values()]
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        raise ManifestError(_placed(order, path, said, remedy) for path, said, remedy in located(error, document)) from error
    wrong = [_placed(order, path, said, remedy) for path, said, remedy in check(manifest)]
    if wrong:
        raise ManifestError(wrong)
    return manifest


def _placed(order: list[list[Draft]], path: Path, said: str, remedy: str) -> Mistake:
    """A mistake of the manifest at the row, and the column, that it comes from."""
    match path:
        case ("waves", int(wave), "machines", int(index), *rest):
            one = order[wave][index]
            for end in range(len(rest), 0, -1):
                if cell := one.cells.get(tuple(rest[:end])):
                    return cell[0].mistake(cell[1], cell[2], said, remedy)
            return one.table.mistake(one.row, "", said, remedy)
    first = order[0][0]
    return first.table.mistake(first.row, "", said, remedy)
