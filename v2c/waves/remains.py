"""What is left of a run's machines, by asking where they came from and where they went; and who did what to each of them."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from v2c.journal import SqlJournal
from v2c.model import Act
from v2c.model.wave import Snapshot
from v2c.pipeline import Request
from v2c.report.wave import Remains
from v2c.sources import open_source
from v2c.sources.spec import MachineSpec
from v2c.state import State
from v2c.targets import Target, open_target
from v2c.waves.store import Store

AT_ONCE = 8  # machines that are asked about at once: clouds answer a listing in a second, and count them
_SMALL = ("make ", "remove ")  # acts of the journal that are effects, not decisions


def remains(state: State, seen: Snapshot) -> dict[str, Remains]:
    """For each machine that began: what carries its tag at its target and at its source, listed now. Changes nothing.

    Whoever could not be asked is told with the reason; it is no error, for the others are worth hearing of.
    """
    began = {one.id for one in seen.machines if one.began}
    requests = {one.id: one.order.request for one in Store(state).machines(seen.run) if one.id in began}
    opened = threading.local()  # a client of a cloud takes a while to make, and not every one of them likes two threads

    def target(locator: str) -> Target:
        mine: dict[str, Target] = opened.__dict__
        if locator not in mine:
            mine[locator] = open_target(locator)
        return mine[locator]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(requests, pool.map(partial(_listed, target), requests.values()), strict=True))


def deeds(state: State, seen: Snapshot) -> tuple[Act, ...]:
    """What operators did to the run, and what was decided for its machines (cut over, finalized, rolled back), oldest first; the
    detail of the latter begins with the machine's id."""
    told = list(seen.acts)
    for one in seen.machines:
        if one.began:
            own = SqlJournal(state, one.job).acts()
            told += [
                Act(act.at, act.who, act.host, act.pid, act.what, f"{one.id} {act.detail}".strip())
                for act in own
                if not act.what.startswith(_SMALL) and not act.detail.startswith("in run ")
            ]
    return tuple(sorted(told, key=lambda act: act.at))


def _listed(target: Callable[[str], Target], request: Request) -> Remains:
    at = time.time()
    try:
        there = target(request.target).find(request.job)
        return Remains(at, (*there, *open_source(request.sources, MachineSpec()).find(request.job)))
    except Exception as error:  # the clouds' SDKs raise what they like
        return Remains(at, why=" ".join(str(error).split()) or type(error).__name__)
