"""`v2c convert`: one machine, all the way."""

import sys
from pathlib import Path

import click

from v2c.cli import asked, options
from v2c.cli.running import terminable
from v2c.model import Verify


@click.command()
@options.sources
@options.target
@options.machine
@options.repair
@options.expect
@options.size_by
@options.tags
@options.via
@click.option("--bandwidth", callback=options.bandwidth, metavar="RATE", help="Send no faster than this: 20MiB/s, 100Mbit/s.")
@click.option(
    "--rehearse/--no-rehearse", default=None, help="Boot it here before anything is sent (default: where the target asks)."
)
@click.option(
    "--verify",
    type=click.Choice([mode.value for mode in Verify]),
    default=None,
    help="How much is read back from the target and compared with what was sent (default: a sample, where it can be read).",
)
@click.option("--network", is_flag=True, help="Let the boot test reach the network; it is a copy of your server.")
@click.option(
    "--boot-timeout", type=click.IntRange(min=10), default=900, show_default=True, metavar="S", help="Give up on a boot."
)
@click.option("--cutover", is_flag=True, help="When the test went well, launch the real instance, and leave it running.")
@click.option("--again", is_flag=True, help="Start anew, though the same command was begun or done before.")
@options.dry_run
@options.places
@options.drivers
@options.progress
@options.as_json
@options.debug
def convert(
    sources: tuple[str, ...],
    target: str,
    bandwidth: int,
    rehearse: bool | None,
    verify: str | None,
    network: bool,
    boot_timeout: int,
    cutover: bool,
    again: bool,
    dry_run: bool,
    state: Path | None,
    workdir: Path | None,
    progress: str,
    quiet: bool,
    as_json: bool,
    **choices: object,
) -> int:
    """Move the machine on DISK... (its disks, the boot disk anywhere among them) to TARGET.

    The disks are only read. It ends with a test: an instance that reaches nothing, and that is over when it told what it is.
    Ctrl-C pauses; the same command goes on, after a crash too. Last come the report's path and the verdict: PASS when the
    machine came up as the same one, OBSERVED when nothing was booted to compare, FAIL otherwise.
    """
    from v2c import verbs
    from v2c.cli import show
    from v2c.dryrun import Recorder
    from v2c.ui import shown

    terminable()
    places = options.placed(state, workdir)
    request = asked.request(
        sources,
        target,
        places,
        bandwidth=bandwidth,
        rehearse=rehearse,
        verify=Verify(verify) if verify else None,
        network=network,
        boot_timeout_s=boot_timeout,
        **choices,
    )
    if dry_run:
        recorder = Recorder()
        verbs.dry_convert(request, places.state, places.workdir, recorder, again=again, cutover=cutover)
        return show.calls(recorder.calls, as_json)
    with shown("none" if quiet else progress, sys.stderr) as listener:
        done = verbs.convert(request, places.state, places.workdir, listener, again=again, cutover=cutover)
    return show.report(done, Path(request.workdir), as_json)
