"""What a stage does with a machine, by the verbs of a single conversion: the engine makes each of them durable.

Hooks run before and after, on the converter or inside the new machine, once for each time that a stage is begun: one that ended
is not run again when the stage is gone on with after a crash. The manifest's checks are asked after a cut-over, when the machine
can be reached.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from v2c import afterwards, verbs
from v2c.events import Listener, Meter
from v2c.jobs import Jobs
from v2c.journal import SqlJournal
from v2c.model import Finding, Report, Verdict
from v2c.model.wave import Stage
from v2c.state import State
from v2c.waves import checks, hooks, pricelist
from v2c.waves.hostkeys import Trust
from v2c.waves.nouns import Machine, Order


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker works: its state, its folder, the run, and who hears."""

    state: State
    workdir: Path
    run: str
    listener: Listener


@dataclass(frozen=True, slots=True)
class Done:
    """What a stage left: the machine's report (None: it has none any more), and what is to be said."""

    report: Report | None
    findings: tuple[Finding, ...] = ()


def do(machine: Machine, place: Place) -> Done:
    """Does the machine's stage with its hooks and checks. Raises what the verb raises; HookError when a hook failed."""
    order, stage = machine.order, machine.doing
    meter = Meter(order.request.job, str(stage), place.listener)
    folder = partial(_folder, order, place)
    said = list(hooks.run(machine, "before", place.state, place.run, meter, lambda: _report(machine, place), folder))
    report = VERBS[stage](machine, place)
    if stage is Stage.CUTOVER and report is not None:
        report, found = _checked(order, report, place, meter)
        said += found
    if report is None or report.verdict is not Verdict.FAIL:
        said += hooks.run(machine, "after", place.state, place.run, meter, lambda: report, folder)
    return Done(report, tuple(said))


def _replicate(machine: Machine, place: Place) -> Report:
    request = replace(machine.order.request, test=False, prices=pricelist.folder(place.state, place.run))
    return verbs.convert(request, place.state, place.workdir, place.listener, again=machine.again)


def _test(machine: Machine, place: Place) -> Report:
    request = machine.order.request
    return afterwards.test_cutover(
        request.job,
        place.state,
        place.workdir,
        place.listener,
        network=request.network,
        boot_timeout_s=request.boot_timeout_s,
        turn=f"{machine.doing}/{machine.tries}",
    )


def _cutover(machine: Machine, place: Place) -> Report:
    request = machine.order.request
    with Jobs(place.state, place.workdir).claim(request.job) as job:
        before = afterwards.reported(job)
    if before.verdict is Verdict.FAIL and any(step.name == "confirm" for step in before.steps):
        return _test(machine, place)  # the instance stands: it is looked at again
    return afterwards.cut_over(
        request.job,
        place.state,
        place.workdir,
        place.listener,
        anyway=machine.anyway,
        boot_timeout_s=request.boot_timeout_s,
    )


def _finalize(machine: Machine, place: Place) -> Report | None:
    afterwards.finalize(machine.order.request.job, place.state, place.workdir)
    return _report(machine, place)


def _rollback(machine: Machine, place: Place) -> Report | None:
    afterwards.rollback(machine.order.request.job, place.state, place.workdir, discard=machine.discard)
    return _report(machine, place)


def _cleanup(machine: Machine, place: Place) -> None:
    jobs, job = Jobs(place.state, place.workdir), machine.order.request.job
    if any(record.id == job for record in jobs.all()):
        afterwards.cleanup(job, place.state, place.workdir, discard=machine.discard)


def _report(machine: Machine, place: Place) -> Report | None:
    with Jobs(place.state, place.workdir).claim(machine.order.request.job) as job:
        return afterwards.known_report(job)


def _folder(order: Order, place: Place) -> Path:
    """The job's folder on this worker."""
    with Jobs(place.state, place.workdir).claim(order.request.job) as job:
        return job.folder


VERBS: dict[Stage, Callable[[Machine, Place], Report | None]] = {
    Stage.REPLICATE: _replicate,
    Stage.TEST: _test,
    Stage.CUTOVER: _cutover,
    Stage.FINALIZE: _finalize,
    Stage.ROLLBACK: _rollback,
    Stage.CLEANUP: _cleanup,
}


def _checked(order: Order, report: Report, place: Place, meter: Meter) -> tuple[Report, Sequence[Finding]]:
    """The report with what the manifest's checks saw, and the findings of those that may fail."""
    if not order.checks or report.instance is None:
        return report, ()
    trust = Trust(order, report.instance.id, SqlJournal(place.state, order.request.job), _folder(order, place))
    asked, found = checks.ask(order, report, trust, meter)
    names = {check.id for check in asked}
    kept = tuple(check for check in report.checks if check.id not in names)
    verdict = Verdict.FAIL if any(check.verdict is Verdict.FAIL for check in asked) else report.verdict
    with Jobs(place.state, place.workdir).claim(order.request.job) as job:
        return afterwards.tell(job, replace(report, checks=(*kept, *asked), verdict=verdict)), found
