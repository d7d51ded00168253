"""A command that moves a "machine" with the real engine, journal and jobs, and can be killed anywhere.

    walker.py STATE WORK WORLD [SLOW [NAME]]      moves NAME, with SLOW seconds per block; WORLD/result is what came of it
    walker.py --serve [MODULE...]                 does so for each line of stdin, in a process forked for it; a command
                                                  that begins with "v2c" is the product's own command line. The modules
                                                  are imported before the forks.

WORLD is what lies outside: a folder where things are made, each carrying the job as its tag, and where every making and
every step is written down, so that a test can count. While it holds a file `stay`, the copy stays at the block of that
number. `--serve` spares each process the second that the imports cost; it is as real a process as any, and is killed as one.
"""

import faulthandler
import json
import os
import sys
import time
import traceback
import uuid
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import dbos  # noqa: F401 - before the forks

from v2c import crashpoints
from v2c.engine import Steps, story
from v2c.errors import Paused
from v2c.events import Meter
from v2c.jobs import Jobs, job_id
from v2c.journal import Journal
from v2c.model import Ref
from v2c.processes import Process

BLOCKS = 12
BLOCK = 512
STUCK_S = 600  # a process of the server that takes longer shows its threads and ends; a busy machine takes 90 s for a wave


@dataclass(frozen=True, slots=True)
class Request:
    world: str
    work: str
    slow: float = 0.0


@dataclass(frozen=True, slots=True)
class Moved:
    image: str
    digest: str
    steps: tuple[str, ...]


def log(world: Path, text: str) -> None:
    with (world / "log").open("a") as file:
        file.write(f"{text}\n")


def make(world: Path, journal: Journal, kind: str) -> Ref:
    """A backend's way: announce it, adopt what an earlier try left, else make it."""
    with journal.intent(kind, kind, {"v2c-job": journal.job}) as intent:
        for thing in sorted(world.glob(f"{kind}-*")):
            if thing.read_text() == journal.job:
                return intent.done(Ref.of(kind, thing.name))
        name = f"{kind}-{uuid.uuid4().hex}"
        part = world / f".{name}"
        part.write_text(journal.job)
        part.rename(world / name)  # a thing appears with its tag or not at all
        log(world, f"made {kind}")
        return intent.done(Ref.of(kind, name))


def copy(world: Path, slow: float, meter: Meter) -> str:
    """Writes blocks, going on after those that are there; a child process runs meanwhile."""
    log(world, "step copy")
    child = Process(["sleep", "600"])
    (world / "pids").open("a").write(f"{child.pid}\n")
    disk = world / "disk"
    with disk.open("ab") as file, meter.phase("copy", BLOCKS * BLOCK):
        for index in range(disk.stat().st_size // BLOCK, BLOCKS):
            file.write(bytes([index]) * BLOCK)
            file.flush()
            log(world, f"block {index}")
            meter.moved(BLOCK)
            time.sleep(slow)
            while _stays(world, index + 1) and not meter.cancelled():
                time.sleep(0.02)
            if meter.cancelled():
                raise Paused("stopped between two blocks")
    child.kill()
    return sha256(disk.read_bytes()).hexdigest()


def _stays(world: Path, count: int) -> bool:
    try:
        return count >= int((world / "stay").read_text())
    except FileNotFoundError:
        return False


@story("crash-walk")
def walk(steps: Steps, request: Request, journal: Journal) -> Moved:
    world, work = Path(request.world), Path(request.work)

    def scratch(_: Meter) -> str:
        log(world, "step scratch")
        part = work / f"scratch.{uuid.uuid4().hex}.part"
        for stale in work.glob("scratch.*.part"):
            stale.unlink()
        part.write_text("scratch")
        part.rename(work / "scratch")
        return "scratch"

    def clean(_: Meter) -> int:
        log(world, "step clean")
        (work / "scratch").unlink(missing_ok=True)
        return 0

    def reserve(_: Meter) -> Ref:
        log(world, "step reserve")
        journal.note("reserved", "yes")
        return make(world, journal, "hold")

    def register(_: Meter) -> Ref:
        log(world, "step register")
        return make(world, journal, "image")

    def release(_: Meter) -> int:
        log(world, "step release")
        for ref in journal.refs("hold"):
            (world / ref.id).unlink(missing_ok=True)
            journal.undone(ref)
        return 0

    steps("scratch", scratch, returns=str)
    steps("reserve", reserve, returns=Ref)
    digest = steps("copy", lambda meter: copy(world, request.slow, meter), returns=str)
    image = steps("register", register, returns=Ref)
    steps("release", release, returns=int)
    steps("clean", clean, returns=int)
    return Moved(image.kind, digest, tuple(record.name for record in steps.records()))


def main(state: str, work: str, world: str, slow: str = "0", name: str = "x") -> None:
    Path(world).mkdir(exist_ok=True)
    with Jobs(state, Path(work)).claim(job_id([f"crash:{name}"], "crash:y")) as job:
        job.began([f"crash:{name}"], "crash:y", "fingerprint")
        with job.engine() as engine:
            moved = engine.run(job.id, walk, Request(world, str(job.folder), float(slow)))
    (Path(world) / "result").write_text(json.dumps([moved.image, moved.digest, moved.steps]))


def serve() -> None:
    """Each line of stdin: {"at": N, "log": FILE, "argv": [STATE, WORK, WORLD]}; each line of stdout: how it ended."""
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            code = 1
            faulthandler.dump_traceback_later(STUCK_S, exit=True)
            try:
                crashpoints.arm(asked["at"], asked["log"])
                if asked["argv"][0] == "v2c":
                    os.environ.update(asked["env"])
                    for name, descriptor in (("out", 1), ("err", 2)):
                        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
                    from v2c.cli import main as v2c

                    sys.argv = asked["argv"]
                    v2c()
                main(*asked["argv"])
                code = 0
            except SystemExit as leaving:
                code = int(leaving.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{ended}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        for module in sys.argv[2:]:
            import_module(module)
        serve()
    else:
        main(*sys.argv[1:])
