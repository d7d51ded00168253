"""Cut-overs packed into their windows: so many at once as there are converters, after their dependencies, never in a blackout.

A cut-over is one piece: it must end in the same free span of its window in which it begins. The first that fits is taken, in the
order of the wave, so the same manifest packs the same way.
"""

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from v2c.manifest.times import Span

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALWAYS = (Span(_EPOCH, datetime(9999, 1, 1, tzinfo=UTC)),)


@dataclass(frozen=True, slots=True)
class Piece:
    """A cut-over to be packed: `spans` are the free parts of its window (None: it has no window), `lasts` seconds; `after`:
    the pieces that must end before it begins."""

    id: str
    wave: str
    lasts: float
    spans: tuple[Span, ...] | None
    after: tuple[str, ...] = ()
    source: str = ""
    stores: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Packed:
    """Where a piece lies. Without a window the moments count from the epoch, which stands for the wave's begin. `start` None: it
    does not fit, and `end` is when it would end at best."""

    start: datetime | None
    end: datetime
    window: bool


class _Lanes:
    """So many things at once: each lane holds what is in it, in order of time. Windows need not come in that order."""

    def __init__(self, count: int) -> None:
        self.lanes: list[list[Span]] = [[] for _ in range(count)]

    def earliest(self, ready: datetime, lasts: timedelta) -> tuple[datetime, list[Span]]:
        """The first moment from `ready` on at which a lane is free for so long, and that lane."""
        return min(((_gap(lane, ready, lasts), lane) for lane in self.lanes), key=lambda found: found[0])


def _gap(lane: list[Span], ready: datetime, lasts: timedelta) -> datetime:
    for busy in lane:
        if busy.end <= ready:
            continue
        if busy.start >= ready + lasts:
            break
        ready = busy.end
    return ready


def pack(
    pieces: Sequence[Piece],
    converters: int,
    now: datetime,
    waves: Mapping[str, int],
    sources: Mapping[str, int],
    stores: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Packed]:
    """Each piece's place. `waves`, `sources` and `stores`: how many of a wave, of a source, or of a datastore may be under way at
    once (where limited)."""
    shared: dict[tuple[str, str, bool], _Lanes] = {}
    found: dict[str, Packed] = {}
    for piece in pieces:
        window = piece.spans is not None
        own = [shared.setdefault(("converters", "", window), _Lanes(converters))]
        shares = [("wave", piece.wave, waves), ("source", piece.source, sources)]
        for kind, name, limits in (*shares, *(("store", name, stores) for name in piece.stores)):
            if name in limits:
                own.append(shared.setdefault((kind, name, window), _Lanes(limits[name])))
        needs = [found[id].end for id in piece.after if id in found and found[id].window == window]
        ready = max([now if window else _EPOCH, *needs])
        lasts = timedelta(seconds=piece.lasts)
        spans = piece.spans if piece.spans is not None else _ALWAYS
        start = next(
            (moment for span in spans if (moment := _common(own, max(ready, span.start), lasts)) + lasts <= span.end), None
        )
        if start is None:
            first = max(ready, spans[0].start) if spans else ready
            found[piece.id] = Packed(None, _common(own, first, lasts) + lasts, window)
            continue
        found[piece.id] = Packed(start, start + lasts, window)
        for lanes in own:
            insort(lanes.earliest(start, lasts)[1], Span(start, start + lasts))
    return found


def _common(own: Sequence[_Lanes], ready: datetime, lasts: timedelta) -> datetime:
    """The first moment at which all of them have a lane free for so long."""
    while True:
        moment = max(lanes.earliest(ready, lasts)[0] for lanes in own)
        if moment == ready:
            return ready
        ready = moment


def offset(moment: datetime) -> float:
    """Seconds after the wave's begin."""
    return (moment - _EPOCH).total_seconds()
