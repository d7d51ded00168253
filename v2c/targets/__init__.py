"""Where machines go. One protocol, one contract suite; each target is one file (or package), verbs in the same order.

Every effect runs inside `with journal.intent(...)`, is tagged with the job, and is found again by `find`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import MIB, Caps, Disk, Finding, Observation, Placement, Plan, Ref
from v2c.transfer import DiskWriter


@dataclass(frozen=True, slots=True)
class TargetFeatures:
    """What a target can do: ask, don't guess.

    `chunk`: bytes per block that its writer takes. `parallel`: writers' `put` may be called from that many threads.
    `sequential`: blocks must come in ascending order (a stream). `rewritable`: a block may be put again with other data.
    `delta`: a disk can be built on an earlier one. `launches`: it can boot what it registered. `size_unit`: sizes are
    rounded up to a multiple of it (bytes). `rehearse`: boot-test in QEMU before the upload (its launch is not one itself).
    `readable`: `read` gives back what a committed disk holds, so that an upload can be verified. `cutover`: an instance can
    be launched for good (`Placement.cutover`), beside a test that is isolated. `dry`: it can tell what it would do. `account`:
    whose calls and machines its cloud counts together ("aws:PROFILE/REGION"); empty: nobody counts. `reserves`: for how many
    hours the locator asks capacity to be reserved for each machine (0: until it is given back); None: it does not.
    """

    chunk: int = 4 * MIB
    parallel: int = 4
    sequential: bool = False
    rewritable: bool = True
    delta: bool = False
    launches: bool = True
    size_unit: int = 512
    rehearse: bool = True
    readable: bool = False
    cutover: bool = True
    dry: bool = False
    account: str = ""
    reserves: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call that changes something: its name as the API or the operating system has it ("CreateSnapshot", "mkdir"), what it is
    about (a name, a path, an id where there is one already), the tags that it gives, and what else matters ("10 GiB, gp3")."""

    name: str
    subject: str
    tags: tuple[tuple[str, str], ...] = ()
    detail: str = ""


Tell = Callable[[Call], None]


class Target(Protocol):
    """A place that machines can be moved to."""

    features: TargetFeatures
    platform: str  # the name of its folder in drivers/

    def size(self, plan: Plan) -> Plan:
        """The plan with what only the target knows: the types of its instance and, where nobody said one, of its disks. Reads
        catalogues, writes nothing."""
        ...

    def check(self, plan: Plan) -> Iterator[Finding]:
        """Rights, quota, names, space; writes nothing."""
        ...

    def reserve(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        """Prepares what the upload needs; twice is harmless."""
        ...

    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> AbstractContextManager[DiskWriter]:
        """Opens (or re-opens after a crash) the disk being built. Leaving the context without `commit` keeps its blocks."""
        ...

    def read(self, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """The committed disk's blocks as the target holds them, `features.chunk` bytes each (the last may be shorter), in the
        order asked. Only where `features.readable`; until `register` has made an image of it at the latest. Called for several
        disks at once, each from a thread of its own; a target whose line is long reads ahead."""
        ...

    def register(self, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
        """Makes what can be launched from the disks; adopts it when it is there already."""
        ...

    def launch(self, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Ref:
        """Boots it; adopts a running instance of the same job and placement. Only where `features.launches`. With
        `placement.cutover` it is the real instance, which is another one than the test's and is never adopted as one."""
        ...

    def observe(self, instance: Ref) -> Observation:
        """State, addresses, console text, screenshot. Never blocks for long; poll it."""
        ...

    def stop(self, instance: Ref, journal: Journal) -> None:
        """Ends a boot test; harmless when it is over. Where an instance costs money, it and its network are gone after it. The
        instance of a cut-over is left as it is."""
        ...

    def finalize(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        """Removes what only the migration needed (staging objects, reservations, sessions) and yields what is gone; never a
        disk, an image or an instance. Twice is harmless."""
        ...

    def find(self, job: str) -> Iterator[Ref]:
        """By tag, everything the job made: for adoption and for clean-up."""
        ...

    def destroy(self, ref: Ref) -> None:
        """Removes it; absent is success. Refuses (TargetError) what carries no tag of ours."""
        ...

    def dry(self, tell: Tell) -> "Target":
        """The same target for a dry run: it runs the same code and reads the real place, and every call that would change
        something there is told instead of made, in order, and answered as if it had been made, so that the verbs after it go on
        (ids made up from names). Its `read` may say nothing. Only where `features.dry`."""
        ...


@runtime_checkable
class Counted(Protocol):
    """What a target has besides where its account has limits that all machines share."""

    def fits(self, plans: Sequence[Plan]) -> Iterator[Finding]:
        """What stands in the way of all these machines together, which go to this target's account, each by the locator in its
        plan's `target`: quotas, and free addresses. Of one machine alone `check` tells. Writes nothing."""
        ...


def open_target(locator: str) -> Target:
    """The target that a locator names: "SCHEME:REST" ("local:aws", "file:out.qcow2"). UsageError when nobody knows it."""
    from v2c.targets import registry

    return registry.open_target(locator)
