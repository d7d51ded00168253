"""The measurements of bench/: what a conversion times by name has a column, and the page says what was written down."""

import pytest

from bench.run import PHASES, REPAIR, ROOT, kept, split, table
from v2c.fixes.repair import SLOW


def test_every_slow_repair_has_a_column() -> None:
    """Else its seconds, which are most of all, would be nobody's."""
    assert set(SLOW.values()) <= set(REPAIR) <= set(PHASES)


def test_seconds_are_counted_once_and_none_is_lost() -> None:
    fix = {"launch": 20.0, "inspect": 2.0, "repair": 1.5, "initramfs": 74.0, "proof": 0.5, "trim": 1.0, "close": 0.5}
    phases = split(fix, {"copy": 4.0}, 110.0)
    assert tuple(phases) == PHASES
    assert phases["initramfs"] == 74.0
    assert phases["other"] == pytest.approx(8.0), "trim, close, and what no phase has"
    assert sum(phases.values()) == pytest.approx(110.0)


def test_a_guest_that_is_measured_later_leaves_the_others_as_they_are() -> None:
    (one, *_) = kept()
    other = {**one, "guest": "debian12-uefi-lvm", "v2c": {**one["v2c"], "phases": dict.fromkeys(PHASES, 1.25)}}
    text = table([one, other])
    assert f"| debian12-uefi-lvm | v2c | {one['v2c']['seconds']:.1f} | " + " | ".join(["1.2"] * len(PHASES)) in text
    assert text.count("| ratio |") == 2 and text.count("measured on") == 2


def test_the_page_says_what_was_measured() -> None:
    page = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    assert f"<!-- convert -->\n\n{table(kept())}\n<!-- end of convert -->" in page
