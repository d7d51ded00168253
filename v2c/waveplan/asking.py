"""What the clouds say of a wave, when they are asked (`v2c plan --ask`): what each machine becomes there, what stands in its way,
and whether the accounts hold all of them together. Reads only; all machines are asked for side by side."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from v2c import plan as planning
from v2c import sizing
from v2c.errors import Paused, V2cError
from v2c.events import Began, Ended, Listener, Meter, silent
from v2c.jobs import job_id
from v2c.manifest import Manifest, Resolved
from v2c.model import Finding, Level, Plan
from v2c.prices import Prices
from v2c.targets import Counted, Target, open_target, together
from v2c.waveplan.aim import aim
from v2c.waveplan.describe import repair, sources_of

AT_ONCE = 8  # machines that are asked for side by side
TELL_S = 5.0  # between two words about how far it is
GRACE_S = 2.0  # for calls that are being made when somebody stops it
STEP = "ask"

Draft = Callable[[str, str, Target], Plan]  # a machine's plan by its job, its locator and its target


@dataclass(frozen=True, slots=True)
class Ask:
    """How clouds are asked. `folder`: the manifest's; `book`: what instance types cost, None: nobody knows; the listener hears
    how far it is."""

    folder: Path
    book: Prices | None = None
    listener: Listener = silent


@dataclass(frozen=True, slots=True)
class Answer:
    """What a cloud says of a machine: its plan, sized and checked there. `reserves`: see TargetFeatures."""

    plan: Plan | None
    reserves: int | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """By machine, of those that were asked for; and what stands in the way of all together, by target of the manifest."""

    machines: Mapping[str, Answer] = field(default_factory=dict)
    targets: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)


def answers(manifest: Manifest, drafts: Sequence[tuple[Resolved, Draft]], ask: Ask) -> Answers:
    """Asks for every machine of `drafts`. Ctrl-C ends it, without waiting for an answer that does not come."""
    stop = threading.Event()
    meter = Meter(manifest.name, STEP, ask.listener, stop.is_set)
    with together.asking(meter), _told(meter):
        opened = _Opened()
        todo = [(one, partial(_one, manifest, one, draft, ask, opened)) for one, draft in drafts]
        with _side_by_side([call for _, call in todo], stop) as waiting:
            names = {future: one.id for future, (one, _) in zip(waiting, todo, strict=True)}
            found = dict(_gathered(names, meter))
        return Answers(found, dict(_fits([one for one, _ in drafts], found, opened)))


@contextmanager
def _side_by_side(calls: Sequence[Callable[[], Answer]], stop: threading.Event) -> Iterator[list[Future[Answer]]]:
    """The calls' answers as they come. Nothing is changed by a call, so who leaves in the middle waits for none: the threads end
    with the process."""
    futures: list[Future[Answer]] = [Future() for _ in calls]
    todo = deque(zip(futures, calls, strict=True))

    def work() -> None:
        while todo and not stop.is_set():
            try:
                future, call = todo.popleft()
            except IndexError:
                return
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)

    threads = [threading.Thread(target=work, daemon=True, name=f"v2c-{STEP}") for _ in range(min(AT_ONCE, len(calls)))]
    for thread in threads:
        thread.start()
    try:
        yield futures
    except BaseException:
        stop.set()
        until = time.monotonic() + GRACE_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        raise


class _Opened:
    """A target for each locator, opened by the first machine that goes there."""

    def __init__(self) -> None:
        self._targets: dict[str, Target] = {}
        self._lock = threading.Lock()

    def __getitem__(self, locator: str) -> Target:
        with self._lock:
            if locator not in self._targets:
                self._targets[locator] = open_target(locator)
            return self._targets[locator]


@contextmanager
def _told(meter: Meter) -> Iterator[None]:
    """Begins and ends like a step of the engine, so that it is shown as one."""
    began, error = time.monotonic(), ""
    meter.listener(Began(meter.job, meter.step, time.time()))
    try:
        yield
    except BaseException as failure:
        error = str(failure) or "stopped"
        raise
    finally:
        meter.listener(Ended(meter.job, meter.step, time.time(), seconds=time.monotonic() - began, error=error))


def _gathered(waiting: Mapping[Future[Answer], str], meter: Meter) -> Iterator[tuple[str, Answer]]:
    told = time.monotonic()
    for count, done in enumerate(as_completed(waiting), 1):
        yield waiting[done], done.result()
        if time.monotonic() - told >= TELL_S or count == len(waiting):
            told = time.monotonic()
            meter.note(f"{count} of {len(waiting)} machines")


def _one(manifest: Manifest, one: Resolved, draft: Draft, ask: Ask, opened: _Opened) -> Answer:
    """One machine; whoever fails has a blocker, and the others go on."""
    name = one.machine.target or ""
    to = aim(manifest, one)
    try:
        target = opened[to]
    except V2cError as error:
        return Answer(None, findings=(Finding("target.unknown", Level.BLOCKER, name, error.text, error.remedy),))
    plan = draft(job_of(manifest, one, to, ask.folder), to, target)
    found: list[Finding] = []
    try:
        with sizing.priced(ask.book.at(to) if ask.book else {}):  # as when the wave runs: the type is the one that it will get
            plan = target.size(plan)
            found += target.check(plan)
    except Paused:
        raise
    except V2cError as error:
        found.append(Finding("target.unasked", Level.BLOCKER, name, error.text, error.remedy))
    unknown = {disk.disk for disk in plan.disks if not disk.source_size}  # of these nobody said the size, which is told already
    plan = planning.with_findings(plan, (f for f in found if f.subject not in unknown))
    price = ask.book.price(to, plan.instance_type) if ask.book and plan.instance_type else None
    storage = ask.book.storage(to, plan.disks) if ask.book else None
    return Answer(replace(plan, price=price, storage=storage), target.features.reserves)


def job_of(manifest: Manifest, one: Resolved, to: str, folder: Path) -> str:
    """The machine's job, which is its own in a run of the wave: what that made already stands in nobody's way."""
    return job_id(sources_of(manifest, one, folder), to, repair(one))


def _fits(
    machines: Iterable[Resolved], found: Mapping[str, Answer], opened: _Opened
) -> Iterator[tuple[str, tuple[Finding, ...]]]:
    """Of each account, whether it holds all machines that go there; of one alone `check` told. Every target of the manifest that
    leads there gets its findings."""
    accounts: dict[str, list[tuple[Resolved, Plan]]] = {}
    for one in machines:
        if plan := found[one.id].plan:
            accounts.setdefault(opened[plan.target].features.account, []).append((one, plan))
    said: dict[str, tuple[Finding, ...]] = {}
    for account, going in accounts.items():
        target, plans = opened[going[0][1].target], [plan for _, plan in going]
        if not account or len(plans) < 2 or not isinstance(target, Counted):
            continue
        more: list[Finding] = []
        try:
            more += target.fits(plans)
        except Paused:
            raise
        except V2cError as error:
            more.append(Finding("target.unasked", Level.BLOCKER, account, error.text, error.remedy))
        for name in dict.fromkeys(one.machine.target or "" for one, _ in going):
            said[name] = (*said.get(name, ()), *more)
    yield from said.items()
