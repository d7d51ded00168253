"""`v2c status`, `report`, `validate`, `cancel` and `cleanup`: what became of a job, and the end of it."""

import sys
from pathlib import Path

import click

from v2c.cli import options
from v2c.cli.running import terminable

job = click.argument("job", metavar="JOB")


@click.command()
@click.argument("job", metavar="[JOB]", required=False)
@options.places
@options.as_json
@options.debug
def status(job: str | None, state: Path | None, workdir: Path | None, as_json: bool) -> int:
    """Tell where every job (or JOB) stands: its step, how far, since when, its error."""
    import time

    from v2c import afterwards, engine
    from v2c.cli import show
    from v2c.jobs import Jobs
    from v2c.journal import SqlJournal
    from v2c.ui.words import size, span

    places = options.placed(state, workdir)
    jobs = Jobs(places.state, places.workdir)
    records = [jobs.find(job)] if job else jobs.all()
    known = {record.id: engine.status(places.state, record.id) for record in records}
    marks = {record.id: afterwards.marks(SqlJournal(places.state, record.id)) for record in records}
    if as_json:
        show.document([{"job": r, "status": known[r.id], "marks": marks[r.id]} for r in records])
        return show.DONE
    if not records:
        show.line("no jobs yet")
    for record in records:
        seen = known[record.id]
        phase = seen.phase if seen else "not begun"
        show.line(f"{record.id}  {phase}  {' '.join(record.sources)} -> {record.target}")
        if seen is None:
            continue
        show.line(f"  begun {time.strftime('%Y-%m-%d %H:%M', time.localtime(seen.began))} by {record.who} on {record.host}")
        if seen.steps:
            show.line(f"  done: {', '.join(f'{step.name} {span(step.seconds)}' for step in seen.steps)}")
        if seen.progress and seen.phase == engine.Phase.RUNNING:
            now = seen.progress
            part = f": {size(now.done)} of {size(now.total)}" if now.total else ""
            show.line(f"  now: {now.step} {now.phase}{part}")
        for what, when in marks[record.id].items():
            show.line(f"  {what} {when}")
        if seen.error:
            show.line(f"  {seen.error}")
    return show.DONE


@click.command()
@job
@click.option("--format", "form", type=click.Choice(["text", "html", "json", "junit"]), default="text", help="What to print.")
@options.places
@options.debug
def report(job: str, form: str, state: Path | None, workdir: Path | None) -> int:
    """Show JOB's report again: as text with the HTML file's path, or the file itself on stdout.

    JOB is its id, or how its id begins (see v2c status). The exit code is that of the verdict.
    """
    from v2c import report as reports
    from v2c.cli import show
    from v2c.jobs import Jobs

    places = options.placed(state, workdir)
    folder = Path(Jobs(places.state, places.workdir).find(job).folder)
    done = reports.read(folder)
    if form == "text":
        return show.report(done, folder, as_json=False)
    files = {"html": reports.HTML, "json": reports.JSON, "junit": reports.JUNIT}
    click.echo((folder / files[form]).read_text(encoding="utf-8"), nl=False)
    return show.code(done)


@click.command()
@job
@click.option("--network", is_flag=True, help="Let the boot test reach the network; it is a copy of your server.")
@options.reach
@click.option(
    "--boot-timeout", type=click.IntRange(min=10), default=900, show_default=True, metavar="S", help="Give up on a boot."
)
@options.places
@options.progress
@options.as_json
@options.debug
def validate(
    job: str,
    network: bool,
    reach: tuple[str, ...],
    boot_timeout: int,
    state: Path | None,
    workdir: Path | None,
    progress: str,
    quiet: bool,
    as_json: bool,
) -> int:
    """Boot JOB's instance again and compare it with what the machine was before it moved.

    After a cut-over nothing is booted: the instance that runs is looked at.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.jobs import Jobs
    from v2c.ui import shown

    terminable()
    places = options.placed(state, workdir)
    record = Jobs(places.state, places.workdir).find(job)
    with shown("none" if quiet else progress, sys.stderr) as listener:
        done = afterwards.test_cutover(
            record.id, places.state, places.workdir, listener, network=network, boot_timeout_s=boot_timeout, reach=reach
        )
    return show.report(done, Path(record.folder), as_json)


@click.command()
@job
@options.places
@options.debug
def cancel(job: str, state: Path | None, workdir: Path | None) -> int:
    """Give JOB up: where it runs it stops within seconds, and the same command does not go on with it.

    What it made stays until `v2c cleanup JOB`.
    """
    from v2c import engine
    from v2c.cli import show
    from v2c.jobs import Jobs

    places = options.placed(state, workdir)
    record = Jobs(places.state, places.workdir).find(job)
    if engine.cancel(places.state, record.id):
        show.line(f"{record.id} is cancelled; v2c cleanup {record.id} removes what it made")
        return show.DONE
    show.line(f"{record.id} was over already")
    return show.FAILED


@click.command()
@job
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--discard-target-writes", "discard", is_flag=True, help="Though it was cut over: give up what was written since.")
@options.dry_run
@options.places
@options.as_json
@options.debug
def cleanup(job: str, yes: bool, discard: bool, dry_run: bool, state: Path | None, workdir: Path | None, as_json: bool) -> int:
    """Remove everything JOB made, here and at its target, newest first, and list again to prove that nothing is left.

    Only what both the journal and the target's own tag call ours is removed, and never an instance that was finalized. The
    report goes too.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.dryrun import Recorder
    from v2c.jobs import Jobs

    places = options.placed(state, workdir)
    record = Jobs(places.state, places.workdir).find(job)
    if dry_run:
        recorder = Recorder()
        afterwards.cleanup(record.id, places.state, places.workdir, discard=discard, recorder=recorder)
        return show.calls(recorder.calls, as_json)
    if not yes and not click.confirm(f"remove what {record.id} ({' '.join(record.sources)} -> {record.target}) made?", err=True):
        return show.FAILED
    gone = afterwards.cleanup(record.id, places.state, places.workdir, discard=discard)
    return show.removed(record.id, gone, as_json, f"nothing of {record.id} is left")
