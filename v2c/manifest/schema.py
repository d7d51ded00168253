"""The wave manifest: what is wanted, never what happened. One file, many waves, each machine keyed by the user's own id.

`defaults`, a wave and a machine may all say the same settings; the nearest to the machine wins. `tags` and `gates` are joined key
by key; everything else is replaced whole. An explicit `null` undoes what a default says.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from v2c.manifest.parts import (
    Bandwidth,
    Blackout,
    Check,
    Disk,
    Gates,
    Hardware,
    Hook,
    IdList,
    Nic,
    Sizing,
    SourceOf,
    Strict,
    Window,
)
from v2c.manifest.values import Duration, HostKey, Id, Listed, Secret, Size, Tags, Text, Zone

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# files: disk images in a folder; memory: made up, for trials; inventory: known from somebody's list only, so it can be planned
SourceType = Literal["files", "vsphere", "hyperv", "libvirt", "virtualbox", "xen", "physical", "memory", "inventory"]
TARGET = r"^(aws|gcp|azure|file|local|memory):.+$"


class Datastore(Strict):
    """A datastore or pool of a source."""

    copies: Annotated[int, Field(ge=1, le=1000)]
    """How many copies at most may run from it at once; a machine with several disks there is one."""


class Source(Strict):
    """A place that machines are taken from."""

    type: SourceType
    """What it is. `inventory`: known from a list only; its machines can be planned and not moved yet."""
    at: Text | None = None
    """The folder of a source of files (relative to this file), or the address of a hypervisor, without user and password."""
    user: Text | None = None
    """Who logs in."""
    password: Secret | None = None
    """file:PATH or env:NAME."""
    thumbprint: Text | None = None
    """The certificate's fingerprint that is expected."""
    copies: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many copies at most may run from it at once."""
    datastores: dict[Text, Datastore] = Field(default_factory=dict)
    """Its datastores by name, as a disk's datastore or path names them; * is each other one by itself."""
    bandwidth: Bandwidth | None = None
    """How fast it may be read, over all copies, like 100MiB/s; or by time, as in limits."""


class Quota(Strict):
    """What the account may hold of this manifest's machines; the plan adds them up and says when it is too little."""

    vcpus: Annotated[int, Field(ge=0)] | None = None
    """Processors of all instances together."""
    machines: Annotated[int, Field(ge=0)] | None = None
    """Instances."""
    storage: Size | None = None
    """Size of all disks together."""


class TargetLimits(Strict):
    """What may be asked of the account at once."""

    requests: Annotated[float, Field(gt=0, le=100000)] | None = None
    """Calls per second that make, look at and remove things, over all machines and workers; what is sent is none of them."""


class Target(Strict):
    """A place that machines go to."""

    to: Annotated[str, Field(pattern=TARGET, examples=["aws:eu-west-1", "local:kvm"])]
    """As `--to` of `v2c convert` is written: aws:REGION, gcp:PROJECT/ZONE, azure:SUBSCRIPTION/GROUP/LOCATION, local:kvm, ..."""
    subnet: Text | None = None
    """The subnet of cards of which neither the machine nor the network map says one."""
    tags: Tags = Field(default_factory=dict)
    """Tags on everything that is made there."""
    quota: Quota | None = None
    """What is known of the account's limits."""
    limits: TargetLimits = TargetLimits()
    """How fast it may be asked."""


class NetworkMap(Strict):
    """A network of the source, and the one of the target that it becomes."""

    source: Text
    """Its name at the source (network, VLAN, port group); * is every other one."""
    target: Text | None = None
    """The target for which this holds; else for all."""
    subnet: Text
    """The subnet there."""
    test_subnet: Text | None = None
    """The subnet of test cut-overs."""
    security_groups: Listed[Text] = ()
    """Security groups of its cards."""


class StorageMap(Strict):
    """A datastore or pool of the source, and the volume type that its disks become."""

    source: Text
    """Its name at the source; * is every other one."""
    target: Text | None = None
    """The target for which this holds; else for all."""
    type: Text
    """The volume type there."""
    iops: Annotated[int, Field(ge=1)] | None = None
    """Input and output operations per second to be provisioned."""
    throughput: Annotated[int, Field(ge=1)] | None = None
    """Throughput to be provisioned, in MiB/s."""


class Limits(Strict):
    """How much may happen at once."""

    machines: Annotated[int, Field(ge=1, le=10000)] | None = None
    """Machines that are worked on at once."""
    bandwidth: Bandwidth | None = None
    """What may be sent, over all machines, like 500Mbit/s. Or a list of {days, from, to, rate}, of which the first that holds now
    counts, with a plain rate at its end for all other times (else they have no limit)."""
    scratch: Size | None = None
    """What a machine takes of a worker's work folder at most, like 2GiB; else as much as is known of its repair and its boot."""


class Settings(Strict):
    """What the defaults, a wave or a machine may say."""

    target: Text | None = None
    """A name from `targets`."""
    mode: Literal["cold", "warm"] | None = None
    """cold: off while it is copied (the default); warm: copied while it runs, off only for the last difference."""
    zone: Zone | None = None
    """The time zone of windows and blackouts, like Europe/Berlin."""
    size: Sizing | None = None
    """What the machine becomes."""
    owner: Text | None = None
    """Who answers for it."""
    application: Text | None = None
    """The application that it belongs to."""
    tags: Tags = Field(default_factory=dict)
    """Tags of the instance and its disks; joined over defaults, wave and machine."""
    licence: Literal["byol", "included"] | None = None
    """Whose licence its system runs under."""
    hooks: Listed[Hook] = ()
    """Commands before and after steps."""
    checks: Listed[Check] = ()
    """What must be true of the new machine."""
    window: Window | None = None
    """When it may be cut over."""
    blackout: Listed[Blackout] = ()
    """When it may not."""
    downtime_budget: Duration | None = None
    """How long it may be down, like 2h."""
    known_hosts: Text | None = None
    """A file of host keys as OpenSSH's known_hosts, on every worker (relative to this file): for hooks inside the machine and ssh
    checks, by the machine's name."""
    gates: Gates = Gates()
    """Who must agree; joined over defaults, wave and machine."""
    on_failure: Literal["stop", "skip", "continue"] | None = None
    """When it fails: stop begins no other machine of the wave, skip (the default) leaves out those that depend on it, continue
    goes on with those too."""
    finalize_after: Duration | None = None
    """How long the way back is kept after the cut-over, like 7d."""


class Machine(Settings):
    """One machine."""

    id: Id
    """Your own stable id: letters, digits, dots, dashes, underscores. Everything is remembered under it."""
    name: Text | None = None
    """The name of the instance; else its id."""
    source: SourceOf
    """Where it is found."""
    host_key: HostKey | None = None
    """The host key that the new machine must show to hooks inside it and ssh checks, like ssh-ed25519 AAAA...; over knownHosts.
    With neither the first one that it shows is taken, and no other after it."""
    hardware: Hardware = Hardware()
    """What it has where it runs."""
    disks: Listed[Disk] = ()
    """Its disks, in its order; for sources that can be asked, only those that differ from the rest."""
    nics: Listed[Nic] = ()
    """Its network cards, in its order."""
    rank: Annotated[int, Field(ge=0, le=1000)] = 0
    """Lower ranks of a wave are begun first."""
    depends_on: IdList = ()
    """Machines that must be cut over before it, of this or an earlier wave."""


class Wave(Settings):
    """Machines that move together. Waves are worked off in the file's order."""

    name: Id
    """The wave's name."""
    description: Text | None = None
    """What it is for."""
    limits: Limits = Limits()
    """Over the manifest's."""
    machines: Annotated[tuple[Machine, ...], Field(strict=False, min_length=1)]
    """Its machines."""


class Manifest(Strict):
    """A wave manifest of v2c: what is to move, from where, whereto, when, and who must agree."""

    version: Annotated[Literal[1], BeforeValidator(lambda value: str(value) if isinstance(value, bool) else value)]
    """The version of this format."""
    name: Id
    """The name of the migration."""
    description: Text | None = None
    """What it is for."""
    defaults: Settings = Settings()
    """Settings of every machine, unless its wave or it says otherwise."""
    sources: Annotated[dict[str, Source], Field(min_length=1)]
    """Places that machines are taken from, by a name of your own."""
    targets: Annotated[dict[str, Target], Field(min_length=1)]
    """Places that machines go to, by a name of your own."""
    networks: Listed[NetworkMap] = ()
    """Which network becomes which."""
    storage: Listed[StorageMap] = ()
    """Which datastore becomes which volume type."""
    limits: Limits = Limits()
    """How much may happen at once, over all waves."""
    waves: Annotated[tuple[Wave, ...], Field(strict=False, min_length=1)]
    """The waves, in order."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the manifest, for editors. It knows every form; whether names exist, times exist and
    dependencies are free of cycles only `v2c manifest check` sees."""
    return {"$schema": DIALECT, **Manifest.model_json_schema(by_alias=True)}
