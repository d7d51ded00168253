"""A wave of machines in memory: what planning, running and looking cost when there are many.

    python -m bench.waves [--machines 1000] [--workers 4] [--slots 4] [--engine sqlite|postgresql] [--mode empty|memory]

`empty`: the steps of the stages do nothing, so that what is left is what engine and runner cost; `memory`: real journeys from
memory: to memory:, repair, upload and boot included. Each worker is a process with a work folder of its own. PostgreSQL is a
private server in a temporary folder. Told are, besides the times, how much a worker grew after a quarter of the machines.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "waves")]

from servers import serving  # noqa: E402 - finds the checkout first

from v2c.engine import Steps, story  # noqa: E402
from v2c.jobs import Jobs  # noqa: E402
from v2c.manifest import parse  # noqa: E402
from v2c.model import MIB, Report, Verdict  # noqa: E402
from v2c.model.wave import Stage, Standing  # noqa: E402
from v2c.state import State, open_state  # noqa: E402
from v2c.waves import begin, orders, stages  # noqa: E402
from v2c.waves.nouns import Machine  # noqa: E402
from v2c.waves.snapshot import snapshot  # noqa: E402
from v2c.waves.worker import Worker  # noqa: E402

RUN = "bench"
STEPS = {
    Stage.REPLICATE: ("describe", "plan", "reserve", "capture", "fix", "upload", "verify", "register", "finalize"),
    Stage.TEST: ("launch", "validate"),
    Stage.CUTOVER: ("end-test", "cutover", "confirm"),
    Stage.FINALIZE: (),
}
POLL_S = 1.0


@story("bench-empty")
def empty(steps: Steps, request: list[str], journal: object) -> int:
    """Steps that do nothing."""
    return sum(steps(name, lambda _: 1, returns=int) for name in request)


def nothing(machine: Machine, place: stages.Place) -> Report:
    """A stage as the engine and the jobs see it: the same steps, claims and reports, and no work in them."""
    stage, request = machine.doing, machine.order.request
    with Jobs(place.state, place.workdir).claim(request.job) as job:
        job.began(request.sources, request.target, "bench")
        name = request.job if stage is Stage.REPLICATE else f"{request.job}-{stage}"
        with job.engine(place.listener) as engine:
            engine.run(name, empty, list(STEPS[stage]))
        report = Report(request.job, machine.id, " ".join(request.sources), request.target, Verdict.PASS)
        job.tell("{}")
    return report


def manifest(machines: int, size: int) -> str:
    """Ten waves, a tenth of the machines each."""
    waves = []
    for wave in range(10):
        own = "\n".join(
            f'      - {{ id: m{number:05}, source: {{ at: made, name: "m{number:05}?size={size}" }} }}'
            for number in range(machines * wave // 10, machines * (wave + 1) // 10)
        )
        waves.append(f"  - name: w{wave}\n    machines:\n{own}" if own else "")
    gates = "{ okToTest: true, okToCutover: true, okToFinalize: true }"
    head = f'version: 1\nname: {RUN}\nsources: {{ made: {{ type: memory }} }}\ntargets: {{ cloud: {{ to: "memory:cloud" }} }}\n'
    return head + f"defaults: {{ target: cloud, gates: {gates} }}\nwaves:\n" + "\n".join(filter(None, waves)) + "\n"


def work(argv: argparse.Namespace) -> None:
    """A worker's process: works until the run is over, and tells what it used."""
    if argv.mode == "empty":
        stages.VERBS.update(dict.fromkeys(STEPS, nothing))
    state, folder = opened(argv.url, Path(argv.worker) / "state"), Path(argv.worker)
    sizes: list[int] = []
    done = [0]

    def announce(machine: Machine, outcome: object) -> None:
        done[0] += 1
        if isinstance(outcome, Exception):
            print(f"{machine.id} {machine.doing}: {outcome}", file=sys.stderr)
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    with Worker(state, folder / "work", slots=argv.slots, run=RUN, announce=announce) as worker:
        worker.work()
    used = resource.getrusage(resource.RUSAGE_SELF)
    kids = resource.getrusage(resource.RUSAGE_CHILDREN)
    quarter = sizes[len(sizes) // 4] if sizes else 0
    cpu = used.ru_utime + used.ru_stime + kids.ru_utime + kids.ru_stime
    print(json.dumps({"stages": done[0], "cpu_s": cpu, "rss_quarter": quarter, "rss_end": sizes[-1] if sizes else 0}), flush=True)


def opened(url: str, folder: Path) -> State:
    """A PostgreSQL state whose locks lie in the folder, or the shared SQLite one."""
    return open_state(url, folder) if url.startswith("postgresql") else open_state(Path(url))


@contextmanager
def database(engine: str, folder: Path) -> Iterator[str]:
    if engine == "sqlite":
        yield str(folder / "state")
        return
    with serving() as server:
        yield server.database()


def measure(argv: argparse.Namespace) -> dict[str, Any]:
    """All of it once."""
    with tempfile.TemporaryDirectory(prefix="v2c-bench-", dir=argv.folder) as name, database(argv.engine, Path(name)) as url:
        folder = Path(name)
        os.environ["V2C_MEMORY"] = str(folder / "memory")
        file = folder / "wave.yaml"
        file.write_text(manifest(argv.machines, argv.size * MIB))
        clock = time.monotonic()
        wanted = orders.wanted(parse(file.read_bytes(), str(file)), file, converters=argv.workers * argv.slots)
        plan_s = time.monotonic() - clock
        clock = time.monotonic()
        state = opened(url, folder / "state")
        begin.begin(state, wanted)
        begin_s = time.monotonic() - clock
        clock = time.monotonic()
        command = [sys.executable, "-m", "bench.waves", "--mode", argv.mode, "--slots", str(argv.slots), "--url", url]
        workers = [
            subprocess.Popen([*command, "--worker", str(folder / f"worker-{n}")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for n in range(argv.workers)
        ]
        told = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
        run_s = time.monotonic() - clock
        looks = []
        for _ in range(3):
            clock = time.monotonic()
            seen = snapshot(state, RUN)
            looks.append(time.monotonic() - clock)
        assert seen.count(Standing.DONE) == argv.machines, [one.why for one in seen.machines if one.why][:3]
        spans = [span for one in seen.machines for span in one.spans]
        steps = len(spans) + argv.machines  # finalize has no step of the engine, and a claim and a report all the same
        inside = sum(span.ended - span.began for span in spans)
        cpu = sum(worker["cpu_s"] for worker in told)
        return {
            "machines": argv.machines,
            "workers": argv.workers,
            "slots": argv.slots,
            "engine": argv.engine,
            "mode": argv.mode,
            "plan_s": round(plan_s, 2),
            "begin_s": round(begin_s, 2),
            "run_s": round(run_s, 1),
            "machine_steps": steps,
            "step_wall_ms": round(run_s / steps * 1000, 2),
            "step_cpu_ms": round(cpu / steps * 1000, 2),
            "inside_steps_s": round(inside, 1),
            "status_s": round(min(looks), 3),
            "stages_by_worker": [worker["stages"] for worker in told],
            "rss_quarter_mib": [worker["rss_quarter"] // MIB for worker in told],
            "rss_end_mib": [worker["rss_end"] // MIB for worker in told],
            "commit": subprocess.run(
                ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
            ).stdout.strip(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--size", type=int, default=9, help="MiB of each machine's disk")
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--mode", choices=["empty", "memory"], default="empty")
    parser.add_argument("--folder", default=None, help="where the work lies (default: the temporary folder)")
    parser.add_argument("--out", default="", help="append the figures to this file, as a line of JSON")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    argv = parser.parse_args()
    if argv.worker:
        work(argv)
        return
    figures = measure(argv)
    print(json.dumps(figures, indent=2))
    if argv.out:
        with Path(argv.out).open("a") as out:
            out.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
