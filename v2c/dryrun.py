"""Dry runs: the story is told with a target that tells its calls instead of making them.

The verbs of the target run their own code, so the list is what a real run would do from the state that things are in. Only what
needs the machine's bytes has a stand-in here: the repair (it is taken to succeed), the upload (a block stands for all), boots.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from v2c.engine import Steps
from v2c.errors import UsageError
from v2c.events import Meter
from v2c.journal import Intent, Journal, MemoryJournal
from v2c.model import Caps, Facts, Firmware, Fitted, KernelCaps, Observation, Placement, Plan
from v2c.pipeline import Request, Uploaded, travel
from v2c.sources import Source
from v2c.targets import Call, Target, Tell
from v2c.transfer import TransferResult
from v2c.validate.boot import Evidence

T = TypeVar("T")


@dataclass
class Recorder:
    """Hears the calls of a dry run. While `most` is set, each stands for up to so many of its kind."""

    calls: list[Call] = field(default_factory=list)
    most: int = 0

    def __call__(self, call: Call) -> None:
        if self.most:
            detail = f"{call.detail}, and up to {self.most - 1} more" if call.detail else f"up to {self.most} of them"
            call = replace(call, detail=detail)
        self.calls.append(call)


def dry(target: Target, tell: Tell, locator: str) -> Target:
    """The target for a dry run. UsageError when it has none."""
    if not target.features.dry:
        raise UsageError(f"{locator} cannot tell what it would do", remedy="leave --dry-run out; `v2c plan` shows the plan")
    return target.dry(tell)


def remembered(journal: Journal) -> MemoryJournal:
    """A copy of a job's journal: what was made is known to the dry run, and what it writes is forgotten."""
    made = [Intent(ref.kind, ref.id, {}, ref) for ref in journal.refs()]
    return MemoryJournal(journal.job, [*made, *journal.pending()])


class DrySteps(Steps):
    """Steps that are done at once and remembered by nobody, some of them by a stand-in."""

    def __init__(self, target: Target, journal: Journal, recorder: Recorder) -> None:
        super().__init__(journal.job, _never, lambda _: None)
        self.target, self.journal, self.recorder = target, journal, recorder
        self._made: dict[str, Any] = {}

    def __call__(self, name: str, do: Callable[[Meter], T], *, returns: type[T], retries: int = 0) -> T:
        stand_ins: dict[str, Callable[[], Any]] = {
            "fix": self._fix,
            "rehearse": lambda: Observation("off", alive=False),
            "upload": self._upload,
            "verify": tuple,
            "validate": self._validate,
            "confirm": _silence,
            "finalize": int,
        }
        value: T = stand_ins[name]() if name in stand_ins else do(Meter(self.job, name))
        self._made[name] = value
        return value

    def _fix(self) -> Fitted:
        plan: Plan = self._made["plan"]
        needs = plan.needs
        kernel = KernelCaps("repaired", needs.initramfs_required, (), (*needs.initramfs_wanted, *needs.modules_present))
        signed = bool(needs.trusts) and needs.firmware is Firmware.UEFI
        caps = Caps(needs.firmware, boot_disk=plan.machine.disks[0].id, kernels=(kernel,), secure_boot=signed)
        facts = Facts("", "", "", "", "x86_64", "")
        return Fitted("dry-run", (), caps, facts)

    def _upload(self) -> Uploaded:
        plan: Plan = self._made["plan"]
        refs = []
        for disk, planned in zip(plan.machine.disks, plan.disks, strict=True):
            chunk = self.target.features.chunk
            block = bytes(min(chunk, planned.target_size))
            with self.target.writer(plan, disk, None, self.journal) as writer:
                writer.expect([0])
                self.recorder.most = -(-(disk.allocated or disk.size) // chunk)
                writer.put(0, block, hashlib.sha256(block).digest())
                self.recorder.most = 0
                refs.append(writer.commit())
        return Uploaded(tuple(refs), tuple(TransferResult(0, 0, 0, "") for _ in refs))

    def _validate(self) -> Evidence:
        self.target.stop(self._made["launch"], self.journal)
        return _silence()


def convert(
    request: Request, source: Source, target: Target, journal: Journal, recorder: Recorder, *, cutover: bool = False
) -> Plan:
    """Tells what moving the machine would change; `target` and `journal` are those of the dry run. BlockedError as in earnest."""
    steps = DrySteps(target, journal, recorder)
    report = travel(steps, request, journal, source, target)
    assert report.plan
    if cutover and report.image:
        target.launch(report.plan, report.image, Placement(isolated=False, cutover=True), journal, Meter(request.job))
    return report.plan


def _silence() -> Evidence:
    return Evidence(Observation("off", alive=False), failure="this was a dry run")


def _never(*_: object) -> Any:
    raise AssertionError("a dry run has no engine")
