"""Options that several verbs share, and how their words become values."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from v2c.errors import UsageError
from v2c.model import AddressNeed, Declared, DiskFormat, Firmware, Nic, Repair

if TYPE_CHECKING:
    from v2c.pipeline import Request
    from v2c.sources.spec import MachineSpec
    from v2c.usage import Usage

F = TypeVar("F", bound=Callable[..., Any])

RATE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?(?:i?B|bit|bps)?|[KMGT]i?)(?:/s)?", re.IGNORECASE)
FACTOR = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def together(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, shown in the order given."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _platforms(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """For the shell's completion."""
    from v2c.platforms import platforms

    names = [f"local:{p.name}" for p in platforms().values() if p.boot and p.name != "vmware"] + ["file:"]
    return [name for name in names if name.startswith(incomplete)]


def _drivers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """The site's folder reaches everything that asks `v2c.platforms`, helpers too."""
    if value:
        os.environ["V2C_DRIVERS"] = value
    return value


sources = click.argument("sources", nargs=-1, required=True, metavar="DISK...")

drivers = click.option(
    "--drivers",
    metavar="DIR",
    callback=_drivers,
    expose_value=False,
    help="A site's own folder of platform facts, over drivers/.",
)

target = click.option(
    "--to",
    "target",
    required=True,
    metavar="TARGET",
    shell_complete=_platforms,
    help="local:aws|gcp|azure|kvm, or file:PATH.qcow2 ...",
)

machine = together(
    click.option(
        "--machine",
        "machine_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A TOML file that describes the machine.",
    ),
    click.option("--name", help="The machine's name (default: the first disk's)."),
    click.option("--memory", type=click.IntRange(min=128), metavar="MIB", help="Its memory in MiB."),
    click.option("--vcpus", type=click.IntRange(min=1), metavar="N", help="Its processors."),
    click.option("--firmware", type=click.Choice([f.value for f in Firmware]), help="What starts its boot loader."),
    click.option("--nic", "nics", multiple=True, metavar="MAC", help="A network card by hardware address; once per card."),
    click.option(
        "--format",
        "formats",
        multiple=True,
        type=click.Choice([f.value for f in DiskFormat]),
        help="The disks' format, where names do not tell; once for all, or once per disk.",
    ),
)


def _reach(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    from v2c.validate.reach import parse

    for check in value:
        parse(check)
    return value


reach = click.option(
    "--check",
    "reach",
    multiple=True,
    callback=_reach,
    metavar="CHECK",
    help="Asked from here: tcp:HOST:PORT, http://HOST/PATH=200, ssh:HOST; {address} is the instance's own.",
)

expect = together(
    click.option(
        "--expect-port", "ports", multiple=True, metavar="tcp:PORT", help="A port that it has to listen on; once per port."
    ),
    click.option(
        "--allow-failed", "failed", multiple=True, metavar="UNIT", help='A unit that may fail; "none": no unit may fail.'
    ),
    reach,
)

size_by = click.option(
    "--size-by",
    default="specs",
    show_default=True,
    metavar="specs|FILE.csv",
    help="Size it by what it has, or by what it uses: a CSV with machine, cpu_percent, memory_percent.",
)

repair = together(
    click.option("--root", default="", metavar="DEVICE|UUID", help="Which system to repair when the disks hold several."),
    click.option(
        "--key",
        "keys",
        multiple=True,
        metavar="SELECTOR:file:PATH",
        help="A LUKS key, from a file or env:NAME; never the key itself.",
    ),
    click.option(
        "--address", "addresses", multiple=True, metavar="[MAC=]CIDR[,GATEWAY[,DNS...]]", help="A fixed address; once per card."
    ),
    click.option("--dhcp", is_flag=True, help="Every card gets its address by DHCP (the default)."),
    click.option("--keep-network", is_flag=True, help="Leave the guest's network configuration as it is."),
    click.option("--skip", multiple=True, metavar="FIX", help="Leave out a repair by its id (see v2c plan --repair)."),
)

state = click.option(
    "--state", type=click.Path(path_type=Path), metavar="DIR", help="Where jobs are remembered (default: $XDG_STATE_HOME/v2c)."
)
workdir = click.option(
    "--workdir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where overlays lie while a machine moves (default: STATE/work).",
)
places = together(state, workdir)

dry_run = click.option(
    "--dry-run", is_flag=True, help="Change nothing: print every call that would change something, in order, with names and tags."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the trace of an error.")
progress = together(
    click.option(
        "--progress",
        type=click.Choice(["auto", "bar", "plain", "json", "none"]),
        default="auto",
        help="How progress is shown, on stderr.",
    ),
    click.option("--quiet", "-q", is_flag=True, help="Show no progress."),
)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a command works: absolute, so that the same command from another folder finds the same job."""

    state: Path
    workdir: Path


def placed(state: Path | None, workdir: Path | None) -> Places:
    """The folders, made if need be, closed to other users."""
    from v2c.state import default_folder, private_folder

    home = private_folder((state or default_folder()).absolute())
    named = workdir or (Path(os.environ["V2C_WORKDIR"]) if os.environ.get("V2C_WORKDIR") else home / "work")
    return Places(home, private_folder(named.absolute()))


def bandwidth(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int:
    """Bytes per second of "20MiB/s", "20MB/s" or "100Mbit/s"; 0: no limit."""
    if not value:
        return 0
    found = RATE.fullmatch(value.strip())
    if not found or not float(found["number"]):
        raise click.BadParameter(f"{value!r} is no rate; write it like 20MiB/s or 100Mbit/s")
    unit = found["unit"].lower()
    bits = unit.endswith(("bit", "bps"))
    prefix = unit[:1] if unit[:1] in ("k", "m", "g", "t") else ""
    base = 1000 if bits or (unit.endswith("b") and "i" not in unit) else 1024
    return max(1, int(float(found["number"]) * base ** FACTOR[prefix] / (8 if bits else 1)))


def repair_choices(
    root: str, keys: tuple[str, ...], addresses: tuple[str, ...], dhcp: bool, keep_network: bool, skip: tuple[str, ...]
) -> Repair:
    """What the user chose about the repair. UsageError for words that cannot be meant."""
    if sum((bool(addresses), dhcp, keep_network)) > 1:
        raise UsageError("--address, --dhcp and --keep-network exclude each other", remedy="choose one of them")
    return Repair(
        root=root,
        keys=tuple(key(word) for word in keys),
        addresses=tuple(address(word) for word in addresses),
        keep_network=keep_network,
        skip=skip,
    )


def key(word: str) -> str:
    """A key by reference, with its file's path made absolute. The word itself is never repeated: it may be a secret."""
    selector, _, rest = word.partition(":")
    way, _, place = rest.partition(":")
    if not selector or way not in ("file", "env") or not place:
        raise UsageError(
            "a --key is not written as SELECTOR:file:PATH or SELECTOR:env:NAME", remedy="keys are given by file or environment"
        )
    if way == "env":
        if place not in os.environ:
            raise UsageError(
                f"the key of {selector} is to come from the environment, and {place} is not set", remedy=f"export {place}"
            )
        from v2c.processes import withhold

        withhold(place)
        return word
    path = Path(place).absolute()
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise UsageError(f"the key file {path} cannot be read ({error.strerror})", remedy="correct --key") from error
    return f"{selector}:file:{path}"


def address(word: str) -> AddressNeed:
    """ "52:54:00:12:34:56=192.0.2.10/24,192.0.2.1,192.0.2.53", the hardware address and all after the first comma optional."""
    import ipaddress

    mac, equals, rest = word.rpartition("=")
    if equals and not MAC.fullmatch(mac.lower()):
        raise UsageError(f'--address {word}: "{mac}" is no hardware address', remedy="write it like 52:54:00:12:34:56")
    cidr, *others = rest.split(",")
    try:
        interface = ipaddress.ip_interface(cidr)
        if "/" not in cidr:
            raise ValueError(f"'{cidr}' has no prefix length")
        others = [str(ipaddress.ip_address(other)) for other in others]
    except ValueError as error:
        raise UsageError(f"--address {word}: {error}", remedy="write it like 192.0.2.10/24,192.0.2.1,192.0.2.53") from error
    gateway = others[0] if others else None
    if gateway and ipaddress.ip_address(gateway) not in interface.network:
        raise UsageError(f"--address {word}: the gateway {gateway} is not in {interface.network}", remedy="correct it")
    return AddressNeed(mac.lower() or None, str(interface), gateway, tuple(others[1:]))


def nic(word: str) -> str:
    """A hardware address in lower case."""
    mac = word.lower().replace("-", ":")
    if not MAC.fullmatch(mac):
        raise UsageError(f"--nic {word}: that is no hardware address", remedy="write it like 52:54:00:12:34:56")
    return mac


def request(sources: tuple[str, ...], target: str, places: Places, **choices: Any) -> "Request":
    """What is asked, as the pipeline takes it: from the words of `machine` and `repair`, and what else is given."""
    from v2c import jobs, pipeline

    aim = Path(target.removeprefix("file:"))
    if target.startswith("file:") and aim.exists() and any(Path(s).exists() and aim.samefile(s) for s in sources):
        raise UsageError(f"{aim} is the source itself", remedy="choose another name for what is made")
    declared = {name: choices.pop(name) for name in ("machine_file", "name", "memory", "vcpus", "firmware", "nics", "formats")}
    repaired = {name: choices.pop(name) for name in ("root", "keys", "addresses", "dhcp", "keep_network", "skip")}
    said = described(**declared)
    if expected := {name: choices.pop(name) for name in ("ports", "failed", "reach") if name in choices}:
        said = replace(said, expect=expectations(said.expect, **expected))
    repair = repair_choices(**repaired)
    if (size_by := choices.pop("size_by", "specs")) != "specs":
        choices["usage"] = used(Path(size_by), sources, said)
    job = jobs.job_id(sources, target, repair)
    folder = str(places.workdir / job)
    return pipeline.Request(job, sources, target, folder, said, repair, prices=str(places.state), **choices)


def used(path: Path, sources: tuple[str, ...], said: "MachineSpec") -> "Usage":
    """What the machine uses, by the file. UsageError when the file does not know it."""
    from v2c import usage
    from v2c.sources import open_source

    found = usage.read(path)
    name = open_source(sources, said).describe(said.name or "").name
    if name not in found:
        raise UsageError(f"{path} does not know the machine {name}", remedy="add it, or say its --name as the file has it")
    return found[name]


def expectations(said: Declared, ports: tuple[str, ...], failed: tuple[str, ...], reach: tuple[str, ...]) -> Declared:
    """What the machine file says that must be so, and what the flags say over it. UsageError for what is not understood."""
    from v2c.sources.spec import port
    from v2c.validate.reach import parse

    try:
        listening = tuple(port(word) for word in ports)
    except ValueError as error:
        raise UsageError(str(error), remedy="correct --expect-port") from error
    units = None if not failed else () if failed == ("none",) else failed
    made = Declared(listening or said.listening, said.failed_units if units is None else units, reach or said.reach)
    for check in made.reach:
        parse(check)
    return made


def described(
    machine_file: Path | None,
    name: str | None,
    memory: int | None,
    vcpus: int | None,
    firmware: str | None,
    nics: tuple[str, ...],
    formats: tuple[str, ...],
) -> "MachineSpec":
    """What the user says of the machine: the file, and the flags over it."""
    from v2c.sources.spec import MachineSpec, load_spec

    said = load_spec(machine_file) if machine_file else MachineSpec()
    flags: dict[str, Any] = {
        "name": name,
        "memory_mib": memory,
        "vcpus": vcpus,
        "firmware": Firmware(firmware) if firmware else None,
        "nics": tuple(Nic(nic(word)) for word in nics) or None,
        "formats": tuple(DiskFormat(word) for word in formats) or None,
    }
    return replace(said, **{name: value for name, value in flags.items() if value is not None})
