"""What will be done with one machine: where it goes, as what, through which steps."""

from dataclasses import dataclass, replace
from enum import StrEnum

from v2c.model.findings import Finding, Level
from v2c.model.machine import Machine
from v2c.model.needs import AddressNeed, Needs

HOURS_A_MONTH = 730  # 365 days of 24 hours, a twelfth of them
OURS = "v2c-"  # tags that begin so are v2c's own: what it makes is found by them


class Step(StrEnum):
    """The steps of the journey, in order."""

    DESCRIBE = "describe"
    PLAN = "plan"
    RESERVE = "reserve"
    CAPTURE = "capture"
    FIX = "fix"
    REHEARSE = "rehearse"
    UPLOAD = "upload"
    VERIFY = "verify"
    REGISTER = "register"
    LAUNCH = "launch"
    VALIDATE = "validate"
    FINALIZE = "finalize"


class Verify(StrEnum):
    """How much of an upload is read back from the target and compared with what was sent."""

    SAMPLE = "sample"
    FULL = "full"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Repair:
    """What the user chose about the repair; part of a job's identity. `keys` are LUKS selectors ("SELECTOR:file:PATH" or
    "SELECTOR:env:NAME"): references, never the secret itself."""

    root: str = ""
    keys: tuple[str, ...] = ()
    addresses: tuple[AddressNeed, ...] = ()
    keep_network: bool = False
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Volume:
    """What a disk (its id) is to be at a cloud: its type there ("gp3", "pd-balanced", "Premium_LRS"; empty: the target's own
    default), and what is provisioned of it: operations per second, and MiB/s (0: what its type gives)."""

    disk: str
    type: str = ""
    iops: int = 0
    throughput: int = 0


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """One disk's way: the size the target gives it (bytes, at least the source's), its name there, and what it is there (as in
    `Volume`; a target without types of disks leaves it empty)."""

    disk: str
    name: str
    source_size: int
    target_size: int
    type: str = ""
    iops: int = 0
    throughput: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an instance is launched. `isolated`: reaches nothing but the metadata service (the default of every boot
    test); False only when the user asked for the network. `cutover`: this is the real instance, which stays and takes
    writes; else it is a test, which `stop` ends."""

    isolated: bool = True
    timeout_s: int = 600
    cutover: bool = False


@dataclass(frozen=True, slots=True)
class Price:
    """What an hour of an instance costs, in `currency`, by a price list of that `date` and `source`: an estimate."""

    hourly: float
    currency: str
    date: str
    source: str


@dataclass(frozen=True, slots=True)
class Declared:
    """What the user says must be so when the machine is up: ports that it listens on as "tcp 8080"; units that may fail
    (`failed_units` None: nothing said, empty: none may); `reach`: checks from this terminal (see `v2c.validate.reach`)."""

    listening: tuple[str, ...] = ()
    failed_units: tuple[str, ...] | None = None
    reach: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Machine + target + platform facts, decided. Pure: made from descriptors, reads no disk.

    `tags`: the user's own, for the instance and its disks, beside those that v2c finds its things by. `price`: of the instance;
    `storage`: of all its disks."""

    job: str
    machine: Machine
    target: str
    platform: str
    disks: tuple[DiskPlan, ...]
    needs: Needs
    repair: Repair = Repair()
    instance_type: str = ""
    steps: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    data_bytes: int = 0
    seconds: float = 0.0
    declared: Declared = Declared()
    price: Price | None = None
    tags: tuple[tuple[str, str], ...] = ()
    storage: Price | None = None

    def typed(self, default: str) -> "Plan":
        """The plan whose disks all have a type: their own, or else this."""
        return replace(self, disks=tuple(disk if disk.type else replace(disk, type=default) for disk in self.disks))

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """The findings that stop the migration."""
        return tuple(f for f in self.findings if f.level is Level.BLOCKER)
