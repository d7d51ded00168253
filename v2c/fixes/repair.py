"""Runs the fixes over one guest, in order, and holds each to its word."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from v2c.errors import BlockedError, GuestError, UsageError
from v2c.events import Meter
from v2c.fixes import FIXES, INITRAMFS, Fix, support
from v2c.fixes.linux import secureboot
from v2c.guest.ledger import Ledger
from v2c.model import Caps, Change, Finding, Level, Needs

SLOW = {INITRAMFS.id: "initramfs"}  # fixes that are timed under a name of their own


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was found (fix id, reason), what was changed, what the user should know, what the guest can drive now."""

    reasons: tuple[tuple[str, str], ...]
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    caps: Caps


def repair(guest: Ledger, needs: Needs, *, skip: Sequence[str] = (), meter: Meter) -> Repaired:
    """Repairs a guest; twice is harmless, the second time changes nothing.

    `skip` names fixes that are left out. BlockedError when a fix finds what no repair can help; GuestError when a fix fails, or
    finds its own reason again after it was applied. Phases: repair, initramfs, proof.
    """
    unknown = sorted(set(skip) - {fix.id for fix in FIXES})
    if unknown:
        raise UsageError(f"there is no fix {', '.join(unknown)}", remedy=f"choose from {', '.join(f.id for f in FIXES)}")
    for stranger in support.findings(guest.facts, needs.system):
        meter.found(stranger)
        raise BlockedError(stranger.text, remedy=stranger.remedy)
    reasons: list[tuple[str, str]] = []
    findings: list[Finding] = []
    for phase, fixes in groupby(FIXES, key=lambda fix: SLOW.get(fix.id, "repair")):
        with meter.phase(phase):
            for fix in fixes:
                if fix.id not in skip:
                    with guest.doing(fix.id):
                        findings += _one(fix, guest, needs, reasons, meter)
    with meter.phase("proof"):
        for fix in FIXES:
            undone = fix.detect(guest, needs) if fix.id in dict(reasons) else None
            if undone is not None:
                raise GuestError(f'what the fix "{fix.id}" did was undone by a later one: {undone}', remedy="report this guest")
        caps, unsigned = secureboot.judged(guest, needs, INITRAMFS.prove(guest, needs))
        for finding in unsigned:
            meter.found(finding)
    return Repaired(tuple(reasons), guest.changes, (*findings, *unsigned), caps)


def _one(fix: Fix, guest: Ledger, needs: Needs, reasons: list[tuple[str, str]], meter: Meter) -> list[Finding]:
    """Runs one fix; adds its reason, answers its findings."""
    reason = fix.detect(guest, needs)
    findings = list(fix.findings(guest, needs))
    for finding in findings:
        meter.found(finding)
        if finding.level is Level.BLOCKER:
            raise BlockedError(f"{finding.subject}: {finding.text}", remedy=finding.remedy)
    if reason is not None:
        meter.note(f"{fix.title}: {reason}")
        reasons.append((fix.id, reason))
        fix.apply(guest, needs)
        again = fix.detect(guest, needs)
        if again is not None:
            raise GuestError(f'the fix "{fix.id}" was applied, and yet {again}', remedy=f"leave it out with --skip {fix.id}")
    return findings
