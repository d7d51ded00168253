"""What came of a stage, written down: how the machine stands, what comes next, and what its report says."""

from collections.abc import Sequence
from dataclasses import replace

from v2c import crashpoints
from v2c.errors import BlockedError, BusyError, Paused, V2cError
from v2c.model import Finding, Report, Verdict
from v2c.model.wave import Stage, Standing
from v2c.waves.nouns import Machine, Result
from v2c.waves.stages import Done
from v2c.waves.store import Bar, Store

BUSY_AGAIN_S = 10.0


def settle(store: Store, run: str, claimed: Machine, outcome: Done | Exception, bars: Sequence[Bar] = ()) -> bool:
    """Writes the outcome of a claimed machine's stage. False: the claim was lost meanwhile, and the outcome is dropped."""
    with store.change(run) as change:
        now, known = change.now, change.machine(claimed.id)
        if known is None or known.epoch != claimed.epoch or known.standing is not Standing.RUNNING:
            return False
        change.draw(bars)
        before = change.result(claimed.id)
        if isinstance(outcome, Done):
            machine, result = _done(known, outcome, before, now)
        else:
            machine, result = _failed(known, outcome, before, now)
        change.put(machine, result)
        crashpoints.point("settling")
    crashpoints.point("settled")
    return True


def _done(one: Machine, done: Done, before: Result, now: float) -> tuple[Machine, Result]:
    stage, report = one.doing, done.report
    said = tuple(dict.fromkeys((*(before.said if stage is not Stage.REPLICATE else ()), *done.findings)))
    result = result_of(report, before, said) if report else Result(said=said)
    rest = replace(one, worker="", asked=None, again=False, discard=False, anyway=False, why="", remedy="", since=now, ended=now)
    if stage in (Stage.ROLLBACK, Stage.CLEANUP):
        why = "nothing of it is left" if stage is Stage.CLEANUP else "the source is as it was"
        return replace(rest, standing=Standing.ROLLED_BACK, stage=one.order.stages[0], why=why), result
    if stage is Stage.CUTOVER:
        rest = replace(rest, downtime_s=now - one.claimed, cut_over_at=one.claimed)
    if report and report.verdict is Verdict.FAIL and stage in (Stage.TEST, Stage.CUTOVER):
        what = "the test" if stage is Stage.TEST else "the new instance"
        text = f"{what} is not as expected: {_failures(report)}"
        return replace(rest, standing=Standing.FAILED, why=text, remedy="see its report, then v2c retry"), result
    if one.asked and one.asked is not one.stage:
        return replace(rest, standing=Standing.WAITING, since=one.since), result  # a test once more: it goes on where it stood
    following = one.order.after(stage)
    if following is None:
        return replace(rest, standing=Standing.DONE), result
    return replace(rest, standing=Standing.WAITING, stage=following), result


def _failed(one: Machine, error: Exception, before: Result, now: float) -> tuple[Machine, Result]:
    text = error.text if isinstance(error, V2cError) else f"{type(error).__name__}: {error}"
    remedy = error.remedy if isinstance(error, V2cError) else "this is a mistake of v2c"
    rest = replace(one, worker="", why=text, remedy=remedy, ended=now)
    if isinstance(error, BusyError):
        return replace(rest, standing=Standing.WAITING, not_before=now + BUSY_AGAIN_S), before
    if isinstance(error, Paused):  # it was told to stop, since nobody knew whether it was still ours; it is
        return replace(rest, standing=Standing.WAITING, why="", remedy="", not_before=now + 1), before
    if isinstance(error, BlockedError):
        found = error.findings or before.findings
        return replace(rest, standing=Standing.BLOCKED, asked=None, began=0.0), replace(before, findings=found)
    return replace(rest, standing=Standing.FAILED, asked=None), before


def result_of(report: Report, before: Result, said: Sequence[Finding] = ()) -> Result:
    """What the machines' table keeps of a report."""
    sent = sum(step.bytes for step in report.steps if step.name == "upload")
    return Result(
        findings=report.findings,
        said=tuple(said),
        verdict=str(report.verdict),
        sent_bytes=sent or before.sent_bytes,
        cut_over=report.cut_over,
        finalized=report.finalized,
        rolled_back=report.rolled_back,
    )


def _failures(report: Report) -> str:
    failed = [check.subject for check in report.checks if check.verdict is Verdict.FAIL]
    return ", ".join(failed[:3]) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "")
