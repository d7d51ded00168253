"""The durable engine behind one thin door: stories made of steps, on DBOS, with SQLite by default.

    with Engine(state, executor=job) as engine:
        report = engine.run(job, journey, request)

A *story* is a function `f(steps, request, journal)` that does everything through `steps(name, function, returns=type)`. A step
that ended is a memo: it is never done again, whatever happens to the process. The same `run` therefore starts a job, goes on
with one that was cut off (kill -9, Ctrl-C, power), redoes a failed one from the step that failed, and answers from the memo
when it was done already. Only finished steps are memos: a failed step leaves none, so a story lets a step's error go (or
raises `steps.redo(name)`); it must not catch it and walk on.

What is chosen here, and why (each found by trial): the application's version is pinned, or an upgrade would strand running
jobs; nothing is recovered by DBOS itself, because its recovery goes over a queue that every process on the database
listens to, and another terminal would steal the job: we resume what we hold the lock of, over a queue of our own; values are
JSON and never pickles, because who can write the database must not run code; DBOS is imported on first use (0.6 s).

A single conversion is an engine alone in its process. A worker of waves enters `hosting` first, and then runs as many engines at
once as it likes, each from a thread of its own, under one launch.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter

from v2c import crashpoints, processes
from v2c.engine.host import POLL_S, Host, Run, hosted, hosting, workflow
from v2c.engine.memory import (
    ACTIVE,
    Phase,
    Progress,
    Redo,
    Status,
    attempts,
    cancel,
    client,
    forget,
    latest,
    lockfile,
    number,
    redo_from,
    status,
    statuses,
    store_progress,
)
from v2c.engine.steps import StepFailed, StepMeter, Steps, T
from v2c.engine.stories import Q, R, Story, stories, story
from v2c.errors import JobLost, V2cError
from v2c.events import Began, Ended, Event, Listener, Meter, Moved, Noted, silent
from v2c.model import StepRecord
from v2c.patience import working
from v2c.state import State, hold, open_state

__all__ = [
    "Engine",
    "Host",
    "Phase",
    "Progress",
    "Redo",
    "Status",
    "Steps",
    "Story",
    "attempts",
    "cancel",
    "forget",
    "hosted",
    "hosting",
    "status",
    "statuses",
    "story",
]

WATCH_S = 2.0  # how soon `v2c cancel` in another terminal is noticed
PROGRESS_S = 2.0  # progress is stored at most this often
BACKOFF_S = 1.0  # before the first retry of a transient error; doubles up to BACKOFF_MAX_S
BACKOFF_MAX_S = 60.0
STUBBORN_S = 30.0  # what a cancelled step that does not listen is waited for
OUTCOME_S = 60.0  # what the database is given to take the outcome of a story; a busy one is waited for 30 s
REDOS = 5  # redone steps in one run before the error is believed


class Engine:
    """Runs stories of one job. One per `executor` on this host: BusyError when that is taken.

    `state`: see `v2c.state`. `executor`: the job's id. `journal` makes the story's third argument from the attempt's id.
    `listener` hears every event, from several threads; the last word of a pause is a `Noted`, and then `farewell` is called,
    just before the process ends. Alone in its process it launches DBOS when it needs it; under `hosting` it uses that launch.
    """

    def __init__(
        self,
        state: State | Path | str,
        executor: str,
        *,
        journal: Callable[[str], Any] = lambda attempt: None,
        listener: Listener = silent,
        farewell: Callable[[], None] = lambda: None,
    ) -> None:
        self.state = open_state(state)
        self.executor = executor
        self.listener = listener
        self._journal = journal
        self._farewell = farewell
        self._stack = contextlib.ExitStack()
        self._host = hosted() or Host(self.state, executor)
        self._stored = 0.0

    @property
    def _alone(self) -> bool:
        return self._host is not hosted()

    def __enter__(self) -> "Engine":
        self._stack.enter_context(hold(lockfile(self.state, self.executor), f"job {self.executor}"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._alone:
            self._host.close()
        self._stack.close()

    def run(self, job: str, story: Story[Q, R], request: Q, *, again: bool = False) -> R:
        """Does the story for `job`: starts it, goes on with it, redoes it from its failed step, or answers from the memo.

        Blocks, and raises what the story raised. `request` of this call counts (a changed time limit takes effect); steps
        that ended keep what they made. `again` starts anew as "JOB.2". Ctrl-C in here is `pause`.
        """
        try:
            for _ in range(REDOS):
                try:
                    return self._run(job, story, request, again)
                except Redo:
                    again = False
            return self._run(job, story, request, False)
        except KeyboardInterrupt:
            self.pause()

    def pause(self) -> NoReturn:
        """Ctrl-C: stops within two seconds and ends the process with 130; see `Host.pause`. The same command goes on."""

        def say() -> None:
            self.tell(Noted(self.executor, "", time.time(), "paused: everything is kept, and the same command goes on"))
            self._farewell()

        self._host.pause(say)

    def status(self, job: str) -> Status | None:
        """How the job stands; None when nobody began it."""
        return status(self.state, job)

    def tell(self, event: Event) -> None:
        """Passes an event to the listener, and stores progress for `v2c status` in another terminal."""
        try:
            self.listener(event)
        except Exception as error:  # a closed pipe must not fail a step
            self.listener = silent
            logging.getLogger("v2c").warning("progress is no longer shown: %s", error)
        if isinstance(event, Began):
            store_progress(self.state, event.job, Progress(event.step, event.phase, 0, event.total, event.at))
        elif isinstance(event, Moved) and time.monotonic() - self._stored >= PROGRESS_S:
            self._stored = time.monotonic()
            store_progress(self.state, event.job, Progress(event.step, event.phase, event.done, event.total, event.at))

    # --- the way of one job ---------------------------------------------------------------------------------------------

    def _run(self, job: str, story: Story[Q, R], request: Q, again: bool) -> R:
        asks, answers = story.types()
        host = self._host
        with client(self.state) as known:
            before = latest(known, job) if known else None
            attempt = before.workflow_id if before else job
            if known and before and not again:
                if before.status == "SUCCESS":
                    return answers.validate_python(before.output)
                if before.status == "CANCELLED":
                    raise V2cError(f"job {job} was cancelled", remedy="start it anew with --again")
                run = Run(self, attempt, request, queued=True)
                host.enter(run)
                try:
                    known.register_queue(host.executor, polling_interval_sec=POLL_S)
                    if before.status == "ERROR":
                        step = before.error.step if isinstance(before.error, Redo) else ""
                        known.rewind_workflow(attempt, start_step=redo_from(known, attempt, step), queue_name=host.executor)
                    else:
                        known.resume_workflow(attempt, queue_name=host.executor)
                    crashpoints.point("resumed")
                    host.launch()
                    return self._await(run, answers)
                finally:
                    host.leave(run)
            if known and before:
                if before.status in ACTIVE:
                    known.cancel_workflow(attempt)
                attempt = f"{job}.{number(attempt) + 1}"
        run = Run(self, attempt, request)
        host.enter(run)
        try:
            host.launch()
            crashpoints.point("launched")
            from dbos import DBOS, SetWorkflowID

            with SetWorkflowID(attempt):
                DBOS.start_workflow(workflow(), story.name, asks.dump_python(request, mode="json"))
            return self._await(run, answers)
        finally:
            host.leave(run)

    def _await(self, run: Run, answers: TypeAdapter[R]) -> R:
        from dbos import DBOS

        attempt, resumed = run.attempt, run.queued
        while not run.ended.wait(WATCH_S):
            if run.queued and run.begun.is_set():
                self._host.calm(run)
            known = DBOS.get_workflow_status(attempt)
            if known and known.status == "CANCELLED":
                run.stop()
                run.ended.wait(STUBBORN_S)
                raise V2cError(f"job {attempt} was cancelled from elsewhere", remedy="start it anew with --again")
            if known and known.status not in ACTIVE:
                break  # it ended before the story could begin
        deadline = time.monotonic() + OUTCOME_S
        while not run.lost and ((known := DBOS.get_workflow_status(attempt)) is None or known.status in ACTIVE):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.002)  # the story ended; its outcome is being written
        crashpoints.point("concluded")
        if run.lost:
            raise JobLost(f"job {attempt} is gone on with by another process", remedy="see v2c status")
        error = run.outcome or (known.error if known else None)
        if error is not None:
            raise error
        if known is None or known.status != "SUCCESS":
            raise V2cError(f"the outcome of job {attempt} could not be written", remedy="the same command goes on")
        if resumed and self._alone:
            self._host.leave(run)
            self._host.idle()
        return answers.validate_python(known.output)

    def tell_story(self, run: Run, name: str, request: Any) -> Any:
        """The story, in a thread of DBOS that the host lends."""
        run.begun.set()
        try:
            told = stories[name]
            asks, answers = told.types()
            given = run.request if run.request is not None else asks.validate_python(request)
            steps = Steps(run.attempt, partial(self._attempt, run), self.tell)
            value = answers.dump_python(told(steps, given, self._journal(run.attempt)), mode="json")
            run.outcome = None
            crashpoints.point("told")
            return value
        except Exception as error:
            run.outcome = told_as = _translated(error)
            if told_as is error:
                raise
            raise told_as from error
        except BaseException as error:
            run.lost = type(error).__name__ == "DBOSWorkflowConflictIDError"  # the database fences who was taken over
            raise
        finally:
            run.ended.set()

    def _attempt(self, run: Run, attempt: str, name: str, do: Callable[[Meter], T], retries: int) -> tuple[T, StepRecord]:
        """One step's work, tried up to 1 + `retries` times."""
        host = self._host
        for count in range(1, retries + 2):
            meter = StepMeter(attempt, name, self.tell, lambda: run.stopping.is_set() or host.lost())
            began = time.monotonic()
            self.tell(Began(attempt, name, time.time()))
            error: BaseException | None = None
            try:
                with processes.owned(attempt), working(attempt.partition(".")[0], meter):
                    value = do(meter)
            except BaseException as failure:
                error = failure
            if host.pausing:  # whatever came of it came from being stopped: no memo, no failure
                run.parked.set()
                threading.Event().wait()
            seconds = time.monotonic() - began
            if error is None:  # its end is told when it is remembered: what was told is not done again
                return value, StepRecord(name, seconds, meter.bytes, count, tuple(meter.phases.items()))
            self.tell(Ended(attempt, name, time.time(), seconds=seconds, bytes=meter.bytes, error=str(error)))
            if count > retries or meter.cancelled() or not (isinstance(error, V2cError) and error.transient):
                raise StepFailed(error)
            meter.note(f"{name} failed and is tried again: {error}")
            run.stopping.wait(min(BACKOFF_S * 2 ** (count - 1), BACKOFF_MAX_S))
        raise AssertionError("unreachable")


def _translated(error: Exception) -> Exception:
    from dbos import error as dbos_errors

    if isinstance(error, dbos_errors.DBOSUnexpectedStepError):
        return V2cError(
            "the job was begun with other steps than this command has: by another version, or with other options",
            remedy="go on with the command it was begun with, or start it anew with --again",
        )
    return error
