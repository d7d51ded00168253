"""The manifest's checks of a machine that was cut over: asked from the converter until they succeed or their time is over."""

import http.client
import ssl
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from v2c import processes
from v2c.errors import Paused, V2cError
from v2c.events import Meter
from v2c.manifest.parts import Check as Wanted
from v2c.manifest.parts import CommandCheck, HttpCheck, SshCheck, TcpCheck
from v2c.model import Check, Expectation, Finding, Level, Report, Verdict
from v2c.targets import open_target
from v2c.validate import reach
from v2c.waves.hooks import ran
from v2c.waves.hostkeys import Trust
from v2c.waves.inside import OPTIONS
from v2c.waves.nouns import Order

_PAGE = 1 << 20  # bytes of a page that are looked through
_TRY_S = 5.0
_WORDS = 300  # characters of what a command said


def ask(order: Order, report: Report, trust: Trust, meter: Meter) -> tuple[tuple[Check, ...], tuple[Finding, ...]]:
    """Each check's outcome; what may fail and did is a finding, no failed check. Raises Paused when the meter is cancelled."""
    assert report.instance
    addresses = open_target(report.target).observe(report.instance).addresses
    made: list[Check] = []
    found: list[Finding] = []
    for wanted in order.checks:
        check = _asked(wanted, addresses, trust, meter)
        if isinstance(wanted, SshCheck) and (seen := trust.seen()):
            found.append(seen)
        if check.verdict is Verdict.FAIL and not wanted.must_succeed:
            text = f"{check.subject}: expected {check.expected}, seen {check.seen}"
            found.append(Finding("check.failed", Level.WARNING, order.id, text, "see the machine"))
            made.append(
                Check(check.id, check.subject, check.expectation, check.expected, check.seen, Verdict.OBSERVED, check.note)
            )
        else:
            made.append(check)
    return tuple(made), tuple(found)


def subject(wanted: Wanted) -> str:
    """The check as one reads it."""
    if isinstance(wanted, TcpCheck):
        return f"tcp:{wanted.host or reach.ADDRESS}:{wanted.port}"
    if isinstance(wanted, HttpCheck):
        return _url(wanted)
    words = processes.line(wanted.run)
    return f"ssh {wanted.user}@{reach.ADDRESS} {words}" if isinstance(wanted, SshCheck) else words


def _asked(wanted: Wanted, addresses: Sequence[str], trust: Trust, meter: Meter) -> Check:
    name = subject(wanted)
    expected = f"status {wanted.expect}" if isinstance(wanted, HttpCheck) else "succeeds"

    def made(seen: str, verdict: Verdict, note: str = "") -> Check:
        return Check(f"manifest:{name}", name, Expectation.DECLARED, expected, seen, verdict, note)

    if not addresses and (reach.ADDRESS in name or isinstance(wanted, CommandCheck)):
        return made("not tried", Verdict.SKIPPED, "the target tells no address of the instance")
    attempt = _attempt(wanted, addresses[0] if addresses else "", trust)
    until = time.monotonic() + wanted.timeout
    while True:
        if meter.cancelled():
            raise Paused("stopped while the machine was asked", remedy="the same command goes on")
        good, seen = attempt(max(_TRY_S, until - time.monotonic()) if isinstance(wanted, SshCheck | CommandCheck) else _TRY_S)
        if good or time.monotonic() >= until:
            return made(seen, Verdict.PASS if good else Verdict.FAIL)
        time.sleep(min(reach.PAUSE_S, max(0.0, until - time.monotonic())))


def _attempt(wanted: Wanted, address: str, trust: Trust) -> Callable[[float], tuple[bool, str]]:
    """One try of it, given its time: whether it went well, and what was seen."""
    if isinstance(wanted, TcpCheck):
        spec = reach.parse(subject(wanted))
        return lambda timeout: reach.ask(spec, wanted.host or address, timeout)
    if isinstance(wanted, HttpCheck):
        url = _url(wanted).replace(reach.ADDRESS, f"[{address}]" if ":" in address else address)
        return lambda timeout: _page(wanted, url, timeout)

    def command(timeout: float) -> tuple[bool, str]:
        try:
            if isinstance(wanted, SshCheck):
                processes.run(_by_ssh(wanted, address, trust), timeout=timeout)
            else:
                ran(wanted.run, {"V2C_ADDRESS": address}, timeout, {})
        except V2cError as error:
            return False, trust.refused(error.text)[0] or error.text[:_WORDS]
        return True, "succeeds"

    return command


def _by_ssh(wanted: SshCheck, address: str, trust: Trust) -> tuple[str, ...]:
    way = ("-i", wanted.key.partition(":")[2], "-p", str(wanted.port), f"{wanted.user}@{address}")
    return ("ssh", *OPTIONS, *trust.options(), *way, "--", processes.line(wanted.run))


def _url(wanted: HttpCheck) -> str:
    return wanted.url if wanted.url.startswith("http") else f"http://{reach.ADDRESS}{wanted.url}"


def _page(wanted: HttpCheck, url: str, timeout_s: float) -> tuple[bool, str]:
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # does it answer; who it is, its own clients know
    host, port = parts.hostname or "", parts.port
    connection = (
        http.client.HTTPSConnection(host, port or 443, timeout=timeout_s, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port or 80, timeout=timeout_s)
    )
    try:
        connection.request(
            "GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), headers={"Connection": "close"}
        )
        answer = connection.getresponse()
        seen = f"status {answer.status}"
        if answer.status != wanted.expect:
            return False, seen
        if wanted.contains and wanted.contains.encode() not in answer.read(_PAGE):
            return False, f"{seen}, and the page lacks {wanted.contains!r}"
        return True, seen
    except (OSError, http.client.HTTPException) as error:
        return False, str(error) or type(error).__name__
    finally:
        connection.close()
