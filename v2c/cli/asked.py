"""The words of a command line as what the pipeline takes: a machine, its repair, and what is asked for it."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2c.cli.options import Places
from v2c.errors import UsageError
from v2c.model import AddressNeed, Declared, DiskFormat, Firmware, Nic, Repair

if TYPE_CHECKING:
    from v2c.pipeline import Request
    from v2c.sources.spec import MachineSpec
    from v2c.usage import Usage

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


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

    target = by(target, choices.pop("via", ""))
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


def by(target: str, via: str) -> str:
    """The target, reached by this way. UsageError when it says another one, or has no ways to choose from."""
    if not via:
        return target
    place, _, options = target.partition("?")
    if not place.startswith(("aws:", "azure:")):
        raise UsageError(f"--via {via}: there is one way only to {place}", remedy="leave it out")
    said = [word.partition("=")[2] for word in options.split("&") if word.startswith("via=")]
    if said and said != [via]:
        raise UsageError(f"--via {via}, and the target says via={said[0]}", remedy="say it once")
    return target if said else f"{target}{'&' if options else '?'}via={via}"


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
