"""Local times when clocks change: each case has a written outcome."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2c.manifest.parts import DatedBlackout, WeeklyBlackout, Window
from v2c.manifest.times import NoSuchTime, Span, ambiguous, dark, free, instants, span

BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def weekly(days: str, start: str, end: str) -> WeeklyBlackout:
    return WeeklyBlackout.model_validate({"days": days.split(), "start": start, "end": end})


def test_an_ordinary_window() -> None:
    window = Window.model_validate({"start": "2026-12-05T22:00", "end": "2026-12-06T04:00"})
    assert span(window, BERLIN) == Span(utc("2026-12-05T21:00"), utc("2026-12-06T03:00")) and not ambiguous(window, BERLIN)


def test_a_window_over_the_spring_change_is_an_hour_shorter() -> None:
    window = Window.model_validate({"start": "2026-03-29T00:00", "end": "2026-03-29T06:00"})
    assert span(window, BERLIN).seconds == 5 * 3600


def test_a_time_that_the_clocks_leave_out() -> None:
    with pytest.raises(NoSuchTime, match="2026-03-29 02:30 does not exist in Europe/Berlin: the clocks go forward by 60 minutes"):
        instants("2026-03-29T02:30", BERLIN)
    with pytest.raises(NoSuchTime, match="by 30 minutes"):
        instants("2026-10-04T02:15", "Australia/Lord_Howe")


def test_a_time_that_occurs_twice_makes_the_window_shorter() -> None:
    """The reading that everybody's window contains: from the second occurrence, until the first."""
    twice = instants("2026-10-25T02:30", BERLIN)
    assert twice == (utc("2026-10-25T00:30"), utc("2026-10-25T01:30"))
    starts = Window.model_validate({"start": "2026-10-25T02:30", "end": "2026-10-25T06:00"})
    ends = Window.model_validate({"start": "2026-10-24T22:00", "end": "2026-10-25T02:30"})
    assert span(starts, BERLIN).start == twice[1] and span(ends, BERLIN).end == twice[0]
    assert ambiguous(starts, BERLIN) and ambiguous(ends, BERLIN)
    both = Window.model_validate({"start": "2026-10-25T02:15", "end": "2026-10-25T02:45"})
    with pytest.raises(NoSuchTime, match="empty"):
        span(both, BERLIN)


def test_an_offset_decides() -> None:
    assert instants("2026-10-25T02:30+02:00", BERLIN) == (utc("2026-10-25T00:30"),)
    assert instants("2026-10-25T02:30+01:00", BERLIN) == (utc("2026-10-25T01:30"),)
    with pytest.raises(NoSuchTime, match=r"Europe/Berlin is at \+01:00 from UTC then, not \+02:00"):
        instants("2026-12-05T22:00+02:00", BERLIN)


@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)), st.sampled_from([BERLIN, "America/New_York", "UTC", "Asia/Tokyo"])
)
def test_each_moment_has_the_local_time_that_was_written(local: datetime, zone: str) -> None:
    text = local.replace(second=0, microsecond=0).isoformat(timespec="minutes")
    try:
        found = instants(text, zone)
    except NoSuchTime:
        return
    assert 1 <= len(found) <= 2
    for moment in found:
        assert moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None).isoformat(timespec="minutes") == text


def test_office_hours_split_a_window() -> None:
    within = Span(utc("2026-12-03T12:00"), utc("2026-12-04T23:00"))  # Thursday to Friday
    left = free(within, dark([weekly("mon tue wed thu fri", "08:00", "18:00")], BERLIN, within))
    assert left == (
        Span(utc("2026-12-03T17:00"), utc("2026-12-04T07:00")),
        Span(utc("2026-12-04T17:00"), utc("2026-12-04T23:00")),
    )


def test_a_weekly_blackout_over_midnight_and_to_the_end_of_the_day() -> None:
    within = Span(utc("2026-12-05T00:00"), utc("2026-12-07T00:00"))
    assert list(dark([weekly("sat", "22:00", "06:00")], "UTC", within)) == [
        Span(utc("2026-12-05T22:00"), utc("2026-12-06T06:00"))
    ]
    assert list(dark([weekly("sat", "22:00", "24:00")], "UTC", within)) == [
        Span(utc("2026-12-05T22:00"), utc("2026-12-06T00:00"))
    ]


def test_weekly_blackouts_when_clocks_change_are_read_wide() -> None:
    spring = Span(utc("2026-03-28T12:00"), utc("2026-03-29T12:00"))
    (one,) = dark([weekly("sun", "02:30", "04:00")], BERLIN, spring)
    assert one == Span(utc("2026-03-29T01:00"), utc("2026-03-29T02:00")), "02:30 does not exist: it begins with the change"
    autumn = Span(utc("2026-10-24T12:00"), utc("2026-10-25T12:00"))
    (two,) = dark([weekly("sun", "02:30", "02:45")], BERLIN, autumn)
    assert two == Span(utc("2026-10-25T00:30"), utc("2026-10-25T01:45")), "from the first 02:30 to the second 02:45"


def test_a_dated_blackout() -> None:
    freeze = DatedBlackout.model_validate({"start": "2026-12-24T00:00", "end": "2027-01-02T00:00"})
    within = Span(utc("2026-12-23T20:00"), utc("2026-12-24T04:00"))
    assert free(within, dark([freeze], BERLIN, within)) == (Span(utc("2026-12-23T20:00"), utc("2026-12-23T23:00")),)
    with pytest.raises(NoSuchTime, match="no time zone"):
        list(dark([freeze], None, within))


SPANS = st.builds(
    lambda start, length: Span(
        utc("2026-01-01T00:00") + timedelta(minutes=start), utc("2026-01-01T00:00") + timedelta(minutes=start + length)
    ),
    st.integers(0, 600),
    st.integers(1, 200),
)


@given(SPANS, st.lists(SPANS, max_size=8))
def test_what_is_free_is_the_window_minus_every_blackout(within: Span, blackouts: list[Span]) -> None:
    left = free(within, blackouts)
    minute = within.start
    while minute < within.end:
        blocked = any(b.start <= minute < b.end for b in blackouts)
        assert any(s.start <= minute < s.end for s in left) is not blocked
        minute += timedelta(minutes=1)
