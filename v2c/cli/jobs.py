"""`v2c status`, `report`, `validate`, `cancel` and `cleanup`: what became of a job, and the end of it."""

import sys
from pathlib import Path

import click

from v2c.cli import options
from v2c.cli.running import terminable
from v2c.errors import UsageError

FORMS = ("text", "html", "json", "csv", "junit")
job = click.argument("job", metavar="JOB")


@click.command()
@click.argument("job", metavar="[JOB]", required=False)
@options.run_id
@click.option("--watch", is_flag=True, help="Show a run (default: the newest) until it is over; --json: a line a change.")
@options.where
@options.as_json
@options.debug
def status(
    job: str | None, run_id: str, watch: bool, state: Path | None, workdir: Path | None, engine: str | None, as_json: bool
) -> int:
    """Tell where every run and job (or JOB, or the machines of --run) stands: its step, how far, since when, its error."""
    import time

    from v2c import afterwards
    from v2c import engine as engines
    from v2c.cli import show, watching, waves
    from v2c.jobs import Jobs
    from v2c.journal import SqlJournal
    from v2c.ui.words import size, span

    places = options.placed(state, workdir)
    opened = options.opened(places, engine)
    if watch:
        return watching.watch(opened, run_id, as_json)
    if run_id:
        return waves.shown(opened, run_id, as_json)
    if not job and not as_json:
        waves.listed(opened)
    jobs = Jobs(opened, places.workdir)
    records = [jobs.find(job)] if job else jobs.all()
    known = {record.id: engines.status(opened, record.id) for record in records}
    marks = {record.id: afterwards.marks(SqlJournal(opened, record.id)) for record in records}
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
        if seen.progress and seen.phase == engines.Phase.RUNNING:
            now = seen.progress
            part = f": {size(now.done)} of {size(now.total)}" if now.total else ""
            show.line(f"  now: {now.step} {now.phase}{part}")
        for what, when in marks[record.id].items():
            show.line(f"  {what} {when}")
        if seen.error:
            show.line(f"  {seen.error}")
    return show.DONE


@click.command()
@click.argument("job", metavar="[JOB]", required=False, default="")
@options.run_id
@click.option("--format", "form", type=click.Choice(FORMS), default="text", help="What to print; csv: of a run.")
@click.option("--list/--no-list", "listing", default=True, help="Of a run: ask sources and targets what they still hold.")
@options.where
@options.debug
def report(job: str, run_id: str, form: str, listing: bool, state: Path | None, workdir: Path | None, engine: str | None) -> int:
    """Show JOB's report again, or that of a run: as text, or as HTML, JSON, CSV or JUnit on stdout.

    JOB is its id, or how its id begins (see v2c status); the exit code is that of its verdict. A run's report tells of each
    machine what became of it, how long it was down, and what is left of it where it came from and where it went.
    """
    from v2c import report as reports
    from v2c.cli import show, watching
    from v2c.jobs import Jobs

    options.one_of(job, run_id)
    places = options.placed(state, workdir)
    opened = options.opened(places, engine)
    if run_id:
        return watching.report(opened, run_id, form, listing)
    if form == "csv":
        raise UsageError("a table is of a run", remedy="name it with --run")
    jobs = Jobs(opened, places.workdir)
    record = jobs.find(job)
    folder, text = Path(record.folder), jobs.told(record.id)
    done = reports.parse(text) if text and not (folder / reports.JSON).exists() else reports.read(folder)
    if form == "text":
        return show.report(done, folder, as_json=False)
    files = {"html": reports.HTML, "json": reports.JSON, "junit": reports.JUNIT}
    click.echo(reports.render(done, files[form]), nl=False)
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
@options.of_run
@options.places
@options.debug
def cancel(
    job: str,
    run_id: str,
    machines: tuple[str, ...],
    wave: str | None,
    engine: str | None,
    state: Path | None,
    workdir: Path | None,
) -> int:
    """Give JOB up: where it runs it stops within seconds, and the same command does not go on with it.

    What it made stays until `v2c cleanup JOB`. With --run: machines of a run, all of them when none is named.
    """
    from v2c import engine as engines
    from v2c.cli import show
    from v2c.jobs import Jobs

    options.one_of(job, run_id)
    places = options.placed(state, workdir)
    if run_id:
        from v2c.waves import actions

        for id in actions.cancel(options.opened(places, engine), run_id, machines, wave):
            show.line(f"{id} is cancelled; v2c cleanup --run {run_id} --machine {id} removes what it made")
        return show.DONE
    opened = options.opened(places, engine)
    record = Jobs(opened, places.workdir).find(job)
    if engines.cancel(opened, record.id):
        show.line(f"{record.id} is cancelled; v2c cleanup {record.id} removes what it made")
        return show.DONE
    show.line(f"{record.id} was over already")
    return show.FAILED


@click.command()
@options.of_run
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--discard-target-writes", "discard", is_flag=True, help="Though it was cut over: give up what was written since.")
@options.dry_run
@options.places
@options.as_json
@options.debug
def cleanup(
    job: str,
    run_id: str,
    machines: tuple[str, ...],
    wave: str | None,
    engine: str | None,
    yes: bool,
    discard: bool,
    dry_run: bool,
    state: Path | None,
    workdir: Path | None,
    as_json: bool,
) -> int:
    """Remove everything JOB made, here and at its target, newest first, and list again to prove that nothing is left.

    Only what both the journal and the target's own tag call ours is removed, and never an instance that was finalized. The
    report goes too.
    """
    from v2c import afterwards
    from v2c.cli import show
    from v2c.dryrun import Recorder
    from v2c.jobs import Jobs

    options.one_of(job, run_id)
    if run_id:
        from v2c.cli.cutover import of_run
        from v2c.model.wave import Stage

        if not options.agreed(f"remove what machines of {run_id} made?", yes):
            return show.FAILED
        return of_run(Stage.CLEANUP, run_id, machines, wave, state, workdir, engine, as_json=as_json, discard=discard)
    places = options.placed(state, workdir)
    opened = options.opened(places, engine)
    record = Jobs(opened, places.workdir).find(job)
    if dry_run:
        recorder = Recorder()
        afterwards.cleanup(record.id, opened, places.workdir, discard=discard, recorder=recorder)
        return show.calls(recorder.calls, as_json)
    if not options.agreed(f"remove what {record.id} ({' '.join(record.sources)} -> {record.target}) made?", yes):
        return show.FAILED
    gone = afterwards.cleanup(record.id, opened, places.workdir, discard=discard)
    return show.removed(record.id, gone, as_json, f"nothing of {record.id} is left")
