"""Conversions of real guests by the command line: a process of its own, watched from outside while it works."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

    from fixtures.build import BuiltGuest

ROOT = Path(__file__).resolve().parents[2]
MARK = "TEST_HOUSE"  # in the environment of every program that a house starts, and of those that these start
DATA = re.compile(r"\.qcow2$|/disk-\d+\.raw(\.|$)")  # files that hold a guest's own disks, its secrets included
LOOK_S = 0.25
UNDISTURBED = ("debian12-bios", "aws")  # what conversions that were cut off are compared with; kept for a whole session
EVERY_RUN = (UNDISTURBED, ("debian12-uefi-lvm", "gcp"), ("debian12-two-disks", "azure"))  # one per boot path; others are `full`

Event = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """A running program."""

    pid: int
    argv: str
    environment: str


class House:
    """A state, a work folder, a folder of instances and one for temporary files, and all programs that work with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.work, self.local, self.tmp, self.kept = (
            folder / name for name in ("state", "work", "local", "tmp", "kept")
        )
        for made in (self.tmp, self.kept):
            made.mkdir(parents=True)
        self.mark = secrets.token_hex(12)
        self.runs = 0

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "V2C_LOCAL": str(self.local), "TMPDIR": str(self.tmp), MARK: self.mark, **more}

    def command(self, *argv: str) -> list[str]:
        places = ["--state", str(self.state), "--workdir", str(self.work)]
        return [sys.executable, "-m", "v2c", *argv, *places]

    def run(self, *argv: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """A short command, to its end."""
        return subprocess.run(
            self.command(*argv),
            env=self.environment(**environment),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def programs(self) -> list[Seen]:
        """What runs for this house, children of children too: the environment is inherited."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().decode(errors="replace")
                if f"{MARK}={self.mark}" in environment:
                    argv = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(Seen(int(folder.name), argv, environment))
            except OSError:
                continue  # it ended while we looked, or is not ours
        return found

    def gone(self, patience: float = 10.0) -> list[Seen]:
        """What still runs after a moment of patience."""
        deadline = time.monotonic() + patience
        while (left := self.programs()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def scratch(self) -> int:
        """Bytes that the work folder and the temporary files hold."""
        return sum(_held(path) for top in (self.work, self.tmp) for path in _files(top))

    def temporary(self) -> list[str]:
        """Temporary files that were left."""
        return [str(path) for path in _files(self.tmp)]

    def keep_maps(self) -> None:
        """A second name for every block map, so that it can be read when the job has removed its own."""
        for path in self.work.glob("*/*.blocks"):
            with contextlib.suppress(OSError):
                (self.kept / path.name).hardlink_to(path)

    def leaks(self, canaries: Iterable[str]) -> list[str]:
        """Files that hold a canary, other than those that hold a guest's disks."""
        wanted = [canary.encode() for canary in canaries]
        found = []
        for path in _files(self.folder):
            if DATA.search(str(path)) or self.kept in path.parents:
                continue
            with contextlib.suppress(FileNotFoundError):
                text = path.read_bytes()
                found += [f"{path}: {canary.decode()}" for canary in wanted if canary in text]
        return found


class Watch:
    """A command under way: its events as they come, and what could be seen of it meanwhile."""

    def __init__(self, house: House, *argv: str, canaries: Iterable[str] = (), **environment: str) -> None:
        house.runs += 1
        self.house = house
        self.canaries = tuple(canaries)
        self.out, self.err = house.folder / f"out-{house.runs}", house.folder / f"err-{house.runs}"
        self.events: list[Event] = []
        self.scratch = 0
        self.leaks: set[str] = set()
        self.argvs: set[str] = set()
        self.began = time.monotonic()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                house.command(*argv), env=house.environment(**environment), cwd=ROOT, stdout=out, stderr=err
            )
        self._read = self.err.open(encoding="utf-8", errors="replace")
        self._rest = ""

    @property
    def words(self) -> str:
        """All it printed: what it is blamed with when a test fails."""
        plain = "\n".join(line for line in self.err.read_text(errors="replace").splitlines() if not line.startswith("{"))
        return f"{self.out.read_text(errors='replace')}\n{plain}"

    def until(self, wanted: Callable[[Event], bool]) -> bool:
        """Waits for an event; False when the command ended before."""
        while True:
            ended = self.process.poll() is not None  # asked first, so that its last words are read
            self._look()
            for event in self._new():
                self.events.append(event)
                if wanted(event):
                    return True
            if ended:
                self._read.close()
                return False
            time.sleep(LOOK_S)

    def finish(self) -> int:
        """Waits for the end; the exit code."""
        self.until(lambda event: False)
        return self.process.returncode

    def wait(self, seconds: float) -> None:
        """Looks on for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            self._look()
            self.events += self._new()
            time.sleep(LOOK_S)

    def kill(self) -> None:
        """kill -9 of the command itself; what it started has to notice."""
        self._look()
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._look()
        self.events += self._new()
        self._read.close()

    def _new(self) -> list[Event]:
        *lines, self._rest = (self._rest + self._read.read()).split("\n")
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _look(self) -> None:
        self.scratch = max(self.scratch, self.house.scratch())
        self.house.keep_maps()
        if self.canaries:
            self.leaks |= set(self.house.leaks(self.canaries))
            for program in self.house.programs():
                self.argvs.add(program.argv)
                self.leaks |= {f"argv of {program.argv}" for canary in self.canaries if canary in program.argv}
                self.leaks |= {f"environment of {program.argv}" for canary in self.canaries if canary in program.environment}


@dataclass
class Conversion:
    """A conversion that was not disturbed, and what was seen of it. `disks`: kept when the instance is cleaned up."""

    guest: "BuiltGuest"
    platform: str
    house: House
    code: int
    out: list[str]
    words: str
    events: list[Event]
    seconds: float
    scratch: int
    leaks: set[str]
    argvs: set[str]
    report: dict[str, Any]
    disks: tuple[Path, ...]
    sources: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def job(self) -> str:
        return str(self.report["job"])

    @property
    def home(self) -> Path:
        """The instance's folder."""
        return Path(self.report["image"]["id"])

    @property
    def folder(self) -> Path:
        """The job's folder."""
        return self.house.work / self.job

    def checks(self) -> dict[str, dict[str, str]]:
        return {check["id"]: check for check in self.report["checks"]}


def case(name: str, platform: str, *more: object) -> "ParameterSet":
    """A conversion as a test's parameter: tests of one conversion run in one process, which makes it once."""
    marks = [pytest.mark.xdist_group(f"{name}-{platform}")]
    marks += [] if (name, platform) in EVERY_RUN else [pytest.mark.full]
    return pytest.param((name, platform), *more, id=f"{name}-{platform}", marks=marks)


class Conversions:
    """conversions("debian12-bios", "aws"): each made once in a session."""

    def __init__(self, folder: Path, guests: "Callable[[str], BuiltGuest]") -> None:
        self._folder, self._guests = folder, guests
        self._made: dict[tuple[str, str], Conversion] = {}

    def __call__(self, name: str, platform: str) -> Conversion:
        if (name, platform) not in self._made:
            self._made[name, platform] = self._convert(name, platform)
        return self._made[name, platform]

    def before(self, name: str) -> str:
        """What the screen shows when the guest boots on the AWS shape as it stands, once the initramfs has given up."""
        from fixtures.boot import NO_ROOT, watch

        folder = self._folder / f"{name}-before"
        folder.mkdir()
        return watch(self._guests(name), "aws", NO_ROOT, folder, timeout=600)

    def drop(self, name: str, platform: str) -> None:
        """Removes the files of one that nobody needs any more; what was seen of it stays known."""
        shutil.rmtree(self._made[name, platform].house.folder, ignore_errors=True)

    def close(self) -> None:
        for name, platform in self._made:
            self.drop(name, platform)

    def _convert(self, name: str, platform: str) -> Conversion:
        guest = self._guests(name)
        house = House(self._folder / f"{name}-{platform}")
        sources = digests(guest.folder)
        watch = Watch(house, *convert(guest, platform), "--debug", canaries=guest.facts["secrets"])
        code = watch.finish()
        seconds = time.monotonic() - watch.began
        report = told(house)
        assert report is not None, watch.words
        made = Conversion(
            guest,
            platform,
            house,
            code,
            watch.out.read_text(encoding="utf-8").splitlines(),
            watch.words,
            watch.events,
            seconds,
            watch.scratch,
            watch.leaks,
            watch.argvs,
            report,
            (),
            sources,
        )
        made.disks = tuple(keep(disk, house.kept) for disk in disks(made.home))
        return made


def convert(guest: "BuiltGuest", platform: str) -> list[str]:
    """The words after `v2c`."""
    paths = [str(disk) for disk in guest.disks]
    return ["convert", *paths, "--to", f"local:{platform}", "--machine", str(guest.machine), "--progress", "json"]


def told(house: House) -> dict[str, Any] | None:
    """The report of the house's only job."""
    for path in house.work.glob("*/report.json"):
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    return None


def disks(home: Path) -> list[Path]:
    """The disks of an instance, in order."""
    return sorted(home.glob("disk-*.raw"))


def keep(path: Path, folder: Path) -> Path:
    """A second name for a file."""
    (folder / path.name).hardlink_to(path)
    return folder / path.name


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file of a folder: its digest and when it was written (ns)."""
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_mtime_ns
    return found


def _files(top: Path) -> Iterator[Path]:
    """Every file below, though some vanish meanwhile."""
    for folder, _, names in os.walk(top):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _held(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
