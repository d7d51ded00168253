"""`v2c cutover`, `test-cutover`, `finalize` and `rollback`: from a copy that was tested to the server that is used, or back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from v2c.cli import options
from v2c.cli.running import terminable
from v2c.model.wave import Stage

if TYPE_CHECKING:
    from v2c.jobs import JobRecord
    from v2c.state import State

boot_timeout = click.option(
    "--boot-timeout", type=click.IntRange(min=10), default=900, show_default=True, metavar="S", help="Give up on a boot."
)
yes = click.option("--yes", is_flag=True, help="Do not ask.")


def of_run(
    stage: Stage,
    run_id: str,
    machines: tuple[str, ...],
    wave: str | None,
    state: Path | None,
    workdir: Path | None,
    engine: str | None,
    **more: bool,
) -> int:
    """The stage for machines of a run."""
    from v2c.cli import waves

    return waves.asked(stage, run_id=run_id, machines=machines, wave=wave, state=state, workdir=workdir, engine=engine, **more)


def known(job: str, state: Path | None, workdir: Path | None, engine: str | None) -> "tuple[State, Path, JobRecord]":
    """The state and the work folder, and the job that is meant."""
    from v2c.jobs import Jobs

    places = options.placed(state, workdir)
    opened = options.opened(places, engine)
    return opened, places.workdir, Jobs(opened, places.workdir).find(job)


@click.command("test-cutover")
@options.of_run
@options.reach
@boot_timeout
@options.places
@options.progress
@options.as_json
@options.debug
def test_cutover(
    job: str,
    run_id: str,
    machines: tuple[str, ...],
    wave: str | None,
    engine: str | None,
    reach: tuple[str, ...],
    boot_timeout: int,
    state: Path | None,
    workdir: Path | None,
    progress: str,
    quiet: bool,
    as_json: bool,
) -> int:
    """Boot JOB's image as an isolated test again, and compare it with what the machine was before it moved.

    As often as one likes; the source is not touched. The test's instance is gone afterwards. With --run: machines of a run.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.ui import shown

    options.one_of(job, run_id)
    if run_id:
        return of_run(Stage.TEST, run_id, machines, wave, state, workdir, engine, as_json=as_json)
    terminable()
    opened, folder, record = known(job, state, workdir, engine)
    with shown("none" if quiet else progress, sys.stderr) as listener:
        done = afterwards.test_cutover(record.id, opened, folder, listener, boot_timeout_s=boot_timeout, reach=reach)
    return show.report(done, Path(record.folder), as_json)


@click.command()
@options.of_run
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
    run_id: str,
    machines: tuple[str, ...],
    wave: str | None,
    engine: str | None,
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
    With --run: machines of a run, which counts as agreed to; --anyway also outside of their windows.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.dryrun import Recorder
    from v2c.ui import shown

    options.one_of(job, run_id)
    if run_id:
        if not options.agreed(f"cut machines of {run_id} over?", yes):
            return show.FAILED
        return of_run(Stage.CUTOVER, run_id, machines, wave, state, workdir, engine, as_json=as_json, anyway=anyway)
    opened, folder, record = known(job, state, workdir, engine)
    if dry_run:
        recorder = Recorder()
        afterwards.cut_over(record.id, opened, folder, anyway=anyway, recorder=recorder)
        return show.calls(recorder.calls, as_json)
    if not options.agreed(f"cut {' '.join(record.sources)} over to {record.target}?", yes):
        return show.FAILED
    terminable()
    with shown("none" if quiet else progress, sys.stderr) as listener:
        done = afterwards.cut_over(record.id, opened, folder, listener, anyway=anyway, boot_timeout_s=boot_timeout, reach=reach)
    return show.report(done, Path(record.folder), as_json)


@click.command()
@options.of_run
@options.dry_run
@options.places
@options.as_json
@options.debug
def finalize(
    job: str,
    run_id: str,
    machines: tuple[str, ...],
    wave: str | None,
    engine: str | None,
    dry_run: bool,
    state: Path | None,
    workdir: Path | None,
    as_json: bool,
) -> int:
    """End JOB after its cut-over: remove what only the migration needed, and print it.

    The instance is yours alone from then on: no verb of v2c removes it.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.dryrun import Recorder

    options.one_of(job, run_id)
    if run_id:
        return of_run(Stage.FINALIZE, run_id, machines, wave, state, workdir, engine, as_json=as_json)
    opened, folder, record = known(job, state, workdir, engine)
    if dry_run:
        recorder = Recorder()
        afterwards.finalize(record.id, opened, folder, recorder=recorder)
        return show.calls(recorder.calls, as_json)
    gone = afterwards.finalize(record.id, opened, folder)
    return show.removed(record.id, gone, as_json, f"{record.id} is finalized")


@click.command()
@options.of_run
@click.option("--discard-target-writes", "discard", is_flag=True, help="Though it was cut over: give up what was written since.")
@yes
@options.dry_run
@options.places
@options.as_json
@options.debug
def rollback(
    job: str,
    run_id: str,
    machines: tuple[str, ...],
    wave: str | None,
    engine: str | None,
    discard: bool,
    yes: bool,
    dry_run: bool,
    state: Path | None,
    workdir: Path | None,
    as_json: bool,
) -> int:
    """Remove JOB's instance, image and disks from the target, newest first, and leave the source as it was.

    The report stays. After a real cut-over the target holds writes that the source lacks: then only with
    --discard-target-writes.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.dryrun import Recorder

    options.one_of(job, run_id)
    if run_id:
        if not options.agreed(f"roll machines of {run_id} back?", yes):
            return show.FAILED
        return of_run(Stage.ROLLBACK, run_id, machines, wave, state, workdir, engine, as_json=as_json, discard=discard)
    opened, folder, record = known(job, state, workdir, engine)
    if dry_run:
        recorder = Recorder()
        afterwards.rollback(record.id, opened, folder, discard=discard, recorder=recorder)
        return show.calls(recorder.calls, as_json)
    what = f"roll {record.id} ({' '.join(record.sources)} -> {record.target}) back"
    if not options.agreed(f"{what}, and discard what was written there?" if discard else f"{what}?", yes):
        return show.FAILED
    gone = afterwards.rollback(record.id, opened, folder, discard=discard)
    return show.removed(record.id, gone, as_json, f"{record.id} is rolled back")
