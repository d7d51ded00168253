"""Who works on which machine: claims, and the machines of workers that are dead."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from v2c import crashpoints
from v2c.engine.memory import lockfile
from v2c.model.wave import Stage, Standing
from v2c.state import State, held
from v2c.waves.decide import decide, idle, ready
from v2c.waves.nouns import Machine
from v2c.waves.room import Room
from v2c.waves.store import Heart, Store

STALE_S = 30.0  # a heart that was not heard for so long is taken for dead


def claim(
    store: Store,
    run_id: str,
    heart: Heart,
    free: int,
    *,
    working: Collection[tuple[str, int]] = (),
    only: Collection[str] = (),
    stage: Stage | None = None,
    room: Room | None = None,
) -> tuple[list[Machine], bool]:
    """Claims up to `free` machines of a run for a worker: those of dead workers first, then those that may begin. Also says
    whether anything moves, or will. `working`: what it works on; `only`: these machines, if any are named; `stage`: this;
    `room`: what the work folder has for them: who does not fit is not taken, and says so."""
    if free <= 0:
        return [], True
    with store.change(run_id) as change:
        run = change.run()
        if run is None:
            return [], False
        machines, hearts, now = change.machines(), change.hearts(), change.now
        dead = {id for id, one in hearts.items() if id != heart.id and not alive(one, store.state, now)}
        decided = decide(run, machines, now)
        orphans = [one for one in machines if one.standing is Standing.RUNNING and not run.paused]
        orphans = [one for one in orphans if _orphan(one, heart, dead, hearts, working)]
        wanted = [one for one in (*orphans, *ready(decided, machines)) if not only or one.id in only]
        wanted = [one for one in wanted if stage in (None, one.doing)]
        taken: list[Machine] = []
        for one in wanted:
            if len(taken) == free:
                break
            if room is not None and not room.takes(one, run.limits):
                if one.standing is Standing.WAITING and one.why != (why := room.why(one, run.limits, heart.host)):
                    change.put(replace(one, why=why))
                continue
            again = one.standing is Standing.RUNNING
            if again:
                change.close_spans(one.id, now, f"the worker {one.worker} died")
            mine = replace(
                one,
                standing=Standing.RUNNING,
                worker=heart.id,
                epoch=one.epoch + 1,
                tries=one.tries + (not again),
                again=one.again and not again,
                claimed=one.claimed if again else now,
                began=one.began or now,
                why="",
                remedy="",
                not_before=0.0,
            )
            change.put(mine)
            taken.append(mine)
        if taken:
            crashpoints.point("claiming")
        here = {id: one for id, one in decided.items() if (not only or id in only) and stage in (None, one.stage)}
    if taken:
        crashpoints.point("claimed")
    return taken, bool(taken) or not idle(here)


def _orphan(
    one: Machine, heart: Heart, dead: Collection[str], hearts: Collection[str], working: Collection[tuple[str, int]]
) -> bool:
    if one.worker == heart.id:
        return (one.id, one.epoch) not in working
    return one.worker in dead or one.worker not in hearts


def alive(heart: Heart, state: State, now: float) -> bool:
    """Whether a worker lives, as far as one can know: where its lock is in sight, for sure and at once, however late its heart
    is (one that is held up there keeps the locks of its jobs, too)."""
    if heart.left:
        return False
    if heart.locks == locks(state):
        return held(lockfile(state, heart.id))
    return heart.heard >= now - STALE_S


def locks(state: State) -> str:
    """The folder of locks, so that nobody else's is taken for it: another host's, or another container's."""
    folder = lockfile(state, "x").parent
    status = folder.stat()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{status.st_dev}/{status.st_ino}"
