"""A report as files: HTML for people, JSON for programs and for a later validation, JUnit XML for pipelines.

What a guest said (console, host name, unit names, file contents in diffs) is hostile: `harmless` takes out what no document
should hold, and each format escapes the rest.
"""

import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from v2c.errors import UsageError
from v2c.model import Report
from v2c.report import harmless

HTML, JSON, JUNIT = "report.html", "report.json", "report.junit.xml"
_REPORT = TypeAdapter(Report)


def write(report: Report, folder: Path) -> Path:
    """Writes all three files into the folder (0600, each whole or not at all); returns the path of the HTML one."""
    from v2c.report.junit import junit
    from v2c.report.page import page

    clean = harmless.every(report)
    # the page last: whoever sees it finds the others
    for name, text in ((JSON, json(clean)), (JUNIT, junit(clean)), (HTML, page(clean))):
        part = folder / f"{name}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(folder / name)
    return folder / HTML


def read(folder: Path) -> Report:
    """The report in a job's folder. UsageError when there is none."""
    try:
        return _REPORT.validate_json((folder / JSON).read_bytes())
    except FileNotFoundError as missing:
        raise UsageError(f"there is no report in {folder}", remedy="the job has not come that far: see `v2c status`") from missing
    except ValidationError as error:
        raise UsageError(f"{folder / JSON} is not a report of this version", remedy="convert with --again") from error


def parse(text: str) -> Report:
    """A report from its JSON. UsageError when it is none of this version."""
    try:
        return _REPORT.validate_json(text)
    except ValidationError as error:
        raise UsageError("the report is not one of this version", remedy="convert with --again") from error


def render(report: Report, name: str) -> str:
    """The report as the file HTML, JSON or JUNIT holds it."""
    from v2c.report.junit import junit
    from v2c.report.page import page

    clean = harmless.every(report)
    return {JSON: json, JUNIT: junit, HTML: page}[name](clean)


def json(report: Report) -> str:
    """The whole report as one JSON document, fields as in `v2c.model`."""
    return _REPORT.dump_json(harmless.every(report), indent=2).decode()
