"""Bandwidth by the time of day: what is written, what is refused, and what holds when clocks change."""

from datetime import UTC, datetime
from typing import Any

import pytest
from manifests import HEAD, deep, machine, manifest, one, read, wave

from v2c.manifest import json_schema
from v2c.manifest.rates import Rates, rates
from v2c.manifest.write import text
from v2c.model import MIB

DAY = '{days: [mon, tue, wed, thu, fri], from: "08:00", to: "18:00", rate: 1MiB/s}'
NIGHT = '{from: "22:00", to: "06:00", rate: 8MiB/s}'


def limited(bandwidth: str, head: str = HEAD) -> str:
    return manifest(wave(machine("a")), head.replace("waves:\n", f"limits: {{bandwidth: {bandwidth}}}\nwaves:\n"))


def of(bandwidth: str, zone: str = "Europe/Berlin") -> Rates:
    return rates(read(limited(bandwidth)).limits.bandwidth, zone)


def at(known: Rates, moment: str) -> float:
    """MiB per second at a moment in UTC; 0: no limit."""
    return known.at(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) / MIB


def test_the_first_that_holds_counts_and_the_plain_one_else() -> None:
    known = of(f"[{DAY}, {NIGHT}, 4MiB/s]")
    assert [at(known, f"2026-12-04T{hour}") for hour in ("06:59", "07:00", "16:59", "17:00", "21:00")] == [4, 1, 1, 4, 8]
    assert [at(known, f"2026-12-05T{hour}") for hour in ("04:59", "05:00", "12:00")] == [8, 4, 4]  # a Saturday
    assert at(of(f"[{NIGHT}]"), "2026-12-05T12:00") == 0
    assert at(of("20MiB/s"), "2026-12-05T12:00") == 20


def test_the_wider_word_first_hides_the_narrower() -> None:
    assert at(of('[{from: "00:00", to: "24:00", rate: 2MiB/s}, ' + DAY + "]"), "2026-12-04T12:00") == 2


def test_when_clocks_change() -> None:
    """Spring: 02:00 to 03:00 does not exist, so 02:30 is 03:00. Autumn: 02:30 comes twice; the first begins, the last ends."""
    early = of('[{from: "00:30", to: "02:30", rate: 1MiB/s}, 4MiB/s]')
    assert [at(early, f"2026-03-29T{hour}") for hour in ("00:59", "01:00", "01:30")] == [1, 4, 4]
    assert [at(early, f"2026-10-25T{hour}") for hour in ("00:15", "00:45", "01:29", "01:30")] == [1, 1, 1, 4]
    late = of('[{from: "02:30", to: "04:00", rate: 1MiB/s}, 4MiB/s]')
    assert [at(late, f"2026-03-29T{hour}") for hour in ("00:59", "01:00", "01:59", "02:00")] == [4, 1, 1, 4]
    assert [at(late, f"2026-10-25T{hour}") for hour in ("00:29", "00:30", "02:59", "03:00")] == [4, 1, 1, 4]


def test_each_in_its_own_zone() -> None:
    known = of('[{from: "08:00", to: "09:00", rate: 1MiB/s, zone: Asia/Tokyo}, {from: "08:00", to: "09:00", rate: 2MiB/s}]')
    assert [at(known, f"2026-12-03T{hour}") for hour in ("23:30", "07:30", "08:30")] == [1, 2, 0]


def test_the_mean_of_a_week() -> None:
    now = datetime(2026, 12, 1, 9, 13, tzinfo=UTC)
    assert of("20MiB/s").mean(now, 400 * MIB) == 20 * MIB and Rates().mean(now, 400 * MIB) == 0
    half = of('[{from: "00:00", to: "12:00", rate: 2MiB/s}, 4MiB/s]').mean(now, 400 * MIB)
    assert half == 3 * MIB
    assert of('[{from: "00:00", to: "12:00", rate: 2MiB/s}]').mean(now, 10 * MIB) == 6 * MIB  # no limit is what can be had


def test_it_is_written_as_it_was_read() -> None:
    made = read(limited(f"[{DAY}, 4MiB/s]"))
    assert read(text(made)) == made
    assert "from: 08:00" in text(made).replace("'", "")


@pytest.mark.parametrize(
    ("bandwidth", "says"),
    [
        ("fast", "limits.bandwidth: a rate is written like 20MiB/s or 100Mbit/s"),
        ("[4MiB/s, 5]", "limits.bandwidth[1]: a rate is written like"),
        (
            f"[4MiB/s, {DAY}]",
            "limits.bandwidth[0]: a rate without times holds always, so nothing after it is looked at",
        ),
        (f"[{DAY.replace('mon,', 'monday,')}]", 'limits.bandwidth[0].days[0]: this is "monday": write mon, tue'),
        (f"[{DAY.replace('18:00', '1800')}]", 'limits.bandwidth[0].to: this is "1800": write a time of day, like 08:00'),
        (f"[{DAY.replace('18:00', '08:00')}]", "limits.bandwidth[0]: this is no time: it is from 08:00 to 08:00"),
        (f"[{DAY.replace('from', 'form')}]", "limits.bandwidth[0].form: there is no key form here: did you mean from?"),
        (f"[{DAY.replace('1MiB/s', '0MiB/s')}]", "limits.bandwidth[0].rate: a rate is written like"),
        ("[]", "limits.bandwidth: this is empty: write at least one"),
    ],
)
def test_mistakes(bandwidth: str, says: str) -> None:
    from manifests import told

    assert says in "\n".join(told(limited(bandwidth)))


def test_times_need_a_zone() -> None:
    bare = HEAD.replace(", zone: Europe/Berlin", "")
    assert "limits.bandwidth[0]: the rate's times have no time zone: say zone: Europe/Berlin" in one(limited(f"[{DAY}]", bare))
    waves = wave(machine("a"), settings=f"limits: {{bandwidth: [{DAY}]}}")
    assert "waves[0].limits.bandwidth[0]: the rate's times have no time zone" in one(manifest(waves, bare))
    assert read(manifest(wave(machine("a"), settings=f"zone: UTC\n    limits: {{bandwidth: [{DAY}]}}"), bare))
    source = bare.replace("at: disks}", f"at: disks, bandwidth: [{DAY}]}}")
    assert "sources.lab.bandwidth[0]: the rate's times have no time zone" in one(manifest(wave(machine("a")), source))


def test_the_schema_knows_both_forms() -> None:
    kinds: Any = deep(json_schema(), "$defs", "Limits", "properties", "bandwidth", "anyOf", 0, "oneOf")
    assert [kind["type"] for kind in kinds] == ["array", "string"]
    assert sorted(deep(json_schema(), "$defs", "RateSlot", "required")) == ["from", "rate", "to"]
