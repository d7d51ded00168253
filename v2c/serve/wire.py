"""A snapshot as the page reads it: the run's head, a row for each machine, and one machine in full.

Text of strangers loses what no document should hold (`v2c.report.harmless`); the page sets the rest as text, never as markup.
"""

import re
from collections.abc import Iterable
from typing import Any

from v2c.model import Act, Level
from v2c.model.wave import MachineView, Snapshot
from v2c.report import harmless


def head(seen: Snapshot) -> dict[str, Any]:
    """What is true of the run as a whole, without its machines. Times in seconds since the epoch, sizes in bytes."""
    manifest, digest, waves, workers = harmless.every((seen.manifest, seen.digest, seen.waves, seen.workers))
    return {
        "run": seen.run,
        "manifest": manifest,
        "digest": digest,
        "at": seen.at,
        "began": seen.began,
        "ended": seen.ended,
        "paused": seen.paused,
        "over": seen.over,
        "rate": seen.rate,
        "waves": list(waves),
        "workers": [
            {"id": one.id, "host": one.host, "pid": one.pid, "heard": one.heard, "alive": one.alive, "slots": one.slots}
            | {"busy": len(one.machines)}
            for one in workers
        ],
    }


def acts(told: Iterable[Act]) -> list[dict[str, Any]]:
    """What operators did, oldest first."""
    return [
        {"at": act.at, "who": act.who, "host": act.host, "what": act.what, "detail": act.detail}
        for act in harmless.every(tuple(told))
    ]


def row(machine: MachineView) -> dict[str, Any]:
    """A machine as its row needs it. (What makes ids harmless changes none that a manifest may hold.)"""
    one = harmless.every(machine)
    return {
        "id": one.id,
        "wave": one.wave,
        "order": one.order,
        "name": one.name,
        "source": one.source,
        "target": one.target,
        "application": one.application,
        "owner": one.owner,
        "stage": one.stage,
        "standing": one.standing,
        "why": one.why,
        "gate": one.gate,
        "budget": one.budget_s,
        "downtime": one.downtime_s,
        "expected": one.expected_s,
        "began": one.began,
        "ended": one.ended,
        "data": one.data_bytes,
        "sent": one.sent_bytes,
        "spans": [[span.stage, span.step, span.began, span.ended, span.bytes, span.error] for span in one.spans],
        "moving": _moving(one),
        "window": [*one.window.free] if one.window else [],
        "findings": [sum(f.level is level for f in one.findings) for level in (Level.BLOCKER, Level.WARNING, Level.INFO)],
        "verdict": one.verdict,
        "report": bool(one.folder),
    }


def detail(seen: Snapshot, machine: MachineView) -> dict[str, Any]:
    """Everything that is known of one machine."""
    one = harmless.every(machine)
    return row(machine) | {
        "job": one.job,
        "mode": one.mode,
        "remedy": one.remedy,
        "approvals": [*one.approvals],
        "depends_on": [*one.depends_on],
        "zone": one.window.zone if one.window else "",
        "opens": one.window.start if one.window else 0,
        "closes": one.window.end if one.window else 0,
        "worker": one.worker,
        "host": one.host,
        "cut_over": one.cut_over,
        "finalized": one.finalized,
        "rolled_back": one.rolled_back,
        "steps": [
            {"stage": s.stage, "step": s.step, "worker": s.worker, "began": s.began, "ended": s.ended, "bytes": s.bytes}
            | {"error": s.error}
            for s in one.spans
        ],
        "told": [
            {"level": f.level, "subject": f.subject, "text": f.text, "remedy": f.remedy, "id": f.id}
            for level in (Level.BLOCKER, Level.WARNING, Level.INFO)
            for f in one.findings
            if f.level is level
        ],
        "acts": acts(act for act in seen.acts if machine.id in re.split(r"[\s,]+", act.detail)),
    }


def _moving(one: MachineView) -> dict[str, Any] | None:
    now = one.moving
    if now is None:
        return None
    return {"step": now.step, "phase": now.phase, "done": now.done, "total": now.total, "rate": now.rate}
