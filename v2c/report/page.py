"""The report as one HTML file that needs nothing else: no script, no font, no address; the screenshot is inside."""

import base64
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

import v2c
from v2c.model import MIB, Change, Finding, Level, Report, StepRecord, Verdict
from v2c.report import harmless

SCREENSHOT_LIMIT = 8 * MIB  # bytes; QEMU's are a few hundred KiB
_PNG = b"\x89PNG\r\n\x1a\n"
_ROW, _LABEL, _BAR = 26, 110, 460  # of the chart, in its own units


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the chart."""

    name: str
    y: int
    width: float
    label: str


@dataclass(frozen=True, slots=True)
class Repair:
    """What one fix did, and why."""

    fix: str
    reasons: tuple[str, ...]
    changes: tuple[Change, ...]


def page(report: Report) -> str:
    """The HTML. The report's strings must be harmless already."""
    order = [Level.BLOCKER, Level.WARNING, Level.INFO]
    findings: list[Finding] = sorted(report.findings, key=lambda f: order.index(f.level))
    return template("template.html").render(
        report=report,
        version=v2c.__version__,
        counts={verdict.value: sum(c.verdict is verdict for c in report.checks) for verdict in Verdict},
        findings=findings,
        repairs=_repairs(report),
        bars=_bars(report.steps),
        chart_height=_ROW * len(report.steps),
        seconds=sum(step.seconds for step in report.steps),
        bytes=sum(step.bytes for step in report.steps if step.name != "verify"),
        screenshot=_screenshot(report.screenshot),
        acts=[(time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(act.at)), act) for act in report.acts],
        console=harmless.console(report.console),
    )


@cache
def template(name: str) -> Template:
    """A template of this room: escapes what it is given, and minds names that do not exist."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).resolve().parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"span": span, "size": size, "kind": kind_of_line}
    return environment.get_template(name)


def span(seconds: float) -> str:
    """Seconds for people: "0.4 s", "83 s", "12 min 05 s", "3 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    return f"{minutes} min {int(seconds) % 60:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes for people, in powers of 1024."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def kind_of_line(line: str) -> str:
    """The class of a line of a unified diff."""
    if line.startswith(("+++", "---")):
        return "file"
    return {"+": "new", "-": "old", "@": "place"}.get(line[:1], "same")


def _repairs(report: Report) -> list[Repair]:
    """The fixes in the order in which they gave reasons or changed something."""
    names = dict.fromkeys([fix for fix, _ in report.reasons] + [change.fix for change in report.changes])
    return [
        Repair(
            name,
            tuple(reason for fix, reason in report.reasons if fix == name),
            tuple(change for change in report.changes if change.fix == name),
        )
        for name in names
    ]


def _bars(steps: tuple[StepRecord, ...]) -> list[Bar]:
    longest = max((step.seconds for step in steps), default=0) or 1
    return [
        Bar(step.name, number * _ROW, max(1.0, round(step.seconds / longest * _BAR, 1)), span(step.seconds))
        for number, step in enumerate(steps)
    ]


def _screenshot(path: str) -> str:
    """A PNG as a data URI, empty when there is none that may be shown."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            data = file.read(SCREENSHOT_LIMIT + 1)
    except OSError:
        return ""
    if not data.startswith(_PNG) or len(data) > SCREENSHOT_LIMIT:
        return ""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
