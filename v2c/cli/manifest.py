"""`v2c manifest`: check and show a wave manifest, its schema for editors, other tools' tables in and out."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from v2c.cli import options
from v2c.errors import UsageError, V2cError

if TYPE_CHECKING:
    from v2c.manifest import Manifest, ManifestError

FILE = click.Path(path_type=Path)
LAYOUTS = ("mgn", "cmf", "azure-migrate", "rvtools", "gcp-migration-center", "csv")  # as v2c.manifest.tables knows them


@click.group()
def manifest() -> None:
    """Check, show and convert wave manifests: the machines that move together, from where, whereto and when."""


def told(read: "Callable[[], Any]") -> Any:
    """What `read` answers; a ManifestError's mistakes are said on stderr, a line each, before the count ends the command."""
    from v2c.manifest import ManifestError

    try:
        return read()
    except ManifestError as error:
        raise _said(error) from error


def _said(error: "ManifestError") -> V2cError:
    from v2c.ui.words import clean

    for mistake in error.mistakes:
        click.echo(clean(" ".join(str(mistake).split())), err=True)
    count = len(error.mistakes)
    files = " and ".join(sorted({mistake.file for mistake in error.mistakes}))
    return UsageError(f"{files}: {count} mistake{'' if count == 1 else 's'}", remedy="correct what is said above")


def loaded(file: Path) -> "Manifest":
    """The manifest in a file, with every mistake told."""
    from v2c.manifest import load

    made: Manifest = told(lambda: load(file))
    return made


@manifest.command()
@click.argument("file", type=FILE)
@options.debug
def check(file: Path) -> int:
    """Tell every mistake in the manifest FILE, each with line, column and path. Exit code 2 when there is one."""
    from v2c.cli import show
    from v2c.manifest import resolve

    made = loaded(file)
    machines, waves = len(resolve(made)), len(made.waves)
    counted = f"{machines} machine{'' if machines == 1 else 's'} in {waves} wave{'' if waves == 1 else 's'}"
    show.line(f"{file}: {counted}, no mistake")
    return show.DONE


@manifest.command("show")
@click.argument("file", type=FILE)
@click.option("--wave", metavar="NAME", help="Only the machines of this wave.")
@options.as_json
@options.debug
def show_(file: Path, wave: str | None, as_json: bool) -> int:
    """Show the machines of the manifest FILE with all that holds for them, in the order in which they move."""
    from v2c.cli import show
    from v2c.manifest import ordered, resolve

    made = loaded(file)
    machines = ordered(resolve(made))
    names = [w.name for w in made.waves]
    if wave is not None and wave not in names:
        raise UsageError(f'{file} has no wave "{wave}"', remedy=f"it has {', '.join(names)}")
    machines = tuple(one for one in machines if wave in (None, one.wave.name))
    if as_json:
        show.document(
            [
                {
                    "wave": one.wave.name,
                    **one.machine.model_dump(by_alias=True, mode="json", exclude_none=True),
                    "window": [[s.start.isoformat(), s.end.isoformat()] for s in one.spans()],
                }
                for one in machines
            ]
        )
        return show.DONE
    for name in names if wave is None else [wave]:
        mine = [one for one in machines if one.wave.name == name]
        show.line(f"{name}: {len(mine)} machine{'' if len(mine) == 1 else 's'}")
        show.table([_row(one) for one in mine])
    return show.DONE


def _row(one: Any) -> tuple[str, ...]:
    machine = one.machine
    span = one.span()
    size = machine.size
    gates = machine.gates
    waiting = [
        word
        for word, ok in (("test", gates.ok_to_test), ("cut-over", gates.ok_to_cutover), ("finalize", gates.ok_to_finalize))
        if not ok
    ]
    return (
        machine.id,
        f"{machine.source.at} -> {machine.target}",
        one.mode,
        (size.type or f"right-sized ({size.right_sizing})") if size else "as it is",
        f"{span.start:%Y-%m-%d %H:%M}Z to {span.end:%m-%d %H:%M}Z" if span else "no window",
        machine.owner or "no owner",
        f"after {', '.join(machine.depends_on)}" if machine.depends_on else "",
        f"waits for approval to {', '.join(waiting)}" if waiting else "approved",
    )


@manifest.command()
@options.debug
def schema() -> int:
    """Print the JSON Schema (draft 2020-12) of manifests, for editors that complete and check while one writes."""
    from v2c.cli import show
    from v2c.manifest import json_schema

    show.document(json_schema())
    return show.DONE


@manifest.command("import")
@click.option("--from", "layout", required=True, type=click.Choice(LAYOUTS), help="Whose table it is.")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@click.option("--to", "target", metavar="TARGET", help="Where the machines go, as convert takes it, if the table does not say.")
@click.option("--wave", default="", metavar="NAME", help="The wave of machines of which the table says none (default: wave-1).")
@click.option("--name", default="", help="The name of the migration (default: the file's).")
@click.option("--out", "-o", type=FILE, metavar="FILE", help="Write the manifest there (default: stdout); never over a file.")
@options.debug
def import_(layout: str, files: tuple[Path, ...], target: str | None, wave: str, name: str, out: Path | None) -> int:
    """Make a manifest of another tool's table. Every mistake is told with row and column; what is not used is said on stderr."""
    from v2c.manifest.tables import import_tables
    from v2c.manifest.write import text
    from v2c.ui.words import clean

    made = told(lambda: import_tables(layout, files, to=target, name=name, wave=wave))
    for note in made.notes:
        click.echo(clean(f"note: {note}"), err=True)
    names = ", ".join(path.name for path in files)
    written(
        text(made.manifest, (f"Made by `v2c manifest import --from {layout}` of {names}; edit it, and check it again.",)), out
    )
    return 0


@manifest.command()
@click.argument("file", type=FILE)
@click.option("--csv", "as_csv", is_flag=True, required=True, help="As CSV for a spreadsheet; `import --from csv` reads it back.")
@click.option("--out", "-o", type=FILE, metavar="FILE", help="Write it there (default: stdout); never over a file.")
@options.debug
def export(file: Path, as_csv: bool, out: Path | None) -> int:
    """Write the machines of the manifest FILE, with all that holds for each, as a table."""
    from v2c.manifest.tables.own import export as exported

    written(exported(loaded(file)), out)
    return 0


def written(text: str, out: Path | None) -> None:
    """Writes a result to stdout, or to a new file."""
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8", newline="") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise UsageError(f"{out} exists already", remedy="name another file, or remove it") from error
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror})", remedy="name another file") from error
