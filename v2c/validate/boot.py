"""Waits for a booted machine to tell what it is."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from v2c import consoles
from v2c.errors import Paused
from v2c.events import Meter
from v2c.model import KIB, Check, Observation, Probe, Verdict
from v2c.validate.console import find_probe

POLL_S = 1.0
GRACE_S = 5.0  # after a final failure: the lines that explain it
BOOTS = 3  # when the emulator is to blame: seen once in some twenty boots with eight runnable processes on two processors
KEPT = 256 * KIB  # characters of the console's head, and of its tail, that the evidence keeps


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a boot showed: the last observation (its console cut to `KEPT` at both ends), the probe if it was heard, else why
    not, as a sentence; and how many seconds it took. `emulated`: the emulator is to blame, another boot may go well.
    `reached`: what was asked over the network."""

    observation: Observation
    probe: Probe | None = None
    failure: str | None = None
    seconds: float = 0.0
    emulated: bool = False
    reached: tuple[Check, ...] = ()


def booted(boot: Callable[[], Evidence], meter: Meter) -> Evidence:
    """What a boot showed, the last of `BOOTS` where the emulator failed and not the machine."""
    for _ in range(BOOTS - 1):
        evidence = boot()
        if not evidence.emulated:
            return evidence
        meter.note(f"{evidence.failure}; it is booted again")
    return boot()


def await_probe(
    observe: Callable[[], Observation],
    nonce: str,
    timeout_s: float,
    meter: Meter,
    *,
    poll_s: float = POLL_S,
    grace_s: float = GRACE_S,
) -> Evidence:
    """Polls until the probe with `nonce` is complete, the boot has certainly failed, or `timeout_s` is over. Never raises for
    the guest's failure; Paused when the meter says so."""
    began = time.monotonic()
    doomed = 0.0
    told = 0
    with meter.phase("boot"):
        while True:
            if meter.cancelled():
                raise Paused("stopped while the machine was booting")
            seen = observe()
            now = time.monotonic()
            seconds = now - began
            probe = find_probe(seen.console, nonce)
            if probe is not None:
                meter.note(f"the machine told what it is after {seconds:.0f} s")
                return Evidence(_kept(seen), probe, None, seconds)
            trouble = consoles.recognise(seen.console)
            if trouble is not None and trouble.final and not doomed:
                doomed = now + grace_s
                meter.note(trouble.text)
            if not seen.alive or now - began > timeout_s or (doomed and now > doomed):
                emulated = trouble is not None and trouble.emulated
                return Evidence(_kept(seen), None, _why(seen, trouble, timeout_s), seconds, emulated)
            told = _tell(seen.console, told, meter)
            time.sleep(poll_s)


def settled(observe: Callable[[], Observation], evidence: Evidence, timeout_s: float, meter: Meter) -> Evidence:
    """The evidence with the target's own checks, once none of them is still being made, or `timeout_s` is over."""
    until = time.monotonic() + timeout_s
    seen = evidence.observation
    while any(status.verdict is Verdict.OBSERVED for status in seen.statuses) and time.monotonic() < until:
        if meter.cancelled():
            raise Paused("stopped while the target looked at the instance")
        time.sleep(POLL_S)
        seen = observe()
    return replace(evidence, observation=replace(_kept(seen), console=evidence.observation.console))


def _why(seen: Observation, trouble: consoles.Recognised | None, timeout_s: float) -> str:
    if trouble is not None:
        return trouble.text
    if not seen.alive:
        return "the machine went off before it told what it is"
    last = _last_line(seen.console)
    words = f'the last line of its console is "{last}"' if last else "its console stayed empty"
    return f"the machine did not tell what it is within {timeout_s:.0f} s; {words}"


def _tell(console: str, told: int, meter: Meter) -> int:
    """Notes the newest line of the console, when there is one; returns how much of the console is told."""
    if len(console) > told:
        line = _last_line(console[max(told, len(console) - 4 * KIB) :])
        if line and not line.startswith("V2C1 "):
            meter.note(f"console: {line}")
    return len(console)


def _last_line(console: str) -> str:
    lines = [line.strip() for line in consoles.clean(console[-4 * KIB :]).split("\n")]
    return next(("".join(c for c in line if c.isprintable())[:120] for line in reversed(lines) if line), "")


def _kept(seen: Observation) -> Observation:
    if len(seen.console) <= 2 * KEPT:
        return seen
    cut = len(seen.console) - 2 * KEPT
    return replace(seen, console=f"{seen.console[:KEPT]}\n[v2c: {cut} characters were left out here]\n{seen.console[-KEPT:]}")
