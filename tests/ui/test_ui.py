"""Progress as it is seen: on a real pseudo-terminal, in a pipe, as JSON."""

import io
import json
import os
import pty
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from v2c.events import Event, Listener, Meter
from v2c.model import GIB, MIB, Finding, Level
from v2c.ui import shown
from v2c.ui.plain import Plain
from v2c.ui.words import clean, finding, size, span

SCREEN = "\x1b[31mroot\x07\r"


def story(listener: Listener) -> None:
    """A step that moves 64 MiB, notes something, finds something, and a step without bytes."""
    meter = Meter("job", "upload", listener)
    with meter.phase("copy", 64 * MIB):
        for _ in range(64):
            meter.moved(MIB)
    meter.note(f"host {SCREEN}")
    meter.found(Finding("disk.size", Level.WARNING, "disk-1", "it is large", "shrink it"))
    with Meter("job", "fix", listener).phase(""):
        pass


def on_terminal(act: Callable[[TextIO], None], said: list[bytes] | None = None) -> str:
    """Everything that `act` wrote on a pseudo-terminal of 100 columns; it may look at what was `said` so far."""
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    said = [] if said is None else said

    def drain() -> None:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: the other end was closed
                return
            if not data:
                return
            said.append(data)

    reader = threading.Thread(target=drain)
    reader.start()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        act(stream)
    reader.join()
    os.close(ours)
    return b"".join(said).decode()


def test_terminal_draws_a_bar_and_lines_above_it() -> None:
    def act(stream: TextIO) -> None:
        with shown("auto", stream) as listener:
            story(listener)

    text = on_terminal(act)
    bars = re.findall(r"upload copy: +(\d+)%\|.*?\| ([\d.]+)M?/64\.0M", text)
    assert bars, text
    assert any(0 < int(percent) < 100 for percent, _ in bars)
    assert "  warning: disk-1: it is large: shrink it\r\n" in text
    assert "  host ?[31mroot??\r\n" in text
    assert "fix: 0.0 s\r\n" in text


def test_terminal_clock_runs_while_nothing_moves_and_close_ends_it() -> None:
    said: list[bytes] = []

    def act(stream: TextIO) -> None:
        until = time.monotonic() + 60
        with shown("bar", stream) as listener:
            with Meter("job", "fix", listener).phase("repair"):
                while not re.search(rb"fix repair 00:0[1-9]", b"".join(said)):
                    assert time.monotonic() < until
                    time.sleep(0.05)
            assert [t.name for t in threading.enumerate()].count("v2c-clock") == 1
        assert "v2c-clock" not in [t.name for t in threading.enumerate()]

    assert "fix repair 00:00" in on_terminal(act, said)


def test_terminal_leaves_no_bar_when_a_step_breaks() -> None:
    def act(stream: TextIO) -> None:
        with pytest.raises(ValueError, match="torn"), shown("bar", stream) as listener:
            meter = Meter("job", "upload", listener)
            with meter.phase(""), meter.phase("copy", GIB):
                raise ValueError("torn")

    assert "upload stopped after 0.0 s: torn\r\n" in on_terminal(act)


def test_plain_says_a_line_per_step() -> None:
    stream = io.StringIO()
    with shown("auto", stream) as listener:
        story(listener)
    lines = stream.getvalue().splitlines()
    assert lines == ["  host ?[31mroot??", "  warning: disk-1: it is large: shrink it", "fix ...", "fix: 0.0 s"]


def test_plain_tells_the_phases_of_a_step() -> None:
    stream = io.StringIO()
    plain = Plain(stream)
    meter = Meter("job", "fix", plain)
    with meter.phase(""):
        with meter.phase("launch"):
            pass
        for _ in range(2):
            with meter.phase("repair"):
                pass
    assert stream.getvalue() == "fix ...\nfix: 0.0 s (launch 0.0 s, repair 0.0 s)\n"


def test_json_lines_are_one_object_an_event() -> None:
    stream = io.StringIO()
    with shown("json", stream) as listener:
        story(listener)
    objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [o["event"] for o in objects if o["step"] == "fix"] == ["began", "ended"]
    moved = [o for o in objects if o["event"] == "moved"]
    assert moved and moved[-1]["total"] == 64 * MIB and 0 < moved[-1]["done"] <= 64 * MIB
    assert next(o for o in objects if o["event"] == "found")["finding"]["level"] == "warning"


def test_none_says_nothing() -> None:
    stream = io.StringIO()
    with shown("none", stream) as listener:
        story(listener)
    assert stream.getvalue() == ""


def test_a_second_phase_starts_at_nothing() -> None:
    events: list[Event] = []
    meter = Meter("job", "upload", events.append)
    with meter.phase("first", MIB):
        meter.moved(MIB)
    with meter.phase("second", MIB):
        meter.moved(1)
    assert [getattr(e, "done", None) for e in events if type(e).__name__ == "Moved"] == [MIB, 1]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (200 * MIB, "200 MiB"), (1.5 * GIB, "1.5 GiB")]
)
def test_size(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (83.2, "83 s"), (754, "12 min 34 s"), (11100, "3 h 05 min")])
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_clean_keeps_lines_and_letters() -> None:
    assert clean("größe\n\tein\x1b]0;x\x07") == "größe\n\tein?]0;x?"
    assert finding(Finding("a", Level.INFO, "s\x9b", "t")) == "info: s?: t"
    assert finding(Finding("a", Level.INFO, "/etc/x", "/etc/x is odd")) == "info: /etc/x is odd"


def test_drawing_is_behind_one_door() -> None:
    """Nothing but the terminal imports tqdm."""
    rooms = Path(__file__).resolve().parents[2] / "v2c"
    importers = {p.name for p in rooms.rglob("*.py") if re.search(r"^\s*(from|import) tqdm", p.read_text(), re.MULTILINE)}
    assert importers == {"terminal.py"}
