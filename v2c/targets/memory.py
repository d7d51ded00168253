"""The target that lies in a folder: the family's smallest member, for crash and scale tests and for trying v2c out.

`memory:NAME` keeps disks and objects below $V2C_MEMORY (else below v2c's state), so that they survive a kill of the process,
and appends every effect to `events`: one JSON line per put, creation and removal, so that a test can prove that nothing was
done twice. `?fail=0.05&seed=1` makes that share of the calls fail, half of them before the effect and half after it, as real
clouds do. `?unit=BYTES` rounds disks up. `?lose=INDEX` says that it took that block of every disk, and did not. A machine of
`sources/memory` boots here: its console shows the probe's answer.
"""

import json
import os
import random
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from v2c import platforms, sizing, state
from v2c.blocks import BlockMap
from v2c.errors import TargetError, UsageError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import Caps, Disk, DiskFormat, Finding, Level, Observation, Placement, Plan, Ref, StatusCheck, Verdict
from v2c.targets import Call, Target, TargetFeatures, Tell, shadow
from v2c.targets.memory_boot import boot
from v2c.targets.writers import CHUNK, RawWriter
from v2c.targets.writers.raw import blocks_of
from v2c.transfer import Block, DiskWriter

OFFERS = tuple(sizing.Offer(f"memory.{n}x{n * 4}", n, n * 4096) for n in (1, 2, 4, 8, 16))
_TAGGED = "v2c-job"
_REAL = "-cutover"  # how the name of a cut-over's instance ends
_OPTIONS = {"fail", "seed", "unit", "lose", "platform"}


def open_target(rest: str) -> "MemoryTarget":
    """The target for "NAME[?fail=SHARE&seed=N&unit=BYTES&lose=INDEX&platform=NAME]"."""
    name, _, query = rest.partition("?")
    options = dict(parse_qsl(query))
    try:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or set(options) - _OPTIONS:
            raise ValueError
        fail, unit, lose = float(options.get("fail", "0")), int(options.get("unit", "512")), int(options.get("lose", "-1"))
        platform = platforms.platform(options.get("platform", "kvm")).name
    except ValueError:
        remedy = "write memory:NAME, with ?fail=, &seed=, &unit=, &lose= or &platform= behind it"
        raise UsageError(f'"memory:{rest}" is not understood', remedy=remedy) from None
    base = Path(os.environ["V2C_MEMORY"]) if os.environ.get("V2C_MEMORY") else state.default_folder() / "memory"
    seed = options.get("seed", "0")
    return MemoryTarget(base / "targets" / name, fail=fail, seed=seed, unit=unit, platform=platform, lose=lose)


@dataclass(frozen=True, slots=True)
class Effect:
    """A line of `events`: what was done ("put", "create", "destroy", "start", "stop", "fail"), to what, by which process."""

    what: str
    id: str
    pid: int
    index: int = -1
    digest: str = ""
    job: str = ""


@dataclass
class Events:
    """The append-only story of a target, written by any number of processes, a line at a time."""

    path: Path

    def tell(self, what: str, id: str, index: int = -1, digest: str = "", job: str = "") -> None:
        """Appends; after it returns the line survives a kill. `job`: the tag of what was made."""
        line = json.dumps({"what": what, "id": id, "pid": os.getpid(), "index": index, "digest": digest, "job": job}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def read(self) -> list[Effect]:
        """All of it, oldest first."""
        if not self.path.exists():
            return []
        return [Effect(**json.loads(line)) for line in self.path.read_text(encoding="utf-8").splitlines()]


class Told(Events):
    """Effects of a dry run: told to somebody, and written nowhere."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(Path("/dev/null"))
        self._tell = tell

    def tell(self, what: str, id: str, index: int = -1, digest: str = "", job: str = "") -> None:
        self._tell(Call(what, id, ((_TAGGED, job),) if job else (), f"block {index}" if index >= 0 else ""))


@dataclass
class Faults:
    """Calls that fail: `share` of them, by dice that fall the same way for the same seed and the same history."""

    share: float
    seed: str
    events: Events
    _dice: random.Random | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def around(self, what: str) -> Iterator[None]:
        """The body is the effect; fails before it, or when it has happened and nobody heard."""
        if not self.share:
            yield
            return
        with self._lock:
            if self._dice is None:
                self._dice = random.Random(f"{self.seed}/{len(self.events.read())}")  # noqa: S311 - dice for tests
            throw = self._dice.random()
        if throw < self.share / 2:
            self._strike(what, "it did nothing")
        yield
        if self.share / 2 <= throw < self.share:
            self._strike(what, "its answer was lost")

    def _strike(self, what: str, how: str) -> None:
        self.events.tell("fail", f"{what}: {how}")
        raise TargetError(f"the call {what} failed ({how})", remedy="try again", transient=True)


class MemoryTarget:
    """Objects are files of `objects/`, disks files of `disks/`; the tag is in the object."""

    def __init__(self, folder: Path, *, fail: float, seed: str, unit: int, platform: str, lose: int = -1) -> None:
        self.folder, self.platform, self.lose = folder, platform, lose
        self.features = TargetFeatures(chunk=CHUNK, size_unit=unit, rehearse=False, readable=True, dry=True)
        self.events = Events(folder / "events")
        self.scratch: shadow.Scratch | None = None  # of a dry run: lives as long as this
        self._faults = Faults(fail, seed, self.events)

    # ---- objects -----------------------------------------------------------------------------------------------------------

    def _object(self, kind: str, id: str) -> Path:
        return self.folder / "objects" / f"{kind}-{_safe(id)}.json"

    def _disk(self, id: str) -> Path:
        return self.folder / "disks" / _safe(id)

    def _load(self, kind: str, id: str) -> dict[str, Any] | None:
        return _read(self._object(kind, id))

    def _save(self, kind: str, id: str, what: Mapping[str, Any]) -> None:
        path = self._object(kind, id)
        state.private_folder(self.folder)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.write_text(json.dumps(dict(what)), encoding="utf-8")
        new.replace(path)

    def _made(self, kind: str, id: str, journal: Journal, **about: Any) -> Ref:
        """The object, made or adopted; journaled either way. Another job's is refused."""
        ref = Ref.of(kind, id, job=journal.job)
        if ref in journal.refs(kind) and self._load(kind, id) is not None:
            return ref
        with journal.intent(kind, id, {_TAGGED: journal.job}) as intent, self._faults.around(f"create {kind}"):
            found = self._load(kind, id)
            if found is None:
                self._save(kind, id, {"kind": kind, "id": id, _TAGGED: journal.job, **about})
                self.events.tell("create", f"{kind} {id}", job=journal.job)
            elif found.get(_TAGGED) != journal.job:
                raise TargetError(f"the {kind} {id} belongs to job {found.get(_TAGGED)}", remedy="choose another name")
            intent.done(ref)
        return ref

    # ---- verbs, in the protocol's order ------------------------------------------------------------------------------------

    def size(self, plan: Plan) -> Plan:
        """The type that holds it, of those in `OFFERS`."""
        offer = sizing.choose(plan.machine, plan.needs.firmware, OFFERS)
        return replace(plan, instance_type=offer.name if offer else "")

    def check(self, plan: Plan) -> Iterator[Finding]:
        """Names that are taken."""
        for disk in plan.disks:
            found = self._load("disk", f"{plan.job}-{disk.disk}")
            if found and found.get(_TAGGED) != plan.job:
                yield Finding(
                    "memory.exists", Level.BLOCKER, disk.disk, f"the disk {disk.name} exists already", "choose another name"
                )

    def reserve(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        yield self._made("reservation", plan.job, journal, machine=plan.machine.name)

    @contextmanager
    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> Iterator[DiskWriter]:
        size = next(planned.target_size for planned in plan.disks if planned.disk == disk.id)
        ref = self._made("disk", f"{plan.job}-{disk.id}", journal, size=size)
        path = self._disk(ref.id)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with RawWriter(path, size, ref) as inner:
            yield CountingWriter(inner, ref.id, self.events, self._faults, self.lose)

    def read(self, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for index, data in blocks_of(self._disk(disk.id), indexes):
            with self._faults.around("read"):
                yield index, data

    def register(self, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
        return self._made("image", plan.job, journal, disks=[disk.id for disk in disks], firmware=caps.firmware.value)

    def launch(self, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Ref:
        made = self._load("image", image.id)
        if made is None:
            raise TargetError(f"the image {image.id} is gone", remedy="run the command again with --again")
        name = f"{plan.job}{_REAL}" if placement.cutover else plan.job
        instance = self._made(
            "instance", name, journal, state="new", disks=made["disks"], isolated=placement.isolated, tags=dict(plan.tags)
        )
        found = self._load("instance", instance.id) or {}
        if found.get("state") != "running":
            with self._faults.around("start instance"):
                shown = boot([self._disk(disk) for disk in made["disks"]])
                self._save("instance", instance.id, {**found, "state": "running", "console": shown.console, "alive": shown.alive})
                self.events.tell("start", instance.id)
        return instance

    def observe(self, instance: Ref) -> Observation:
        found = self._load("instance", instance.id)
        if found is None:
            return Observation("gone", alive=False)
        with self._faults.around("observe instance"):
            alive = found["state"] == "running" and bool(found.get("alive"))
            statuses = (StatusCheck("reachability", Verdict.PASS if alive else Verdict.FAIL, "ok" if alive else "impaired"),)
            return Observation(found["state"], alive, console=found.get("console", ""), statuses=statuses)

    def stop(self, instance: Ref, journal: Journal) -> None:
        found = self._load("instance", instance.id)
        if found and found["state"] == "running" and not instance.id.endswith(_REAL):
            with self._faults.around("stop instance"):
                self._save("instance", instance.id, {**found, "state": "stopped"})
                self.events.tell("stop", instance.id)

    def finalize(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        for ref in [ref for ref in self.find(plan.job) if ref.kind == "reservation"]:
            self.destroy(ref)
            journal.undone(ref)
            yield ref

    def find(self, job: str) -> Iterator[Ref]:
        kinds = ("reservation", "disk", "image", "instance")  # the order they are made in
        found = filter(None, map(_read, sorted((self.folder / "objects").glob("*.json"))))
        for thing in sorted(found, key=lambda thing: kinds.index(thing["kind"])):
            if thing[_TAGGED] == job:
                yield Ref.of(thing["kind"], thing["id"], job=job)

    def destroy(self, ref: Ref) -> None:
        found = self._load(ref.kind, ref.id)
        if found is None:
            return
        if found.get(_TAGGED) != ref.get("job") or not ref.get("job"):
            raise TargetError(f"the {ref.kind} {ref.id} is not of job {ref.get('job')}, so it is left alone")
        with self._faults.around(f"destroy {ref.kind}"):
            if ref.kind == "disk":
                RawWriter(self._disk(ref.id), 0, ref).abandon()
                self._disk(ref.id).unlink(missing_ok=True)
            self._object(ref.kind, ref.id).unlink(missing_ok=True)
            self.events.tell("destroy", f"{ref.kind} {ref.id}")

    def dry(self, tell: Tell) -> Target:
        """Over a copy of the objects; the effects that are told are those that would be written down."""
        scratch = shadow.Scratch(self.folder, self.folder.glob("*/*"))

        made = MemoryTarget(scratch.path, fail=0, seed="", unit=self.features.size_unit, platform=self.platform)
        made.scratch = scratch
        made.events = made._faults.events = Told(tell)
        return made

    def image(self, disk: Ref) -> tuple[Path, DiskFormat]:
        """The file that holds a committed disk: for tests."""
        return self._disk(disk.id), DiskFormat.RAW


class CountingWriter:
    """A writer around another: tells every put, lets some fail, and loses the block `lose`."""

    def __init__(self, inner: DiskWriter, id: str, events: Events, faults: Faults, lose: int) -> None:
        self._inner, self._id, self._events, self._faults, self._lose = inner, id, events, faults, lose

    @property
    def chunk(self) -> int:
        return self._inner.chunk

    def expect(self, indexes: Sequence[int]) -> None:
        self._inner.expect(indexes)

    def missing(self, blocks: BlockMap) -> Iterator[int]:
        return self._inner.missing(blocks)

    def put(self, index: int, data: Block, digest: bytes) -> None:
        with self._faults.around("put"):
            if index != self._lose:
                self._inner.put(index, data, digest)
            self._events.tell("put", self._id, index, digest.hex())

    def flush(self) -> None:
        self._inner.flush()

    def commit(self) -> Ref:
        with self._faults.around("commit"):
            return self._inner.commit()

    def abandon(self) -> None:
        self._inner.abandon()


def _read(path: Path) -> dict[str, Any] | None:
    """An object's description; None when there is none, or another job has just removed it."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def _safe(id: str) -> str:
    """An id, which holds a machine's hostile name, as the name of a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", id)
