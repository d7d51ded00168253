"""Waiting for the probe: it ends at the probe, at a certain failure, at the guest's end, or in time."""

from collections.abc import Callable, Iterator

import pytest
from test_console import NONCE, lines, payload, said

from v2c.errors import Paused
from v2c.events import Event, Meter, Noted
from v2c.model import Observation
from v2c.validate.boot import BOOTS, KEPT, Evidence, await_probe, booted

ROOT_MISSING = "ALERT!  /dev/sda1 does not exist.  Dropping to a shell!\r\n\r\n(initramfs) "


def showing(*consoles: str, alive: bool = True) -> Callable[[], Observation]:
    """Observations with these consoles one after the other; the last one stays."""

    def all() -> Iterator[Observation]:
        for console in consoles:
            yield Observation("running", True, console)
        while True:
            yield Observation("running", alive, consoles[-1])

    seen = all()
    return lambda: next(seen)


def wait(observe: Callable[[], Observation], timeout_s: float = 0.5, meter: Meter | None = None) -> Evidence:
    return await_probe(observe, NONCE, timeout_s, meter or Meter(), poll_s=0.01, grace_s=0.05)


def test_it_ends_with_the_probe() -> None:
    told = said(lines(payload()))
    evidence = wait(showing("booting", told[:300], told, told + ROOT_MISSING), timeout_s=60)
    assert evidence.probe is not None and evidence.probe["hostname"] == "erp\n"
    assert evidence.failure is None and evidence.observation.console == told


def test_a_certain_failure_ends_it_early() -> None:
    evidence = wait(showing("booting\n", ROOT_MISSING), timeout_s=60)
    assert evidence.failure == "the initramfs never found the root device /dev/sda1 and dropped to a shell"
    assert evidence.seconds < 30


def test_a_failure_that_may_pass_is_waited_for() -> None:
    waiting = "dracut-initqueue[300]: Warning: dracut-initqueue timeout - starting timeout scripts\n"
    evidence = wait(showing(waiting, waiting, waiting + said(lines(payload()))))
    assert evidence.probe is not None
    assert wait(showing(waiting)).failure == "dracut's initramfs waits for a device that does not come"


def test_the_guests_end_ends_it() -> None:
    evidence = wait(showing("booting", alive=False), timeout_s=60)
    assert evidence.failure == "the machine went off before it told what it is"


def test_time_is_over() -> None:
    evidence = wait(showing("a\r\n\x1b[0;1mReached target\x1b[0m Paths.\r\n"), timeout_s=0.1)
    assert (
        evidence.failure
        == 'the machine did not tell what it is within 0 s; the last line of its console is "Reached target Paths."'
    )
    assert (wait(showing(""), timeout_s=0.1).failure or "").endswith("its console stayed empty")


def test_ctrl_c_is_heard() -> None:
    with pytest.raises(Paused):
        wait(showing("booting"), timeout_s=60, meter=Meter(cancelled=lambda: True))


def test_new_lines_are_told() -> None:
    heard: list[Event] = []
    wait(showing("one\n", "one\ntwo\n", "one\ntwo\n"), timeout_s=0.1, meter=Meter(listener=heard.append))
    assert [event.text for event in heard if isinstance(event, Noted)] == ["console: one", "console: two"]


def test_a_long_console_is_cut_in_the_evidence() -> None:
    evidence = wait(showing("a" * KEPT + "b" * 1000 + "c" * KEPT), timeout_s=0.1)
    console = evidence.observation.console
    assert console.startswith("a" * KEPT) and console.endswith("c" * KEPT) and "1000 characters were left out" in console


STARVED = "[    0.044000] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug\n"


def test_a_boot_that_the_emulator_failed_is_tried_again() -> None:
    told = said(lines(payload()))
    heard: list[str] = []
    meter = Meter(listener=lambda event: heard.append(event.text) if isinstance(event, Noted) else None)
    screens = iter((STARVED, told))
    evidence = booted(lambda: wait(showing(next(screens)), timeout_s=60), meter)
    assert evidence.probe is not None
    assert any("booted again" in text for text in heard)


def counted(console: str, boots: list[str]) -> Evidence:
    boots.append(console)
    return wait(showing(console), timeout_s=60)


def test_the_emulator_is_given_up_in_the_end() -> None:
    boots: list[str] = []
    evidence = booted(lambda: counted(STARVED, boots), Meter())
    assert len(boots) == BOOTS
    assert evidence.failure is not None and "too busy to emulate" in evidence.failure


def test_a_machine_that_fails_is_not_tried_again() -> None:
    boots: list[str] = []
    booted(lambda: counted(ROOT_MISSING, boots), Meter())
    assert len(boots) == 1
