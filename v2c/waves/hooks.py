"""Commands of the manifest before and after a stage, run on the converter or inside the new machine (inside.py).

A hook finds the run's words in its environment (V2C_RUN, V2C_MACHINE, V2C_JOB, V2C_STAGE) and its secrets by the names that the
manifest gives them; those are never written down, and what it says is quoted without them. One that ended is remembered, so that
a stage that is gone on with after a crash does not run it again; one that was cut off is run again.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from v2c import processes
from v2c.errors import ToolError, UsageError, V2cError
from v2c.events import Meter
from v2c.journal import SqlJournal
from v2c.manifest.parts import Hook
from v2c.model import Finding, Level, Report
from v2c.model.wave import Stage
from v2c.state import State
from v2c.targets import open_target
from v2c.waves import inside
from v2c.waves.hostkeys import Trust
from v2c.waves.nouns import Machine

_MOST = 300  # characters of what a hook said that are quoted
_AFTER_BOOT = (Stage.TEST, Stage.CUTOVER)  # "after: validate" is after the stages that end with it


class HookError(V2cError):
    """A hook that must succeed did not."""


def run(
    machine: Machine,
    when: str,
    state: State,
    run: str,
    meter: Meter,
    known: Callable[[], Report | None] = lambda: None,
    folder: Callable[[], Path] = Path,
) -> Iterator[Finding]:
    """Runs the machine's hooks that belong `when` ("before" or "after") its stage, in the manifest's order. `known`: the report
    that says which instance there is, and `folder` the job's; asked by hooks that run inside."""
    stage = machine.doing
    journal = SqlJournal(state, machine.order.request.job)
    for number, hook in enumerate(machine.order.hooks):
        verb = hook.before if when == "before" else hook.after
        if verb != stage and not (verb == "validate" and when == "after" and stage in _AFTER_BOOT):
            if verb == "validate" and when == "before" and stage in _AFTER_BOOT:
                yield _not_run(machine, hook, "nothing can be run between the boot and its validation")
            continue
        key = f"hook/{stage}/{when}/{number}/{machine.tries}"
        if journal.noted(key):
            continue
        meter.note(f"{when} {stage}: {processes.line(hook.run)}")
        trust: Trust | None = None
        try:
            if hook.where == "guest":
                report = known()
                address, why = _address(report, tested=stage is Stage.TEST)
                if why or report is None or report.instance is None:
                    yield _not_run(machine, hook, why)
                    continue
                trust = Trust(machine.order, report.instance.id, journal, folder())
                _inside(machine, hook, run, address, trust, meter)
            else:
                _one(machine, hook, run)
            journal.act(f"hook {when} {stage}", processes.line(hook.run))
        except V2cError as error:
            if hook.must_succeed:
                raise HookError(f"the hook {when} {stage} failed: {error.text}", remedy="mend it, then v2c retry") from error
            yield Finding("hook.failed", Level.WARNING, machine.id, f"{when} {stage}: {error.text}", "see what it does")
        if trust and (seen := trust.seen()):
            yield seen
        journal.note(key, "done")


def _one(machine: Machine, hook: Hook, run: str) -> None:
    words, secrets = _environment(machine, hook, run)
    ran(hook.run, words | secrets, hook.timeout, secrets)


def _inside(machine: Machine, hook: Hook, run: str, address: str, trust: Trust, meter: Meter) -> None:
    words, secrets = _environment(machine, hook, run)
    with _quoted(hook.run, secrets):
        inside.run(hook, address, words | secrets, trust, meter)


def _environment(machine: Machine, hook: Hook, run: str) -> tuple[dict[str, str], dict[str, str]]:
    """The run's words, and the secrets by the manifest's names."""
    secrets = {name: secret(reference) for name, reference in hook.environment.items()}
    words = {
        "V2C_RUN": run,
        "V2C_MACHINE": machine.id,
        "V2C_JOB": machine.order.request.job,
        "V2C_STAGE": str(machine.doing),
    }
    return words, secrets


def _address(report: Report | None, *, tested: bool) -> tuple[str, str]:
    """Where the machine is reached, or why it is not. ToolError when a machine that was cut over should be, and is not."""
    try:
        seen = open_target(report.target).observe(report.instance) if report and report.instance else None
    except V2cError:
        if not tested:
            raise
        seen = None  # it is gone
    if seen is not None and seen.alive and seen.addresses:
        return seen.addresses[0], ""
    if tested:
        return "", "the instance of a test reaches nothing, and is over when it told what it is"
    state = "there is no instance" if seen is None else f"the instance is {seen.state}" if not seen.alive else ""
    raise ToolError(state or "the target tells no address of the instance", remedy="run it by hand, or say where: converter")


def ran(argv: tuple[str, ...], environment: Mapping[str, str], timeout_s: float, secrets: Mapping[str, str]) -> None:
    """Runs a command of the manifest to its end. ToolError quotes its last words, without the secrets that it was given."""
    with _quoted(argv, secrets):
        processes.run(argv, timeout=timeout_s, env=environment)


@contextmanager
def _quoted(argv: tuple[str, ...], secrets: Mapping[str, str]) -> Iterator[None]:
    """What a command says when it fails is cut short, and does not hold its secrets."""
    try:
        yield
    except ToolError as error:
        text = error.text
        for value in secrets.values():
            text = text.replace(value, "(secret)") if value else text
        raise ToolError(text[:_MOST], command=processes.line(argv), remedy=error.remedy) from None


def secret(reference: str) -> str:
    """The value behind env:NAME or file:PATH; one newline at the end is the editor's. UsageError when it is not there."""
    kind, _, where = reference.partition(":")
    if kind == "env":
        value = os.environ.get(where)
        if value is None:
            raise UsageError(f"the variable {where} is not set on this worker", remedy=f"export {where}")
        return value
    try:
        return Path(where).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the secret file {where} cannot be read", remedy="put it on every worker") from error


def _not_run(machine: Machine, hook: Hook, why: str) -> Finding:
    return Finding(
        "hook.not-run", Level.WARNING, machine.id, f"the hook {processes.line(hook.run)} was not run: {why}", "run it by hand"
    )
