"""A run on a screen and in a log: at 5 and 500 machines, in every size of terminal, with hostile names."""

import io
import json
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fcntl import ioctl
from typing import TextIO

import pytest
from example_run import HOSTILE, example_run, hostile

from v2c.model.wave import Snapshot, Standing
from v2c.ui.watch import watch
from v2c.ui.wave import ASCII, LOST, Tone, columns, counts, fit, screen


def text(seen: Snapshot, width: int = 100, height: int = 40) -> str:
    return "\n".join(line.text for line in screen(seen, width, height))


def over(seen: Snapshot) -> Snapshot:
    """The same run when nothing is left to do."""
    machines = tuple(replace(m, standing=m.standing if m.standing.over else Standing.DONE, moving=None) for m in seen.machines)
    return replace(seen, machines=machines, ended=seen.at, at=seen.at + 60)


@pytest.mark.parametrize("count", [0, 1, 5, 50, 500])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (20, 6), (40, 12), (80, 24), (100, 40), (220, 70)])
def test_it_fits(count: int, width: int, height: int) -> None:
    for seen in (example_run(count), hostile(example_run(count)), hostile(example_run(count), "数据库\n" * 9)):
        lines = screen(seen, width, height)
        assert len(lines) <= max(height, 4)
        assert all(columns(line.text) <= max(width, 20) for line in lines)
        assert all(c.isprintable() for line in lines for c in line.text)


def test_five_machines_are_told_one_by_one() -> None:
    shown = text(example_run(5), 140)
    assert shown.startswith("dc-exit: running for 3 h 00 min, 5 machines\n")
    assert "1 done, 1 running, 1 at a gate, 1 failed, 1 waiting\n" in shown
    assert re.search(r"^  erp-app-002 +replicate +█+·+ +19%  148 MiB/s, upload 40\.1 GiB of 207 GiB$", shown, re.MULTILINE)
    assert "at gate okToCutover: 1: web-003" in shown
    assert "mail-004" in shown and "the target refused block 4711" in shown
    assert shown.endswith("and 1 done, 1 waiting")


def test_five_hundred_are_counted() -> None:
    """Everyone who needs a look has a row or is counted, and so is everyone else."""
    seen = example_run(500)
    shown = text(seen, 120, 40)
    assert f"running: {seen.count(Standing.RUNNING)}" in shown
    lost = sum(m.standing in LOST for m in seen.machines)
    rows = re.search(rf"to look at: {lost}\n((?:  .*\n)+)", shown)
    assert rows
    told = rows[1].splitlines()
    more = re.fullmatch(r"  … and (\d+) more", told[-1])
    assert more and len(told) - 1 + int(more[1]) == lost
    assert shown.count("at gate okTo") == 3
    for wave in seen.waves:
        assert re.search(rf"^{wave} +[█▒×·]{{20}} +\d+/100 ", shown, re.MULTILINE), wave  # noqa: RUF001


def test_on_a_large_screen_everything_that_moves_is_there() -> None:
    seen = example_run(500)
    shown = text(seen, 120, 80)
    assert all(one.id in shown for one in seen.machines if one.standing in (Standing.RUNNING, *LOST))
    assert "more" not in shown


def test_what_is_lost_comes_before_what_merely_runs() -> None:
    """24 machines run and 30 are lost: on 24 lines both are seen."""
    lines = screen(example_run(500), 80, 24)
    assert [line.tone for line in lines].count(Tone.BAD) >= 2
    assert any(line.text.startswith("running: 24") for line in lines)


def test_waves_without_room_are_counted_and_quiet_ones_go_first() -> None:
    seen = example_run(500)
    quiet = {m.id for m in seen.machines if m.wave in ("pilot", "databases")}
    machines = tuple(replace(m, standing=Standing.DONE) if m.id in quiet else m for m in seen.machines)
    shown = text(replace(seen, machines=machines), 80, 18)
    assert "shops" in shown and "offices" in shown and "pilot" not in shown
    assert re.search(r"… and \d more waves", shown)


def test_a_budget_that_is_passed_is_told_above() -> None:
    seen = example_run(5)
    late = replace(seen.machines[0], budget_s=60, downtime_s=61.0)
    fine = replace(seen.machines[0], budget_s=60, downtime_s=60.0)
    assert "1 over their downtime budget" in text(replace(seen, machines=(late,)))
    assert "downtime" not in text(replace(seen, machines=(fine,)))


def test_letters_of_old_terminals() -> None:
    assert all(line.text.isascii() for line in screen(example_run(500), 80, 24, ASCII))


@pytest.mark.parametrize(
    ("words", "width", "fitted"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("数据库", 5, "数据…"), ("数据库", 6, "数据库")]
)
def test_fit(words: str, width: int, fitted: str) -> None:
    assert fit(words, width) == fitted


def test_counts_name_each_machine_once() -> None:
    seen = example_run(500)
    assert sum(int(n) for n in re.findall(r"(\d+) ", counts(seen.machines))) == 500


# --- watching ---------------------------------------------------------------------------------------------------------------


def reader(*seen: Snapshot) -> Callable[[], Snapshot]:
    """One after the other; Ctrl-C when they are at an end."""

    def all() -> Iterator[Snapshot]:
        yield from seen
        raise KeyboardInterrupt

    told = all()
    return lambda: next(told)


def test_a_log_tells_what_changed_and_ends_with_the_run() -> None:
    stream = io.StringIO()
    first = example_run(5)
    ended = watch(reader(first, first, over(first)), stream, every=0)
    assert ended.over
    lines = stream.getvalue().splitlines()
    assert sum("erp-app-002 replicate running" in line for line in lines) == 1, "what did not change is not told again"
    assert any(re.search(r"mail-004 replicate failed: upload: the target refused .*: v2c retry", line) for line in lines)
    assert re.search(r"dc-exit over: 4 done, 1 failed; 0 bytes/s$", lines[-1])


def test_a_log_holds_no_steering_characters() -> None:
    stream = io.StringIO()
    watch(reader(over(hostile(example_run(5), HOSTILE + "\nforged"))), stream, every=0)
    assert "\x1b" not in stream.getvalue()
    assert not any(line.startswith("forged") for line in stream.getvalue().splitlines())


def test_json_is_one_object_a_line() -> None:
    stream = io.StringIO()
    first = example_run(500)
    watch(reader(first, over(first)), stream, "json", every=0)
    objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    sums = [o for o in objects if o["event"] == "run"]
    assert [o["state"] for o in sums] == ["running", "over"]
    assert sums[0]["counts"]["running"] == 24 and sum(sums[0]["counts"].values()) == 500
    machines = [o for o in objects if o["event"] == "machine"]
    changed = sum(not m.standing.over for m in first.machines)
    assert len(machines) == 500 + changed, "the second time only those that changed"
    assert all("spans" not in o for o in machines)


def on_terminal(act: Callable[[TextIO], object], width: int = 90, height: int = 20) -> str:
    """What `act` writes on a real pseudo-terminal of that size."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    said: list[bytes] = []

    def drain() -> None:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:
                return
            if not data:
                return
            said.append(data)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as stream:
            act(stream)
    finally:
        thread.join()
        os.close(ours)
    return b"".join(said).decode()


def test_a_terminal_is_redrawn_in_place_and_left_as_it_was() -> None:
    first = example_run(500)
    shown = on_terminal(lambda stream: watch(reader(first, over(first)), stream, every=0))
    assert shown.startswith("\x1b[?1049h\x1b[?25l")
    pictures, after = shown.split("\x1b[?25h\x1b[?1049l")
    assert pictures.count("\x1b[H") == 2 and "dc-exit: over" in pictures
    assert "dc-exit: over" in after and "\x1b" not in after
    for picture in pictures.split("\x1b[H")[1:]:
        assert picture.count("\r\n") < 19, "never scrolls a terminal of 20 lines"


def test_ctrl_c_leaves_at_once_and_mends_the_terminal() -> None:
    def act(stream: TextIO) -> None:
        with pytest.raises(KeyboardInterrupt):
            watch(reader(example_run(5)), stream, every=0)

    shown = on_terminal(act)
    assert "\x1b[?25h\x1b[?1049l" in shown
    assert "dc-exit: running" in shown.rpartition("\x1b[?1049l")[2]


def test_no_colour_when_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = over(example_run(5))
    assert "\x1b[31m" in on_terminal(lambda stream: watch(reader(seen), stream))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in on_terminal(lambda stream: watch(reader(seen), stream))
