"""The page in a real browser: it is live, it can be used by keyboard alone, it hides nothing from a screen reader, and stays
readable at 500 machines, on a phone, in the dark. With V2C_SHOTS=FOLDER it leaves pictures there, for people to look at."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import looks
import pytest
from browser import Browser, Page
from example_run import HOSTILE, example_run, hostile
from example_runs import ExampleRuns

from v2c.model.wave import Gate, MachineView, Snapshot, Standing
from v2c.serve.server import Server

pytestmark = pytest.mark.tool
WIDE, NARROW = (1400, 900), (390, 844)
SHOTS = os.environ.get("V2C_SHOTS", "")  # read before the tests clear the environment


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@contextmanager
def served(*seen: Snapshot) -> "Iterator[tuple[Server, ExampleRuns]]":
    runs = ExampleRuns(*seen)
    server = Server(runs, every=0.1)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server, runs
    finally:
        server.shutdown()
        server.server_close()


Opened = Callable[..., "tuple[Page, ExampleRuns]"]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """`opened(snapshot, ...)`: a page that shows it, all its rows there."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def open(*seen: Snapshot, size: tuple[int, int] = WIDE, dark: bool = False) -> tuple[Page, ExampleRuns]:
            server, runs = stack.enter_context(served(*seen))
            page = stack.enter_context(browser.page(*size, dark=dark))
            page.open(server.address)
            page.until(f"$$('#rows tr[role=row]').length === {len(seen[0].machines)} && $('#shown').textContent")
            return page, runs

        yield open


def focused(page: Page) -> str:
    """What has the focus, by its accessible words."""
    return str(page.js("(() => { const at = document.activeElement; return at.ariaLabel || at.textContent.trim() || at.id; })()"))


def row(page: Page, id: str) -> str:
    """All that a machine's row says."""
    return str(page.js(f"$$('#rows tr').find((one) => one.querySelector('.name')?.textContent === '{id}')?.innerText"))


def change(runs: ExampleRuns, id: str, **fields: object) -> None:
    runs.change("dc-exit", lambda one: replace(one, **fields) if one.id == id else one)  # type: ignore[arg-type]


# --- live ---------------------------------------------------------------------------------------------------------------------


def test_it_shows_the_run(opened: Opened) -> None:
    page, _ = opened(example_run(5))
    assert "?" not in str(page.js("location.search")) or "token" not in str(page.js("location.search")), (
        "the token left the address"
    )
    assert page.js("document.title") == "dc-exit · v2c"
    assert page.js("$$('#rows .name').map((one) => one.textContent)") == [
        "mail-004", "web-003", "erp-app-002", "files-005", "erp-db-001",
    ], "those that want to be looked at come first"  # fmt: skip
    assert "failed" in row(page, "mail-004") and "refused block 4711" in row(page, "mail-004")
    assert "upload 40.1 GiB of 207 GiB, 148 MiB/s" in row(page, "erp-app-002")
    assert "⚠ over 30 min" in row(page, "erp-db-001")
    assert page.text("#sum-done") == "1"
    assert page.text("#sum-rate") == "148 MiB/s"
    assert "replicate from" in str(page.js("$('svg.time').getAttribute('aria-label')"))
    assert page.complaints() == []


def test_it_is_live_and_only_what_changed_is_touched(opened: Opened) -> None:
    page, runs = opened(example_run(50))
    page.js("""(() => {
      window.touched = new Set();
      const row = (node) => (node.nodeType === 1 ? node : node.parentElement)?.closest('#rows tr');
      const rows = (all) => all.map((one) => row(one.target)).filter(Boolean);
      const seen = (all) => rows(all).forEach((it) => touched.add(it.querySelector('.name').textContent));
      const everything = { subtree: true, childList: true, attributes: true, characterData: true };
      new MutationObserver(seen).observe($('#rows'), everything);
    })()""")
    moving = next(one for one in runs.snapshot("dc-exit").machines if one.moving and one.moving.total)
    assert moving.moving
    change(runs, moving.id, moving=replace(moving.moving, done=moving.moving.total // 2))
    page.until(f"[...touched].includes('{moving.id}')")
    assert page.js("[...touched]") == [moving.id]


def test_a_screen_reader_hears_what_matters(opened: Opened) -> None:
    page, runs = opened(example_run(5))
    change(runs, "erp-app-002", standing=Standing.FAILED, why="the target refused it", moving=None)
    page.until("$('#said').textContent === 'erp-app-002 failed: the target refused it'")
    assert page.js("$('#said').getAttribute('aria-live')") == "polite"
    assert page.text("#sum-lost") == "2"


def test_a_server_that_goes_away_is_told_and_found_again(opened: Opened) -> None:
    page, runs = opened(example_run(5))
    seen = runs.runs.pop("dc-exit")
    page.until("$('#link').textContent.startsWith('the run cannot be read')")
    runs.runs["dc-exit"] = seen
    page.until("$('#link').textContent === 'live'")
    page.ask("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    change(runs, "mail-004", why="told while nobody heard")
    page.ask("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.until("$('#rows').innerText.includes('told while nobody heard')")


# --- by keyboard --------------------------------------------------------------------------------------------------------------


def tab_to(page: Page, words: str, most: int = 60) -> None:
    """Presses Tab until what has the focus says so; it must be seen that it has it."""
    for _ in range(most):
        page.press("Tab")
        if focused(page) == words:
            assert page.js("getComputedStyle(document.activeElement).outlineStyle") != "none", (
                f"nobody sees that {words} has the focus"
            )
            return
    raise AssertionError(f"Tab does not come to {words}")


def test_a_gate_is_approved_by_keyboard_alone(opened: Opened) -> None:
    page, runs = opened(example_run(5))
    page.press("Tab")
    assert focused(page) == "Skip to the machines"
    tab_to(page, "Approve okToCutover…")
    page.press("Enter")
    page.until("$('#gate').open")
    assert focused(page) == "Cancel", "Enter twice agrees to nothing"
    page.press("Enter")
    page.until("!$('#gate').open")
    assert runs.said == [] and focused(page) == "Approve okToCutover…"
    page.press("Enter")
    page.until("$('#gate').open")
    assert "takes writes" in str(page.text("#gate-text"))
    for _ in range(9):
        page.press("Tab")
        assert page.js("$('#gate').contains(document.activeElement) || document.activeElement === document.body"), (
            "the dialog keeps the focus"
        )
    while focused(page) != "Approve 1 machine":
        page.press("Tab")
    page.press("Enter")
    page.until("!$('#gate').open")
    assert runs.said == [("dc-exit", Gate.CUTOVER, ("web-003",), True)]
    page.until("$('#said').textContent.includes('approved okToCutover for 1 machine')")
    page.until("!$('#gates').childElementCount")
    assert page.js("$('#no-gates').hidden") is False


def test_some_are_refused_and_the_others_stay(opened: Opened) -> None:
    page, runs = opened(example_run(50))
    waits = [m.id for m in runs.snapshot("dc-exit").machines if m.gate is Gate.CUTOVER]
    assert len(waits) > 1
    page.click('[aria-label="Refuse okToCutover…"]')
    page.until("$('#gate').open")
    page.click("#gate-none")
    assert page.js("$('#gate-do').disabled") is True
    page.click("#gate-list input")
    page.until("$('#gate-do').textContent === 'Refuse 1 machine'")
    page.click("#gate-do")
    page.until("!$('#gate').open")
    assert runs.said == [("dc-exit", Gate.CUTOVER, (waits[0],), False)]
    gates = [str(gate) for gate in Gate if any(m.gate is gate for m in runs.snapshot("dc-exit").machines)]
    assert page.js("$$('#gates strong').map((it) => it.textContent)") == gates
    page.until(f"$('#gate-okToCutover .who').textContent.startsWith('{len(waits) - 1} machine')")


def test_somebody_was_faster(opened: Opened) -> None:
    page, runs = opened(example_run(5))
    page.click("#gates button")
    change(runs, "web-003", standing=Standing.RUNNING, gate=None)
    page.click("#gate-do")
    page.until("$('#gate-error').textContent.includes('none of web-003 waits at okToCutover')")
    assert page.js("$('#gate').open") is True
    page.press("Escape")
    page.until("!$('#gate').open")


def test_a_machine_is_opened_by_keyboard_and_stays_up_to_date(opened: Opened) -> None:
    page, runs = opened(example_run(5))
    tab_to(page, "mail-004", 90)
    page.press("Enter")
    page.until("$('#machine').open")
    shown = str(page.js("$('#machine').innerText"))
    assert "refused block 4711" in shown and "open-vm-tools" in shown and "ced7e4a747be0003" in shown
    change(runs, "mail-004", why="it was tried again")
    page.until("$('#machine').innerText.includes('it was tried again')")
    page.press("Escape")
    page.until("!$('#machine').open")
    assert focused(page) == "mail-004"


def test_focus_stays_when_rows_change_places(opened: Opened) -> None:
    page, runs = opened(example_run(5))
    page.js("$$('#rows .name').find((one) => one.textContent === 'files-005').focus()")
    change(runs, "files-005", standing=Standing.FAILED)
    page.until("$('#rows tr[role=row] .name').textContent.match(/files-005|mail-004/) && $('#sum-lost').textContent === '2'")
    assert focused(page) == "files-005"


# --- find and sort --------------------------------------------------------------------------------------------------------------


def test_500_machines_are_found_and_sorted(opened: Opened) -> None:
    page, runs = opened(example_run(500))
    seen = runs.snapshot("dc-exit")
    page.js("$('#find').focus()")
    page.type("Web azure")
    found = [m.id for m in seen.machines if "web" in m.id and "azure" in m.target]
    assert 0 < len(found) < 50
    page.until(f"$('#shown').textContent === '{len(found)} of 500 machines'")
    assert page.js("$$('#rows tr[role=row]').filter((one) => one.checkVisibility()).length") == len(found)
    page.put("#find", "")
    page.click("#chip-failed")
    assert page.js("$('#chip-failed').ariaPressed") == "true"
    page.until("$('#shown').textContent === '9 of 500 machines'")
    assert "show=failed" in str(page.js("location.search")), "the choice can be kept as a bookmark"
    page.click("#chip-failed")
    page.js("$$('#heads button').find((one) => one.textContent === 'Downtime').click()")
    slowest = max(seen.machines, key=lambda m: m.downtime_s or 0)
    assert page.text("#rows tr[role=row] .name") == slowest.id
    assert page.text("th[aria-sort]") == "Downtime"
    page.put("#find", "no such machine")
    page.until("$('.empty').checkVisibility()")


def test_the_timeline_looks_closer(opened: Opened) -> None:
    page, _ = opened(example_run(5))
    whole = page.js("$('svg.time').getAttribute('viewBox')")
    page.put("#range", "3600")
    assert float(str(page.js("$('svg.time').getAttribute('viewBox')")).split()[2]) == 3600 < float(str(whole).split()[2])


# --- for everybody --------------------------------------------------------------------------------------------------------------


def picture(page: Page, name: str) -> None:
    """For people, when they ask for it."""
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.picture(Path(SHOTS) / f"{name}.png")


@pytest.mark.parametrize("count", [5, 500])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_everybody_can_read_it(opened: Opened, count: int, dark: bool, size: tuple[int, int]) -> None:
    page, _ = opened(example_run(count), size=size, dark=dark)
    name = f"{count}-{'dark' if dark else 'light'}-{size[0]}"
    picture(page, name)
    faults = looks.faults(page)
    page.js("$('#machines').scrollIntoView()")
    picture(page, f"{name}-machines")
    page.click("#rows .name")
    page.until("$('#machine').open")
    picture(page, f"{name}-machine")
    faults += looks.faults(page)
    page.js("$('#machine').close(), $('#gates button').click()")
    picture(page, f"{name}-gate")
    faults += looks.faults(page)
    assert not faults, "\n".join(faults)
    assert page.complaints() == []


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_long_words_stay_in_their_place(opened: Opened, size: tuple[int, int]) -> None:
    page, _ = opened(hostile(example_run(5), "x" * 300), size=size)
    picture(page, f"long-{size[0]}")
    found = looks.faults(page)
    page.click("#rows .name")
    page.until("$('#machine').open")
    picture(page, f"long-{size[0]}-machine")
    found += looks.faults(page)
    assert not found, "\n".join(found)


def test_the_checks_bite(opened: Opened) -> None:
    page, _ = opened(example_run(5))
    page.js("""(() => {
      const faint = document.createElement('button'), small = document.createElement('button');
      Object.assign(faint, { id: 'find', textContent: 'x' }).style.cssText = 'color: #999; background: #fff; width: 3000px';
      small.style.cssText = 'all: unset; width: 5px';
      $('main').append(faint, small, document.createElement('th'));
    })()""")
    found = looks.faults(page)
    for fault in (
        "BUTTON.: 2.85",
        "the id find is there 2 times",
        "th without scope",
        "wider than",
        "small: ",
        "button without a name",
    ):
        assert any(one.startswith(fault) for one in found), (fault, found)


def test_a_table_is_a_table_on_a_phone_too(opened: Opened) -> None:
    """Chromium forgets that a table is one when it is laid out otherwise; the roles keep it."""
    page, _ = opened(example_run(5), size=NARROW)
    roles = [str(node["role"]["value"]) for node in page.tree()]
    assert roles.count("rowheader") >= 5 and roles.count("columnheader") >= 7 and "table" in roles


def test_no_motion_for_who_wants_none(opened: Opened) -> None:
    page, _ = opened(example_run(5))
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    page.js("""window.moves = (one, part) => {
      const style = getComputedStyle(one, part);
      return parseFloat(style.transitionDuration) > 0 || style.animationName !== 'none';
    }""")
    moving = "$$('*').some((one) => moves(one, null) || moves(one, '::-webkit-progress-value'))"
    assert page.js(moving) is False


def test_hostile_names_are_only_text(opened: Opened) -> None:
    page, runs = opened(hostile(example_run(5)))
    page.js("window.alert = () => { window.harmed = true; }")
    for open in ("#rows .name", "#gates button"):
        page.js(f"$('{open}').click()")
        page.until("!!$('dialog[open]')")
        page.until("$('dialog[open]').innerText.includes('<script>')")
        page.press("Escape")
        page.until("!$('dialog[open]')")
    runs.change("dc-exit", lambda one: replace(one, standing=Standing.FAILED))
    page.until("$('#said').textContent.includes('<script>')")
    assert page.js("$$('main script, dialog script').length") == 0
    assert page.js("window.harmed") is None
    text = str(page.js("document.body.innerText"))
    assert HOSTILE.partition("\x1b")[0] in text and "\x1b" not in text and "\u202e" not in text
    assert page.complaints() == []


def test_a_stranger_sees_nothing(browser: Browser) -> None:
    """Another page's script, and an address without the token."""
    with served(example_run(5)) as (server, runs), browser.page() as page:
        page.open(f"http://127.0.0.1:{server.server_port}/")
        assert "open the address that" in str(page.js("document.body.innerText"))
        page.open(server.address)
        page.until("$$('#rows tr').length > 5")
        with served(example_run(5)) as (other, _):
            page.open(other.address)
            page.until("$$('#rows tr').length > 5")
            ours = f"http://127.0.0.1:{server.server_port}"
            fetched = f"fetch('{ours}/runs', {{ credentials: 'include' }}).then((it) => it.text(), (error) => 'refused')"
            assert page.js(fetched) == "refused"
            asked = "{ method: 'POST', mode: 'no-cors', credentials: 'include', body: '{\"machines\": [\"web-003\"]}' }"
            posted = f"fetch('{ours}/runs/dc-exit/gates/okToCutover/approve', {asked}).then(() => 0, () => 0)"
            page.js(posted)
            assert runs.said == []


def everyone(seen: Snapshot, standing: Standing) -> Snapshot:
    def so(one: MachineView) -> MachineView:
        return replace(one, standing=standing, moving=None, gate=None)

    return replace(seen, machines=tuple(so(one) for one in seen.machines))


def test_a_run_that_is_over_says_so(opened: Opened) -> None:
    page, _ = opened(everyone(example_run(5), Standing.DONE))
    assert page.text("#state") == "■ over"
    assert page.js("$('#no-gates').checkVisibility()") is True


def test_several_runs_are_chosen_from(opened: Opened) -> None:
    page, _ = opened(example_run(5), replace(example_run(50), run="other"))
    page.put("#run", "other")
    page.until("$('#shown').textContent === '50 machines'")
    assert page.js("$('#report-html').getAttribute('href')") == "/runs/other/report.html"
