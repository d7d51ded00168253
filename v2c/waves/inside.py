"""Commands inside a machine that was cut over, by SSH from the worker.

    user@address: sh -s      stdin: export NAME='value' ...; exec timeout SECONDS program arguments

What the command finds in its environment goes over stdin, so no secret stands in anybody's list of processes. It is sent to the
machine only that has the host key which was said, or that it showed first (hostkeys.py).
"""

import shlex
import time
from collections.abc import Mapping, Sequence

from v2c import processes
from v2c.errors import Paused, ToolError
from v2c.events import Meter
from v2c.manifest.parts import Hook
from v2c.validate import reach
from v2c.waves.hostkeys import Trust

OPTIONS = (
    *("-o", "BatchMode=yes"),
    *("-o", "IdentitiesOnly=yes"),
    *("-o", "LogLevel=ERROR"),  # else the first call is told that the host key is new
)
GRACE_S = 15  # for the way, and for what the machine's own clock ends first
LOST, OVER = 255, 124  # what ssh and timeout end with, when it was not the command


def run(hook: Hook, address: str, environment: Mapping[str, str], trust: Trust, meter: Meter) -> None:
    """Runs the hook to its end, once its SSH server answers: all of it within the hook's time. ToolError with its last words, or
    when the machine's host key is not the one to be trusted."""
    until = time.monotonic() + hook.timeout
    _await(hook, address, until, meter)
    seconds = max(1, round(until - time.monotonic()))
    argv = argv_of(hook, address, min(seconds, 30), trust.options())
    process = processes.Process(argv, stdin=script(hook, environment, seconds))
    code = process.wait(seconds + GRACE_S)
    trust.seen()
    name, words = hook.run[0], process.words() or "it said nothing"
    if code is None:
        process.kill()
    if code in (None, OVER):
        raise ToolError(f"{name} took over {hook.timeout} s", command=processes.line(hook.run))
    why, remedy = trust.refused(words) if code == LOST else ("", "")
    if why:
        raise ToolError(f"{hook.user}@{address} by SSH: {why}", command=processes.line(argv), remedy=remedy)
    if code == LOST:
        raise ToolError(f"{hook.user}@{address} by SSH: {words}", command=processes.line(argv), remedy="see user, key and port")
    if code != 0:
        raise ToolError(f"{name} failed ({code}): {words}", command=processes.line(hook.run))


def argv_of(hook: Hook, address: str, connecting_s: int, trusted: Sequence[str]) -> tuple[str, ...]:
    """The command that is started here."""
    key = (hook.key or "").removeprefix("file:")
    way = ("-o", f"ConnectTimeout={connecting_s}", "-i", key, "-p", str(hook.port))
    return ("ssh", *OPTIONS, *trusted, *way, f"{hook.user}@{address}", "--", "sh", "-s")


def script(hook: Hook, environment: Mapping[str, str], seconds: int) -> str:
    """What the shell inside reads: variables, then the command in its place, which `timeout` ends where there is one."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    limit = f"T='timeout -k 5 {seconds}'; command -v timeout >/dev/null 2>&1 || T="
    return "\n".join([*exports, limit, f"exec $T {processes.line(hook.run)} </dev/null", ""])


def _await(hook: Hook, address: str, until: float, meter: Meter) -> None:
    """Until the machine's SSH server greets. ToolError when it does not in time."""
    spec = reach.parse(f"ssh:{address}:{hook.port}")
    while True:
        if meter.cancelled():
            raise Paused("stopped while the machine was waited for", remedy="the same command goes on")
        good, seen = reach.ask(spec, address)
        if good:
            return
        if time.monotonic() >= until:
            raise ToolError(f"{address} port {hook.port}: {seen}", remedy="let this worker reach the machine's SSH server")
        time.sleep(min(reach.PAUSE_S, max(0.0, until - time.monotonic())))
