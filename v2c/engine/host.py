"""The process in which stories run: one launch of DBOS, whose threads tell any number of stories at once.

A single conversion makes its own host when it needs one. A worker of waves holds one for as long as it works (`hosting`), and
every `Engine` that is entered meanwhile runs its job there. Each story that runs is a `Run`: what it was asked, how it ended,
whether it is to stop.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from v2c import processes
from v2c.engine.memory import create_tables, lockfile, serializer
from v2c.errors import Paused, V2cError
from v2c.state import State, hold

if TYPE_CHECKING:
    from v2c.engine import Engine

VERSION = "v2c-state-1"  # raise only when older jobs cannot be gone on with
RECOVERIES = 1_000_000  # a job is resumed by its owner's command as often as that is typed, never given up
POLL_S = 0.05  # our own queue is looked at this often until the job came over it, ...
IDLE_POLL_S = 1.0  # ... and then at ease
COOPERATE_S = 0.8  # what Ctrl-C gives steps to stop by themselves before their programs are killed; all is over within 2 s
LAST_S = 1.7  # after this the process ends, come what may


@dataclass(eq=False)
class Run:
    """A story that is told by a thread of this process. `stopping`: it was asked to stop, by Ctrl-C (then the host is pausing,
    too), or cancelled from elsewhere; `lost`: another process goes on with it; `queued`: it was resumed, and comes over our
    queue."""

    engine: "Engine"
    attempt: str
    request: Any
    queued: bool = False
    lost: bool = False
    outcome: Exception | None = None
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    parked: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Asks its step to stop, and ends its programs."""
        self.stopping.set()
        processes.kill_all(self.attempt)


class Host:
    """This process's DBOS. `executor` names it in the database; `lost` answers whether what it runs is not its own any more."""

    def __init__(self, state: State, executor: str, farewell: Callable[[], None] = lambda: None) -> None:
        self.state = state
        self.executor = executor
        self.farewell = farewell
        self.pausing = False
        self.lost: Callable[[], bool] = lambda: False
        self.runs: dict[str, Run] = {}
        self._lock = threading.RLock()
        self._launched = False

    def launch(self) -> None:
        """Starts DBOS; once."""
        global _current
        with self._lock:
            if self._launched:
                return
            from dbos import DBOS

            workflow()
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

    def close(self) -> None:
        """Ends DBOS. What runs is cut off: see that nothing does."""
        global _current
        if self._launched:
            from dbos import DBOS

            DBOS.destroy()
            self._launched, _current = False, None

    def enter(self, run: Run) -> None:
        """From now on the run's attempt is told here. BusyError is for who holds its job; this is for a mistake of ours."""
        with self._lock:
            if run.attempt in self.runs:
                raise V2cError(f"{run.attempt} runs in this process already", remedy="wait for it", transient=True)
            self.runs[run.attempt] = run

    def leave(self, run: Run) -> None:
        """Its outcome is known, or somebody else's."""
        with self._lock:
            self.runs.pop(run.attempt, None)

    def calm(self, run: Run) -> None:
        """The run came over our queue: unless others are to come, that is looked at less often now."""
        from dbos import DBOS

        with self._lock:
            run.queued = False
            if not any(other.queued for other in self.runs.values()):
                DBOS.register_queue(self.executor, polling_interval_sec=IDLE_POLL_S)

    def idle(self) -> None:
        """Forgets the queue when nobody uses it: one row per host that resumed something, no use any more."""
        from dbos import DBOS

        with self._lock:
            if not self.runs:
                DBOS.delete_queue(self.executor)

    def stop(self, job: str) -> None:
        """Stops what runs for a job, its later stories among it."""
        for run in list(self.runs.values()):
            if run.engine.executor == job:
                run.stop()

    def pause(self, say: Callable[[], None]) -> NoReturn:
        """Ctrl-C: stops everything within two seconds and ends the process with 130. Everything is kept.

        Steps are asked to stop (`Meter.cancelled`), then their programs are killed. No step may end in between as failed,
        so a step's thread is parked rather than let go; hence the process has to end here.
        """
        last = threading.Timer(LAST_S, os._exit, (Paused.exit_code,))  # whatever holds us up below
        last.daemon = True
        last.start()
        try:
            self.pausing = True
            running = [run for run in list(self.runs.values()) if not run.ended.is_set()]
            for run in running:
                run.stopping.set()
            until = time.monotonic() + COOPERATE_S
            for run in running:
                run.parked.wait(max(0.0, until - time.monotonic()))
            processes.kill_all()
            say()
            self.farewell()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(Paused.exit_code)

    def tell(self, name: str, request: Any) -> Any:
        """The workflow's body, in a thread of DBOS."""
        from dbos import DBOS

        attempt = DBOS.workflow_id
        assert attempt
        run = self.runs.get(attempt)
        if run is None:
            raise V2cError(f"nobody waits for job {attempt} here", remedy="the same command goes on")
        return run.engine.tell_story(run, name, request)


_current: Host | None = None
_hosting: Host | None = None
_registered: list[Any] = []


def hosted() -> Host | None:
    """The host that a worker holds in this process."""
    return _hosting


@contextmanager
def hosting(where: State, executor: str, farewell: Callable[[], None] = lambda: None) -> Iterator[Host]:
    """While the body runs, every engine of this process runs its job under one launch. `executor` is the worker's name, which is
    held on this host: BusyError when another process has it. `farewell` is called just before a pause ends the process."""
    global _hosting
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold(lockfile(where, executor), f"worker {executor}"))
        made = Host(where, executor, farewell)
        _hosting = made
        try:
            made.launch()
            yield made
        finally:
            _hosting = None
            with contextlib.suppress(Exception):  # a database that is away keeps one row too many
                made.idle()
            made.close()


def workflow() -> Any:
    """The one workflow there is, registered with DBOS on first use; it dispatches by the story's name."""
    if not _registered:
        from dbos import DBOS

        def journey(name: str, request: Any) -> Any:
            assert _current
            return _current.tell(name, request)

        _registered.append(DBOS.workflow(name="journey", max_recovery_attempts=RECOVERIES)(journey))
    return _registered[0]
