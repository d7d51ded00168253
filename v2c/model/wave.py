"""The nouns of a wave that runs. Times are seconds since the epoch (0: not yet), sizes bytes.

A *run* is a manifest that is being worked off: its machines, what was done with each, who agreed. A machine moves in *stages*,
each of which one worker does in one go, as a story of the engine; between stages it holds no worker, no slot and no capture, and
may wait for days. What everybody looks at (terminal, page, report) is a `Snapshot`, read from the state in one go.
"""

from dataclasses import dataclass
from enum import StrEnum

from v2c.model.evidence import Act
from v2c.model.findings import Finding


class Stage(StrEnum):
    """What is done with a machine in one go. The first four come in this order, as far as its target has them; the others are
    asked for."""

    REPLICATE = "replicate"  # reserve, capture, fix, upload, verify, register
    TEST = "test-cutover"  # an isolated instance, which is over when it told what it is
    CUTOVER = "cutover"  # the real instance, which stays
    FINALIZE = "finalize"  # what only the migration needed goes; no way back
    ROLLBACK = "rollback"  # instance, image and disks go; the source is as it was
    CLEANUP = "cleanup"  # as rollback, and the job is forgotten


class Gate(StrEnum):
    """What somebody has to agree to, named as in the manifest."""

    TEST = "okToTest"
    CUTOVER = "okToCutover"
    FINALIZE = "okToFinalize"


GATES = {Stage.TEST: Gate.TEST, Stage.CUTOVER: Gate.CUTOVER, Stage.FINALIZE: Gate.FINALIZE}


class Standing(StrEnum):
    """How a machine stands with the stage that it is at. `why` of the machine says more, as a sentence."""

    WAITING = "waiting"  # for a worker, its rank, another machine, a window, the end of a blackout
    GATED = "gated"  # for somebody's agreement
    RUNNING = "running"  # on a worker
    PAUSED = "paused"  # by an operator, until `resume`
    BLOCKED = "blocked"  # by a readiness finding; nothing was changed
    FAILED = "failed"  # `retry` does the stage's failed step again
    MISSED = "missed"  # its window ended before it could be cut over; a new window and `retry`
    REFUSED = "refused"  # somebody said no at a gate
    SKIPPED = "skipped"  # not begun, since one that it depends on failed, or the wave was stopped
    CANCELLED = "cancelled"  # given up
    ROLLED_BACK = "rolled back"  # as it was before
    DONE = "done"  # through all its stages

    @property
    def over(self) -> bool:
        """Whether nothing happens to it any more unless somebody asks for it."""
        return self not in (Standing.WAITING, Standing.GATED, Standing.RUNNING, Standing.PAUSED)

    @property
    def good(self) -> bool:
        """Whether it went as it was meant to, so far."""
        return self in (Standing.WAITING, Standing.GATED, Standing.RUNNING, Standing.PAUSED, Standing.DONE)


@dataclass(frozen=True, slots=True)
class Span:
    """A step of a machine as it went or goes: a bar of the Gantt chart. `ended` 0: it runs. `error`: why it failed, then."""

    stage: Stage
    step: str
    worker: str
    began: float
    ended: float = 0.0
    bytes: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Moving:
    """Where the running step is: `done` of `total` bytes (0: unknown), at `rate` bytes per second; told at `at`."""

    step: str
    phase: str
    done: int
    total: int
    rate: float
    at: float


@dataclass(frozen=True, slots=True)
class Window:
    """When a machine may be cut over; blackouts inside it are left out of `free`. `zone` as people there write it."""

    start: float
    end: float
    zone: str
    free: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class MachineView:
    """A machine of a run, as everybody sees it.

    `job`: its id for `v2c report`, `status` and the rest. `order`: its place. `gate`: the one that it waits at. `approvals`:
    gate, and who agreed when, in words ("anna, 2026-12-05 20:11"; "the manifest"). `downtime_s`: of the cut-over; None: there
    was none so far. `expected_s`: how long the stages that are left are expected to last. `verdict`: of its latest report.
    `folder`: where its report lies, on `host`.
    """

    id: str
    wave: str
    order: int
    job: str
    name: str
    source: str
    target: str
    mode: str
    stage: Stage
    standing: Standing
    why: str = ""
    remedy: str = ""
    gate: Gate | None = None
    approvals: tuple[tuple[str, str], ...] = ()
    application: str = ""
    owner: str = ""
    depends_on: tuple[str, ...] = ()
    window: Window | None = None
    budget_s: int | None = None
    downtime_s: float | None = None
    expected_s: float = 0.0
    worker: str = ""
    host: str = ""
    began: float = 0.0
    ended: float = 0.0
    data_bytes: int = 0
    sent_bytes: int = 0
    spans: tuple[Span, ...] = ()
    moving: Moving | None = None
    findings: tuple[Finding, ...] = ()
    verdict: str = ""
    folder: str = ""
    cut_over: str = ""
    finalized: str = ""
    rolled_back: str = ""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A process that works on runs. `alive`: its heart was heard a moment ago; the machines of one that is not are taken over."""

    id: str
    host: str
    pid: int
    began: float
    heard: float
    alive: bool
    slots: int
    machines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment. `machines` in the order in which they move; `acts`: what operators did, oldest first. `paused`: no
    stage is begun until `resume`."""

    run: str
    manifest: str
    digest: str
    at: float
    began: float
    ended: float
    paused: bool
    waves: tuple[str, ...]
    machines: tuple[MachineView, ...]
    workers: tuple[WorkerView, ...]
    acts: tuple[Act, ...]

    @property
    def over(self) -> bool:
        """Whether nothing is left to do unless somebody asks for it."""
        return all(one.standing.over for one in self.machines)

    @property
    def rate(self) -> float:
        """Bytes per second that are sent now, over all machines."""
        return sum(one.moving.rate for one in self.machines if one.moving)

    def of(self, wave: str) -> tuple[MachineView, ...]:
        """The machines of a wave."""
        return tuple(one for one in self.machines if one.wave == wave)

    def count(self, standing: Standing) -> int:
        """How many machines stand so."""
        return sum(one.standing is standing for one in self.machines)
