"""Disk files: what clouds and hypervisors import, and what other tools go on with. Nothing is launched.

`file:PATH` where the suffix says the format; several disks become PATH-0, PATH-1, ... `file:FOLDER/` takes each machine's disks
under their own names. `?format=vhd-dynamic` and `?platform=aws` say what the suffix does not: whose drivers the machine gets.
Beside the disks lies `NAME.v2c.json`: the tag that says whose they are, and in the end what they hold.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from v2c import platforms
from v2c.errors import TargetError, UsageError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import GIB, MIB, Caps, Disk, Finding, Level, Observation, Placement, Plan, Ref
from v2c.targets import Target, TargetFeatures, Tell, shadow
from v2c.targets.writers import CHUNK, FORMATS, Format, RawWriter, leftovers, part
from v2c.targets.writers.part import writing
from v2c.transfer import DiskWriter

_TAG = ".v2c.json"
_TAGGED = "v2c-job"


def open_target(rest: str) -> "FileTarget":
    """The target for "PATH[?format=NAME&platform=NAME]"."""
    name, _, query = rest.partition("?")
    options = dict(parse_qsl(query))
    if not name or set(options) - {"format", "platform"}:
        raise UsageError(f'"file:{rest}" is not understood', remedy="write file:PATH, with ?format= or ?platform= behind it")
    path = Path(name)
    folder = name.endswith("/") or path.is_dir()
    format = _format(path.name, options.get("format", ""), folder)
    platform = platforms.platform(options.get("platform", format.platform)).name
    return FileTarget(path.absolute(), format, platform, folder=folder)


def _format(name: str, wanted: str, folder: bool) -> Format:
    for format in FORMATS:
        if format.name == wanted or (not wanted and not folder and name.lower().endswith(format.suffixes or ("/",))):
            return format
    if folder and not wanted:
        return FORMATS[0]
    known = ", ".join(format.name for format in FORMATS)
    what = f'there is no disk format "{wanted}"' if wanted else f'the name "{name}" does not say the disk format'
    raise UsageError(what, remedy=f"end it in a suffix, or add ?format= and one of {known}")


class FileTarget:
    """Files of one format in one folder."""

    def __init__(self, path: Path, format: Format, platform: str, *, folder: bool) -> None:
        self.path, self.format, self.platform, self.folder = path, format, platform, folder
        self.features = TargetFeatures(
            chunk=CHUNK,
            parallel=format.parallel,
            sequential=format.sequential,
            rewritable=format.rewritable,
            launches=False,
            cutover=False,
            size_unit=format.size_unit,
            rehearse=False,
            dry=True,
        )

    # ---- before a byte moves -----------------------------------------------------------------------------------------------

    def size(self, plan: Plan) -> Plan:
        return plan

    def check(self, plan: Plan) -> Iterator[Finding]:
        """Is the folder there and ours to write, is the name free, is there room; can the format hold the disks."""
        home = self._home()
        there = home.parent if self.folder and not home.exists() else home
        if not there.is_dir():
            yield _blocker("file.folder", there, f"the folder {there} does not exist", f"make it: mkdir -p {there}")
            return
        if not os.access(there, os.W_OK | os.X_OK):
            yield _blocker("file.folder", there, f"the folder {there} cannot be written to", "choose another one, or its owner")
            return
        tag = self._read(self.manifest(plan))
        ours = tag is not None and tag.get(_TAGGED) == plan.job
        if tag is not None and not ours:
            text = f"{self.manifest(plan).name} says that the files belong to job {tag.get(_TAGGED, '?')}"
            yield _blocker("file.exists", self.manifest(plan), text, "choose another name, or clean up that job")
        for path in self.files(plan):
            if not ours and (path.exists() or path.is_symlink() or part(path).exists()):
                yield _blocker("file.exists", path, f"{path} exists already", "remove it or choose another name")
        yield from self._room(plan, there)
        for disk in plan.disks:
            if self.format.most and disk.target_size > self.format.most:
                most = f"{self.format.name} holds at most {self.format.most // GIB} GiB"
                text = f"the disk has {disk.target_size / GIB:.0f} GiB, and {most}"
                yield Finding("file.size", Level.BLOCKER, disk.disk, text, "choose raw or qcow2")

    def _room(self, plan: Plan, there: Path) -> Iterator[Finding]:
        """Data is what fills a file; a compressed one may need less, and nobody knows how much."""
        held = sum(_held(path) for path in self.files(plan))
        free = shutil.disk_usage(there).free + held
        known = all(disk.allocated for disk in plan.machine.disks)
        if plan.data_bytes > free:
            sure = known and not self.format.sequential
            text = f"the disks may fill {plan.data_bytes / MIB:.0f} MiB, and {there} has {free / MIB:.0f} MiB free"
            yield Finding(
                "file.space", Level.BLOCKER if sure else Level.WARNING, str(there), text, "make room or choose another folder"
            )

    def reserve(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        """Takes the names, by writing the tag."""
        manifest = self.manifest(plan)
        ref = Ref.of("names", str(manifest), job=journal.job)
        tag = self._read(manifest)
        if tag is not None and tag.get(_TAGGED) != journal.job:
            raise TargetError(
                f"{manifest} belongs to job {tag.get(_TAGGED, '?')}", remedy="choose another name, or clean up that job"
            )
        if tag is None and (taken := next((path for path in self.files(plan) if path.exists()), None)):
            raise TargetError(f"{taken} exists already", remedy="remove it or choose another name")
        if tag is None or ref not in journal.refs("names"):
            with journal.intent("names", str(manifest), {_TAGGED: journal.job}) as intent:
                if tag is None:
                    made = self.folder and not self.path.exists()
                    if made:
                        with writing(self.path):
                            self.path.mkdir()
                    self._write(manifest, self._tag(plan, journal.job) | ({"made_folder": True} if made else {}))
                intent.done(ref)
        yield ref

    # ---- the disks ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def writer(self, plan: Plan, disk: Disk, base: Ref | None, journal: Journal) -> Iterator[DiskWriter]:
        path = dict(zip((planned.disk for planned in plan.disks), self.files(plan), strict=True))[disk.id]
        size = next(planned.target_size for planned in plan.disks if planned.disk == disk.id)
        tag = self._read(self.manifest(plan))
        if tag is None or tag.get(_TAGGED) != journal.job:
            raise TargetError(f"the name {path} is not taken for this job", remedy="run the command again from its beginning")
        ref = Ref.of("disk", str(path), job=journal.job, disk=disk.id, format=self.format.name, size=str(size))
        if ref not in journal.refs("disk"):
            with journal.intent("disk", str(path), {_TAGGED: journal.job}) as intent:
                intent.done(ref)  # the tag lists the file already, so clean-up finds it whether it was begun or not
        with self.format.open(path, size, ref) as writer:
            yield writer

    def read(self, plan: Plan, disk: Ref, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        raise TargetError("files of these formats are not read back", remedy="compare them with qemu-img compare")

    def register(self, plan: Plan, disks: Sequence[Ref], caps: Caps, journal: Journal) -> Ref:
        """Writes into the tag what the files hold. Twice is harmless."""
        manifest = self.manifest(plan)
        for disk in disks:
            if not Path(disk.id).exists():
                raise TargetError(f"{disk.id} is gone", remedy="run the command again with --again")
        ref = Ref.of("image", str(manifest), job=journal.job)
        with journal.intent("image", str(manifest), {_TAGGED: journal.job}) as intent:
            tag = (self._read(manifest) or {}) | self._tag(plan, journal.job)
            tag |= {"complete": True, "firmware": caps.firmware.value, "boot_disk": caps.boot_disk}
            for entry, disk in zip(tag["disks"], disks, strict=True):
                entry |= {"bytes": Path(disk.id).stat().st_size, **({"digest": disk["digest"]} if disk.get("digest") else {})}
            self._write(manifest, tag)
            intent.done(ref)
        return ref

    # ---- instances: there are none -----------------------------------------------------------------------------------------

    def launch(self, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Ref:
        raise TargetError("files are not launched", remedy="choose local: to boot the machine here")

    def observe(self, instance: Ref) -> Observation:
        return Observation("file", alive=False)

    def stop(self, instance: Ref, journal: Journal) -> None:
        """Nothing runs."""

    def finalize(self, plan: Plan, journal: Journal) -> Iterator[Ref]:
        yield from ()  # the tag stays with the files it speaks of

    # ---- adoption and clean-up ---------------------------------------------------------------------------------------------

    def find(self, job: str) -> Iterator[Ref]:
        for manifest in self._manifests():
            tag = self._read(manifest)
            if tag is None or tag.get(_TAGGED) != job:
                continue
            yield Ref.of("names", str(manifest), job=job)
            for entry in tag["disks"]:
                path = manifest.parent / entry["file"]
                if path.exists() or any(leftover.exists() for leftover in leftovers(path)):
                    yield Ref.of("disk", str(path), job=job, disk=entry["disk"], format=entry["format"], size=str(entry["size"]))
            if tag.get("complete"):
                yield Ref.of("image", str(manifest), job=job)

    def destroy(self, ref: Ref) -> None:
        """Removes a disk, or says that the files are no image any more, or removes the tag and all that it still lists."""
        path = Path(ref.id)
        if ref.kind == "disk":
            if path.exists() or any(leftover.exists() for leftover in leftovers(path)):
                self._owner(ref, path)
                self._remove(path)
            return
        tag = self._read(path)
        if tag is None:
            return
        if path not in self._manifests() or tag.get(_TAGGED) != ref.get("job"):
            raise TargetError(f"{path} is not of job {ref.get('job')}, so it is left alone")
        if ref.kind == "image":
            self._write(path, {key: value for key, value in tag.items() if key != "complete"})
            return
        for entry in tag["disks"]:
            self._remove(path.parent / entry["file"])
        with writing(path):
            path.with_name(path.name + ".new").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        if tag.get("made_folder"):
            with suppress(OSError):  # somebody else put something there
                path.parent.rmdir()

    def _owner(self, ref: Ref, path: Path) -> None:
        """Raises unless a tag of the ref's job lists the file."""
        for manifest in self._manifests():
            tag = self._read(manifest)
            if tag and tag.get(_TAGGED) == ref.get("job") and path in [manifest.parent / e["file"] for e in tag["disks"]]:
                return
        raise TargetError(
            f"no tag of job {ref.get('job')} lists {path}, so it is left alone", remedy="remove it by hand if it is yours"
        )

    @staticmethod
    def _remove(path: Path) -> None:
        with writing(path):
            for file in (*leftovers(path), path):
                file.unlink(missing_ok=True)

    def dry(self, tell: Tell) -> Target:
        tags = self._manifests()
        listed = [tag.parent / entry["file"] for tag in tags for entry in (self._read(tag) or {"disks": []})["disks"]]
        copied = [*tags, *listed, *(leftover for file in listed for leftover in leftovers(file))]
        above = self.path.parent
        scratch = shadow.Scratch(above, copied)
        if self.folder and self.path.exists():
            (scratch.path / self.path.name).mkdir(exist_ok=True)
        plain = replace(self.format, open=RawWriter)  # no disk is really written, so its format is none
        inner = FileTarget(scratch.path / self.path.name, plain, self.platform, folder=self.folder)
        return shadow.Shadow(self, inner, scratch, tell)

    # ---- names and the tag -------------------------------------------------------------------------------------------------

    def files(self, plan: Plan) -> tuple[Path, ...]:
        """The file of each disk of the plan, in its order."""
        suffix = next((s for s in self.format.suffixes if self.path.name.lower().endswith(s)), "")
        if self.folder:
            ending = (self.format.suffixes or (".vhd",))[0]
            return tuple(self.path / f"{_safe(disk.name)}{ending}" for disk in plan.disks)
        if len(plan.disks) == 1:
            return (self.path,)
        stem = self.path.name[: len(self.path.name) - len(suffix)]
        ending = self.path.name[len(stem) :]
        return tuple(self.path.with_name(f"{stem}-{number}{ending}") for number in range(len(plan.disks)))

    def manifest(self, plan: Plan) -> Path:
        """The tag beside the files of the plan."""
        return self.path / f"{_safe(plan.machine.name)}{_TAG}" if self.folder else self.path.with_name(self.path.name + _TAG)

    def _home(self) -> Path:
        return self.path if self.folder else self.path.parent

    def _manifests(self) -> list[Path]:
        return sorted(self.path.glob(f"*{_TAG}")) if self.folder else [self.path.with_name(self.path.name + _TAG)]

    def _tag(self, plan: Plan, job: str) -> dict[str, Any]:
        disks = [
            {"disk": disk.disk, "file": path.name, "format": self.format.name, "size": disk.target_size}
            for disk, path in zip(plan.disks, self.files(plan), strict=True)
        ]
        return {"v2c": 1, _TAGGED: job, "machine": plan.machine.name, "platform": self.platform, "disks": disks}

    @staticmethod
    def _read(manifest: Path) -> dict[str, Any] | None:
        """The tag; None when there is none. A file that is no tag of ours carries no job."""
        try:
            found: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
            named = [entry["file"] == Path(entry["file"]).name for entry in found["disks"]]
            return found if found["v2c"] == 1 and all(named) else {"disks": []}
        except FileNotFoundError:
            return None
        except (ValueError, OSError, KeyError, TypeError):
            return {"disks": []}

    @staticmethod
    def _write(manifest: Path, tag: dict[str, Any]) -> None:
        new = manifest.with_name(manifest.name + ".new")
        with writing(manifest):
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(tag, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(manifest)


def _blocker(id: str, path: Path, text: str, remedy: str) -> Finding:
    return Finding(id, Level.BLOCKER, str(path), text, remedy)


def _held(path: Path) -> int:
    """Bytes that the file of an earlier attempt fills already."""
    return sum(file.stat().st_blocks * 512 for file in (path, *leftovers(path)) if file.exists())


def _safe(name: str) -> str:
    """A machine's name, which is hostile, as the name of a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-") or "machine"
