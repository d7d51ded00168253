"""Windows and blackouts as spans of real time.

What local times mean when clocks change, in one place:
- a time that the change leaves out (clocks go forward) is a mistake in a window or a dated blackout;
- a time that occurs twice (clocks go back) makes a window shorter (it starts at the second, ends at the first occurrence) and a
  blackout longer, unless the offset is written (2026-10-25T02:30+02:00);
- an offset that the zone does not have at that time is a mistake;
- a weekly blackout whose time does not exist on a day begins, or ends, when the clocks have changed.
All spans are in UTC and half open.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from v2c.manifest.parts import DatedBlackout, WeeklyBlackout, Window

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST = timedelta(days=92)  # of a window: what is longer was mistyped


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """From `start` to `end`, both in UTC."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


class NoSuchTime(ValueError):
    """A local time that cannot be meant; the sentence says why."""


def instants(text: str, zone: str) -> tuple[datetime, ...]:
    """The moments (UTC, ascending) at which the zone's clocks show a local time: one or two. NoSuchTime when there is none."""
    said = datetime.fromisoformat(text.replace(" ", "T").replace("Z", "+00:00"))
    place = ZoneInfo(zone)
    if said.tzinfo:
        there = said.astimezone(place)
        if there.utcoffset() != said.utcoffset():
            raise NoSuchTime(f"{zone} is at {_offset(there)} from UTC then, not {_offset(said)}")
        return (said.astimezone(UTC),)
    found = {local.astimezone(UTC) for local in (said.replace(tzinfo=place, fold=fold) for fold in (0, 1)) if _exists(local)}
    if not found:
        earlier, later = (said.replace(tzinfo=place, fold=fold).utcoffset() for fold in (0, 1))
        gap = abs((later or timedelta()) - (earlier or timedelta()))
        raise NoSuchTime(f"{said:%Y-%m-%d %H:%M} does not exist in {zone}: the clocks go forward by {_minutes(gap)} then")
    return tuple(sorted(found))


def _exists(local: datetime) -> bool:
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None)


def _minutes(gap: timedelta) -> str:
    return f"{gap.total_seconds() / 60:.0f} minutes"


def _offset(moment: datetime) -> str:
    return moment.strftime("%z")[:3] + ":" + moment.strftime("%z")[3:]


def span(window: Window, zone: str) -> Span:
    """The window in UTC, in its shortest reading. NoSuchTime when it does not exist or is empty."""
    start, end = instants(window.start, zone)[-1], instants(window.end, zone)[0]
    if end <= start:
        raise NoSuchTime("the window is empty: it ends before it begins" if end < start else "the window is empty")
    if end - start > LONGEST:
        raise NoSuchTime(f"the window lasts {(end - start).days} days, and more than {LONGEST.days} is a mistyped date")
    return Span(start, end)


def ambiguous(window: Window, zone: str) -> bool:
    """Whether one of its times occurs twice."""
    return any(len(instants(text, zone)) > 1 for text in (window.start, window.end))


def dark(blackouts: Iterable[WeeklyBlackout | DatedBlackout], zone: str | None, within: Span) -> Iterator[Span]:
    """The blackouts' spans that touch `within`. NoSuchTime for a dated one that does not exist, or without a zone."""
    for one in blackouts:
        own = one.zone or zone
        if own is None:
            raise NoSuchTime("the blackout has no time zone")
        if isinstance(one, DatedBlackout):
            start, end = instants(one.start, own)[0], instants(one.end, own)[-1]
            if end <= start:
                raise NoSuchTime("the blackout is empty: it ends before it begins")
            spans: Iterable[Span] = (Span(start, end),)
        else:
            spans = weekly(one.days, one.start, one.end, own, within)
        yield from (s for s in spans if s.start < within.end and s.end > within.start)


def weekly(days: Container[str], start: str, end: str, zone: str, within: Span) -> Iterator[Span]:
    """From `start` to `end` (of the next day, when that is not later) on these days: the spans about `within`."""
    place = ZoneInfo(zone)
    day = within.start.astimezone(place).date() - timedelta(days=1)
    last = within.end.astimezone(place).date()
    while day <= last:
        if _DAYS[day.weekday()] in days:
            over = 1 if end != "24:00" and end <= start else 0
            yield Span(_on(day, start, place, first=True), _on(day + timedelta(days=over), end, place, first=False))
        day += timedelta(days=1)


def _on(day: date, clock: str, place: ZoneInfo, *, first: bool) -> datetime:
    """That time of that day in UTC: the first or the last occurrence; where it does not exist, when the clocks have changed."""
    if clock == "24:00":
        day, clock = day + timedelta(days=1), "00:00"
    local = datetime.combine(day, time.fromisoformat(clock))
    both = sorted(local.replace(tzinfo=place, fold=fold).astimezone(UTC) for fold in (0, 1))
    if not _exists(local.replace(tzinfo=place, fold=0)) and not _exists(local.replace(tzinfo=place, fold=1)):
        low, high = both
        while high - low > timedelta(seconds=1):  # the moment at which the offset changes
            middle = low + (high - low) / 2
            changed = middle.astimezone(place).utcoffset() == high.astimezone(place).utcoffset()
            low, high = (low, middle) if changed else (middle, high)
        return high.replace(microsecond=0)
    return both[0] if first else both[-1]


def free(within: Span, blackouts: Iterable[Span]) -> tuple[Span, ...]:
    """What is left of a span without the blackouts, in order."""
    left, cursor = [], within.start
    for one in sorted(blackouts):
        if one.start > cursor:
            left.append(Span(cursor, min(one.start, within.end)))
        cursor = max(cursor, one.end)
    if cursor < within.end:
        left.append(Span(cursor, within.end))
    return tuple(s for s in left if s.end > s.start)
