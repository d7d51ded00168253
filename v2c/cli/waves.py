"""`v2c run`, `worker`, `approve`, `pause`, `resume`, `retry` and `replicate`: a wave manifest, worked off."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from v2c.cli import options
from v2c.cli.running import terminable
from v2c.cli.sizes import size
from v2c.errors import UsageError

if TYPE_CHECKING:
    from v2c.model.wave import Snapshot, Stage
    from v2c.state import State
    from v2c.waves.nouns import Machine

FILE = click.Path(path_type=Path)
UNTIL = ("replicate", "test-cutover", "cutover", "finalize")


slots = click.option(
    "--slots", type=click.IntRange(1, 1000), default=2, show_default=True, metavar="N", help="Machines that move at once here."
)
appliances = click.option(
    "--appliances",
    type=click.IntRange(1, 100),
    default=None,
    metavar="N",
    help="Repairs at once on this host, over all its workers; each takes an appliance of 1.3 GiB (default: by its memory).",
)
scratch = click.option(
    "--scratch",
    callback=size,
    metavar="SIZE",
    help="What a machine takes of the work folder at most, like 2GiB: who does not fit waits (default: the manifest's).",
)
detach = click.option("--detach", is_flag=True, help="Do not work here: leave it to the workers.")
wave = click.option("--wave", metavar="NAME", help="Only the machines of this wave.")
machines = click.option("--machine", "machines", multiple=True, metavar="ID", help="Only this machine; once per machine.")
of_run = click.option("--run", "run_id", required=True, metavar="RUN", help="The run: the name of its manifest.")


@click.command("run")
@click.argument("file", type=FILE, metavar="WAVE.yaml")
@wave
@click.option("--plan", "plan_file", type=FILE, metavar="PLAN.json", help="Refuse when a machine is not as this plan has it.")
@click.option("--until", type=click.Choice(UNTIL), help="Go no further than this stage.")
@slots
@appliances
@scratch
@detach
@options.where
@options.as_json
@options.debug
def run(
    file: Path,
    wave: str | None,
    plan_file: Path | None,
    until: str | None,
    slots: int,
    appliances: int | None,
    scratch: int | None,
    detach: bool,
    state: Path | None,
    workdir: Path | None,
    engine: str | None,
    as_json: bool,
) -> int:
    """Work off the manifest WAVE.yaml, or go on with it: replicate, test, cut over and finalize its machines.

    Ends when nothing is left to do, or nothing but what waits for somebody's agreement (v2c approve); windows and blackouts are
    waited for. Ctrl-C pauses, and the same command goes on, after a crash too. Given an edited manifest, new machines join and
    those that did not begin take their new settings. The prices that there are when it begins (v2c prices) hold to its end.
    """
    from v2c import prices
    from v2c.cli import show
    from v2c.cli.manifest import loaded
    from v2c.model.wave import Stage
    from v2c.waves import begin, orders

    places = options.placed(state, workdir)
    opened = options.opened(places, engine)
    wanted = orders.wanted(loaded(file), file, wave=wave, converters=slots)
    if plan_file is not None:
        begin.bound(_document(plan_file), wanted)
    begun = begin.begin(opened, wanted, until=Stage(until) if until else None, scope=wave, book=prices.kept(places.state))
    if not as_json:
        for what, ids in (("joined", begun.joined), ("changed", begun.changed), ("left", begun.gone)):
            if ids:
                show.line(f"{what}: {', '.join(ids[:10])}{f' and {len(ids) - 10} more' if len(ids) > 10 else ''}")
    if detach:
        show.line(f"{begun.run} is begun; v2c worker works on it, v2c status --run {begun.run} shows it")
        return show.DONE
    worked(opened, places, begun.run, slots=slots, appliances=appliances, scratch=scratch, quiet=as_json)
    return shown(opened, begun.run, as_json)


@click.command("worker")
@click.option("--run", "run_id", default="", metavar="RUN", help="Only this run's machines (default: those of all runs).")
@slots
@appliances
@scratch
@options.where
@options.debug
def worker(run_id: str, state: Path | None, workdir: Path | None, engine: str | None, **how: Any) -> int:
    """Work on whatever may be done, until Ctrl-C: one of several converters that share a state.

    With --engine postgresql://... each has a state and a work folder of its own on its host. What a worker that died left is
    gone on with by the others.
    """
    from v2c.cli import show

    places = options.placed(state, workdir)
    worked(options.opened(places, engine), places, run_id, forever=True, **how)
    return show.DONE


@click.command("replicate")
@of_run
@machines
@wave
@slots
@appliances
@scratch
@detach
@options.where
@options.as_json
@options.debug
def replicate(**words: Any) -> int:
    """Copy and repair machines of a run, up to their images at the target, and no further."""
    from v2c.model.wave import Stage

    return asked(Stage.REPLICATE, **words)


@click.command("approve")
@click.argument("gate", metavar="GATE")
@of_run
@machines
@wave
@click.option("--no", "no", is_flag=True, help="Say no: they do not go on until somebody says yes.")
@options.where
@options.debug
def approve(
    gate: str,
    run_id: str,
    machines: tuple[str, ...],
    wave: str | None,
    no: bool,
    state: Path | None,
    workdir: Path | None,
    engine: str | None,
) -> int:
    """Agree at GATE (okToTest, okToCutover, okToFinalize), for machines that wait there or will come to it."""
    from v2c.cli import show
    from v2c.model.wave import Gate
    from v2c.waves import actions

    found = next((one for one in Gate if one.value.lower() == gate.lower()), None)
    if found is None:
        raise UsageError(f'"{gate}" is not a gate', remedy=f"name one of {', '.join(Gate)}")
    opened = options.opened(options.placed(state, workdir), engine)
    ids = actions.approve(opened, run_id, found, machines, wave, yes=not no)
    return _told(f"{'no' if no else 'yes'} to {found}", ids) or show.DONE


def _simple(name: str, help: str, what: str) -> click.Command:
    """A verb that is an act on machines of a run and nothing else."""

    @click.command(name, help=help)
    @of_run
    @machines
    @wave
    @options.where
    @options.debug
    def verb(
        run_id: str,
        machines: tuple[str, ...],
        wave: str | None,
        state: Path | None,
        workdir: Path | None,
        engine: str | None,
    ) -> int:
        from v2c.cli import show
        from v2c.waves import actions

        act: Callable[..., list[str]] = getattr(actions, name)
        opened = options.opened(options.placed(state, workdir), engine)
        return _told(what, act(opened, run_id, machines, wave)) or show.DONE

    return verb


pause = _simple("pause", "Begin no stage of a run's machines until resume; what runs goes on to its stage's end.", "paused")
resume = _simple("resume", "End a pause; the workers go on, or v2c run does.", "go on")


@click.command("retry")
@of_run
@machines
@wave
@click.option(
    "--edit", type=FILE, metavar="WAVE.yaml", help="Take the settings of this manifest first, also for those that began."
)
@options.where
@options.debug
def retry(
    run_id: str,
    machines: tuple[str, ...],
    wave: str | None,
    edit: Path | None,
    state: Path | None,
    workdir: Path | None,
    engine: str | None,
) -> int:
    """Let machines try again that failed, were blocked, refused, cancelled or rolled back: from the step that failed."""
    from v2c.cli import show
    from v2c.cli.manifest import loaded
    from v2c.waves import actions, begin, orders
    from v2c.waves.store import Store

    opened = options.opened(options.placed(state, workdir), engine)
    if edit is not None:
        manifest = loaded(edit)
        if manifest.name != run_id:
            raise UsageError(f"{edit} is the manifest of {manifest.name}", remedy=f"name the one of {run_id}")
        known = Store(opened).run(run_id)
        begun = begin.begin(opened, orders.wanted(manifest, edit), until=known.until, edit=True)
        _told("took new settings", list(begun.changed))
        ids = actions.retry_what_can(opened, run_id, machines, wave)
    else:
        ids = actions.retry(opened, run_id, machines, wave)
    return _told("tries again", ids) or show.DONE


# ---- what the verbs share --------------------------------------------------------------------------------------------------


def asked(
    stage: "Stage",
    *,
    run_id: str,
    machines: Sequence[str],
    wave: str | None,
    state: Path | None,
    workdir: Path | None,
    engine: str | None,
    as_json: bool = False,
    slots: int = 2,
    appliances: int | None = None,
    scratch: int | None = None,
    detach: bool = False,
    anyway: bool = False,
    discard: bool = False,
) -> int:
    """A stage for machines of a run, on somebody's word: done here, or by the workers."""
    from v2c.cli import show
    from v2c.waves import actions

    if not machines and wave is None:
        raise UsageError("no machine is named", remedy="say --machine ID or --wave NAME")
    places = options.placed(state, workdir)
    opened = options.opened(places, engine)
    ids = actions.ask(opened, run_id, stage, machines, wave, anyway=anyway, discard=discard)
    if detach:
        return _told(f"{stage} is begun by a worker", ids) or show.DONE
    worked(opened, places, run_id, slots=slots, appliances=appliances, scratch=scratch, only=ids, stage=stage, quiet=as_json)
    return shown(opened, run_id, as_json, only=ids)


def worked(
    state: "State",
    places: options.Places,
    run_id: str,
    *,
    slots: int,
    appliances: int | None = None,
    scratch: int | None = None,
    only: Sequence[str] = (),
    stage: "Stage | None" = None,
    forever: bool = False,
    quiet: bool = False,
) -> None:
    """Works here until nothing moves without somebody. Ctrl-C ends the process with 130."""
    from v2c import slots as limits
    from v2c.cli import show
    from v2c.waves.worker import Worker

    def announce(machine: "Machine", outcome: object) -> None:
        if not quiet:
            how = f"failed: {outcome}" if isinstance(outcome, Exception) else "done"
            show.line(f"{machine.id}: {machine.doing} {how}")

    terminable()
    limits.limit(state.folder, appliances or limits.by_memory())
    bye = "paused: everything is kept, and the same command goes on"
    with Worker(
        state,
        places.workdir,
        slots=slots,
        run=run_id,
        only=only,
        stage=stage,
        scratch=scratch,
        announce=announce,
        farewell=lambda: click.echo(bye, err=True),
    ) as made:
        made.work(forever=forever)


def shown(state: "State", run_id: str, as_json: bool, only: Sequence[str] = ()) -> int:
    """How the run stands, and the exit code of that."""
    from v2c.cli import show
    from v2c.waves.snapshot import snapshot

    seen = snapshot(state, run_id)
    if as_json:
        show.document(seen)
    else:
        table(seen)
    return code(seen, only)


def listed(state: "State") -> None:
    """Every run, in a line."""
    from v2c.cli import show
    from v2c.model.wave import Standing
    from v2c.waves.snapshot import runs, snapshot

    for run in runs(state):
        seen = snapshot(state, run.id)
        counts = [f"{seen.count(standing)} {standing}" for standing in Standing if seen.count(standing)]
        show.line(f"run {run.id}: {', '.join(counts)}{' (paused)' if seen.paused else ''}")


def table(seen: "Snapshot") -> None:
    """A run for people, a line a machine."""
    from v2c.cli import show
    from v2c.model.wave import Standing

    for wave in seen.waves:
        mine = seen.of(wave)
        if mine:
            show.line(f"{wave}:")
            show.table([(one.id, str(one.stage), str(one.standing), f"-> {one.target}", one.why) for one in mine])
    counts = [f"{seen.count(standing)} {standing}" for standing in Standing if seen.count(standing)]
    show.line(f"{seen.run}: {', '.join(counts) or 'no machines'}{' (paused)' if seen.paused else ''}")
    remedies = dict.fromkeys(one.remedy for one in seen.machines if one.remedy and not one.standing.good)
    gates = {one.gate for one in seen.machines if one.gate and one.standing is Standing.GATED}
    for gate in sorted(gates):
        show.line(f"agree: v2c approve {gate} --run {seen.run}")
    for remedy in list(remedies)[:5]:
        show.line(f"do: {remedy}")


def code(seen: "Snapshot", only: Sequence[str] = ()) -> int:
    """3 when a machine went otherwise than it was meant to, 4 when some were only blocked, else 0."""
    from v2c.cli import show
    from v2c.model.wave import Standing

    bad = {one.standing for one in seen.machines if not one.standing.good and (not only or one.id in only)}
    if only:
        bad -= (
            {Standing.ROLLED_BACK}
            if all(one.standing is Standing.ROLLED_BACK for one in seen.machines if one.id in only)
            else set()
        )
    if bad - {Standing.BLOCKED}:
        return show.PARTLY
    return show.BLOCKED if bad else show.DONE


def _document(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the plan {file} cannot be read ({error.strerror})", remedy="correct --plan") from error
    except ValueError as error:
        raise UsageError(f"the plan {file} is no JSON document", remedy="write it with v2c plan --out") from error


def _told(what: str, ids: Sequence[str]) -> int:
    from v2c.cli import show

    if ids:
        show.line(f"{what}: {', '.join(ids[:10])}{f' and {len(ids) - 10} more' if len(ids) > 10 else ''}")
    return show.DONE
