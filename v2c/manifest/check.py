"""What a form alone does not show: names that lead nowhere, cycles, times that do not exist. Every mistake, none twice."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from v2c.manifest import rates
from v2c.manifest.explain import close
from v2c.manifest.parts import Bandwidth, Hook, Nic
from v2c.manifest.resolve import Resolved, cycle, resolve
from v2c.manifest.schema import Manifest, NetworkMap, StorageMap
from v2c.manifest.text import Path
from v2c.manifest.times import NoSuchTime, dark, free

LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\$?")  # never an option of ssh
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
WITH_INSTANCE = {("after", "test-cutover"), ("after", "cutover"), ("after", "validate")}
WITH_INSTANCE |= {("before", "finalize"), ("after", "finalize"), ("before", "rollback"), ("before", "cleanup")}
Told = tuple[Path, str, str]  # path, text, remedy


def check(manifest: Manifest) -> Iterator[Told]:
    """Every mistake in a manifest whose form is right, each once."""
    seen = set()
    for told in _all(manifest):
        if told not in seen:
            seen.add(told)
            yield told


def _all(manifest: Manifest) -> Iterator[Told]:
    machines = resolve(manifest)
    yield from _sources(manifest)
    yield from _rates(manifest)
    yield from _maps(manifest)
    yield from _unique(manifest, machines)
    yield from _dependencies(machines)
    for one in machines:
        yield from _names(manifest, one)
        yield from _sizing(one)
        yield from _disks(one)
        for index, nic in enumerate(one.machine.nics):
            yield from _nic((*one.path, "nics", index), nic)
        for index, hook in enumerate(one.machine.hooks):
            yield from _hook((*one.where("hooks"), index), hook)
        yield from _window(one)
    yield from _addresses(machines)


def _sources(manifest: Manifest) -> Iterator[Told]:
    for name, source in manifest.sources.items():
        if source.type == "files" and source.at is None:
            yield ("sources", name), "a source of files has no folder", "say at: FOLDER"


def _rates(manifest: Manifest) -> Iterator[Told]:
    zone = manifest.defaults.zone
    places: list[tuple[Path, Bandwidth | None, str | None]] = [(("limits", "bandwidth"), manifest.limits.bandwidth, zone)]
    places += [(("sources", name, "bandwidth"), source.bandwidth, zone) for name, source in manifest.sources.items()]
    for w, wave in enumerate(manifest.waves):
        places.append((("waves", w, "limits", "bandwidth"), wave.limits.bandwidth, wave.zone or zone))
    for path, said, own in places:
        yield from (((*path, *below), text, remedy) for below, text, remedy in rates.wrong(said, own))


def _maps(manifest: Manifest) -> Iterator[Told]:
    both: tuple[tuple[str, tuple[NetworkMap | StorageMap, ...]], ...]
    both = (("networks", manifest.networks), ("storage", manifest.storage))
    for field, maps in both:
        seen: dict[tuple[str, str | None], int] = {}
        for index, one in enumerate(list[NetworkMap | StorageMap](maps)):
            if one.target is not None and one.target not in manifest.targets:
                yield (field, index, "target"), f'there is no target "{one.target}"', close(one.target, manifest.targets)
            first = seen.setdefault((one.source, one.target), index)
            if first != index:
                yield (field, index, "source"), f'"{one.source}" is mapped twice (first in {field}[{first}])', "remove one"


def _unique(manifest: Manifest, machines: Iterable[Resolved]) -> Iterator[Told]:
    waves: dict[str, int] = {}
    for index, wave in enumerate(manifest.waves):
        first = waves.setdefault(wave.name.casefold(), index)
        if first != index:
            yield ("waves", index, "name"), f'the wave "{wave.name}" is there twice (first as waves[{first}])', "rename one"
    ids: dict[str, Resolved] = {}
    for one in machines:
        other = ids.setdefault(one.id.casefold(), one)
        if other is not one:
            text = f'the id "{one.id}" is taken by a machine of wave {other.wave.name}'
            yield (*one.path, "id"), text, "give each machine an id of its own"


def _dependencies(machines: tuple[Resolved, ...]) -> Iterator[Told]:
    known = {one.id: one for one in machines}
    order = {name: index for index, name in enumerate(dict.fromkeys(one.wave.name for one in machines))}
    for one in machines:
        for index, id in enumerate(one.machine.depends_on):
            path = (*one.path, "dependsOn", index)
            other = known.get(id)
            if other is None:
                yield path, f'there is no machine "{id}"', close(id, known)
            elif order[other.wave.name] > order[one.wave.name]:
                text = f'"{id}" belongs to the later wave {other.wave.name}'
                yield path, text, "move one of them: a dependency comes in the same or an earlier wave"
            else:
                yield from _times(one, other, path)
    circle = cycle(one.machine for one in machines)
    if circle:
        path = known[circle[0]].path
        yield (*path, "dependsOn"), f"the dependencies go in a circle: {' -> '.join(circle)}", "take one of them out"


def _times(one: Resolved, other: Resolved, path: Path) -> Iterator[Told]:
    try:
        mine, theirs = one.span(), other.span()
    except (NoSuchTime, OSError):
        return  # told where the window stands
    if mine and theirs and mine.end <= theirs.start:
        yield path, f'the window ends before that of "{other.id}" begins', "correct the windows, or the dependency"


def _names(manifest: Manifest, one: Resolved) -> Iterator[Told]:
    machine = one.machine
    source = manifest.sources.get(machine.source.at)
    path = (*one.path, "source")
    if source is None:
        yield (*path, "at"), f'there is no source "{machine.source.at}"', close(machine.source.at, manifest.sources)
    elif source.type == "files":
        if not machine.source.files:
            yield path, "its disk files are not named", "say files: [NAME.vmdk, ...], in the machine's order"
        for index, name in enumerate(machine.source.files):
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                yield (*path, "files", index), f"{name} leaves the source's folder", "name a file below it"
    elif machine.source.files:
        yield (*path, "files"), f"a source of type {source.type} takes no files", "name the machine by name or uuid"
    if machine.target is None:
        yield one.path, "it has no target", "say target: NAME in it, its wave or the defaults"
    elif machine.target not in manifest.targets:
        yield one.where("target"), f'there is no target "{machine.target}"', close(machine.target, manifest.targets)


def _sizing(one: Resolved) -> Iterator[Told]:
    size, path = one.machine.size, one.where("size")
    if size is None:
        return
    if (size.type is None) == (size.right_sizing is None):
        yield path, "a size is either a type or a rightSizing", "say one of the two"
    if size.right_sizing == "used" and not (size.cpu_used and size.memory_used):
        yield path, "rightSizing: used needs what it uses", "say cpuUsed and memoryUsed, in percent"


def _disks(one: Resolved) -> Iterator[Told]:
    disks, path = one.machine.disks, (*one.path, "disks")
    seen: dict[str, int] = {}
    for index, disk in enumerate(disks):
        first = seen.setdefault(disk.id, index)
        if first != index:
            yield (*path, index, "id"), f'the disk "{disk.id}" is there twice (first as disks[{first}])', "remove one"
        if disk.boot and not disk.include:
            yield (*path, index, "include"), "the machine boots from this disk, and it is left behind", "include it"
        if disk.used and disk.size and disk.used > disk.size:
            yield (*path, index, "used"), "more is used than the disk holds", "correct one of them"
    if sum(bool(disk.boot) for disk in disks) > 1:
        yield path, "two disks are said to be the boot disk", "leave boot: true at one"
    if disks and not any(disk.include for disk in disks):
        yield path, "every disk is left behind", "include the boot disk at least"


def _nic(path: Path, nic: Nic) -> Iterator[Told]:
    network = None
    if nic.address not in ("keep", "dhcp"):
        try:
            network = ipaddress.ip_interface(nic.address).network
        except ValueError as error:
            yield (*path, "address"), f"this is no address: {error}", "write it like 10.0.0.5/24"
    elif nic.gateway or nic.dns:
        yield path, f"gateway and dns go with a given address, and this is {nic.address}", "give the address, or leave them out"
    for field, words in (("gateway", (nic.gateway,) if nic.gateway else ()), ("dns", nic.dns)):
        for index, word in enumerate(words):
            place = (*path, field) if field == "gateway" else (*path, field, index)
            try:
                address = ipaddress.ip_address(word)
            except ValueError:
                yield place, f"{word} is no address", "write it like 10.0.0.1"
                continue
            if field == "gateway" and network and "/" in nic.address and address not in network:
                yield place, f"{word} is not in {network}", "correct the gateway or the prefix length"


def _hook(path: Path, hook: Hook) -> Iterator[Told]:
    if (hook.before is None) == (hook.after is None):
        yield path, "a hook runs before or after a step", "say one of before and after"
    if hook.where == "guest":
        yield from _inside(path, hook)
    elif hook.user or hook.key:
        yield path, "user and key are for hooks inside the machine", "say where: guest, or leave them out"


def _inside(path: Path, hook: Hook) -> Iterator[Told]:
    for field, said in (("user", hook.user), ("key", hook.key)):
        if said is None:
            yield path, f"a hook inside the machine needs {field}", f"say {field}: who logs in by SSH, and with which key"
    if hook.user and not LOGIN.fullmatch(hook.user):
        yield (*path, "user"), "this is no name to log in with", "write letters, digits, dots, dashes and underscores"
    if hook.key and not hook.key.startswith("file:"):
        yield (*path, "key"), "SSH takes its key from a file", "write file:PATH"
    step = "before" if hook.before else "after"
    if (step, hook.before or hook.after) not in WITH_INSTANCE:
        text = f"{step} {hook.before or hook.after} there is no new machine to run it in"
        yield path, text, "run it after cutover, after validate or before finalize, or say where: converter"
    for name in hook.environment:
        if not VARIABLE.fullmatch(name):
            yield (*path, "environment", name), "no shell knows a variable of this name", "write letters, digits and underscores"


def _window(one: Resolved) -> Iterator[Told]:
    window = one.machine.window
    if window is None:
        return
    path = one.where("window")
    if one.zone is None:
        yield path, "the window has no time zone", "say zone: Europe/Berlin (or UTC) in it, the wave or the defaults"
        return
    try:
        whole = one.span()
    except NoSuchTime as error:
        yield path, str(error), "correct it"
        return
    assert whole
    try:
        dark_spans = list(dark(one.machine.blackout, one.zone, whole))
    except NoSuchTime as error:
        yield one.where("blackout"), str(error), "correct it"
        return
    if not free(whole, dark_spans):
        yield path, "the blackout covers the whole window", "move one of them"


def _addresses(machines: Iterable[Resolved]) -> Iterator[Told]:
    taken: dict[tuple[str | None, str], Resolved] = {}
    for one in machines:
        for index, nic in enumerate(one.machine.nics):
            if nic.address in ("keep", "dhcp"):
                continue
            other = taken.setdefault((one.machine.target, nic.address.partition("/")[0]), one)
            if other is not one:
                path = (*one.path, "nics", index, "address")
                yield path, f'the address is given to "{other.id}" too', "give each machine an address of its own"
