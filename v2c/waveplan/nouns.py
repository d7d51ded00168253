"""The nouns of a wave's plan. Sizes in bytes, times in seconds or as text of a moment in UTC."""

from dataclasses import dataclass
from datetime import datetime

from v2c.model import DiskPlan, Finding, Level, Machine, Price, Volume

# Until a wave has run nobody knows its line: a copy is taken to last between 0.8 and 2 times, everything else between 0.7 and
# 1.5 times of what was measured on one converter (bench/README.md). Assumptions, not measurements.
COPY_RANGE = (0.8, 2.0)
WORK_RANGE = (0.7, 1.5)
DELTA_SHARE = 0.05  # of a warm machine's data that the last difference is taken to be


@dataclass(frozen=True, slots=True)
class Span:
    """How long something lasts, in seconds: likely, and the range it is taken to lie in."""

    likely: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Described:
    """A machine as its source shows it, or as the manifest says (`read` is False). `failed`: it could not be read. `stores`: the
    datastores that it lies on, as far as they are known; `volumes`: what its disks are to be at its target."""

    machine: Machine
    findings: tuple[Finding, ...] = ()
    read: bool = False
    failed: bool = False
    stores: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()


@dataclass(frozen=True, slots=True)
class Choices:
    """How many converters work at once, what the line gives (bytes per second over all of them; 0: no limit), and the moment
    (UTC) at which the plan is made: a window that is over is missed."""

    now: datetime
    converters: int = 2
    bandwidth: int = 0


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """One machine's plan. `start` and `end`: when it is cut over, as packed into its window; "" when it has none (then
    `offset_s` says how long after the wave's begin) or does not fit. `digest`: of what the manifest says of it and its source
    shows, not of estimates, of what clouds say or of the day on which it was planned. `size`: the instance type that was named,
    or that its cloud chose when it was asked; `price`: of an hour of it, `storage`: of its disks. `reserves`: for how many hours
    capacity would be reserved for it (0: until it is given back), None: none."""

    id: str
    wave: str
    order: int
    source: str
    target: str
    platform: str
    mode: str
    size: str
    vcpus: int
    memory_mib: int
    disks: tuple[DiskPlan, ...]
    data_bytes: int
    duration: Span
    downtime: Span
    budget_s: int | None
    findings: tuple[Finding, ...]
    digest: str
    start: str = ""
    end: str = ""
    offset_s: float | None = None
    price: Price | None = None
    reserves: int | None = None
    storage: Price | None = None

    @property
    def blocked(self) -> bool:
        return any(f.level is Level.BLOCKER for f in self.findings)


@dataclass(frozen=True, slots=True)
class WaveSum:
    """A wave added up. `begins` and `ends`: of its cut-overs; `span_s`: from the first to the last."""

    name: str
    machines: int
    blocked: int
    vcpus: int
    memory_mib: int
    disks: int
    target_bytes: int
    data_bytes: int
    work_s: float
    span_s: float
    begins: str
    ends: str


@dataclass(frozen=True, slots=True)
class Instances:
    """So many machines that get an instance type; `hours`: for how long capacity would be reserved for them (0: until it is given
    back), None: it would not."""

    type: str
    count: int
    hours: int | None = None


@dataclass(frozen=True, slots=True)
class TargetSum:
    """What a target gets of all waves, and what is said of its quota. When its cloud was asked: `instances` by type (machines
    without one are not among them), what an hour of all costs by list (estimates; currencies are not mixed), `unpriced`: how many
    of them no list knows, the same of their disks (`storage`: of machines all of whose disks' types the list knows), and the
    reservations that would be made."""

    name: str
    to: str
    machines: int
    vcpus: int
    memory_mib: int
    target_bytes: int
    findings: tuple[Finding, ...]
    asked: bool = False
    instances: tuple[Instances, ...] = ()
    prices: tuple[Price, ...] = ()
    unpriced: int = 0
    storage: tuple[Price, ...] = ()
    reserved: tuple[Instances, ...] = ()


@dataclass(frozen=True, slots=True)
class WavePlan:
    """The plan of a manifest, or of some of its waves. A run can be bound to `digest`: it changes when a
    machine's does."""

    name: str
    converters: int
    bandwidth: int
    machines: tuple[MachinePlan, ...]
    waves: tuple[WaveSum, ...]
    targets: tuple[TargetSum, ...]
    digest: str

    @property
    def blocked(self) -> bool:
        """Whether anything stands in the way."""
        return any(m.blocked for m in self.machines) or any(
            f.level is Level.BLOCKER for target in self.targets for f in target.findings
        )
