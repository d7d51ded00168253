"""The embedded target: an instance is a folder, and QEMU boots it on virtual hardware shaped like the named platform's.

`local:PLATFORM[?into=FOLDER]`. The folder lies under $V2C_LOCAL, else $XDG_DATA_HOME/v2c/local, as MACHINE-JOB:

    disk-0.raw ...   the disks as converted (sparse); a boot test writes to a throw-away layer and leaves them alone
    vars.fd          the UEFI variables (UEFI machines)
    instance.json    the tag that says whose it is, and the launch description
    start            starts the machine for good, from its disks; the network is off until the script is edited
    console.log      what the last boot test printed, and screenshot.png, what its screen showed

A running instance lives in this process (rehearsal.machine): a kill ends it, and `launch` starts it anew.
"""

import contextlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from v2c import consoles, platforms
from v2c.errors import TargetError, ToolError, UsageError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import GIB, MIB, Caps, Disk, Finding, Firmware, Level, Observation, Placement, Plan, Ref
from v2c.rehearsal import script
from v2c.rehearsal.firmware import uefi
from v2c.rehearsal.machine import BootDisk, VirtualMachine
from v2c.rehearsal.shape import BootSpec, bounded, shape_of
from v2c.state import own_folder
from v2c.targets import Call, Target, TargetFeatures, Tell, shadow
from v2c.targets.writers import CHUNK, RawWriter, leftovers
from v2c.targets.writers.part import writing
from v2c.targets.writers.raw import blocks_of
from v2c.transfer import DiskWriter

TAG = "instance.json"
_TAGGED = "v2c-job"
_OURS = ("vars.fd", "start", "metadata.py", "metadata.json", "console.log", "screenshot.png")
ROOM = 2 * GIB  # what a boot test's throw-away layer may need beside the disks
POWER_DOWN_S = 20.0
PICTURE_S = 3.0  # between screenshots


@dataclass
class _Running:
    machine: VirtualMachine
    pictured: float = 0.0


_running: dict[Path, _Running] = {}
_lock = threading.RLock()


def open_target(rest: str) -> "LocalTarget":
    """The target for "PLATFORM[?into=FOLDER]"."""
    name, _, query = rest.partition("?")
    options = dict(parse_qsl(query))
    bootable = sorted(known.name for known in platforms.platforms().values() if known.boot)
    if name not in bootable or set(options) - {"into"}:
        raise UsageError(f'"local:{rest}" is not understood', remedy=f"write local: and one of {', '.join(bootable)}")
    return LocalTarget(name, Path(options["into"]).absolute() if "into" in options else default_folder())


def default_folder() -> Path:
    """$V2C_LOCAL, else $XDG_DATA_HOME/v2c/local, else ~/.local/share/v2c/local."""
    named = os.environ.get("V2C_LOCAL", "")
    if named:
        return Path(named).absolute()
    return own_folder("XDG_DATA_HOME", ".local/share") / "local"


class LocalTarget:
    """Instances of one platform's shape in one folder."""

    def __init__(self, platform: str, folder: Path) -> None:
        self.platform, self.folder = platform, folder
        self.features = TargetFeatures(
            chunk=CHUNK,
            parallel=2,
            size_unit=platforms.platform(platform).limits.size_unit,
            rehearse=False,
            readable=True,
            cutover=False,
            dry=True,
        )

    # ---- before a byte moves -----------------------------------------------------------------------------------------------

    def size(self, plan: Plan) -> Plan:
        return plan

    def check(self, plan: Plan) -> Iterator[Finding]:
        """Is there hardware for the machine, are QEMU and its firmware installed, is the folder ours, is there room."""
        firmware = plan.machine.firmware or plan.needs.firmware
        yield from self._hardware(plan, firmware)
        home = self.home(plan)
        tag = _read(home)
        if tag is not None and tag.get(_TAGGED) != plan.job:
            text = f"the instance folder belongs to job {tag.get(_TAGGED, '?')}"
            yield _blocker("local.exists", home, text, "clean that job up, or choose another folder with ?into=")
        elif tag is None and home.exists() and any(home.iterdir()):
            text = "the instance folder holds files that are not ours"
            yield _blocker("local.exists", home, text, "move them away, or choose another folder with ?into=")
        there = next(folder for folder in (home, *home.parents) if folder.is_dir())
        if not os.access(there, os.W_OK | os.X_OK):
            yield _blocker("local.folder", there, "the folder cannot be written to", "choose another one with ?into=")
            return
        free = shutil.disk_usage(there).free + sum(_held(home / _name(n)) for n in range(len(plan.disks)))
        if plan.data_bytes + ROOM > free:
            sure = all(disk.allocated for disk in plan.machine.disks)
            text = f"disks and boot may fill {(plan.data_bytes + ROOM) // MIB} MiB, and {free // MIB} MiB are free"
            level = Level.BLOCKER if sure else Level.WARNING
            yield Finding("local.space", level, str(there), text, "make room, or choose another folder with ?into=")

    def _hardware(self, plan: Plan, firmware: Firmware) -> Iterator[Finding]:
        try:
            _, shape = shape_of(platforms.platform(self.platform), firmware)
            if shape.drive.max_disks and len(plan.disks) > shape.drive.max_disks:
                text = f"the virtual hardware holds {shape.drive.max_disks} disks, and the machine has {len(plan.disks)}"
                yield _blocker("local.disks", plan.machine.name, text, "choose local:kvm for the boot test")
            if firmware is Firmware.UEFI:
                uefi()
            if shutil.which("qemu-system-x86_64") is None:
                raise ToolError("qemu-system-x86_64 is not installed", remedy="apt install qemu-system-x86")
        except (TargetError, ToolError) as error:
            yield _blocker("local.hardware", plan.machine.name, error.text, error.remedy)

    def home(self, plan: Plan) -> Path:
        """The instance's folder."""
        return self.folder / f"{_safe(plan.machine.name)}-{plan.job[:8]}"

    def reserve(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        """Takes the folder, by making it with the tag."""
        home = self.home(plan)
        ref = Ref.of("folder", str(home), job=journal.job)
        tag = _read(home)
        if tag is not None and tag.get(_TAGGED) != journal.job:
            raise TargetError(f"{home} belongs to job {tag.get(_TAGGED, '?')}", remedy="choose another folder with ?into=")
        if tag is None or ref not in journal.refs("folder"):
            with journal.intent("folder", str(home), {_TAGGED: journal.job}) as intent:
                if tag is None:
                    with writing(home):
                        home.mkdir(mode=0o700, parents=True, exist_ok=True)
                        home.chmod(0o700)
                    _write(home, self._description(plan, journal.job))
                intent.done(ref)
        yield ref

    # ---- the disks ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> Iterator[DiskWriter]:
        home = self.home(plan)
        tag = _read(home)
        if tag is None or tag.get(_TAGGED) != journal.job:
            raise TargetError(f"{home} is not reserved for this job", remedy="run the command again from its beginning")
        number, planned = next((n, p) for n, p in enumerate(plan.disks) if p.disk == disk.id)
        path = home / _name(number)
        ref = Ref.of("disk", str(path), job=journal.job, disk=disk.id, size=str(planned.target_size))
        if ref not in journal.refs("disk"):
            with journal.intent("disk", str(path), {_TAGGED: journal.job}) as intent:
                intent.done(ref)  # the tag lists the file already, so clean-up finds it whether it was begun or not
        with RawWriter(path, planned.target_size, ref) as writer:
            yield writer

    def read(self, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        yield from blocks_of(Path(disk.id), indexes)

    def register(self, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
        """Writes the launch description, the firmware's variables and the script that starts it. Twice is harmless."""
        home = self.home(plan)
        for disk in disks:
            if not Path(disk.id).exists():
                raise TargetError(f"{disk.id} is gone", remedy="run the command again with --again")
        ref = Ref.of("image", str(home), job=journal.job)
        with journal.intent("image", str(home), {_TAGGED: journal.job}) as intent, writing(home):
            tag = {**(_read(home) or {}), **self._description(plan, journal.job)}
            tag |= {"complete": True, "firmware": caps.firmware.value, "boot_disk": caps.boot_disk}
            if caps.firmware is Firmware.UEFI and not (home / "vars.fd").exists():
                shutil.copyfile(uefi().variables, home / "vars.fd")
            spec = _spec(tag)
            names = tuple((entry["disk"], entry["file"]) for entry in tag["disks"])
            for name, text in script.files(spec, names).items():
                (home / name).write_text(text, encoding="utf-8")
            (home / "start").chmod(0o700)
            _write(home, tag)
            intent.done(ref)
        return ref

    # ---- the instance ------------------------------------------------------------------------------------------------------

    def launch(self, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Ref:
        """Boots the disks under a throw-away layer; an instance that runs in this process already is adopted."""
        home = Path(image.id)
        tag = _read(home)
        if tag is None or not tag.get("complete") or tag.get(_TAGGED) != journal.job:
            raise TargetError(f"the instance in {home} is gone", remedy="run the command again with --again")
        ref = Ref.of("instance", str(home), job=journal.job)
        with _lock:
            if home in _running and _running[home].machine.alive and ref in journal.refs("instance"):
                return ref
            with journal.intent("instance", str(home), {_TAGGED: journal.job}) as intent, meter.phase("start"):
                _write(home, {**tag, "launched": True})
                if home not in _running or not _running[home].machine.alive:
                    self._start(home, tag, placement)
                intent.done(ref)
        return ref

    def _start(self, home: Path, tag: dict[str, Any], placement: Placement) -> None:
        spec = bounded(_spec(tag, isolated=placement.isolated))
        disks = [BootDisk(entry["disk"], entry["size"], home / entry["file"]) for entry in tag["disks"]]
        variables = home / "vars.fd" if spec.firmware is Firmware.UEFI else None
        (home / "screenshot.png").unlink(missing_ok=True)
        machine = VirtualMachine(spec, disks, home, console=home / "console.log", variables=variables)
        machine.start()
        _running[home] = _Running(machine)

    def observe(self, instance: Ref) -> Observation:
        home = Path(instance.id)
        picture = home / "screenshot.png"
        with _lock:
            running = _running.get(home)
            if running is None:
                return _past(home)
            machine = running.machine
            alive = machine.alive  # asked first: what it printed before it ended is then in the console
            if alive and time.monotonic() - running.pictured > PICTURE_S:
                machine.screenshot(picture)
                running.pictured = time.monotonic()
            return Observation(
                "running" if alive else "off",
                alive,
                console=machine.console(),
                screenshot=str(picture) if picture.exists() else "",
                requests=machine.requests(),
            )

    def stop(self, instance: Ref, journal: Journal) -> None:
        """Presses the power button, waits a while, and ends it. A boot that failed hears no button."""
        home = Path(instance.id)
        with _lock:
            running = _running.pop(home, None)
        if running is None:
            return
        machine = running.machine
        machine.screenshot(home / "screenshot.png")
        trouble = consoles.recognise(machine.console())
        if machine.alive and not (trouble and trouble.final):
            machine.power_down(POWER_DOWN_S)
        machine.close()

    def finalize(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        yield from ()  # the folder is the instance

    # ---- adoption and clean-up ---------------------------------------------------------------------------------------------

    def find(self, job: str) -> Iterator[Ref]:
        for file in sorted(self.folder.glob(f"*/{TAG}")):
            home = file.parent
            tag = _read(home)
            if tag is None or tag.get(_TAGGED) != job:
                continue
            yield Ref.of("folder", str(home), job=job)
            for entry in tag["disks"]:
                path = home / entry["file"]
                if path.exists() or any(leftover.exists() for leftover in leftovers(path)):
                    yield Ref.of("disk", str(path), job=job, disk=entry["disk"], size=str(entry["size"]))
            if tag.get("complete"):
                yield Ref.of("image", str(home), job=job)
            if tag.get("launched"):
                yield Ref.of("instance", str(home), job=job)

    def destroy(self, ref: Ref) -> None:
        path = Path(ref.id)
        home = path.parent if ref.kind == "disk" else path
        tag = _read(home)
        if tag is None and not path.exists():
            return
        if tag is None or tag.get(_TAGGED) != ref.get("job") or home.parent != self.folder:
            raise TargetError(f"{home} carries no tag of job {ref.get('job')}, so it is left alone")
        files = [home / entry["file"] for entry in tag["disks"]]
        with writing(home):
            if ref.kind == "disk":
                if path in files:
                    _remove(path)
                return
            self._end(home)
            if ref.kind == "instance":
                _write(home, {key: value for key, value in tag.items() if key != "launched"})
                return
            if ref.kind == "image":
                _write(home, {key: value for key, value in tag.items() if key != "complete"})
                return
            for file in (*files, *(home / name for name in _OURS)):
                _remove(file)
            (home / f"{TAG}.new").unlink(missing_ok=True)
            (home / TAG).unlink()
            with contextlib.suppress(OSError):  # somebody else put something there
                home.rmdir()

    def dry(self, tell: Tell) -> Target:
        scratch = shadow.Scratch(self.folder, (file for tag in self.folder.glob(f"*/{TAG}") for file in tag.parent.iterdir()))

        class Dry(LocalTarget):
            def _start(self, home: Path, tag: dict[str, Any], placement: Placement) -> None:
                tell(Call("start", "qemu-system-x86_64", detail=f"boots {scratch.real / home.name}"))

        return shadow.Shadow(self, Dry(self.platform, scratch.path), scratch, tell)

    @staticmethod
    def _end(home: Path) -> None:
        with _lock:
            running = _running.pop(home, None)
        if running:
            running.machine.close()

    def _description(self, plan: Plan, job: str) -> dict[str, Any]:
        disks = [{"disk": p.disk, "file": _name(n), "size": p.target_size} for n, p in enumerate(plan.disks)]
        return {
            "v2c": 1,
            _TAGGED: job,
            "machine": plan.machine.name,
            "platform": self.platform,
            "memory_mib": plan.machine.memory_mib,
            "vcpus": plan.machine.vcpus,
            "nics": max(1, len(plan.machine.nics)),
            "disks": disks,
        }


def _spec(tag: dict[str, Any], *, isolated: bool = True) -> BootSpec:
    return BootSpec(
        platform=tag["platform"],
        firmware=Firmware(tag["firmware"]),
        seed=tag[_TAGGED],
        name=_safe(tag["machine"]),
        memory_mib=tag["memory_mib"],
        vcpus=tag["vcpus"],
        nics=tag["nics"],
        boot_disk=tag["boot_disk"],
        isolated=isolated,
    )


def _past(home: Path) -> Observation:
    """What is left of an instance that does not run here."""
    log, picture = home / "console.log", home / "screenshot.png"
    console = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return Observation(
        "stopped" if _read(home) else "gone", alive=False, console=console, screenshot=str(picture) if picture.exists() else ""
    )


def _name(number: int) -> str:
    return f"disk-{number}.raw"


def _safe(name: str) -> str:
    """A name that is one plain path segment, whatever the machine is called."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip(".-")[:80] or "machine"


def _read(home: Path) -> dict[str, Any] | None:
    try:
        tag = json.loads((home / TAG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tag if isinstance(tag, dict) and _TAGGED in tag else None


def _write(home: Path, tag: dict[str, Any]) -> None:
    with writing(home):
        new = home / f"{TAG}.new"
        new.write_text(json.dumps(tag, indent=2) + "\n", encoding="utf-8")
        new.replace(home / TAG)


def _remove(path: Path) -> None:
    for file in (*leftovers(path), path):
        file.unlink(missing_ok=True)


def _held(path: Path) -> int:
    return path.stat().st_blocks * 512 if path.exists() else 0


def _blocker(id: str, subject: object, text: str, remedy: str) -> Finding:
    return Finding(id, Level.BLOCKER, str(subject), text, remedy)
