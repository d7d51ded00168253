"""`v2c discover`: which machines lie in a folder, and a manifest of them to begin with."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from v2c.cli import options
from v2c.cli.manifest import FILE, written
from v2c.errors import UsageError

if TYPE_CHECKING:
    from v2c.sources.folder import Found


@click.command()
@click.argument("folder", type=FILE)
@click.option(
    "--manifest", type=FILE, metavar="FILE", help="Write a wave manifest of them there (- for stdout); never over a file."
)
@click.option("--to", "target", default="", metavar="TARGET", help="Where the manifest's machines go, as convert takes it.")
@click.option("--wave", default="", metavar="NAME", help="The name of their wave (default: wave-1).")
@click.option("--name", default="", help="The name of the migration (default: the folder's).")
@options.as_json
@options.debug
def discover(folder: Path, manifest: Path | None, target: str, wave: str, name: str, as_json: bool) -> int:
    """Tell which machines lie in FOLDER: a folder of disk files each, or files that are told apart by their names.

    Headers are read, nothing is written there. Exit code 3 when something could not be read.
    """
    from v2c import discovery
    from v2c.cli import show
    from v2c.manifest.write import text
    from v2c.ui.words import clean

    if manifest and not target:
        raise UsageError("--manifest needs to know where the machines go", remedy="say --to TARGET, as convert takes it")
    found = discovery.discover(folder)
    for one in found.broken:
        assert one.error
        click.echo(clean(f"{one.name}: {one.error}"), err=True)
    if manifest:
        if not found.machines:
            raise UsageError(f"no machine was found in {folder}", remedy="name the folder that the disk files lie in")
        out = None if str(manifest) == "-" else manifest
        made = discovery.manifest(found, target, name=name, wave=wave, beside=out.parent if out else Path())
        comments = ["Made by `v2c discover`; edit it, and check it with `v2c manifest check`."]
        comments += [f"left out: {one.name}: {one.error}" for one in found.broken]
        written(text(made, tuple(comments)), out)
        if out:
            show.line(f"{out}: {len(found.machines)} machine{'' if len(found.machines) == 1 else 's'}")
    elif as_json:
        show.document([{"name": f.name, "files": [str(p) for p in f.files], "machine": f.machine} for f in found.machines])
    else:
        show.table([_row(one, folder) for one in found.machines])
    return show.PARTLY if found.broken else show.DONE


def _row(one: "Found", folder: Path) -> tuple[str, ...]:
    from v2c.ui.words import size

    machine = one.machine
    assert machine
    firmware = "firmware not known" if "firmware" in machine.assumed else str(machine.firmware)
    total = size(sum(disk.size for disk in machine.disks))
    count = f"{len(machine.disks)} disk{'' if len(machine.disks) == 1 else 's'}"
    return one.name, count, total, firmware, ", ".join(str(path.relative_to(folder)) for path in one.files)
