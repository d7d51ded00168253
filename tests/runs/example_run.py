"""Runs as they look while they are worked off: snapshots for whatever draws them, the same for the same arguments."""

import random
from collections.abc import Iterator
from dataclasses import replace

from v2c.model import GIB, MIB, Act, Finding, Level
from v2c.model.wave import Gate, MachineView, Moving, Snapshot, Span, Stage, Standing, Window, WorkerView

NOW = 1_796_500_800.0  # 2026-12-05 20:00 UTC
HOSTILE = "<script>alert('x')</script>\"'>&amp;\x1b[31m\x07\u202e]]>{{ 7 * 7 }}"

ROLES = ("erp-db", "erp-app", "web", "mail", "files", "ci", "ldap", "crm", "build", "proxy")
OWNERS = ("anna", "jonas", "mei", "storage team")
TARGETS = ("aws:eu-central-1", "gcp:shop/europe-west3-a", "azure:9b2/move/westeurope", "local:aws")
STEPS = (("reserve", 6), ("capture", 3), ("fix", 140), ("upload", 900), ("verify", 40), ("register", 60))
BOOT = {Stage.TEST: (("launch", 30), ("validate", 110)), Stage.CUTOVER: (("stop", 25), ("cutover", 60), ("confirm", 120))}

# how a wave of five stands: one of each that matters
FIVE = (Standing.DONE, Standing.RUNNING, Standing.GATED, Standing.FAILED, Standing.WAITING)
# how many of 500 stand how, near the middle of a night
SHARES = (
    (Standing.DONE, 170),
    (Standing.RUNNING, 24),
    (Standing.GATED, 61),
    (Standing.WAITING, 201),
    (Standing.FAILED, 9),
    (Standing.BLOCKED, 12),
    (Standing.MISSED, 5),
    (Standing.PAUSED, 3),
    (Standing.REFUSED, 4),
    (Standing.SKIPPED, 6),
    (Standing.CANCELLED, 2),
    (Standing.ROLLED_BACK, 3),
)
WHY = {
    Standing.WAITING: ("its rank comes later", ""),
    Standing.GATED: ("somebody has to agree", "v2c approve {gate} --run dc-exit --machine {id}"),
    Standing.FAILED: ("upload: the target refused block 4711 (RequestLimitExceeded)", "v2c retry --run dc-exit --machine {id}"),
    Standing.BLOCKED: ("its root is on a disk that was not given", "name all of its disks, then v2c retry"),
    Standing.MISSED: (
        "its window ended at 2026-12-05 06:00 before it could be cut over",
        "give it another window, then v2c retry",
    ),
    Standing.PAUSED: ("anna paused it at 19:12", "v2c resume --run dc-exit --machine {id}"),
    Standing.REFUSED: ("jonas refused okToCutover", "v2c retry"),
    Standing.SKIPPED: ("erp-db-001, which it depends on, failed", "v2c retry"),
    Standing.CANCELLED: ("mei cancelled it", ""),
    Standing.ROLLED_BACK: ("mei rolled it back", ""),
}


def example_run(count: int = 5, now: float = NOW, run: str = "dc-exit") -> Snapshot:
    """A run of `count` machines in the middle of its night. Five: one that is done, one that uploads, one that waits at a gate,
    one that failed, one that waits."""
    chance = random.Random(count)
    standings = list(FIVE) if count == 5 else [s for s, share in SHARES for _ in range(round(share * count / 500))]
    standings = (standings + [Standing.WAITING] * count)[:count]
    if count != 5:
        chance.shuffle(standings)
    waves = ("pilot",) if count <= 10 else ("pilot", "databases", "shops", "offices", "leftovers")
    machines = tuple(machine(chance, number, standing, waves, count, now) for number, standing in enumerate(standings))
    first = machines[0].id if machines else ""
    return Snapshot(
        run=run,
        manifest="/srv/migration/dc-exit.yaml",
        digest="sha256:5b1f0e6c9a44d27e",
        at=now,
        began=now - 3 * 3600,
        ended=0.0,
        paused=False,
        waves=waves,
        machines=machines,
        workers=tuple(workers(machines, now)),
        acts=(
            Act(now - 3 * 3600, "anna", "conv-1", 4100, "run", "dc-exit.yaml"),
            Act(now - 5400, "anna", "conv-1", 4311, "approve okToTest", first),
            Act(now - 1800, "jonas", "conv-2", 977, "approve okToCutover", first),
        ),
    )


def machine(
    chance: random.Random, number: int, standing: Standing, waves: tuple[str, ...], count: int, now: float
) -> MachineView:
    """One of them: its spans, bytes, findings and downtime fit how it stands."""
    role = ROLES[number % len(ROLES)]
    id = f"{role}-{number + 1:03d}"
    stage = _stage(chance, standing)
    began = now - 3 * 3600 + chance.random() * 3600 + number
    idle = standing in (Standing.BLOCKED, Standing.SKIPPED) or (standing is Standing.WAITING and stage is Stage.REPLICATE)
    worker = f"conv-{number % 3 + 1}:{4100 + number % 3}"
    spans = () if idle else tuple(_spans(chance, stage, standing, worker, began, now))
    data = chance.randrange(8, 400) * GIB
    moving = None
    sent = 0 if idle else data
    if standing is Standing.RUNNING:
        sent = int(data * chance.uniform(0.05, 0.95)) if stage is Stage.REPLICATE else data
        step = spans[-1].step
        share = (sent, data) if step == "upload" else (0, 0)
        rate = chance.uniform(20, 180) * MIB if step == "upload" else 0.0
        moving = Moving(step, "copy" if step == "upload" else "boot", *share, rate=rate, at=now - 1)
    gate = None
    if standing is Standing.GATED:
        gate = {Stage.TEST: Gate.TEST, Stage.CUTOVER: Gate.CUTOVER, Stage.FINALIZE: Gate.FINALIZE}[stage]
    down = None
    if stage in (Stage.FINALIZE, Stage.ROLLBACK) or standing is Standing.DONE:
        down = chance.uniform(240, 2100)
    why, remedy = WHY.get(standing, ("", ""))
    why = (
        {Stage.TEST: "for a worker", Stage.CUTOVER: "its window opens at 22:00 CET"}.get(stage, why)
        if standing is Standing.WAITING
        else why
    )
    return MachineView(
        id=id,
        wave=waves[min(number * len(waves) // count, len(waves) - 1)],
        order=number + 1,
        job=f"{0xCED7E4A747BE0000 + number:016x}",
        name=f"{role}{number + 1}.corp.example",
        source=f"vsphere:dc1/{role}{number + 1}" if number % 2 else f"files:/srv/disks/{id}.vmdk",
        target=TARGETS[number % len(TARGETS)],
        mode="warm" if number % 3 == 1 else "cold",
        stage=stage,
        standing=standing,
        why=why,
        remedy=remedy.format(gate=gate or "", id=id),
        gate=gate,
        approvals=(("okToTest", "the manifest"), ("okToCutover", "anna, 2026-12-05 19:30"))[: _agreed(stage)],
        application=("shop", "erp", "office")[number % 3],
        owner=OWNERS[number % len(OWNERS)],
        depends_on=("erp-db-001",) if number % 10 == 1 else (),
        window=Window(now - 3600, now + 6 * 3600, "Europe/Berlin", ((now - 3600, now + 6 * 3600),)) if number % 4 != 3 else None,
        budget_s=(1800, 3600, None)[number % 3],
        downtime_s=down,
        expected_s=0.0 if standing is Standing.DONE else chance.uniform(600, 7200),
        worker=worker if standing is Standing.RUNNING else "",
        host=f"conv-{number % 3 + 1}" if spans else "",
        began=began if spans else 0.0,
        ended=spans[-1].ended if spans and standing.over else 0.0,
        data_bytes=data,
        sent_bytes=sent,
        spans=spans,
        moving=moving,
        findings=tuple(_findings(chance, standing, id)),
        verdict=("" if idle or stage is Stage.REPLICATE else "fail" if standing is Standing.FAILED else "pass"),
        folder=f"/somewhere/jobs/{id}" if spans else "",
        cut_over="2026-12-05 19:31:07+0000" if down is not None else "",
        finalized="2026-12-05 19:58:40+0000" if standing is Standing.DONE else "",
        rolled_back="2026-12-05 19:59:02+0000" if standing is Standing.ROLLED_BACK else "",
    )


def workers(machines: tuple[MachineView, ...], now: float) -> Iterator[WorkerView]:
    """Three converters; the last one was not heard for minutes."""
    for number in range(3):
        id = f"conv-{number + 1}:{4100 + number}"
        busy = tuple(one.id for one in machines if one.worker == id)
        alive = number < 2
        yield WorkerView(id, f"conv-{number + 1}", 4100 + number, now - 10800, now - (2 if alive else 400), alive, 8, busy)


def hostile(snapshot: Snapshot, word: str = HOSTILE) -> Snapshot:
    """The same run, with `word` wherever a guest, a source or a manifest has a say."""

    def said(one: MachineView) -> MachineView:
        return replace(
            one,
            id=f"{one.id}{word}",
            wave=word,
            name=word,
            source=word,
            target=word,
            why=word,
            remedy=word,
            approvals=(("okToTest", word),),
            application=word,
            owner=word,
            depends_on=(word,),
            findings=(Finding(word, Level.WARNING, word, word, word),),
            spans=tuple(replace(span, step=f"{span.step}{word}", error=word) for span in one.spans),
            moving=replace(one.moving, phase=word) if one.moving else None,
            window=replace(one.window, zone=word) if one.window else None,
            host=word,
            verdict=word,
            cut_over=word,
        )

    return replace(
        snapshot,
        manifest=word,
        digest=word,
        waves=(word,),
        machines=tuple(said(one) for one in snapshot.machines),
        workers=tuple(replace(one, id=word, host=word) for one in snapshot.workers),
        acts=tuple(replace(act, who=word, host=word, what=word, detail=word) for act in snapshot.acts),
    )


def _stage(chance: random.Random, standing: Standing) -> Stage:
    match standing:
        case Standing.GATED:
            return chance.choice((Stage.CUTOVER, Stage.CUTOVER, Stage.TEST, Stage.FINALIZE))
        case Standing.DONE:
            return Stage.FINALIZE
        case Standing.MISSED | Standing.REFUSED:
            return Stage.CUTOVER
        case Standing.ROLLED_BACK:
            return Stage.ROLLBACK
        case Standing.RUNNING:
            return chance.choice((Stage.REPLICATE, Stage.REPLICATE, Stage.TEST))
        case Standing.WAITING:
            return chance.choice((Stage.REPLICATE, Stage.REPLICATE, Stage.CUTOVER))
    return Stage.REPLICATE


def _agreed(stage: Stage) -> int:
    return {Stage.TEST: 1, Stage.CUTOVER: 1, Stage.FINALIZE: 2, Stage.ROLLBACK: 2}.get(stage, 0)


def _spans(chance: random.Random, stage: Stage, standing: Standing, worker: str, began: float, now: float) -> Iterator[Span]:
    """What was done until now, in order; the last one is open when it runs, and has an error when it failed."""
    told: list[tuple[Stage, str, int]] = [(Stage.REPLICATE, step, seconds) for step, seconds in STEPS]
    if stage is not Stage.REPLICATE:
        told += [(Stage.TEST, step, seconds) for step, seconds in BOOT[Stage.TEST]]
    if stage in (Stage.FINALIZE, Stage.ROLLBACK):
        told += [(Stage.CUTOVER, step, seconds) for step, seconds in BOOT[Stage.CUTOVER]]
    if standing in (Standing.FAILED, Standing.PAUSED) or (standing is Standing.RUNNING and stage is Stage.REPLICATE):
        told = told[:4]
    at = began
    for number, (of, step, seconds) in enumerate(told):
        last = number == len(told) - 1
        took = seconds * chance.uniform(0.6, 1.8)
        if last and standing is Standing.RUNNING:
            yield Span(of, step, worker, at, 0.0, 3 * GIB if step == "upload" else 0)
            return
        error = WHY[Standing.FAILED][0] if last and standing is Standing.FAILED else ""
        yield Span(of, step, worker, at, min(at + took, now - 1), 40 * GIB if step == "upload" else 0, error)
        at = min(at + took + 2, now - 5)


def _findings(chance: random.Random, standing: Standing, id: str) -> Iterator[Finding]:
    yield Finding("shape.memory", Level.INFO, id, "memory is rounded up to 8 GiB", "")
    if chance.random() < 0.3:
        yield Finding(
            "tools.vmware", Level.WARNING, id, "open-vm-tools has nothing to talk to on the target", "it is switched off"
        )
    if standing is Standing.BLOCKED:
        yield Finding("disk.missing", Level.BLOCKER, id, "its root is on a disk that was not given", "name all of its disks")
