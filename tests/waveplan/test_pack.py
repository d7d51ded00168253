"""Packing: nothing outside its window, nothing more at once than there is room for, dependencies first."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from v2c.manifest.times import Span
from v2c.waveplan.pack import Packed, Piece, offset, pack

ZERO = datetime(2027, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return ZERO + timedelta(hours=hours)


def window(start: float, end: float) -> tuple[Span, ...]:
    return (Span(at(start), at(end)),)


def piece(id: str, hours: float, spans: tuple[Span, ...] | None, after: tuple[str, ...] = (), wave: str = "w") -> Piece:
    return Piece(id, wave, hours * 3600, spans, after, "s")


def hours(found: dict[str, Packed]) -> dict[str, tuple[float, float] | None]:
    return {
        id: ((p.start - ZERO).total_seconds() / 3600, (p.end - ZERO).total_seconds() / 3600) if p.start else None
        for id, p in found.items()
    }


def test_two_at_once_and_the_third_after_them() -> None:
    night = window(0, 8)
    found = pack([piece(id, 3, night) for id in "abcde"], 2, ZERO, {}, {})
    assert hours(found) == {"a": (0, 3), "b": (0, 3), "c": (3, 6), "d": (3, 6), "e": None}
    assert found["e"].end == at(9), "at best"


def test_not_over_a_blackout() -> None:
    spans = (Span(at(0), at(2)), Span(at(10), at(16)))
    assert hours(pack([piece("a", 3, spans), piece("b", 2, spans)], 1, ZERO, {}, {})) == {"a": (10, 13), "b": (0, 2)}


def test_after_what_it_depends_on() -> None:
    night = window(0, 8)
    assert hours(pack([piece("db", 2, night), piece("app", 1, night, ("db",))], 5, ZERO, {}, {})) == {"db": (0, 2), "app": (2, 3)}


def test_limits_of_a_wave_and_of_a_source() -> None:
    night = window(0, 8)
    pieces = [piece(id, 1, night) for id in "abc"]
    assert hours(pack(pieces, 5, ZERO, {"w": 1}, {})) == {"a": (0, 1), "b": (1, 2), "c": (2, 3)}
    assert hours(pack(pieces, 5, ZERO, {}, {"s": 2})) == {"a": (0, 1), "b": (0, 1), "c": (1, 2)}


def test_limits_of_datastores() -> None:
    night = window(0, 8)
    pieces = [
        replace(piece(id, 1, night), stores=tuple(stores)) for id, stores in (("a", "g"), ("b", "gi"), ("c", "i"), ("d", "t"))
    ]
    assert hours(pack(pieces, 5, ZERO, {}, {}, {"g": 1, "i": 1})) == {"a": (0, 1), "b": (1, 2), "c": (0, 1), "d": (0, 1)}
    assert hours(pack(pieces, 5, ZERO, {}, {"s": 2}, {"g": 1})) == {"a": (0, 1), "b": (1, 2), "c": (0, 1), "d": (1, 2)}


def test_windows_need_not_be_in_the_files_order() -> None:
    """A later wave with an earlier window is not held up by what comes before it in the file."""
    found = pack([piece("late", 2, window(100, 108)), piece("early", 2, window(0, 8), wave="v")], 1, ZERO, {}, {})
    assert hours(found) == {"late": (100, 102), "early": (0, 2)}


def test_a_window_that_has_begun() -> None:
    assert hours(pack([piece("a", 2, window(0, 8))], 1, at(3), {}, {})) == {"a": (3, 5)}
    assert hours(pack([piece("a", 2, window(0, 8))], 1, at(7), {}, {})) == {"a": None}


def test_without_windows_from_the_waves_begin() -> None:
    found = pack([piece(id, 1, None) for id in "abc"], 2, at(5), {}, {})
    assert [offset(found[id].end) / 3600 for id in "abc"] == [1, 1, 2]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 40), st.integers(1, 20), st.sets(st.integers(0, 14), max_size=2)), max_size=15
    ),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_what_always_holds(shape: list[tuple[int, int, int, set[int]]], converters: int, limit: int) -> None:
    pieces = []
    for i, (lasts, start, length, after) in enumerate(shape):
        needs = tuple(str(n) for n in sorted(after) if n < i)
        pieces.append(piece(str(i), lasts, window(start, start + length), needs, wave="w" if i % 2 else "v"))
    found = pack(pieces, converters, ZERO, {"w": limit}, {})
    placed = {p.id: found[p.id] for p in pieces if found[p.id].start}
    for one in pieces:
        spot = placed.get(one.id)
        if spot is None:
            continue
        assert one.spans and spot.start and one.spans[0].start <= spot.start and spot.end <= one.spans[0].end
        assert all(placed[need].end <= spot.start for need in one.after if need in placed)
        running = [p for p in pieces if p.id in placed and placed[p.id].start <= spot.start < placed[p.id].end]  # type: ignore[operator]
        assert len(running) <= converters and sum(p.wave == "w" for p in running) <= limit
