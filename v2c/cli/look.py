"""`v2c inspect` and `v2c plan`: what is, and what would be. Neither changes anything."""

import sys
from pathlib import Path

import click

from v2c.cli import asked, options
from v2c.cli.running import interruptible


@click.command()
@options.sources
@click.option("--to", "target", default="local:kvm", metavar="TARGET", help="What the findings are about (default: local:kvm).")
@options.machine
@options.repair
@options.places
@options.drivers
@options.progress
@options.as_json
@options.debug
def inspect(
    sources: tuple[str, ...],
    target: str,
    state: Path | None,
    workdir: Path | None,
    progress: str,
    quiet: bool,
    as_json: bool,
    **choices: object,
) -> int:
    """Tell what is inside the machine on DISK...: system, filesystems, kernels, network; and what stands in the way.

    Exit code 4 when a finding would stop a conversion.
    """
    from v2c import verbs
    from v2c.cli import show
    from v2c.ui import shown

    interruptible()
    places = options.placed(state, workdir)
    request = asked.request(sources, target, places, **choices)
    with shown("none" if quiet else progress, sys.stderr) as listener:
        facts, findings = verbs.inspect(request, places.workdir, listener)
    return show.facts(facts, findings, as_json)


@click.command()
@options.sources
@click.option("--to", "target", default="", metavar="TARGET", help="As convert takes it; a manifest names its own targets.")
@options.machine
@options.repair
@options.size_by
@options.tags
@options.via
@click.option("--repair", "dry", is_flag=True, help="Try the repair on a throw-away overlay and show every change.")
@click.option("--bandwidth", callback=options.bandwidth, metavar="RATE", help="What the line gives, for the estimate.")
@click.option("--wave", metavar="NAME", help="Of a manifest: only this wave.")
@click.option("--converters", default=2, type=click.IntRange(1, 1000), help="Of a manifest: machines at once (default: 2).")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Of a manifest: write the plan there, with its digest."
)
@click.option("--ask", is_flag=True, help="Of a manifest: ask its clouds for types, rights, names, quotas and prices.")
@options.places
@options.drivers
@options.progress
@options.as_json
@options.debug
def plan(
    sources: tuple[str, ...],
    target: str,
    dry: bool,
    bandwidth: int,
    wave: str | None,
    converters: int,
    out: Path | None,
    ask: bool,
    state: Path | None,
    workdir: Path | None,
    progress: str,
    quiet: bool,
    as_json: bool,
    **choices: object,
) -> int:
    """Tell what convert would do, from descriptors alone: no disk is read. A wave manifest (FILE.yaml) is planned as a whole.

    With --repair the guest is opened, and repaired on an overlay that is thrown away. Exit code 4 when a finding would stop it.
    """
    from v2c import verbs
    from v2c.cli import show, waveplan
    from v2c.ui import shown

    interruptible()
    if waveplan.is_manifest(sources):
        if target or dry:
            raise click.UsageError("--to and --repair are for disks; a manifest names its own targets.")
        with shown("none" if quiet or not ask else progress, sys.stderr) as listener:
            wave_plan = waveplan.plan(
                Path(sources[0]), wave, converters, bandwidth, asking=(options.remembered(state), listener) if ask else None
            )
        return waveplan.told(wave_plan, out, as_json)
    if not target:
        raise click.UsageError("Missing option '--to'.")
    if wave or out or ask:
        raise click.UsageError("--wave, --out and --ask are for a manifest (FILE.yaml).")
    places = options.placed(state, workdir)
    request = asked.request(sources, target, places, bandwidth=bandwidth, **choices)
    made = verbs.plan(request)
    fitted = None
    if dry and not made.blockers:
        with shown("none" if quiet else progress, sys.stderr) as listener:
            fitted = verbs.preview(request, places.workdir, listener)
    return show.plan(made, fitted, as_json)
