"""The parts of a machine in the manifest: disks, network cards, hooks, checks, windows, gates. An unknown key is a mistake.

Names are camelCase in the file and snake_case here. The descriptions are what editors show.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic.alias_generators import to_camel

from v2c.manifest.values import Address, Clock, Duration, Id, Listed, Mac, Moment, Rate, Secret, Size, Text, Words, Zone


class Strict(BaseModel):
    """What every part is: frozen, no unknown keys, nothing converted in silence."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


class Hardware(Strict):
    """What the machine has where it runs; for sources that cannot be asked yet, and to check those that can."""

    vcpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Processors."""
    memory: Size | None = None
    """Memory, like 8GiB."""
    firmware: Literal["bios", "uefi"] | None = None
    """What starts its boot loader."""
    os: Text | None = None
    """Its operating system, as the inventory names it."""
    addresses: Listed[Text] = ()
    """Its addresses there, as the inventory has them."""


class Sizing(Strict):
    """What the machine becomes: an instance type by name, or one that is chosen. Give `type` or `rightSizing`, not both."""

    type: Text | None = None
    """The target's instance type, like m7i.large, n2-standard-4 or Standard_D4s_v5."""
    right_sizing: Literal["configured", "used"] | None = None
    """configured: at least the processors and memory it has; used: what it uses at its peak, with headroom."""
    cpu_used: Annotated[int, Field(ge=1, le=100)] | None = None
    """Peak use of its processors in percent (for rightSizing: used)."""
    memory_used: Annotated[int, Field(ge=1, le=100)] | None = None
    """Peak use of its memory in percent (for rightSizing: used)."""
    headroom: Annotated[int, Field(ge=0, le=400)] = 20
    """What is added to the peak, in percent of it (for rightSizing: used)."""


class Disk(Strict):
    """A disk, by an identity that does not move between passes: the virtual disk's UUID or serial, its file's name, or
    controller:unit."""

    id: Text
    """The disk's stable identity at the source."""
    size: Size | None = None
    """Its size, like 40GiB."""
    used: Size | None = None
    """How much of it holds data: what there is to send."""
    include: bool = True
    """false leaves the disk behind."""
    boot: bool | None = None
    """true: the machine boots from it."""
    datastore: Text | None = None
    """Where it lies at the source; the storage map is looked up by it."""
    type: Text | None = None
    """The target's volume type, like gp3, pd-balanced or Premium_LRS."""
    iops: Annotated[int, Field(ge=1)] | None = None
    """Input and output operations per second to be provisioned."""
    throughput: Annotated[int, Field(ge=1)] | None = None
    """Throughput to be provisioned, in MiB/s."""
    encryption_key: Text | None = None
    """The name (ARN, resource id) of the target's key; never a key itself."""
    unlock: Secret | None = None
    """The key of its encrypted volume: file:PATH or env:NAME."""


class TestNic(Strict):
    """The card in a test cut-over."""

    subnet: Text | None = None
    """The test network."""
    address: Address | None = None
    """keep, dhcp, or an address."""


class Nic(Strict):
    """A network card, in the machine's order, or by its hardware address."""

    mac: Mac | None = None
    """Its hardware address at the source."""
    network: Text | None = None
    """Its network at the source; the network map is looked up by it."""
    subnet: Text | None = None
    """Its subnet at the target; over the network map."""
    address: Address = "dhcp"
    """keep the one it has, get one by dhcp, or this one; without its prefix length, that of the target's subnet holds."""
    gateway: Text | None = None
    """The router, with a given address."""
    dns: Listed[Text] = ()
    """Name servers, with a given address."""
    security_groups: Listed[Text] = ()
    """Security groups, firewall tags or network security groups of the card; over the network map."""
    test: TestNic | None = None
    """Other values for a test cut-over."""


Verb = Literal["replicate", "test-cutover", "cutover", "validate", "finalize", "rollback", "cleanup"]


class Hook(Strict):
    """A command before or after a step. Give `before` or `after`."""

    before: Verb | None = None
    """The step that it runs before."""
    after: Verb | None = None
    """The step that it runs after."""
    run: Words
    """Program and arguments, a list; no shell reads it."""
    where: Literal["converter", "guest"] = "converter"
    """On the conversion worker, or inside the new machine, by SSH: then with user and key."""
    user: Text | None = None
    """Who logs in (where: guest)."""
    key: Secret | None = None
    """The private key: file:PATH (where: guest)."""
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    """The SSH server's port (where: guest)."""
    environment: dict[str, Secret] = Field(default_factory=dict)
    """Variables from secrets: NAME: env:NAME or file:PATH."""
    timeout: Duration = 300
    """After this it is ended, and counts as failed."""
    must_succeed: bool = True
    """false: a failure is a finding, and the machine goes on."""


class _Check(Strict):
    timeout: Duration = 120
    """How long it is tried again before it fails."""
    must_succeed: bool = True
    """false: a failure is a finding, and the cut-over stands."""


class TcpCheck(_Check):
    """Something listens on a port."""

    type: Literal["tcp"]
    port: Annotated[int, Field(ge=1, le=65535)]
    """The port."""
    host: Text | None = None
    """Another host than the machine itself."""


class HttpCheck(_Check):
    """A page answers."""

    type: Literal["http"]
    url: Annotated[str, Field(pattern=r"^(https?://|/|:[0-9])\S*$")]
    """https://host/path, or a path (or :port/path) of the machine itself."""
    expect: Annotated[int, Field(ge=100, le=599)] = 200
    """The status that is right."""
    contains: Text | None = None
    """Text that the page must hold."""


class SshCheck(_Check):
    """A command succeeds inside the machine."""

    type: Literal["ssh"]
    run: Words
    """Program and arguments, a list."""
    user: Text
    """Who logs in."""
    key: Secret
    """The private key: file:PATH."""
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    """The port."""


class CommandCheck(_Check):
    """A command succeeds on the conversion worker; V2C_ADDRESS holds the machine's address."""

    type: Literal["command"]
    run: Words
    """Program and arguments, a list; no shell reads it."""


Check = Annotated[TcpCheck | HttpCheck | SshCheck | CommandCheck, Field(discriminator="type")]


class Window(Strict):
    """When the cut-over may happen. Times are local to `zone`. One that does not exist there (clocks go forward) is a mistake;
    one that occurs twice (clocks go back) is read so that the window is the shorter, unless its offset is written."""

    start: Moment
    """The first moment, like 2026-12-05T22:00."""
    end: Moment
    """The last moment: the machine is up and checked by then."""
    zone: Zone | None = None
    """The time zone, like Europe/Berlin; else the one of the wave or of the defaults."""


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class WeeklyBlackout(Strict):
    """Every week, on these days: nothing is cut over. An end before the start lies on the next day."""

    days: Annotated[tuple[Day, ...], Field(strict=False, min_length=1)]
    """The days on which it begins."""
    start: Clock
    """Local time, like 08:00."""
    end: Clock
    """Local time, like 18:00."""
    zone: Zone | None = None
    """The time zone; else the one of the wave or of the defaults."""
    reason: Text | None = None
    """Why; shown where it stands in the way."""


class DatedBlackout(Strict):
    """Once: nothing is cut over (a freeze, a closing of books)."""

    start: Moment
    """The first moment."""
    end: Moment
    """The last moment."""
    zone: Zone | None = None
    """The time zone; else the one of the wave or of the defaults."""
    reason: Text | None = None
    """Why; shown where it stands in the way."""


def _which(value: Any) -> str:
    return "weekly" if isinstance(value, WeeklyBlackout) or (isinstance(value, dict) and "days" in value) else "dated"


Blackout = Annotated[
    Annotated[WeeklyBlackout, Tag("weekly")] | Annotated[DatedBlackout, Tag("dated")],
    Discriminator(_which),
]


class RateSlot(Strict):
    """A rate at these times of every week. An end before the start lies on the next day."""

    days: Annotated[tuple[Day, ...], Field(strict=False, min_length=1)] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    """The days on which it begins; else all."""
    start: Annotated[Clock, Field(alias="from")]
    """Local time, like 08:00."""
    end: Annotated[Clock, Field(alias="to")]
    """Local time, like 18:00."""
    rate: Rate
    """What may be sent then, like 50Mbit/s."""
    zone: Zone | None = None
    """The time zone; else the one of the wave or of the defaults."""


def _timed(value: Any) -> str:
    return "slot" if isinstance(value, (RateSlot, dict)) else "rate"


def _listed(value: Any) -> str:
    return "hours" if isinstance(value, (list, tuple)) else "rate"


_Slot = Annotated[Annotated[RateSlot, Tag("slot")] | Annotated[Rate, Tag("rate")], Discriminator(_timed)]
_Hours = Annotated[tuple[_Slot, ...], Field(strict=False, min_length=1)]
# A rate, or rates by time: the first that holds now counts, and a plain rate at the end is for all other times.
Bandwidth = Annotated[Annotated[_Hours, Tag("hours")] | Annotated[Rate, Tag("rate")], Discriminator(_listed)]


class Gates(Strict):
    """Who must agree: true is agreement given beforehand; false waits for `v2c approve`."""

    ok_to_test: bool = False
    """May a test cut-over be made."""
    ok_to_cutover: bool = False
    """May the machine be cut over."""
    ok_to_finalize: bool = False
    """May what only the migration needs be removed, after which there is no way back."""


class SourceOf(Strict):
    """Where a machine is found. Give the name of a source, and there its name, its UUID or its disk files."""

    at: Text
    """A name from `sources`."""
    name: Text | None = None
    """The machine's name there; else its id."""
    uuid: Text | None = None
    """Its UUID there, where names are not unique."""
    files: Listed[Text] = ()
    """Its disk files in order, below the source's folder (sources of type files)."""


IdList = Listed[Id]
