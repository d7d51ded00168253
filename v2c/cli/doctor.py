"""`v2c doctor`: what this machine lacks."""

import dataclasses
import json
from pathlib import Path

import click

from v2c.cli import options


@click.command()
@options.places
@options.as_json
@options.debug
def doctor(state: Path | None, workdir: Path | None, as_json: bool) -> int:
    """Check this machine: tools and versions, whether KVM really runs a guest, guestfs, firmware, disk space.

    Each missing thing comes with the command that installs it. Exit code 1 when something needed is missing.
    """
    from v2c.doctor import Health, examine, healthy
    from v2c.state import default_folder
    from v2c.ui.words import clean

    home = (state or default_folder()).absolute()
    rows = examine(home, (workdir or home / "work").absolute())
    if as_json:
        click.echo(json.dumps({"healthy": healthy(rows), "rows": [dataclasses.asdict(row) for row in rows]}, indent=2))
    else:
        width = max(len(row.name) for row in rows)
        for row in rows:
            remedy = f" -> {row.remedy}" if row.remedy and row.health is not Health.OK else ""
            click.echo(clean(f"{row.health:<8}{row.name:<{width + 2}}{row.seen}{remedy}"))
    return 0 if healthy(rows) else 1
