"""A run on a screen: sums at the top, then the machines that run, wait at a gate or failed; the rest is counted.

`screen` is pure: a snapshot, a width and a height in, at most so many lines of at most so many columns out. What strangers chose
(ids, reasons) is made harmless for a terminal.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from v2c.model.wave import Gate, MachineView, Snapshot, Standing
from v2c.ui.words import clean, size, span

LOST = (Standing.FAILED, Standing.BLOCKED, Standing.MISSED, Standing.REFUSED)  # somebody has to look at these
COUNTED = (  # in the order in which sums name them
    Standing.DONE,
    Standing.RUNNING,
    Standing.GATED,
    Standing.FAILED,
    Standing.BLOCKED,
    Standing.MISSED,
    Standing.REFUSED,
    Standing.PAUSED,
    Standing.WAITING,
    Standing.SKIPPED,
    Standing.CANCELLED,
    Standing.ROLLED_BACK,
)
BAR = 20  # columns of a bar where there is room
LOW = 16  # lines below which waves are not told one by one
NARROW = 60  # columns below which a machine's row leaves its bar out


class Tone(StrEnum):
    """What a line is, for those who draw it in colours."""

    TITLE = "title"
    PLAIN = "plain"
    SOFT = "soft"
    GATE = "gate"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the screen. The words say all that the tone does."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What bars are made of: done, under way, not begun, lost."""

    done: str = "█"
    part: str = "▒"
    none: str = "·"
    lost: str = "×"  # noqa: RUF001 - a sign, not a letter
    more: str = "…"


ASCII = Glyphs("#", "=", ".", "x", "~")


def screen(seen: Snapshot, width: int, height: int, glyphs: Glyphs = Glyphs()) -> list[Line]:
    """The run as lines: never more than `height`, never wider than `width` columns."""
    width, height = max(width, 20), max(height, 4)
    head = _head(seen, width)
    if height < LOW:
        head = head[:3]  # the sums' first line names what matters most
    waves = list(_waves(seen, width, (height - len(head)) // 3, glyphs)) if height >= LOW else []
    rest = _rest(seen)
    room = height - len(head) - len(waves) - len(rest)
    body = _body(seen, width, room, glyphs)
    lines = [*head, *waves, *body, *rest][:height]
    return [Line(fit(clean(line.text.replace("\n", " ").replace("\t", " ")), width, glyphs.more), line.tone) for line in lines]


def counts(machines: Sequence[MachineView]) -> str:
    """How many stand how: "170 done, 24 running, 61 at a gate"."""
    found = Counter(one.standing for one in machines)
    return ", ".join(f"{found[standing]} {word(standing)}" for standing in COUNTED if found[standing]) or "no machines"


def word(standing: Standing) -> str:
    """The standing as people read it in a sum."""
    return {Standing.GATED: "at a gate"}.get(standing, str(standing))


def state(seen: Snapshot) -> str:
    """The run in a word: "running", "paused", "waiting" (nothing runs at this moment), "over"."""
    if seen.over or seen.paused:
        return "over" if seen.over else "paused"
    return "running" if seen.count(Standing.RUNNING) else "waiting"


def far(one: MachineView) -> str:
    """How far its running step is: "96 MiB/s, upload 12.0 GiB of 40.0 GiB", "fix repair"."""
    now = one.moving
    if now is None:
        return one.why
    told = " ".join(part for part in (now.step, "" if now.phase == "copy" else now.phase) if part)
    if now.total:
        told += f" {size(now.done)} of {size(now.total)}"
    return f"{size(now.rate)}/s, {told}" if now.rate else told


def columns(text: str) -> int:
    """How many columns of a terminal the text takes: wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, width: int, more: str = "…") -> str:
    """The text, cut off with "…" where it is wider than `width` columns."""
    if columns(text) <= width:
        return text
    kept, taken = [], 0
    for c in text:
        taken += columns(c)
        if taken > width - 1:
            break
        kept.append(c)
    return "".join(kept) + more


def _cell(text: str, width: int, more: str) -> str:
    text = fit(clean(text.replace("\n", " ").replace("\t", " ")), width, more)
    return text + " " * (width - columns(text))


def _head(seen: Snapshot, width: int) -> list[Line]:
    end = seen.ended if seen.over and seen.ended else seen.at
    machines = f"{len(seen.machines)} machine{'' if len(seen.machines) == 1 else 's'}"
    since = f" {'after' if seen.over else 'for'} {span(end - seen.began)}" if seen.began else ""
    title = Line(f"{seen.run}: {state(seen)}{since}, {machines}", Tone.TITLE)
    sent, data = sum(m.sent_bytes for m in seen.machines), sum(m.data_bytes for m in seen.machines)
    moved = f"{size(sent)} of {size(data)} sent, {size(seen.rate)}/s" if data else f"{size(sent)} sent, {size(seen.rate)}/s"
    silent = sum(not one.alive for one in seen.workers)
    alive = len(seen.workers) - silent
    told = f"{alive} worker{'' if alive == 1 else 's'}" + (f", {silent} silent" if silent else "")
    over = sum(m.downtime_s is not None and m.budget_s is not None and m.downtime_s > m.budget_s for m in seen.machines)
    late = f"; {over} over their downtime budget" if over else ""
    moves = Line(f"{moved}; {told}{late}", Tone.BAD if silent or over else Tone.PLAIN)
    return [title, moves, *(Line(text) for text in _wrapped(counts(seen.machines).split(", "), width))]


def _wrapped(parts: Sequence[str], width: int) -> Iterator[str]:
    """The parts, comma after comma, in as many lines as they need."""
    line = ""
    for part in parts:
        if line and columns(line) + len(", ,") + columns(part) > width:
            yield f"{line},"
            line = part
        else:
            line = f"{line}, {part}" if line else part
    yield line


def _waves(seen: Snapshot, width: int, room: int, glyphs: Glyphs) -> Iterator[Line]:
    """A line a wave, where there are several; where there is no room for all, those that nothing happens in go first."""
    names = list(seen.waves) if len(seen.waves) > 1 else []
    if len(names) > room:
        moving = [
            n for n in names if any(m.standing in (Standing.RUNNING, Standing.GATED) or m.standing in LOST for m in seen.of(n))
        ]
        names = [*moving, *(n for n in names if n not in moving)][: max(room - 1, 0)]
        names.sort(key=seen.waves.index)
    wide = min(max((columns(clean(n)) for n in names), default=0), max(width // 4, 8))
    for name in names:
        machines = seen.of(name)
        drawn = _wave_bar(machines, min(BAR, max(width // 4, 5)), glyphs)
        done = sum(m.standing is Standing.DONE for m in machines)
        runs, gated = (sum(m.standing is standing for m in machines) for standing in (Standing.RUNNING, Standing.GATED))
        lost = sum(m.standing in LOST for m in machines)
        kinds = ((runs, "running"), (gated, "at a gate"), (lost, "to look at"))
        told = ", ".join(f"{count} {kind}" for count, kind in kinds if count)
        text = f"{_cell(name, wide, glyphs.more)} {drawn} {f'{done}/{len(machines)}':>9}  {told}"
        yield Line(text, Tone.BAD if lost else Tone.PLAIN)
    if names and (left := len(seen.waves) - len(names)):
        yield Line(f"{glyphs.more} and {left} more waves", Tone.SOFT)


def _wave_bar(machines: Sequence[MachineView], width: int, glyphs: Glyphs) -> str:
    """Its machines as a bar: done, under way, lost, not begun; each kind that there is has a column at least."""
    total = len(machines) or 1
    done = sum(m.standing is Standing.DONE for m in machines)
    part = sum(m.standing in (Standing.RUNNING, Standing.GATED, Standing.PAUSED) for m in machines)
    lost = sum(m.standing.over and m.standing is not Standing.DONE for m in machines)
    kinds = ((done, glyphs.done), (part, glyphs.part), (lost, glyphs.lost))
    drawn = "".join(glyph * max(1, count * width // total) for count, glyph in kinds if count)[:width]
    return drawn.ljust(width, glyphs.none if done + part + lost < total or not machines else drawn[-1:])


def _body(seen: Snapshot, width: int, room: int, glyphs: Glyphs) -> list[Line]:
    """The machines to look at. Those that are lost get a third at most, gates a line each, those that run what is left."""
    lost = sorted((m for m in seen.machines if m.standing in LOST), key=lambda m: LOST.index(m.standing))
    runs = [m for m in seen.machines if m.standing is Standing.RUNNING]
    gates = list(_gates(seen, width, glyphs))[: max(room, 0)]
    room -= len(gates)
    spare = max(room - len(runs) - bool(runs), room // 3, min(room, 1))  # what those that run leave, but a third at least
    below = _section(f"to look at: {len(lost)}", [_lost(m, width, glyphs) for m in lost], spare, glyphs)
    above = _section(f"running: {len(runs)}", [_running(m, width, glyphs) for m in runs], room - len(below), glyphs)
    return [*above, *gates, *below]


def _section(title: str, rows: Sequence[Line], room: int, glyphs: Glyphs) -> list[Line]:
    """A title and its rows, in `room` lines: what does not fit is counted."""
    if not rows or room < 1:
        return []
    shown = rows if len(rows) < room else rows[: max(room - 2, 0)]
    if not shown:
        return [Line(title, Tone.TITLE)]
    left = [Line(f"  {glyphs.more} and {len(rows) - len(shown)} more", Tone.SOFT)] if len(shown) < len(rows) else []
    return [Line(title, Tone.TITLE), *shown, *left]


def _running(one: MachineView, width: int, glyphs: Glyphs) -> Line:
    name = _cell(one.id, max(10, min(24, width // 4)), glyphs.more)
    where = _cell(one.stage, 12, glyphs.more)
    now = one.moving
    drawn = ""
    if width >= NARROW:
        full = BAR if width >= 100 else 10
        share = min(1.0, now.done / now.total) if now and now.total else 0.0
        drawn = (glyphs.done * int(share * full)).ljust(full, glyphs.none) + f" {share:4.0%}  " if share else " " * (full + 7)
    return Line(f"  {name} {where} {drawn}{far(one)}")


def _gates(seen: Snapshot, width: int, glyphs: Glyphs) -> Iterator[Line]:
    for gate in Gate:
        waits = [m.id for m in seen.machines if m.standing is Standing.GATED and m.gate is gate]
        if waits:
            yield Line(f"at gate {gate}: {len(waits)}: {', '.join(waits)}", Tone.GATE)


def _lost(one: MachineView, width: int, glyphs: Glyphs) -> Line:
    name = _cell(one.id, max(10, min(24, width // 4)), glyphs.more)
    remedy = f": {one.remedy}" if one.remedy else ""
    return Line(f"  {name} {_cell(one.standing, 8, glyphs.more)} {one.stage}: {one.why}{remedy}", Tone.BAD)


def _rest(seen: Snapshot) -> list[Line]:
    """How many are not shown one by one."""
    rest = [m for m in seen.machines if m.standing not in (Standing.RUNNING, Standing.GATED, *LOST)]
    return [Line(f"and {counts(rest)}", Tone.SOFT)] if rest else []
