"""The checks as JUnit XML, for pipelines: a test case each, `observed` and `skipped` as skipped with the reason.

Attributes and elements as in the schema that Jenkins and GitLab read (junit-10.xsd).
"""

from collections.abc import Iterator
from html import escape

from v2c.model import Check, Report, Verdict


def junit(report: Report) -> str:
    """The report's checks as one test suite. Its strings must be harmless already."""
    counts = {verdict: sum(check.verdict is verdict for check in report.checks) for verdict in Verdict}
    seconds = sum(step.seconds for step in report.steps)
    attributes = {
        "name": f"v2c {report.machine} to {report.target}",
        "tests": str(len(report.checks)),
        "failures": str(counts[Verdict.FAIL]),
        "errors": "0",
        "skipped": str(counts[Verdict.OBSERVED] + counts[Verdict.SKIPPED]),
        "time": f"{seconds:.3f}",
        "timestamp": report.started[:19],
        "hostname": report.host,
    }
    suite = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items() if value)
    body = "\n".join(line for check in report.checks for line in _case(report, check))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n<testsuite {suite}>\n{body}\n</testsuite>\n</testsuites>\n'


def _case(report: Report, check: Check) -> Iterator[str]:
    yield f'<testcase classname="v2c.{escape(report.machine)}" name="{escape(check.subject)}" time="0">'
    told = f"expected ({check.expectation}): {check.expected}\nseen: {check.seen}"
    if check.note:
        told += f"\n{check.note}"
    if check.verdict is Verdict.FAIL:
        summary = f"{check.subject} differs from what was {check.expectation}"
        yield f'<failure message="{escape(summary)}" type="{escape(check.id)}">{escape(told)}</failure>'
    elif check.verdict is not Verdict.PASS:
        reason = check.note or "nothing to compare with"
        yield f'<skipped message="{escape(f"{check.verdict}: {reason}")}"/>'
        yield f"<system-out>{escape(told)}</system-out>"
    else:
        yield f"<system-out>{escape(told)}</system-out>"
    yield "</testcase>"
