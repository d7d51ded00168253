"""What the repair did to a guest, and what the guest can drive afterwards."""

from dataclasses import dataclass
from enum import StrEnum

from v2c.model.facts import Facts
from v2c.model.findings import Finding
from v2c.model.machine import Firmware


class ChangeKind(StrEnum):
    """What happened to a path of the guest."""

    CREATED = "created"
    CHANGED = "changed"
    REMOVED = "removed"
    RENAMED = "renamed"
    LINKED = "linked"
    MODE = "mode"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the ledger: which fix changed which path and how.

    `diff` is a unified diff with secrets redacted, or one sentence for binaries and for files nobody but root may read.
    """

    fix: str
    kind: ChangeKind
    path: str
    diff: str = ""


@dataclass(frozen=True, slots=True)
class KernelCaps:
    """What one kernel and its initramfs were proven to hold: module names, and those built into the kernel."""

    release: str
    initramfs: tuple[str, ...] = ()
    builtin: tuple[str, ...] = ()
    present: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Caps:
    """What the repaired guest can drive and how it boots. Targets choose the firmware, controllers and NICs from it.

    `secure_boot`: all that is started of it is signed, the first by whom the target trusts (only asked with `Needs.trusts`)."""

    firmware: Firmware
    architecture: str = "x86_64"
    boot_disk: str = ""
    kernels: tuple[KernelCaps, ...] = ()
    secure_boot: bool = False

    def drives(self, module: str) -> bool:
        """Whether every kernel that may boot can load the module (or has it built in)."""
        return bool(self.kernels) and all(module in k.initramfs + k.builtin + k.present for k in self.kernels)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A repaired machine: its overlays (disk id -> file), the generation they carry, and the whole story of the repair."""

    generation: str
    overlays: tuple[tuple[str, str], ...]
    caps: Caps
    facts: Facts
    reasons: tuple[tuple[str, str], ...] = ()
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()
