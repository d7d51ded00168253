"""A table as people have it: CSV from Excel, PowerShell or a portal, in whichever encoding and with whichever separator.

Rows are numbered as a spreadsheet shows them: the header is row 1, empty rows count, Excel's own `sep=` line does not.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from v2c.manifest.mistakes import Mistake

SEPARATORS = ",;\t|"
LARGEST = 256 * 1024 * 1024  # bytes
_BOOKS = {b"PK\x03\x04": "an Excel workbook", b"\xd0\xcf\x11\xe0": "an old Excel workbook"}
BROKEN = re.compile(r"#(REF|VALUE|NAME|DIV/0|NUM|NULL)[!?]?")
NOTHING = {"", "-", "n/a", "#n/a", "na", "null", "none", "(none)", "[reset_value]", "[delete_tag]"}


def normal(header: str) -> str:
    """A header as it is compared: without case, stars, underscores and double spaces."""
    return re.sub(r"[\s_]+", " ", header.replace("\ufeff", "").strip().lstrip("*")).strip().casefold()


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number, and its cells (cleaned; empty ones left out) by normal header."""

    number: int
    cells: dict[str, str]


@dataclass(slots=True)
class Table:
    """A table that was read: `headers` as they are written, by their normal form; `comma`: numbers have a decimal comma."""

    file: str
    headers: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    comma: bool = False

    def mistake(self, row: int, header: str, text: str, remedy: str = "") -> Mistake:
        """A mistake in a cell; `header` in its normal form, empty: the row itself."""
        column = list(self.headers).index(header) + 1 if header in self.headers else 0
        return Mistake(self.file, row, column, self.headers.get(header, header), text, remedy, row=True)

    def add(self, row: int, header: str, text: str, remedy: str = "") -> None:
        self.mistakes.append(self.mistake(row, header, text, remedy))


def table(data: bytes, file: str, *, exact: bool = False) -> Table:
    """The table in a file; `exact`: headers count as they are written. Nothing is raised: what is wrong is in its `mistakes`."""
    made = Table(file)
    book = next((what for magic, what in _BOOKS.items() if data.startswith(magic)), None)
    if book or len(data) > LARGEST:
        made.add(1, "", f"this is {book}" if book else "the file is too large", "save the sheet as CSV UTF-8, and import that")
        return made
    text = _text(data, made).removeprefix("\ufeff")
    text, separator = _separator(text)
    made.comma = separator == ";"
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = 0
    try:
        for number, cells in enumerate(reader, 1):
            cells = [_clean(cell) for cell in cells]
            if not any(cells):
                continue
            if not made.headers:
                _head(made, number, cells, exact)
            else:
                _row(made, number, cells)
    except csv.Error as error:
        made.add(number + 1, "", f"the row cannot be read ({error})", "look for a quotation mark that is not closed")
    if not made.headers:
        made.add(1, "", "the table is empty", "name a CSV file whose first row has the columns' names")
    elif not made.rows and not made.mistakes:
        made.add(1, "", "the table has columns and no rows", "export it again")
    return made


def _text(data: bytes, made: Table) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if data[1:2] == b"\0" or data[:1] == b"\0":
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        made.notes.append(f"{made.file} is no UTF-8: it was read as Windows-1252, as Excel saves it")
        return data.decode("cp1252", "replace")


def _separator(text: str) -> tuple[str, str]:
    """The text without Excel's `sep=` line, and the separator: what that says, else the most frequent one of the first line."""
    first, _, rest = text.lstrip("\r\n").partition("\n")
    said = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
    if said:
        return rest, said[1]
    bare = re.sub(r'"[^"]*"', "", first)
    return text, max(SEPARATORS, key=lambda s: (bare.count(s), -SEPARATORS.index(s)))


def _clean(cell: str) -> str:
    """Without spaces around, no-break spaces, and the apostrophe that keeps a spreadsheet from calculating."""
    cell = cell.replace("\u00a0", " ").replace("\u202f", " ").strip()
    return cell[1:] if cell[:1] == "'" and cell[1:2] in "=+-@" and len(cell) > 1 else cell


def _head(made: Table, number: int, cells: list[str], exact: bool) -> None:
    for index, cell in enumerate(cells):
        name = cell if exact else normal(cell)
        if not name:
            made.headers[f"\0{index}"] = ""
        elif name in made.headers:
            made.add(number, name, f'the column "{cell}" is there twice', "remove one")
            made.headers[f"\0{index}"] = cell
        else:
            made.headers[name] = cell


def _row(made: Table, number: int, cells: list[str]) -> None:
    width = len(made.headers)
    if any(cells[width:]):
        remedy = "put cells that contain the separator into quotation marks"
        made.add(number, "", f"it has {len(cells)} cells, and the header {width}", remedy)
        return
    found = {}
    for name, cell in zip(made.headers, cells, strict=False):
        if BROKEN.fullmatch(cell):
            made.add(number, name, f"the spreadsheet shows an error here ({cell})", "correct the cell, and export again")
        elif not name.startswith("\0") and cell.casefold() not in NOTHING:
            found[name] = cell
    if found:
        made.rows.append(Row(number, found))


class Wrong(ValueError):
    """A cell that cannot be meant: what is wrong, and what to do."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.text, self.remedy = text, remedy


def whole(text: str, comma: bool = False) -> int:
    """A whole number as spreadsheets show it: "8192", "8,192", "8.192" (thousands), "8 192", "8192.0"."""
    bare = re.sub(r"[\s'\u2019]", "", text)
    if re.fullmatch(r"\d{1,3}([.,]\d{3})+", bare):
        return int(re.sub(r"[.,]", "", bare))
    found = number(text, comma)
    if found != int(found):
        raise Wrong(f'"{text[:40]}" is no whole number', "write digits only")
    return int(found)


def number(text: str, comma: bool = False) -> float:
    """A number, with the decimal sign of the table (a comma where cells are separated by semicolons)."""
    bare = re.sub(r"[\s'\u2019]", "", text)
    if comma:
        bare = bare.replace(".", "").replace(",", ".") if "," in bare else bare
    elif re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", bare):
        bare = bare.replace(",", "")
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+|\d+(\.\d+)?[eE]\+?\d{1,2}", bare):
        raise Wrong(f'"{text[:40]}" is no number', "write digits only, without a unit")
    return float(bare)


def flag(text: str) -> bool:
    """Y, yes, true, 1, x, wahr, vrai; N, no, false, 0: Excel writes truth in the user's language."""
    word = text.strip().casefold()
    if word in ("y", "yes", "true", "1", "x", "ja", "wahr", "oui", "vrai", "si", "verdadero", "vero"):
        return True
    if word in ("n", "no", "false", "0", "nein", "falsch", "non", "faux", "falso"):
        return False
    raise Wrong(f'"{text[:40]}" is neither yes nor no', "write Y or N")


def words(text: str) -> Iterator[str]:
    """The parts of a cell that holds several, separated by semicolons, commas or line breaks."""
    return (part.strip() for part in re.split(r"[;,\n]", text) if part.strip())
