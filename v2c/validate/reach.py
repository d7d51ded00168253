"""Checks from this terminal over the network: a port that answers, a page with its status, an SSH server's greeting.

    tcp:HOST:PORT      http://HOST[:PORT]/PATH=200      https://...      ssh:HOST[:PORT]

`{address}` as the host is the instance's own address. What answers is a stranger: a little of it is read, and it is only quoted.
"""

import http.client
import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from v2c.errors import Paused, UsageError
from v2c.events import Meter
from v2c.model import Check, Expectation, Verdict

ADDRESS = "{address}"
TIMEOUT_S = 5.0  # of one try
PATIENCE_S = 120.0  # services come up after the machine has told what it is
PAUSE_S = 2.0
_BANNER = 255  # characters of an SSH greeting (RFC 4253, section 4.2)
_HOW = "write it as tcp:HOST:PORT, http://HOST/PATH=200 or ssh:HOST, the host maybe {address}"
_PORTS = {"http": 80, "https": 443, "ssh": 22}


@dataclass(frozen=True, slots=True)
class Reach:
    """One check: `kind` "tcp", "ssh", "http" or "https"; for the last two the path with its query, and the status expected."""

    spec: str
    kind: str
    host: str
    port: int
    path: str = ""
    status: int = 0

    @property
    def expected(self) -> str:
        """What has to be seen."""
        return {"tcp": "answers", "ssh": "an SSH server"}.get(self.kind, f"status {self.status}")


def parse(spec: str) -> Reach:
    """The check that is written so. UsageError when it is none."""
    kind, colon, rest = spec.partition(":")
    try:
        if kind in ("http", "https") and rest.startswith("//"):
            url, equals, status = spec.rpartition("=")
            if not equals or not re.fullmatch(r"[1-5]\d\d", status):
                url, status = spec, "200"
            parts = urlsplit(url.replace(ADDRESS, "address.invalid"))
            host = (parts.hostname or "").replace("address.invalid", ADDRESS)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            if not host or parts.username:
                raise ValueError
            return Reach(spec, kind, host, parts.port or _PORTS[kind], path, int(status))
        host, _, port = rest.rpartition(":") if ":" in rest else (rest, "", str(_PORTS.get(kind, 0)))
        if not colon or kind not in ("tcp", "ssh") or not host or not 0 < int(port) < 65536:
            raise ValueError
        return Reach(spec, kind, host.strip("[]"), int(port))
    except ValueError:
        raise UsageError(f'the check "{spec}" is not understood', remedy=_HOW) from None


def checks(
    specs: Sequence[str], addresses: Sequence[str], meter: Meter, *, isolated: bool, patience_s: float = PATIENCE_S
) -> tuple[Check, ...]:
    """Tries each until it succeeds or `patience_s` is over for all of them. Skipped where the instance is isolated, or has no
    address that could be asked. Raises Paused when the meter is cancelled."""
    until = time.monotonic() + patience_s
    made = []
    for reach in map(parse, specs):
        own = reach.host == ADDRESS
        if own and (isolated or not addresses):
            why = "a test is isolated" if isolated else "the target tells no address of the instance"
            made.append(_check(reach, "not tried", Verdict.SKIPPED, why))
            continue
        made.append(_tried(reach, addresses[0] if own else reach.host, until, meter))
    return tuple(made)


def _tried(reach: Reach, host: str, until: float, meter: Meter) -> Check:
    while True:
        if meter.cancelled():
            raise Paused("stopped while the machine was asked", remedy="the same command goes on")
        good, seen = ask(reach, host)
        if good or time.monotonic() >= until:
            return _check(reach, seen, Verdict.PASS if good else Verdict.FAIL, f"asked {host} port {reach.port}")
        time.sleep(min(PAUSE_S, max(0.0, until - time.monotonic())))


def ask(reach: Reach, host: str, timeout_s: float = TIMEOUT_S) -> tuple[bool, str]:
    """One try: whether it went well, and what was seen."""
    try:
        if reach.kind in ("http", "https"):
            return _page(reach, host, timeout_s)
        with socket.create_connection((host, reach.port), timeout_s) as connection:
            if reach.kind == "tcp":
                return True, "answers"
            greeting = connection.recv(_BANNER).decode("ascii", "replace").split("\r")[0].split("\n")[0]
            return greeting.startswith("SSH-"), greeting or "silence"
    except (OSError, http.client.HTTPException) as error:
        return False, str(error) or type(error).__name__


def _page(reach: Reach, host: str, timeout_s: float) -> tuple[bool, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # does it answer; who it is, its own clients know
    secure = reach.kind == "https"
    connection = (
        http.client.HTTPSConnection(host, reach.port, timeout=timeout_s, context=context)
        if secure
        else http.client.HTTPConnection(host, reach.port, timeout=timeout_s)
    )
    try:
        connection.request("GET", reach.path, headers={"Connection": "close"})
        status = connection.getresponse().status
        return status == reach.status, f"status {status}"
    finally:
        connection.close()


def _check(reach: Reach, seen: str, verdict: Verdict, note: str) -> Check:
    return Check(f"reach:{reach.spec}", reach.spec, Expectation.DECLARED, reach.expected, seen, verdict, note)
