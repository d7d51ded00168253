"""What the booted machine showed, and what that proves."""

from dataclasses import dataclass
from enum import StrEnum

from v2c.model.change import Change
from v2c.model.facts import Facts
from v2c.model.findings import Finding
from v2c.model.plan import Plan, Verify
from v2c.model.refs import Ref


class Expectation(StrEnum):
    """Where a check's expected value comes from. SENT: the digests of what was uploaded. TARGET: the
    target's own check. NONE: nothing to compare with, the
    verdict is `observed`."""

    INSPECTED = "inspected"
    LIVE = "live"
    DECLARED = "declared"
    SENT = "sent"
    TARGET = "target"
    NONE = "none"


class Verdict(StrEnum):
    """The outcome of a check, or of a whole report."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    OBSERVED = "observed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class StatusCheck:
    """A check that a cloud makes of an instance by itself ("system status"): PASS, FAIL, or OBSERVED while it is not done; and
    the cloud's own words."""

    name: str
    verdict: Verdict
    words: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What a target can say about an instance. `console` is the serial text so far (bytes decoded as UTF-8 with
    replacement; hostile), `screenshot` a PNG file's path or empty, `alive` whether it still runs, `statuses` the target's own
    checks of it."""

    state: str
    alive: bool
    console: str = ""
    screenshot: str = ""
    addresses: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    statuses: tuple[StatusCheck, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """What the probe inside the guest told, by section ("hostname", "mounts", ...): raw command output, hostile text."""

    nonce: str
    sections: tuple[tuple[str, str], ...]

    def __getitem__(self, key: str) -> str:
        return dict(self.sections).get(key, "")


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: `subject` ("hostname", "mount /srv"), what was expected and on what grounds, what was seen."""

    id: str
    subject: str
    expectation: Expectation
    expected: str
    seen: str
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """One disk, read back from the target: of its `written` blocks that many came back with the digest that was sent, and
    that many `zeros` blocks, where nothing was sent, as zeros; `bytes` in all. A difference is an error, never one of these."""

    disk: str
    mode: Verify
    written: int
    blocks: int
    zeros: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step as it went: seconds of work (the last attempt), bytes it moved, attempts, and its phases in seconds."""

    name: str
    seconds: float
    bytes: int = 0
    attempts: int = 1
    phases: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Act:
    """A line of who did what: `at` seconds since the epoch, `who` on `host` (process `pid`)."""

    at: float
    who: str
    host: str
    pid: int
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is told about one migration. Rendered as HTML, JSON and JUnit by `v2c.report`.

    `plan` and `facts` (as inspected before the repair) are what a later `v2c validate` compares the instance, launched
    from `image` again, with. `acts`: all that was done for the job, in order; `cut_over`: since when the target takes writes,
    `finalized`, `rolled_back`: when that was done ("2026-01-02 03:04:05+0000"), empty when it was not.
    """

    job: str
    machine: str
    source: str
    target: str
    verdict: Verdict
    checks: tuple[Check, ...] = ()
    findings: tuple[Finding, ...] = ()
    changes: tuple[Change, ...] = ()
    reasons: tuple[tuple[str, str], ...] = ()
    steps: tuple[StepRecord, ...] = ()
    image: Ref | None = None
    instance: Ref | None = None
    console: str = ""
    screenshot: str = ""
    unproven: tuple[str, ...] = ()
    host: str = ""
    user: str = ""
    started: str = ""
    ended: str = ""
    plan: Plan | None = None
    facts: Facts | None = None
    acts: tuple[Act, ...] = ()
    cut_over: str = ""
    finalized: str = ""
    rolled_back: str = ""
