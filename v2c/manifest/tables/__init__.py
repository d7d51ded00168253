"""Other tools' tables as manifests: wave teams already own one of these, so nobody types an estate again.

Each layout is one file: its columns with their aliases, and what to make of a row. Every mistake is told at once, with file, row,
column and what to do; what a layout does not use is noted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from v2c.errors import UsageError
from v2c.manifest.mistakes import ManifestError
from v2c.manifest.schema import Manifest
from v2c.manifest.tables.drafts import assemble
from v2c.manifest.tables.reading import Table, table

LAYOUTS = {
    "mgn": "v2c.manifest.tables.mgn",
    "cmf": "v2c.manifest.tables.cmf",
    "azure-migrate": "v2c.manifest.tables.azure",
    "rvtools": "v2c.manifest.tables.rvtools",
    "gcp-migration-center": "v2c.manifest.tables.gcp",
    "csv": "v2c.manifest.tables.own",
}


@dataclass(frozen=True, slots=True)
class Imported:
    """A manifest made of tables, and what is worth saying about it (what was left out or not used)."""

    manifest: Manifest
    notes: tuple[str, ...]


def import_tables(layout: str, files: Sequence[Path], *, to: str | None = None, name: str = "", wave: str = "") -> Imported:
    """Reads tables of a layout. `to`: the target, where the tables say none; `wave`: likewise. ManifestError with every
    mistake."""
    module = import_module(LAYOUTS[layout])
    files = [*files, *_siblings(files, getattr(module, "SIBLINGS", ()))]
    tables = [table(_bytes(path), str(path), exact=getattr(module, "EXACT", False)) for path in files]
    if any(not one.headers or one.mistakes for one in tables):
        broken = [mistake for one in tables for mistake in one.mistakes]
        if broken:
            raise ManifestError(broken)
    drafts = module.read(tables, to)
    for one in drafts:
        one.wave = one.wave or wave
    if not drafts and not any(one.mistakes for one in tables):
        tables[0].add(1, "", "no row is left to be moved", "see what was left out, or name another file")
    return Imported(assemble(drafts, tables, name or files[0].stem), tuple(note for one in tables for note in one.notes))


def _siblings(files: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Tabs of the same export that lie beside the first file: RVTools_tabvDisk.csv beside RVTools_tabvInfo.csv."""
    first = files[0]
    found = []
    for name in names:
        for own in ("vInfo", "vmInfo"):
            path = first.with_name(first.name.replace(own, name))
            if own in first.name and path.is_file() and path not in files and path not in found:
                found.append(path)
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the table {path} cannot be read ({error.strerror})", remedy="correct the path") from error


__all__ = ["LAYOUTS", "Imported", "Table", "import_tables"]
