"""What holds for each machine once defaults, wave and machine are joined, and in which order machines come."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from v2c.manifest.parts import Gates
from v2c.manifest.schema import Machine, Manifest, Settings, Wave
from v2c.manifest.text import Path
from v2c.manifest.times import Span, dark, free, span

JOINED = ("tags", "gates")  # joined key by key; everything else is replaced whole


@dataclass(frozen=True, slots=True)
class Resolved:
    """A machine as it is meant: `machine` with every setting filled in that anybody said; `said`: where each setting was said
    (a path in the file); `path`: the machine's own."""

    wave: Wave
    machine: Machine
    path: Path
    said: dict[str, Path] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.machine.id

    @property
    def mode(self) -> str:
        return self.machine.mode or "cold"

    @property
    def zone(self) -> str | None:
        """The time zone of its window."""
        window = self.machine.window
        return (window.zone if window else None) or self.machine.zone

    def where(self, setting: str) -> Path:
        """The path of a setting, or of the machine when nobody said it."""
        return self.said.get(setting, self.path)

    def span(self) -> Span | None:
        """Its cut-over window. NoSuchTime for one that cannot be meant."""
        return span(self.machine.window, self.zone or "UTC") if self.machine.window else None

    def spans(self) -> tuple[Span, ...]:
        """The window without the blackouts, in order; empty also when it has none."""
        window = self.span()
        return free(window, dark(self.machine.blackout, self.zone, window)) if window else ()


def resolve(manifest: Manifest) -> tuple[Resolved, ...]:
    """Every machine, in the file's order."""
    made = []
    for w, wave in enumerate(manifest.waves):
        layers = [(("defaults",), manifest.defaults), (("waves", w), wave)]
        for m, machine in enumerate(wave.machines):
            path: Path = ("waves", w, "machines", m)
            made.append(_joined(wave, machine, path, [*layers, (path, machine)]))
    return tuple(made)


def _joined(wave: Wave, machine: Machine, path: Path, layers: Iterable[tuple[Path, Settings]]) -> Resolved:
    values: dict[str, object] = {}
    said: dict[str, Path] = {}
    for base, layer in layers:
        for name in layer.model_fields_set & Settings.model_fields.keys():
            value = getattr(layer, name)
            if name == "tags":
                known = values.get("tags")
                value = {**(known if isinstance(known, dict) else {}), **value}
            elif name == "gates":
                value = _gates(values.get("gates"), value)
            values[name] = value
            said[name] = (*base, Settings.model_fields[name].alias or name)
    return Resolved(wave, machine.model_copy(update=values), path, said)


def _gates(before: object, after: Gates) -> Gates:
    if not isinstance(before, Gates):
        return after
    return before.model_copy(update={name: getattr(after, name) for name in after.model_fields_set})


def cycle(machines: Iterable[Machine]) -> tuple[str, ...]:
    """A cycle of dependencies ("a", "b", "a"), or nothing. Iterative: chains may be as long as the manifest."""
    after = {machine.id: machine.depends_on for machine in machines}
    state: dict[str, int] = {}
    for root in after:
        trail: list[tuple[str, Iterator[str]]] = [] if state.get(root) else [(root, iter(after[root]))]
        state.setdefault(root, 1)
        while trail:
            name, rest = trail[-1]
            following = next((n for n in rest if n in after and state.get(n) != 2), None)
            if following is None:
                state[name] = 2
                trail.pop()
            elif state.get(following) == 1:
                names = [n for n, _ in trail]
                return (*names[names.index(following) :], following)
            else:
                state[following] = 1
                trail.append((following, iter(after[following])))
    return ()


def ordered(machines: Iterable[Resolved]) -> tuple[Resolved, ...]:
    """In order of waves, and inside each of rank, as far as dependencies allow; equals in the file's order. A cycle's members
    come last (it is a mistake that `check` tells)."""
    by_wave: dict[str, list[Resolved]] = {}
    for one in machines:
        by_wave.setdefault(one.wave.name, []).append(one)
    return tuple(one for wave in by_wave.values() for one in _sorted(wave))


def _sorted(wave: list[Resolved]) -> Iterator[Resolved]:
    here = {one.id: one for one in wave}
    waiting = {one.id: {d for d in one.machine.depends_on if d in here} for one in wave}
    followers: dict[str, list[str]] = {}
    for id, needs in waiting.items():
        for need in needs:
            followers.setdefault(need, []).append(id)
    place = {one.id: (one.machine.rank, index) for index, one in enumerate(wave)}
    ready = [(place[id], id) for id, needs in waiting.items() if not needs]
    heapq.heapify(ready)
    left = dict(here)
    while ready:
        _, id = heapq.heappop(ready)
        yield left.pop(id)
        for follower in followers.get(id, ()):
            waiting[follower].discard(id)
            if not waiting[follower]:
                heapq.heappush(ready, (place[follower], follower))
    yield from left.values()
