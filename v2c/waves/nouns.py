"""What a wave's runner remembers of a machine: what the manifest says of it (`Order`), and how it stands (`Machine`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from v2c.manifest.parts import Blackout, Check, Hook
from v2c.manifest.rates import Rates
from v2c.model import Finding
from v2c.model.wave import Gate, Stage, Standing, Window
from v2c.pipeline import Request


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done with a machine, as its manifest had it when it was taken in; another `digest` is another order.

    `request`: what is asked of the conversion; its folder is the worker's. `source` and `target`: their names in the manifest.
    `account`: whose calls the target's cloud counts together. `scratch`: what its repair takes of the work folder at most, bytes.
    `stages`: those that its target has. `open`: the gates that the manifest opens. `blackout` is read in `zone` when there is no
    window; else the window's `free` spans are without it. `commit_s`: how long a cut-over is taken to last; `expected`: a stage.
    `host_key`, `known_hosts`: what it must show by SSH, or the file that says it. `stores`: the datastores that it lies on.
    """

    id: str
    wave: str
    order: int
    source: str
    target: str
    request: Request
    stages: tuple[Stage, ...]
    digest: str
    mode: str = "cold"
    name: str = ""
    application: str = ""
    owner: str = ""
    depends_on: tuple[str, ...] = ()
    open: tuple[Gate, ...] = ()
    window: Window | None = None
    blackout: tuple[Blackout, ...] = ()
    zone: str = ""
    budget_s: int | None = None
    on_failure: str = "skip"
    finalize_after_s: int = 0
    commit_s: float = 300.0
    expected: tuple[tuple[Stage, float], ...] = ()
    data_bytes: int = 0
    hooks: tuple[Hook, ...] = ()
    checks: tuple[Check, ...] = ()
    findings: tuple[Finding, ...] = ()
    account: str = ""
    scratch: int = 0
    host_key: str = ""
    known_hosts: str = ""
    stores: tuple[str, ...] = ()

    @property
    def commit(self) -> Stage:
        """The stage that others wait for: the cut-over, or what comes nearest to it where there is none."""
        return next((stage for stage in (Stage.CUTOVER, Stage.TEST) if stage in self.stages), Stage.REPLICATE)

    def after(self, stage: Stage) -> Stage | None:
        """The stage that follows one of its own."""
        place = self.stages.index(stage) + 1
        return self.stages[place] if place < len(self.stages) else None


@dataclass(frozen=True, slots=True)
class Agreed:
    """What somebody said at a gate: yes or no, who, and when (seconds since the epoch)."""

    yes: bool
    who: str
    at: float


@dataclass(frozen=True, slots=True)
class Result:
    """What the machine's latest report says, and what its hooks and checks left to say (`said`)."""

    findings: tuple[Finding, ...] = ()
    said: tuple[Finding, ...] = ()
    verdict: str = ""
    sent_bytes: int = 0
    cut_over: str = ""
    finalized: str = ""
    rolled_back: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of a run as the state has it. `stage`: the one that it is at; `asked`: one that somebody wants now, over gates
    and windows. `standing`: what happened (waiting, running, blocked, failed, cancelled, rolled back, done); why it waits is
    decided anew each time. `epoch`: counts the claims, and fences who lost one. `since`: when its stage may begin (the last one
    ended); `not_before`: it is not tried earlier. `again`, `discard`, `anyway`: how the stage is to be done."""

    order: Order
    stage: Stage
    standing: Standing = Standing.WAITING
    asked: Stage | None = None
    why: str = ""
    remedy: str = ""
    agreed: Mapping[Gate, Agreed] = field(default_factory=dict)
    paused: bool = False
    again: bool = False
    discard: bool = False
    anyway: bool = False
    tries: int = 0
    worker: str = ""
    epoch: int = 0
    since: float = 0.0
    not_before: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    claimed: float = 0.0
    cut_over_at: float = 0.0
    downtime_s: float | None = None

    @property
    def id(self) -> str:
        return self.order.id

    @property
    def doing(self) -> Stage:
        """What is done with it now or next."""
        return self.asked or self.stage

    @property
    def committed(self) -> bool:
        """Whether it went through the stage that others wait for."""
        if self.standing is Standing.DONE:
            return True
        if self.standing is Standing.ROLLED_BACK:
            return False
        stages = self.order.stages
        return stages.index(self.stage) > stages.index(self.order.commit)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many at once: of the run, of a wave, and copies from a source or a datastore (`stores`); and how fast is sent over all
    of them (`line`), for a wave, from a source. `requests`: calls per second to an account, by `TargetFeatures.account`.
    `scratch`: bytes of a work folder that a machine takes at most, and of a wave's machines."""

    machines: int | None = None
    waves: Mapping[str, int] = field(default_factory=dict)
    copies: Mapping[str, int] = field(default_factory=dict)
    line: Rates = field(default_factory=Rates)
    wave_lines: Mapping[str, Rates] = field(default_factory=dict)
    source_lines: Mapping[str, Rates] = field(default_factory=dict)
    requests: Mapping[str, float] = field(default_factory=dict)
    scratch: int | None = None
    wave_scratch: Mapping[str, int] = field(default_factory=dict)
    stores: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """A manifest that is worked off. `until`: the last stage that is begun (None: all)."""

    id: str
    manifest: str
    digest: str
    began: float
    waves: tuple[str, ...]
    limits: Limits
    paused: bool = False
    until: Stage | None = None
