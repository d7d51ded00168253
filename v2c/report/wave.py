"""A run as one report: HTML for people, JSON for programs, CSV for tables (a row a machine), JUnit XML for pipelines (a case a
machine). Pure: a snapshot in, and what was found left when somebody listed it; text out."""

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pydantic import TypeAdapter

import v2c
from v2c.model import Finding, Level, Ref
from v2c.model.wave import MachineView, Snapshot, Standing
from v2c.report import harmless
from v2c.report.page import size, span, template

FORMS = ("html", "json", "csv", "junit")
NOTHING: "Mapping[str, Remains]" = {}


@dataclass(frozen=True, slots=True)
class Remains:
    """What a machine's target and source still held of it when they were asked, at `at` (seconds since the epoch).

    `left`: what is ours by its tag. `why`: a sentence when one of them could not be asked; then nothing is proven.
    """

    at: float
    left: tuple[Ref, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A machine as the report tells it: `seconds` from its first step to its end, `findings` worst first; `late` says whether its
    downtime passed its budget, None when it has none of either. `link`: where its own report is, or nothing."""

    one: MachineView
    seconds: float
    findings: tuple[Finding, ...]
    late: bool | None
    link: str
    remains: Remains | None

    @property
    def left(self) -> str:
        """What was left of it, as a sentence: the proof, or why there is none."""
        found = self.remains
        if found is None:
            return "not listed"
        if found.why:
            return f"could not be listed: {found.why}"
        if not found.left:
            return "nothing is left"
        named = ", ".join(f"{ref.kind} {ref.id}" for ref in found.left)
        in_use = self.one.cut_over and not self.one.rolled_back
        return f"in use: {named}" if in_use else f"kept: {named}"


def _folder(one: MachineView) -> str:
    return f"file://{one.folder}/report.html" if one.folder else ""


def render(
    seen: Snapshot,
    form: str,
    remains: Mapping[str, Remains] = NOTHING,
    link: Callable[[MachineView], str] = _folder,
) -> str:
    """The report in one of FORMS. `remains`: machine id -> what was left when it was listed; `link`: where a machine's own report
    is."""
    made: dict[str, Callable[[Snapshot, list[Row]], str]] = {"html": _html, "json": _json, "csv": _csv, "junit": _junit}
    return made[form](harmless.every(seen), rows(seen, remains, link))


def rows(seen: Snapshot, remains: Mapping[str, Remains] = NOTHING, link: Callable[[MachineView], str] = _folder) -> list[Row]:
    """A row a machine, in their order, with all that strangers said made harmless."""
    return [_row(harmless.every(one), seen.at, link(one), harmless.every(remains.get(one.id))) for one in seen.machines]


def totals(seen: Snapshot, rows: Sequence[Row]) -> dict[str, Any]:
    """The sums: machines by standing, verdicts, bytes, seconds of work, downtime."""
    downs = [row.one.downtime_s for row in rows if row.one.downtime_s is not None]
    listed = [row for row in rows if row.remains is not None and not row.remains.why]
    return {
        "machines": len(rows),
        "standings": dict(Counter(str(row.one.standing) for row in rows)),
        "verdicts": dict(Counter(row.one.verdict for row in rows if row.one.verdict)),
        "data_bytes": sum(row.one.data_bytes for row in rows),
        "sent_bytes": sum(row.one.sent_bytes for row in rows),
        "work_s": sum((s.ended or seen.at) - s.began for row in rows for s in row.one.spans),
        "lasted_s": max(0.0, (seen.ended if seen.over and seen.ended else seen.at) - seen.began) if seen.began else 0.0,
        "cut_over": sum(bool(row.one.cut_over) for row in rows),
        "downtime_longest_s": max(downs, default=None),
        "downtime_sum_s": sum(downs),
        "over_budget": sum(bool(row.late) for row in rows),
        "listed": len(listed),
        "with_something_left": sum(bool(row.remains and row.remains.left) for row in listed),
    }


def _row(one: MachineView, now: float, link: str, remains: Remains | None) -> Row:
    order = [Level.BLOCKER, Level.WARNING, Level.INFO]
    ended = one.ended or (max((span.ended or now for span in one.spans), default=one.began))
    late = one.downtime_s > one.budget_s if one.downtime_s is not None and one.budget_s is not None else None
    findings = tuple(sorted(one.findings, key=lambda f: order.index(f.level)))
    return Row(one, max(0.0, ended - one.began) if one.began else 0.0, findings, late, link, remains)


def _html(seen: Snapshot, rows: list[Row]) -> str:
    waves = [(name, [row for row in rows if row.one.wave == name]) for name in seen.waves]
    return template("wave.html").render(
        seen=seen,
        waves=[(name, members, Counter(str(row.one.standing) for row in members)) for name, members in waves if members],
        findings=[(row, finding) for row in rows for finding in row.findings if finding.level is not Level.INFO],
        listed=[row for row in rows if row.remains is not None],
        totals=totals(seen, rows),
        state="over" if seen.over else "paused" if seen.paused else "not over",
        when=clock,
        span=span,
        size=size,
        seconds=_seconds,
        version=v2c.__version__,
    )


def clock(at: float) -> str:
    """A time for people, with its zone; nothing for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(at)) if at else ""


def _seconds(value: float | None) -> str:
    return "–" if value is None else span(value)  # noqa: RUF001 - a dash on paper


def _json(seen: Snapshot, rows: list[Row]) -> str:
    whole = TypeAdapter(Snapshot).dump_python(seen, mode="json")
    for machine, row in zip(whole["machines"], rows, strict=True):
        machine |= {"seconds": row.seconds, "over_budget": row.late, "left": row.left}
        machine["remains"] = TypeAdapter(Remains | None).dump_python(row.remains, mode="json")
    return json.dumps({"totals": totals(seen, rows), **whole}, indent=2) + "\n"


COLUMNS: tuple[tuple[str, Callable[[Row], object]], ...] = (
    ("wave", lambda row: row.one.wave),
    ("order", lambda row: row.one.order),
    ("id", lambda row: row.one.id),
    ("name", lambda row: row.one.name),
    ("application", lambda row: row.one.application),
    ("owner", lambda row: row.one.owner),
    ("source", lambda row: row.one.source),
    ("target", lambda row: row.one.target),
    ("mode", lambda row: row.one.mode),
    ("stage", lambda row: row.one.stage),
    ("standing", lambda row: row.one.standing),
    ("verdict", lambda row: row.one.verdict),
    ("reason", lambda row: row.one.why),
    ("remedy", lambda row: row.one.remedy),
    ("began", lambda row: _utc(row.one.began)),
    ("ended", lambda row: _utc(row.one.ended)),
    ("seconds", lambda row: f"{row.seconds:.0f}"),
    ("downtime_s", lambda row: "" if row.one.downtime_s is None else f"{row.one.downtime_s:.0f}"),
    ("budget_s", lambda row: "" if row.one.budget_s is None else row.one.budget_s),
    ("over_budget", lambda row: "" if row.late is None else "yes" if row.late else "no"),
    ("data_bytes", lambda row: row.one.data_bytes),
    ("sent_bytes", lambda row: row.one.sent_bytes),
    ("blockers", lambda row: sum(f.level is Level.BLOCKER for f in row.findings)),
    ("warnings", lambda row: sum(f.level is Level.WARNING for f in row.findings)),
    ("agreed", lambda row: "; ".join(f"{gate}: {who}" for gate, who in row.one.approvals)),
    ("cut_over", lambda row: row.one.cut_over),
    ("finalized", lambda row: row.one.finalized),
    ("rolled_back", lambda row: row.one.rolled_back),
    ("left", lambda row: row.left),
    ("job", lambda row: row.one.job),
    ("report", lambda row: row.one.folder and f"{row.one.folder}/report.html"),
    ("host", lambda row: row.one.host),
)


def _csv(seen: Snapshot, rows: list[Row]) -> str:
    """For Excel as for programs: with a mark, times in UTC, formulas defused."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["run", *(name for name, _ in COLUMNS)])
    writer.writerows([_safe(str(cell)) for cell in (seen.run, *(value(row) for _, value in COLUMNS))] for row in rows)
    return "\ufeff" + out.getvalue()


def _safe(cell: str) -> str:
    """A cell that a spreadsheet does not calculate."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) if at else ""


def _junit(seen: Snapshot, rows: list[Row]) -> str:
    """A suite a wave, a case a machine: what did not go as meant fails, what is not over is skipped. (junit-10.xsd)"""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seen.began or seen.at))
    suites = []
    for wave in seen.waves:
        members = [row for row in rows if row.one.wave == wave]
        failed = sum(_outcome(row) == "failure" for row in members)
        skipped = sum(_outcome(row) == "skipped" for row in members)
        counts = f'tests="{len(members)}" failures="{failed}" errors="0" skipped="{skipped}"'
        lasted = sum(row.seconds for row in members)
        suites.append(f'<testsuite name="{escape(wave)}" {counts} time="{lasted:.3f}" timestamp="{stamp}">')
        suites += [_case(seen, row) for row in members]
        suites.append("</testsuite>")
    body = "\n".join(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="{escape(seen.run)}">\n{body}\n</testsuites>\n'


def _outcome(row: Row) -> str:
    if not row.one.standing.good or row.late or row.one.verdict == "fail":
        return "failure"
    return "" if row.one.standing is Standing.DONE else "skipped"


def _case(seen: Snapshot, row: Row) -> str:
    one, told = row.one, [f"{f.level}: {f.subject}: {f.text}" for f in row.findings]
    summary = f"{one.stage}: {one.standing}" + (f": {one.why}" if one.why else "")
    if row.late:
        told.append(f"down for {_seconds(one.downtime_s)}, with a budget of {_seconds(one.budget_s)}")
    inner = {
        "failure": f'<failure message="{escape(summary)}" type="{escape(one.standing)}">{escape(one.remedy)}</failure>',
        "skipped": f'<skipped message="{escape(summary)}"/>',
    }.get(_outcome(row), "")
    words = escape("\n".join((summary, *told, row.left)))
    head = f'<testcase classname="{escape(seen.run)}.{escape(one.wave)}" name="{escape(one.id)}" time="{row.seconds:.3f}">'
    return f"{head}{inner}<system-out>{words}</system-out></testcase>"
