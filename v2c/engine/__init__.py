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
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter

from v2c import crashpoints, processes
from v2c.engine.memory import (
    ACTIVE,
    Phase,
    Progress,
    Redo,
    Status,
    attempts,
    cancel,
    client,
    create_tables,
    forget,
    latest,
    lockfile,
    number,
    redo_from,
    serializer,
    status,
    statuses,
    store_progress,
)
from v2c.engine.steps import StepFailed, StepMeter, Steps, T
from v2c.engine.stories import Q, R, Story, stories, story
from v2c.errors import Paused, V2cError
from v2c.events import Began, Ended, Event, Listener, Meter, Moved, Noted, silent
from v2c.model import StepRecord
from v2c.patience import working
from v2c.state import State, hold, open_state

__all__ = [
    "Engine",
    "Phase",
    "Progress",
    "Redo",
    "Status",
    "Steps",
    "Story",
    "attempts",
    "cancel",
    "forget",
    "status",
    "statuses",
    "story",
]

VERSION = "v2c-state-1"  # raise only when older jobs cannot be gone on with
RECOVERIES = 1_000_000  # a job is resumed by its owner's command as often as that is typed, never given up
POLL_S = 0.05  # our own queue is looked at this often until the job came over it, ...
IDLE_POLL_S = 1.0  # ... and then at ease
WATCH_S = 2.0  # how soon `v2c cancel` in another terminal is noticed
PROGRESS_S = 2.0  # progress is stored at most this often
BACKOFF_S = 1.0  # before the first retry of a transient error; doubles up to BACKOFF_MAX_S
BACKOFF_MAX_S = 60.0
COOPERATE_S = 0.8  # what Ctrl-C gives a step to stop by itself before its programs are killed; all is over within 2 s
STUBBORN_S = 30.0  # what a cancelled step that does not listen is waited for
OUTCOME_S = 60.0  # what the database is given to take the outcome of a story; a busy one is waited for 30 s
LAST_S = 1.7  # after this the process ends, come what may
REDOS = 5  # redone steps in one run before the error is believed


class Engine:
    """Runs stories. One per process at a time, and one per `executor` on this host: BusyError when that is taken.

    `state`: see `v2c.state`. `executor`: the job's id for a single conversion. `journal` makes the story's third
    argument from the attempt's id. `listener` hears every event, from several threads; the last word of a pause is a
    `Noted`, and then `farewell` is called, just before the process ends.
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
        self._launched = False
        self._queued = False
        self._requests: dict[str, Any] = {}
        self._outcomes: dict[str, Exception | None] = {}
        self._ended = threading.Event()
        self._stopping = threading.Event()  # asked to stop: by Ctrl-C (then also _pausing), or cancelled from elsewhere
        self._pausing = False
        self._parked = threading.Event()
        self._stored = 0.0

    def __enter__(self) -> "Engine":
        self._stack.enter_context(hold(lockfile(self.state, self.executor), f"job {self.executor}"))
        return self

    def __exit__(self, *_: object) -> None:
        global _current
        if self._launched:
            from dbos import DBOS

            DBOS.destroy()
            self._launched, _current = False, None
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
        """Ctrl-C: stops within two seconds and ends the process with 130. Everything is kept; the same command goes on.

        Steps are asked to stop (`Meter.cancelled`), then their programs are killed. No step may end in between as failed,
        so a step's thread is parked rather than let go; hence the process has to end here.
        """
        last = threading.Timer(LAST_S, os._exit, (Paused.exit_code,))  # whatever holds us up below
        last.daemon = True
        last.start()
        try:
            self._pausing = True
            self._stopping.set()
            if self._requests and not self._ended.is_set():
                self._parked.wait(COOPERATE_S)
            processes.kill_all()
            self.tell(Noted(self.executor, "", time.time(), "paused: everything is kept, and the same command goes on"))
            self._farewell()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(Paused.exit_code)

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
        with client(self.state) as known:
            before = latest(known, job) if known else None
            attempt = before.workflow_id if before else job
            self._ended.clear()
            if known and before and not again:
                if before.status == "SUCCESS":
                    return answers.validate_python(before.output)
                if before.status == "CANCELLED":
                    raise V2cError(f"job {job} was cancelled", remedy="start it anew with --again")
                self._requests[attempt] = request
                known.register_queue(self.executor, polling_interval_sec=POLL_S)
                self._queued = True
                if before.status == "ERROR":
                    step = before.error.step if isinstance(before.error, Redo) else ""
                    known.rewind_workflow(attempt, start_step=redo_from(known, attempt, step), queue_name=self.executor)
                else:
                    known.resume_workflow(attempt, queue_name=self.executor)
                crashpoints.point("resumed")
                self._launch()
                return self._await(attempt, answers)
            if known and before:
                if before.status in ACTIVE:
                    known.cancel_workflow(attempt)
                attempt = f"{job}.{number(attempt) + 1}"
        self._requests[attempt] = request
        self._launch()
        crashpoints.point("launched")
        from dbos import DBOS, SetWorkflowID

        with SetWorkflowID(attempt):
            DBOS.start_workflow(_workflow(), story.name, asks.dump_python(request, mode="json"))
        return self._await(attempt, answers)

    def _launch(self) -> None:
        global _current
        if self._launched:
            return
        from dbos import DBOS

        _workflow()
        DBOS(
            config={
                "name": "v2c",
                "system_database_engine": self.state.database,
                "system_database_url": self.state.url,
                "application_version": VERSION,
                "executor_id": f"{self.executor}#{os.getpid()}.{time.time_ns()}",  # new each time: nothing is taken for ours
                "serializer": serializer(),
                "log_level": "CRITICAL",  # its errors are raised to us; its console advertises a service
                "notification_listener_polling_interval_sec": 0.2,  # how long its thread keeps us from ending
            }
        )
        DBOS.listen_queues([self.executor])
        create_tables(self.state)
        self._launched, _current = True, self  # before the launch: a resumed job may come over the queue while it lasts
        DBOS.launch()

    def _await(self, attempt: str, answers: TypeAdapter[R]) -> R:
        from dbos import DBOS

        while not self._ended.wait(WATCH_S):
            if self._queued:
                DBOS.register_queue(self.executor, polling_interval_sec=IDLE_POLL_S)
                self._queued = False
            known = DBOS.get_workflow_status(attempt)
            if known and known.status == "CANCELLED":
                self._stopping.set()
                processes.kill_all()
                self._ended.wait(STUBBORN_S)
                raise V2cError(f"job {attempt} was cancelled from elsewhere", remedy="start it anew with --again")
            if known and known.status not in ACTIVE:
                break  # it ended before the story could begin
        deadline = time.monotonic() + OUTCOME_S
        while ((known := DBOS.get_workflow_status(attempt)) is None or known.status in ACTIVE) and time.monotonic() < deadline:
            time.sleep(0.002)  # the story ended; its outcome is being written
        crashpoints.point("concluded")
        error = self._outcomes.pop(attempt, None) or (known.error if known else None)
        if error is not None:
            raise error
        if known is None or known.status != "SUCCESS":
            raise V2cError(f"the outcome of job {attempt} could not be written", remedy="the same command goes on")
        DBOS.delete_queue(self.executor)  # one row per resumed job, no use any more
        return answers.validate_python(known.output)

    def _tell_story(self, name: str, request: Any) -> Any:
        """The workflow's body, in a thread of DBOS."""
        from dbos import DBOS

        attempt = DBOS.workflow_id
        assert attempt
        try:
            told = stories[name]
            asks, answers = told.types()
            given = self._requests[attempt] if attempt in self._requests else asks.validate_python(request)
            steps = Steps(attempt, self._attempt, self.tell)
            value = answers.dump_python(told(steps, given, self._journal(attempt)), mode="json")
            self._outcomes[attempt] = None
            crashpoints.point("told")
            return value
        except Exception as error:
            self._outcomes[attempt] = told_as = _translated(error)
            if told_as is error:
                raise
            raise told_as from error
        finally:
            self._ended.set()

    def _attempt(self, attempt: str, name: str, do: Callable[[Meter], T], retries: int) -> tuple[T, StepRecord]:
        """One step's work, tried up to 1 + `retries` times."""
        for count in range(1, retries + 2):
            meter = StepMeter(attempt, name, self.tell, self._stopping.is_set)
            began = time.monotonic()
            self.tell(Began(attempt, name, time.time()))
            error: BaseException | None = None
            try:
                with working(attempt.partition(".")[0], meter):
                    value = do(meter)
            except BaseException as failure:
                error = failure
            if self._pausing:  # whatever came of it came from being stopped: no memo, no failure
                self._parked.set()
                threading.Event().wait()
            seconds = time.monotonic() - began
            self.tell(Ended(attempt, name, time.time(), seconds=seconds, bytes=meter.bytes, error=str(error) if error else ""))
            if error is None:
                return value, StepRecord(name, seconds, meter.bytes, count, tuple(meter.phases.items()))
            if count > retries or not (isinstance(error, V2cError) and error.transient):
                raise StepFailed(error)
            meter.note(f"{name} failed and is tried again: {error}")
            self._stopping.wait(min(BACKOFF_S * 2 ** (count - 1), BACKOFF_MAX_S))
        raise AssertionError("unreachable")


_current: Engine | None = None
_registered: list[Any] = []


def _workflow() -> Any:
    """The one workflow there is, registered with DBOS on first use; it dispatches by the story's name."""
    if not _registered:
        from dbos import DBOS

        def journey(name: str, request: Any) -> Any:
            assert _current
            return _current._tell_story(name, request)

        _registered.append(DBOS.workflow(name="journey", max_recovery_attempts=RECOVERIES)(journey))
    return _registered[0]


def _translated(error: Exception) -> Exception:
    from dbos import error as dbos_errors

    if isinstance(error, dbos_errors.DBOSUnexpectedStepError):
        return V2cError(
            "the job was begun with other steps than this command has: by another version, or with other options",
            remedy="go on with the command it was begun with, or start it anew with --again",
        )
    return error
