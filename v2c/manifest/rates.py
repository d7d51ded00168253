"""Rates by the time of day: how fast may be sent now."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from v2c.manifest.parts import Bandwidth, RateSlot
from v2c.manifest.times import Span, weekly

_SAMPLE = timedelta(minutes=15)  # clocks change, and people begin to work, at quarters of an hour
_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Slot:
    """So much (bytes per second) from `start` to `end` on these days, by the clocks of `zone`."""

    days: tuple[str, ...]
    start: str
    end: str
    zone: str
    rate: int

    def holds(self, moment: datetime) -> bool:
        """Whether it is that time now. When clocks change it lasts as long as a blackout of these words would."""
        spans = weekly(self.days, self.start, self.end, self.zone, Span(moment, moment))
        return any(span.start <= moment < span.end for span in spans)


@dataclass(frozen=True)
class Rates:
    """Bytes per second: of the first slot that holds, else `otherwise` (0: no limit)."""

    slots: tuple[Slot, ...] = ()
    otherwise: int = 0

    def at(self, seconds: float) -> int:
        """At a moment (seconds since the epoch); 0: no limit."""
        if not self.slots:
            return self.otherwise
        moment = datetime.fromtimestamp(seconds, UTC)
        return next((slot.rate for slot in self.slots if slot.holds(moment)), self.otherwise)

    def mean(self, now: datetime, most: int) -> int:
        """Over the week from `now` on, what is more than `most` taken as that; 0: never a limit."""
        if not self:
            return 0
        if not self.slots:
            return self.otherwise
        count = _WEEK // _SAMPLE
        moments = ((now + (n + 0.5) * _SAMPLE).timestamp() for n in range(count))
        return sum(min(self.at(moment) or most, most) for moment in moments) // count

    def __bool__(self) -> bool:
        return bool(self.slots or self.otherwise)


def rates(said: Bandwidth | None, zone: str | None) -> Rates:
    """What a manifest says, where nothing nearer names a zone in `zone`."""
    if said is None or isinstance(said, int):
        return Rates(otherwise=said or 0)
    slots = tuple(_slot(one, one.zone or zone or "UTC") for one in said if isinstance(one, RateSlot))
    return Rates(slots, next((one for one in said if isinstance(one, int)), 0))


def _slot(said: RateSlot, zone: str) -> Slot:
    return Slot(said.days, said.start, said.end, zone, said.rate)


def wrong(said: Bandwidth | None, zone: str | None) -> Iterable[tuple[tuple[int | str, ...], str, str]]:
    """What cannot be meant: path below the setting, text, remedy."""
    if said is None or isinstance(said, int):
        return
    for place, one in enumerate(said):
        if isinstance(one, int):
            if place + 1 < len(said):
                yield (place,), "a rate without times holds always, so nothing after it is looked at", "write it last"
        elif one.start == one.end or one.start == "24:00":
            yield (place,), f"this is no time: it is from {one.start} to {one.end}", "for whole days write 00:00 to 24:00"
        elif not (one.zone or zone):
            yield (place,), "the rate's times have no time zone", "say zone: Europe/Berlin (or UTC) in it or the defaults"
