"""A worker: takes machines whose next stage may begin, does it in a thread, writes down what came of it, and tells that it lives.

    with Worker(state, workdir, slots=4) as worker:
        worker.work()

Any number of them share a state. A machine belongs to whoever claimed it last (its epoch says which claim): a worker whose heart
was not heard for `STALE_S` is taken for dead, its machines are claimed by others, and the engine goes on with their stories. One
that only slept stops by itself when it wakes: nothing that it still does counts, neither here nor in the engine.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from v2c import journal as journals
from v2c.engine import Host, hosting
from v2c.errors import JobLost, V2cError
from v2c.events import Listener, silent
from v2c.model.wave import Stage
from v2c.state import State
from v2c.throttle import sharing
from v2c.waves import claims, settle
from v2c.waves.drawing import Drawing
from v2c.waves.folder import Folder
from v2c.waves.lines import Lines
from v2c.waves.nouns import Machine
from v2c.waves.stages import Done, Place, do
from v2c.waves.store import Heart, Store

BEAT_S = 3.0
LEASE_S = 20.0  # after so long without a beat that was written, what runs here is told to stop, ...
POLL_S = 1.0  # how soon another process's doings are noticed
DRAW_S = 0.5
AWAY_S = 600.0  # how long a database may be away before the worker gives up


@dataclass(eq=False)
class Task:
    """A stage that runs here."""

    run: str
    machine: Machine
    drawing: Drawing
    thread: threading.Thread | None = None
    dropped: bool = False
    over: threading.Event = field(default_factory=threading.Event)
    pen: threading.Lock = field(default_factory=threading.Lock)  # of who writes its bars: an older one must not come last


class Worker:
    """One process's worker. `run`: only that run's machines (and of those only `only`, when it names some); else all runs'.

    `slots`: how many machines at once. `stage`: only this one. `scratch`: bytes that a machine takes of
    the work folder at most, over what the manifest says. `announce` hears how each stage ended, `listener` every event of
    every machine; both are called from several threads.
    """

    def __init__(
        self,
        state: State,
        workdir: Path,
        *,
        slots: int,
        run: str = "",
        only: Sequence[str] = (),
        stage: Stage | None = None,
        scratch: int | None = None,
        announce: "Callable[[Machine, Done | Exception], None]" = lambda machine, outcome: None,
        listener: Listener = silent,
        farewell: Callable[[], None] = lambda: None,
    ) -> None:
        self.state, self.workdir, self.slots = state, workdir, slots
        self.id = f"{socket.gethostname()}-{secrets.token_hex(3)}"
        self.store = Store(state)
        self._run, self._only, self._stage = run, frozenset(only), stage
        self._announce, self._listener, self._farewell = announce, listener, farewell
        self._heart = Heart(self.id, socket.gethostname(), os.getpid(), time.time(), 0.0, slots, claims.locks(state))
        self._tasks: dict[tuple[str, str, int], Task] = {}  # by run, machine, epoch
        self._beaten = time.monotonic()
        self._ending = threading.Event()
        self._news = threading.Event()  # a stage ended: others may begin
        self._lines = Lines(self.store, self.id)
        self._folder = Folder(self.store, self.id, workdir, scratch)
        self._stack = contextlib.ExitStack()
        self._host: Host | None = None

    def __enter__(self) -> "Worker":
        self._host = self._stack.enter_context(hosting(self.state, self.id, self._leave))
        if not self.state.sqlite:  # else everybody sees our lock, and nobody takes us for dead
            self._host.lost = lambda: time.monotonic() - self._beaten > LEASE_S
        self._beat()
        threading.Thread(target=self._live, daemon=True, name="heart").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._stack.close()
        self._leave()

    def work(self, enough: Callable[[], bool] = lambda: False, *, forever: bool = False) -> None:
        """Works until nothing of its runs moves any more without somebody (`forever`: until Ctrl-C), or `enough` says so; then
        ends what it began. Ctrl-C in here is `pause`."""
        try:
            while True:
                try:
                    moving = self._take()
                except V2cError:
                    raise
                except Exception:  # a database that is away comes back; what runs here finds out by itself
                    if time.monotonic() - self._beaten > AWAY_S:
                        raise
                    moving = True
                if not self._tasks and (enough() or not (moving or forever)):
                    return
                self._news.wait(POLL_S)
                self._news.clear()
        except KeyboardInterrupt:
            self.pause()

    def pause(self) -> NoReturn:
        """Parks what runs and ends the process with 130, within two seconds; see `Host.pause`."""
        assert self._host
        self._host.pause(self._farewell)

    # ---- taking and doing --------------------------------------------------------------------------------------------------

    def _take(self) -> bool:
        """Begins what may begin. Answers whether anything moves, or will."""
        moving = bool(self._tasks)
        for run in [self._run] if self._run else [run.id for run in self.store.runs()]:
            mine = {(id, epoch) for of, id, epoch in list(self._tasks) if of == run}
            free = self.slots - len(self._tasks)
            room = self._folder.room(self._running()) if free > 0 else None
            taken, moves = claims.claim(
                self.store, run, self._heart, free, working=mine, only=self._only, stage=self._stage, room=room
            )
            moving = moving or moves
            for machine in taken:
                self._begin(run, machine)
        return moving

    def _running(self) -> list[tuple[str, Machine]]:
        return [(task.run, task.machine) for task in list(self._tasks.values())]

    def _begin(self, run: str, machine: Machine) -> None:
        task = Task(run, machine, Drawing(machine.id, machine.doing, machine.epoch, self.id, self._listener))
        self._tasks[run, machine.id, machine.epoch] = task
        task.thread = threading.Thread(target=self._do, args=(task,), daemon=True, name=machine.id)
        task.thread.start()

    def _do(self, task: Task) -> None:
        job = task.machine.order.request.job
        place = Place(self.state, self.workdir, task.run, task.drawing)
        outcome: Done | Exception
        try:
            with (
                journals.fenced(job, lambda: self._mine(task)),
                sharing(job, lambda: self._lines.sending(task.run, task.machine)),
                self._lines.working(task.run, task.machine),
            ):
                outcome = do(task.machine, place)
        except Exception as error:
            outcome = error
        try:
            assert self._host
            while self._host.pausing:  # what came of it came from being stopped
                time.sleep(1)
            if not task.dropped and not isinstance(outcome, JobLost):
                self._settle(task, outcome)
        finally:
            del self._tasks[task.run, task.machine.id, task.machine.epoch]
            task.over.set()
            self._news.set()

    def _settle(self, task: Task, outcome: "Done | Exception") -> None:
        """Writes the outcome down; a database that is away is waited for as long as the machine may still be ours."""
        while True:
            try:
                with task.pen:
                    counts = settle.settle(self.store, task.run, task.machine, outcome, task.drawing.changed())
                if counts:
                    self._announce(task.machine, outcome)
                return
            except V2cError:
                raise
            except Exception:
                if task.dropped or self._ending.wait(BEAT_S):
                    return

    def _mine(self, task: Task) -> None:
        """Raises JobLost when the machine is somebody else's by now. Before everything that the journal announces."""
        assert self._host
        if task.dropped or (self._host.lost() and not self._confirmed(task)):
            raise JobLost(f"{task.machine.id} is gone on with by another worker", remedy=f"see v2c status --run {task.run}")

    def _confirmed(self, task: Task) -> bool:
        self._beat()
        return not task.dropped

    # ---- living ------------------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        """Its heart: tells that it lives, draws, and lets go what is not its own any more."""
        beaten = 0.0
        while not self._ending.wait(DRAW_S):
            with contextlib.suppress(Exception):  # a database that is away: the lease runs out, and the rest follows
                if time.monotonic() - beaten >= BEAT_S:
                    self._beat()
                    beaten = time.monotonic()
                self._draw()

    def _beat(self) -> None:
        before = time.monotonic()
        self.store.beat(self._heart)
        for run in {run for run, _, _ in list(self._tasks)}:
            mine = self.store.claimed(run, self.id)
            for task in [task for task in list(self._tasks.values()) if task.run == run]:
                if mine.get(task.machine.id) != task.machine.epoch and not task.over.is_set():
                    task.dropped = True
                    assert self._host
                    self._host.stop(task.machine.order.request.job)
            self._lines.limit(run, self.store.run(run).limits)
        self._lines.exchange()
        self._folder.room(self._running())
        self._beaten = before

    def _draw(self) -> None:
        for task in list(self._tasks.values()):
            if not task.dropped and not task.over.is_set():
                with task.pen:
                    bars = task.drawing.changed()
                    self.store.draw(task.run, bars)
                    task.drawing.written(bars)

    def _leave(self) -> None:
        with contextlib.suppress(Exception):
            self.store.beat(replace(self._heart, left=True))
