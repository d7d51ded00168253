"""Watching a run until it is over: a screen that is redrawn in place, or lines where nobody sees a screen."""

import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TextIO

from v2c.model.wave import MachineView, Snapshot, Standing
from v2c.ui.wave import ASCII, Glyphs, Line, Tone, counts, far, screen, state
from v2c.ui.words import clean, size

EVERY = 1.0  # seconds between two looks at the run
LOOK = 0.1  # seconds between two looks at the terminal's size
SUMS_EVERY = 60.0  # seconds between two lines of sums in a log
LARGE = ("spans", "findings")  # left out of JSON lines: 500 machines times their history, each second

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # xterm's other screen, and the cursor: ctlseqs(ms), DECSET
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_COLOURS = {Tone.TITLE: "\x1b[1m", Tone.SOFT: "\x1b[2m", Tone.GATE: "\x1b[33m", Tone.BAD: "\x1b[31m"}
_PLAIN = "\x1b[0m"


def watch(read: Callable[[], Snapshot], stream: TextIO, way: str = "auto", every: float = EVERY) -> Snapshot:
    """Shows the run on `stream` until it is over, and returns it as it was then. `way`: "screen", "plain", "json" or "auto".

    Ctrl-C goes through as KeyboardInterrupt, at once; a terminal is left as it was found, with the last picture on it.
    """
    if way == "auto":
        way = "screen" if stream.isatty() else "plain"
    if way == "screen":
        return _screen(read, stream, every)
    told = _objects if way == "json" else _sentences
    before: Snapshot | None = None
    said = 0.0
    while True:
        seen = read()
        quiet = before is not None and seen.at - said < SUMS_EVERY and not seen.over
        for line in told(before, seen, quiet):
            stream.write(line + "\n")
        stream.flush()
        if not quiet:
            said = seen.at
        if seen.over:
            return seen
        before = seen
        time.sleep(every)


def _screen(read: Callable[[], Snapshot], stream: TextIO, every: float) -> Snapshot:
    glyphs = Glyphs() if "utf" in (stream.encoding or "").lower() else ASCII
    colours = not os.environ.get("NO_COLOR")
    seen: Snapshot | None = None
    stream.write(_ENTER)
    try:
        while True:
            seen = read()
            _draw(seen, stream, glyphs, colours)
            if seen.over:
                break
            _rest(seen, stream, glyphs, colours, every)
    finally:
        stream.write(_LEAVE)
        if seen is not None:  # what was seen last stays, as any command's output
            stream.write("".join(f"{line.text}\n" for line in screen(seen, *_room(stream), glyphs)))
        stream.flush()
    return seen


def _rest(seen: Snapshot, stream: TextIO, glyphs: Glyphs, colours: bool, every: float) -> None:
    """Sleeps until the next look; a window of another size is drawn anew at once."""
    until, room = time.monotonic() + every, _room(stream)
    while time.monotonic() < until:
        time.sleep(LOOK)
        if room != (room := _room(stream)):
            _draw(seen, stream, glyphs, colours)


def _draw(seen: Snapshot, stream: TextIO, glyphs: Glyphs, colours: bool) -> None:
    lines = screen(seen, *_room(stream), glyphs)
    stream.write(_HOME + "\r\n".join(_coloured(line, colours) + _END_OF_LINE for line in lines) + _END_OF_SCREEN)
    stream.flush()


def _coloured(line: Line, colours: bool) -> str:
    code = _COLOURS.get(line.tone, "") if colours else ""
    return f"{code}{line.text}{_PLAIN}" if code else line.text


def _room(stream: TextIO) -> tuple[int, int]:
    """Columns and lines; the last line stays free, or some terminals scroll."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except OSError:
        return 80, 23
    return found.columns or 80, (found.lines or 24) - 1


def _changed(before: Snapshot | None, seen: Snapshot) -> Iterator[MachineView]:
    known = {one.id: one for one in before.machines} if before else {}
    yield from (one for one in seen.machines if known.get(one.id) != one)


def _sentences(before: Snapshot | None, seen: Snapshot, quiet: bool) -> Iterator[str]:
    """A line for each machine that came to stand otherwise, and now and then the sums."""
    clock = time.strftime("%H:%M:%S", time.localtime(seen.at))
    known = {one.id: (one.stage, one.standing, one.moving and one.moving.step) for one in before.machines} if before else {}
    for one in _changed(before, seen):
        now = (one.stage, one.standing, one.moving and one.moving.step)
        if known.get(one.id) == now or (before is None and one.standing is Standing.WAITING):
            continue
        told = f": {far(one)}" if far(one) else ""
        remedy = f": {one.remedy}" if one.remedy and not one.standing.good else ""
        yield _one_line(f"{clock} {one.id} {one.stage} {one.standing}{told}{remedy}")
    if not quiet:
        yield _one_line(f"{clock} {seen.run} {state(seen)}: {counts(seen.machines)}; {size(seen.rate)}/s")


def _one_line(text: str) -> str:
    return clean(" ".join(text.split()))


def _objects(before: Snapshot | None, seen: Snapshot, quiet: bool) -> Iterator[str]:
    """{"event": "machine", ...} for each that changed, then {"event": "run", ...} with the sums."""
    changed = list(_changed(before, seen))
    for one in changed:
        fields = {name: value for name, value in dataclasses.asdict(one).items() if name not in LARGE}
        yield json.dumps({"event": "machine", "run": seen.run, "at": seen.at, **fields})
    if changed or before is None or not quiet:
        sums = dict(Counter(str(one.standing) for one in seen.machines))
        told = {"run": seen.run, "at": seen.at, "state": state(seen), "counts": sums, "bytes_per_second": seen.rate}
        yield json.dumps({"event": "run", **told})
