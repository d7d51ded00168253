"""`v2c plan wave.yaml`: the plan of a whole manifest, shown and written."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from v2c.cli import show
from v2c.cli.manifest import loaded, written
from v2c.errors import UsageError
from v2c.model import Finding, Level
from v2c.ui.words import finding, size, span

if TYPE_CHECKING:
    from v2c.events import Listener
    from v2c.prices import Prices
    from v2c.waveplan import WavePlan
    from v2c.waveplan.nouns import MachinePlan, TargetSum, WaveSum

NAMED = 5  # machines that a blocker which they share is told of by name
SUFFIXES = (".yaml", ".yml")


def is_manifest(sources: Sequence[str]) -> bool:
    """Whether the words after `v2c plan` name a manifest, not disks."""
    return len(sources) == 1 and sources[0].lower().endswith(SUFFIXES)


def plan(
    file: Path, wave: str | None, converters: int, bandwidth: int, asking: "tuple[Path, Listener] | None" = None
) -> "WavePlan":
    """The plan of the manifest (or of one wave of it). `asking`: clouds are asked; where prices are kept, and who hears how far
    it is."""
    from datetime import UTC, datetime

    from v2c import waveplan
    from v2c.manifest import ordered, resolve
    from v2c.waveplan.describe import describe

    manifest = loaded(file)
    names = [w.name for w in manifest.waves]
    if wave is not None and wave not in names:
        raise UsageError(f'{file} has no wave "{wave}"', remedy=f"it has {', '.join(names)}")
    machines = tuple(one for one in ordered(resolve(manifest)) if wave in (None, one.wave.name))
    choices = waveplan.Choices(datetime.now(UTC).replace(microsecond=0), converters, bandwidth)
    folder, ask = file.absolute().parent, None
    if asking:
        from v2c.waveplan.asking import Ask

        ask = Ask(folder, _prices(asking[0], manifest.name), asking[1])
    return waveplan.make(manifest, machines, describe(manifest, machines, folder), choices, ask)


def _prices(state: Path, run: str) -> "Prices | None":
    """What instance types cost: by the list of the manifest's run, when that was begun, else by the one that there is now."""
    from v2c import prices
    from v2c.state import DATABASE, open_state
    from v2c.waves import pricelist

    if (state / DATABASE).exists() and pricelist.fixed(opened := open_state(state), run):
        return pricelist.of(opened, run)
    return prices.kept(state)


def told(made: "WavePlan", out: Path | None, as_json: bool) -> int:
    """Writes and shows it. BLOCKED when something stands in the way of a machine, or of all at a target."""
    from v2c import waveplan

    if out is not None:
        written(json.dumps(waveplan.document(made), indent=2) + "\n", out)
    if as_json:
        show.document(waveplan.document(made))
    else:
        _shown(made)
    return show.BLOCKED if made.blocked else show.DONE


def _shown(made: "WavePlan") -> None:
    line = f", {size(made.bandwidth)}/s together" if made.bandwidth else ""
    count = len(made.machines)
    show.line(f"{made.name}: {count} machine{'' if count == 1 else 's'}, {made.converters} at once{line}")
    for wave in made.waves:
        show.line(_wave(wave))
        show.table([_row(one) for one in made.machines if one.wave == wave.name])
    for target in made.targets:
        if target.machines:
            show.line(
                f"to {target.name} ({target.to}): {target.machines} instances, {target.vcpus} processors,"
                f" {size(target.memory_mib * 1024 * 1024)} of memory, {size(target.target_bytes)} of disks"
            )
            for text in _asked(target):
                show.line(f"  {text}")
    _findings(
        [*((f, "") for t in made.targets for f in t.findings), *((f, one.id) for one in made.machines for f in one.findings)]
    )
    blocked = sum(one.blocked for one in made.machines)
    show.line(f"digest: {made.digest}")
    if made.blocked:
        show.line(f"BLOCKED: {blocked} of {count}" if blocked else "BLOCKED by a target")
    else:
        show.line("READY")


def _asked(target: "TargetSum") -> Iterator[str]:
    """What its cloud said: instances by type, their price, reservations."""
    if target.instances:
        yield ", ".join(f"{one.count} x {one.type}" for one in target.instances)
    for price in target.prices:
        yield f"together {show.priced(price)}"
    if target.prices and target.unpriced:
        yield f"{target.unpriced} of them {'has' if target.unpriced == 1 else 'have'} no price in the list"
    for price in target.storage:
        yield f"their disks {show.stored(price)}"
    if target.asked and target.instances and not target.prices:
        yield "no price list knows what they cost (v2c prices)"
    for one in target.reserved:
        yield f"would reserve {one.count} x {one.type} {f'for {one.hours} h each' if one.hours else 'until it is given back'}"


def _wave(wave: "WaveSum") -> str:
    when = f"{wave.begins} to {wave.ends}" if wave.begins else f"done {span(wave.span_s)} after its begin"
    blocked = f", {wave.blocked} blocked" if wave.blocked else ""
    machines = f"{wave.machines} machine{'' if wave.machines == 1 else 's'}"
    return f"{wave.name}: {machines}{blocked}, {size(wave.data_bytes)} to send, {span(wave.work_s)} of work, {when}"


def _row(one: "MachinePlan") -> tuple[str, ...]:
    if one.start:
        when = f"{one.start} to {one.end}"
    else:
        when = f"after {span(one.offset_s)}" if one.offset_s is not None else "no place in its window"
    return (
        str(one.order),
        one.id,
        f"{one.source} -> {one.target}",
        one.mode,
        (one.size + (f", {one.price.hourly:.4g} {one.price.currency}/h" if one.price else ""))
        or f"{one.vcpus} x {size(one.memory_mib * 1024 * 1024)}",
        f"{size(sum(d.source_size for d in one.disks))} in {len(one.disks)}" if one.disks else "disks unknown",
        f"{span(one.duration.likely)} ({span(one.duration.low)} to {span(one.duration.high)})",
        f"down {span(one.downtime.likely)}",
        when,
        "BLOCKED" if one.blocked else "",
    )


def _findings(found: Sequence[tuple[Finding, str]]) -> None:
    """Blockers and warnings one by one; what is told of many machines alike is told once, with their number, and of a blocker
    with their names."""
    order = [Level.BLOCKER, Level.WARNING, Level.INFO]
    groups: dict[tuple[Level, str, str], list[tuple[Finding, str]]] = {}
    for one, id in found:
        alike = one.text.replace(one.subject, "") if one.level is not Level.BLOCKER else f"{one.subject} {one.text}"
        groups.setdefault((one.level, one.id, alike), []).append((one, id))
    if groups:
        show.line("findings:")
    for (_, _, _), members in sorted(groups.items(), key=lambda g: order.index(g[0][0])):
        first, id = members[0]
        who = f"{id}: " if id and id != first.subject and len(members) == 1 else ""
        ids = [id for _, id in members if id]
        more = f" (and {len(members) - 1} more)" if len(members) > 1 else ""
        if first.level is Level.BLOCKER and len(members) > 1 and ids:
            more = f" ({', '.join(ids[:NAMED])}{f' and {len(ids) - NAMED} more' if len(ids) > NAMED else ''})"
        level, _, rest = finding(first).partition(": ")
        show.line(f"  {level}: {who}{rest}{more}")
