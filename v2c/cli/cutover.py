"""`v2c cutover`, `test-cutover`, `finalize` and `rollback`: from a copy that was tested to the server that is used, or back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from v2c.cli import options
from v2c.cli.running import terminable

if TYPE_CHECKING:
    from v2c.cli.options import Places
    from v2c.jobs import JobRecord

job = click.argument("job", metavar="JOB")
boot_timeout = click.option(
    "--boot-timeout", type=click.IntRange(min=10), default=900, show_default=True, metavar="S", help="Give up on a boot."
)
yes = click.option("--yes", is_flag=True, help="Do not ask.")


def known(job: str, state: Path | None, workdir: Path | None) -> "tuple[Places, JobRecord]":
    """Where the command works, and the job that is meant."""
    from v2c.jobs import Jobs

    places = options.placed(state, workdir)
    return places, Jobs(places.state, places.workdir).find(job)


@click.command("test-cutover")
@job
@options.reach
@boot_timeout
@options.places
@options.progress
@options.as_json
@options.debug
def test_cutover(
    job: str,
    reach: tuple[str, ...],
    boot_timeout: int,
    state: Path | None,
    workdir: Path | None,
    progress: str,
    quiet: bool,
    as_json: bool,
) -> int:
    """Boot JOB's image as an isolated test again, and compare it with what the machine was before it moved.

    As often as one likes; the source is not touched. The test's instance is gone afterwards.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.ui import shown

    terminable()
    places, record = known(job, state, workdir)
    with shown("none" if quiet else progress, sys.stderr) as listener:
        done = afterwards.test_cutover(
            record.id, places.state, places.workdir, listener, boot_timeout_s=boot_timeout, reach=reach
        )
    return show.report(done, Path(record.folder), as_json)


@click.command()
@job
@click.option("--anyway", is_flag=True, help="Though the test failed.")
@yes
@options.reach
@boot_timeout
@options.dry_run
@options.places
@options.progress
@options.as_json
@options.debug
def cutover(
    job: str,
    anyway: bool,
    yes: bool,
    reach: tuple[str, ...],
    boot_timeout: int,
    dry_run: bool,
    state: Path | None,
    workdir: Path | None,
    progress: str,
    quiet: bool,
    as_json: bool,
) -> int:
    """Launch the real instance of JOB, hear what it is, and leave it running.

    From then on the target takes writes. See that the old machine is off first: two of one kind on a network are one too many.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.dryrun import Recorder
    from v2c.ui import shown

    places, record = known(job, state, workdir)
    if dry_run:
        recorder = Recorder()
        afterwards.cut_over(record.id, places.state, places.workdir, anyway=anyway, recorder=recorder)
        return show.calls(recorder.calls, as_json)
    if not yes and not click.confirm(f"cut {' '.join(record.sources)} over to {record.target}?", err=True):
        return show.FAILED
    terminable()
    with shown("none" if quiet else progress, sys.stderr) as listener:
        done = afterwards.cut_over(
            record.id, places.state, places.workdir, listener, anyway=anyway, boot_timeout_s=boot_timeout, reach=reach
        )
    return show.report(done, Path(record.folder), as_json)


@click.command()
@job
@options.dry_run
@options.places
@options.as_json
@options.debug
def finalize(job: str, dry_run: bool, state: Path | None, workdir: Path | None, as_json: bool) -> int:
    """End JOB after its cut-over: remove what only the migration needed, and print it.

    The instance is yours alone from then on: no verb of v2c removes it.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.dryrun import Recorder

    places, record = known(job, state, workdir)
    if dry_run:
        recorder = Recorder()
        afterwards.finalize(record.id, places.state, places.workdir, recorder=recorder)
        return show.calls(recorder.calls, as_json)
    gone = afterwards.finalize(record.id, places.state, places.workdir)
    return show.removed(record.id, gone, as_json, f"{record.id} is finalized")


@click.command()
@job
@click.option("--discard-target-writes", "discard", is_flag=True, help="Though it was cut over: give up what was written since.")
@yes
@options.dry_run
@options.places
@options.as_json
@options.debug
def rollback(job: str, discard: bool, yes: bool, dry_run: bool, state: Path | None, workdir: Path | None, as_json: bool) -> int:
    """Remove JOB's instance, image and disks from the target, newest first, and leave the source as it was.

    The report stays. After a real cut-over the target holds writes that the source lacks: then only with
    --discard-target-writes.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.dryrun import Recorder

    places, record = known(job, state, workdir)
    if dry_run:
        recorder = Recorder()
        afterwards.rollback(record.id, places.state, places.workdir, discard=discard, recorder=recorder)
        return show.calls(recorder.calls, as_json)
    what = f"roll {record.id} ({' '.join(record.sources)} -> {record.target}) back"
    if not yes and not click.confirm(f"{what}, and discard what was written there?" if discard else f"{what}?", err=True):
        return show.FAILED
    gone = afterwards.rollback(record.id, places.state, places.workdir, discard=discard)
    return show.removed(record.id, gone, as_json, f"{record.id} is rolled back")
