"""Results on stdout: for people, or as one JSON document. Text of guests is made harmless."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from v2c.model import HOURS_A_MONTH, Check, DiskPlan, Facts, Finding, Fitted, Level, Plan, Price, Ref, Report, Verdict
from v2c.targets import Call
from v2c.ui.words import clean, finding, size, span

DONE, FAILED, PARTLY, BLOCKED = 0, 1, 3, 4  # PARTLY: some machines of several failed


def document(value: Any) -> None:
    """One JSON document: fields as in `v2c.model`."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def line(text: str = "") -> None:
    """One line for people."""
    click.echo(clean(text))


def table(rows: Iterable[Sequence[str]], indent: str = "  ") -> None:
    """Rows of equal length, in columns; the last one is as wide as it likes."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)] if rows else []
    for row in rows:
        line(indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def findings(found: Sequence[Finding]) -> int:
    """Findings, worst first; BLOCKED when one of them would stop a conversion."""
    order = [Level.BLOCKER, Level.WARNING, Level.INFO]
    if found:
        line("findings:")
    for one in sorted(found, key=lambda f: order.index(f.level)):
        line(f"  {finding(one)}")
    return BLOCKED if any(f.level is Level.BLOCKER for f in found) else DONE


def report(done: Report, folder: Path, as_json: bool) -> int:
    """The end of a conversion or a validation: checks that did not pass, the report's path, and the verdict as last line."""
    if as_json:
        document(done)
        return code(done)
    findings([f for f in done.findings if f.level is not Level.INFO])
    odd = [c for c in done.checks if c.verdict is Verdict.FAIL]
    if odd:
        line("failed checks:")
        table([(c.subject, f"expected {c.expected or '-'} ({c.expectation})", f"seen {c.seen or '-'}") for c in odd])
    for unproven in done.unproven:
        line(f"not proven: {unproven}")
    line(f"{done.machine} -> {done.target}: {_counted(done.checks)}{_took(done)}")
    if done.cut_over:
        line(f"cut over: {done.instance.id if done.instance else 'the target'} takes writes since {done.cut_over}")
    for what, when in (("finalized", done.finalized), ("rolled back", done.rolled_back)):
        if when:
            line(f"{what}: {when}")
    line(f"report: {folder / 'report.html'}")
    line(str(done.verdict).upper())
    return code(done)


def removed(job: str, gone: Sequence[Ref], as_json: bool, last: str) -> int:
    """What is gone, and the sentence that ends it."""
    if as_json:
        document({"job": job, "removed": gone})
        return DONE
    for ref in gone:
        line(f"removed {ref.kind} {ref.id}")
    line(last)
    return DONE


def calls(told: Sequence[Call], as_json: bool) -> int:
    """What a dry run would change, in order."""
    if as_json:
        document([{**dataclasses.asdict(call), "tags": dict(call.tags)} for call in told])
        return DONE
    for number, call in enumerate(told, 1):
        tags = " ".join(f"{key}={value}" for key, value in call.tags)
        line(
            f"{number}. {call.name} {call.subject}"
            + (f" ({call.detail})" if call.detail else "")
            + (f" [{tags}]" if tags else "")
        )
    line("nothing was changed" if told else "nothing would be changed")
    return DONE


def code(done: Report) -> int:
    """The exit code of a verdict."""
    return FAILED if done.verdict is Verdict.FAIL else DONE


def _counted(checks: Sequence[Check]) -> str:
    if not checks:
        return "nothing was booted, so nothing was compared"
    counts = {verdict: sum(c.verdict is verdict for c in checks) for verdict in Verdict}
    words = [f"{counts[Verdict.PASS]} of {len(checks)} checks pass"]
    words += [f"{count} {verdict}" for verdict, count in counts.items() if count and verdict is not Verdict.PASS]
    return ", ".join(words)


def _took(done: Report) -> str:
    seconds = sum(step.seconds for step in done.steps)
    moved = sum(step.bytes for step in done.steps if step.name == "upload")
    return f"; {span(seconds)} of work" + (f", {size(moved)} sent" if moved else "")


def facts(seen: Facts, found: Sequence[Finding], as_json: bool) -> int:
    """What is inside a machine."""
    if as_json:
        document({"facts": seen, "findings": found})
        return BLOCKED if any(f.level is Level.BLOCKER for f in found) else DONE
    line(f"{seen.title or seen.distribution} ({seen.architecture}), host name {seen.hostname or 'unknown'}")
    rows = [
        ("root", f"{seen.root} {seen.root_type} {seen.root_uuid} on {seen.boot_disk or 'several disks'}"),
        ("firmware", seen.firmware or "unknown"),
        ("boot loader", ", ".join(seen.bootloaders) or "none found"),
        ("initramfs", seen.initramfs_tool or "no tool found"),
        *(("kernel", f"{k.release}{' (default)' if k.release == seen.default_kernel else ''}") for k in seen.kernels),
        *(("filesystem", f"{f.device} {f.type} {f.uuid} {f.label}".rstrip()) for f in seen.filesystems),
        *(("mount", f"{m.where} from {m.spec}{'' if m.device else ' (not on these disks)'}") for m in seen.mounts),
        *(("swap", s.spec) for s in seen.swaps),
        ("network", ", ".join(seen.network) or "nothing found"),
        *(("address", a) for a in seen.addresses),
        ("tools", ", ".join(seen.tools) or "none"),
        ("services", f"{len(seen.enabled_units)} enabled"),
        ("users", ", ".join(u.name for u in seen.users if 1000 <= u.uid < 60000) or "system users only"),
    ]
    table(rows)
    return findings(found)


def priced(price: Price) -> str:
    """What an hour and a month cost, by which list."""
    month = price.hourly * HOURS_A_MONTH
    words = f"about {price.hourly:.4g} {price.currency} an hour, {month:.0f} a month, without disks and traffic"
    return f"{words} (estimated by prices of {price.date}: {price.source})"


def _disk(disk: DiskPlan) -> str:
    more = [f"{count} {unit}" for count, unit in ((disk.iops, "iops"), (disk.throughput, "MiB/s")) if count]
    kind = "".join(f", {word}" for word in (disk.type, *more) if word)
    return f"{disk.disk}: {size(disk.source_size)} -> {disk.name}, {size(disk.target_size)}{kind}"


def stored(price: Price) -> str:
    """What disks cost for a month, by which list."""
    month = price.hourly * HOURS_A_MONTH
    words = f"about {month:.4g} {price.currency} a month, without what is provisioned above their size"
    return f"{words} (estimated by prices of {price.date}: {price.source})"


def plan(made: Plan, fitted: Fitted | None, as_json: bool) -> int:
    """What would be done; after a repair on trial, what it changed."""
    if as_json:
        document({"plan": made, "repair": fitted})
        return BLOCKED if made.blockers else DONE
    machine = made.machine
    line(f"{machine.name} -> {made.target}: {' -> '.join(made.steps)}")
    table(
        [
            ("machine", f"{machine.memory_mib} MiB, {machine.vcpus} processors, {machine.firmware or made.needs.firmware}"),
            *([("type", made.instance_type + (f": {priced(made.price)}" if made.price else ""))] if made.instance_type else []),
            *([("tags", ", ".join(f"{key}={value}" for key, value in made.tags))] if made.tags else []),
            *(("disk", _disk(disk)) for disk in made.disks),
            *([("disks", stored(made.storage))] if made.storage else []),
            ("data", f"at most {size(made.data_bytes)} to send"),
            ("time", f"about {span(made.seconds)}"),
            ("initramfs", " ".join(made.needs.initramfs_required) or "as it is"),
            ("kernel line", " ".join((*made.needs.kernel_add, *(f"console={c}" for c in made.needs.consoles)))),
        ]
    )
    stopped = findings((*made.findings, *(fitted.findings if fitted else ())))
    if fitted:
        line("repairs:")
        table([(fix, why) for fix, why in fitted.reasons])
        for change in fitted.changes:
            line(f"--- {change.fix}: {change.kind} {change.path}")
            if change.diff:
                line(change.diff.rstrip("\n"))
    return stopped
