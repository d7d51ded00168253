"""The measurements of bench/README.md, in one run: `./run bench [--runs 3] [--guest debian12-bios]... [--skip-copy]
[--skip-convert]`.

Time to a repaired local disk, v2c (`--to file:`, no rehearsal) against virt-v2v (`-o local`), by turns on the same guest with the
same accelerator and a warm appliance; medians. Then `bench/copy_speed.py`. Results go to bench/convert-GUEST.json, as soon as a
guest is done, and to bench/copy.json, each with the commit it measured, and into the tables of bench/README.md. A guest that is
not measured keeps its figures.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fixtures.build import BuiltGuest, build  # noqa: E402 - a script finds the checkout first
from v2c.accelerator import accelerator  # noqa: E402

MIB = 1024 * 1024
ENV = {**os.environ, "LIBGUESTFS_BACKEND": "direct"}
PATHS = ["v2c/fixes", "v2c/guest", "v2c/pipeline.py", "v2c/transfer.py", "v2c/overlays.py", "v2c/nbd", "v2c/targets/writers"]
REPAIR = ("launch", "inspect", "repair", "initramfs", "proof")  # phases of the step "fix"
PHASES = (*REPAIR, "copy", "other")
GUESTS = ("debian12-bios", "debian12-uefi-lvm")  # of one disk: virt-v2v takes no more from files


@dataclass
class Run:
    """One conversion: seconds in all and by phase, the most scratch it held (bytes), what its source served (bytes)."""

    seconds: float
    phases: dict[str, float] = field(default_factory=dict)
    scratch: int = 0
    served: int = 0


@contextmanager
def watched(folder: Path, source: Path) -> Iterator[dict[str, int]]:
    """Samples, ten times a second, the space that `folder` takes and what the programs that serve `source` have read."""
    seen = {"scratch": 0}
    served: dict[str, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            with_blocks = 0
            for path in folder.rglob("*"):
                try:
                    with_blocks += path.lstat().st_blocks * 512
                except OSError:
                    continue
            seen["scratch"] = max(seen["scratch"], with_blocks)
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    line = (process / "cmdline").read_bytes()
                    if b"qemu-nbd\0" not in line.partition(b"\0")[0] + b"\0" or str(source).encode() not in line:
                        continue
                    count = re.search(r"rchar: (\d+)", (process / "io").read_text())
                except OSError:
                    continue
                served[process.name] = int(count[1]) if count else 0

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        seen["served"] = sum(served.values())


def ours(guest: BuiltGuest, place: Path) -> Run:
    """`v2c convert --to file:` in a state of its own; the phases are those of its report."""
    work = place / "work"
    argv = [sys.executable, "-m", "v2c", "convert", *map(str, guest.disks), "--machine", str(guest.machine), "--to"]
    argv += [f"file:{place}/out/", "--no-rehearse", "--state", str(place / "state"), "--workdir", str(work), "--json", "-q"]
    (place / "out").mkdir()
    work.mkdir(mode=0o700)
    began = time.monotonic()
    with watched(work, guest.disks[0]) as seen:
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=ENV)
    seconds = time.monotonic() - began
    steps = {s["name"]: dict(s["phases"]) for s in json.loads(done.stdout)["steps"]}
    fix, upload = steps["fix"], steps["upload"]
    return Run(seconds, split(fix, upload, seconds), seen["scratch"], seen["served"])


def split(fix: dict[str, float], upload: dict[str, float], seconds: float) -> dict[str, float]:
    """v2c's seconds by phase: those that its report times by name; all else of the clock is "other"."""
    phases = {name: fix.get(name, 0.0) for name in REPAIR} | {"copy": sum(upload.values())}
    return phases | {"other": seconds - sum(phases.values())}


VIRT_V2V = {  # how the lines of virt-v2v's own clock begin -> our phase
    "Setting up the source": "other",
    "Opening the source": "launch",
    "Inspecting": "inspect",
    "Detecting": "inspect",
    "Checking": "inspect",
    "Converting": "repair",
    "Mapping": "other",
    "Closing": "other",
    "Assigning": "other",
    "Setting up the destination": "other",
    "Copying": "copy",
    "Creating": "other",
    "Finishing": "other",
}


def theirs(guest: BuiltGuest, place: Path) -> Run:
    """`virt-v2v -i disk -o local`; the phases are those of its own clock. Only one disk: it takes no more from files."""
    out = place / "out"
    out.mkdir()
    argv = ["virt-v2v", "-i", "disk", str(guest.disks[0]), "-o", "local", "-os", str(out), "-of", "qcow2"]
    env = ENV if accelerator() == "kvm" else {**ENV, "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    scratch = place / "tmp"
    scratch.mkdir()
    began = time.monotonic()
    with watched(scratch, guest.disks[0]) as seen:
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, env={**env, "TMPDIR": str(scratch)})
    seconds = time.monotonic() - began
    marks = [(float(m[1]), m[2]) for m in re.finditer(r"^\[ *([\d.]+)\] (.+)$", done.stdout, re.MULTILINE)]
    phases = dict.fromkeys(PHASES, 0.0)
    for (at, text), (then, _) in zip(marks, [*marks[1:], (seconds, "")], strict=True):
        phase = next((p for start, p in VIRT_V2V.items() if text.startswith(start)), "other")
        phases[phase] += then - at
    return Run(seconds, phases, seen["scratch"], seen["served"])


def median(runs: list[Run]) -> dict[str, Any]:
    """The run of median time, and all times."""
    middle = sorted(runs, key=lambda r: r.seconds)[len(runs) // 2]
    return {
        "seconds": round(statistics.median(r.seconds for r in runs), 1),
        "all": [round(r.seconds, 1) for r in runs],
        "phases": {name: round(middle.phases.get(name, 0.0), 1) for name in PHASES},
        "scratch_mib": round(max(r.scratch for r in runs) / MIB),
        "served_mib": round(middle.served / MIB),
    }


def data(guest: BuiltGuest) -> int:
    """Bytes of the data extents of the guest's disks, as qemu-img maps them."""
    total = 0
    for disk in guest.disks:
        done = subprocess.run(["qemu-img", "map", "--output=json", str(disk)], stdout=subprocess.PIPE, check=True)
        total += sum(e["length"] for e in json.loads(done.stdout) if e["data"])
    return total


def measured() -> dict[str, Any]:
    """What every result says of itself."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return {
        "commit": commit,
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} processors, {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // MIB // 1024} GiB",
        "accelerator": accelerator(),
    }


def compare(name: str, runs: int) -> dict[str, Any]:
    """v2c and virt-v2v by turns, on one guest."""
    guest = build(name)
    tools = {"v2c": ours} | ({"virt-v2v": theirs} if len(guest.disks) == 1 else {})
    taken: dict[str, list[Run]] = {tool: [] for tool in tools}
    for turn in range(runs + 1):
        for tool, convert in tools.items():
            with tempfile.TemporaryDirectory(prefix="v2c-bench-", dir=os.environ.get("V2C_BENCH", "/var/tmp")) as place:
                one = convert(guest, Path(place))
            print(f"{name} {tool} {turn or 'warm-up'}: {one.seconds:.1f} s", flush=True)
            if turn:  # the first builds the appliance and fills the page cache
                taken[tool].append(one)
    medians = {tool: median(done) for tool, done in taken.items()}
    return {**measured(), "paths": PATHS, "runs": runs, "guest": name, "data_mib": round(data(guest) / MIB), **medians}


def table(results: Sequence[dict[str, Any]]) -> str:
    """The table of bench/README.md, and what each guest was measured on. A phase that a result lacks was not timed yet."""
    abouts = []
    lines = [
        "| guest | tool | seconds | " + " | ".join(PHASES) + " | scratch MiB | served / data MiB |",
        "| --- " * (len(PHASES) + 5) + "|",
    ]
    for row in results:
        name = row["guest"]
        for tool in ("v2c", "virt-v2v"):
            if tool not in row:
                continue
            seen = row[tool]
            phases = " | ".join(f"{seen['phases'][p]:.1f}" if p in seen["phases"] else "" for p in PHASES)
            served = f"{seen['served_mib']} / {row['data_mib']}"
            lines.append(f"| {name} | {tool} | {seen['seconds']:.1f} | {phases} | {seen['scratch_mib']} | {served} |")
        if "virt-v2v" in row:
            ratio = row["v2c"]["seconds"] / row["virt-v2v"]["seconds"]
            lines.append(f"| {name} | ratio | {ratio:.2f} | " + " | " * (len(PHASES) + 1) + "|")
        about = f"- {name}: measured on {row['date']} at commit {row['commit'][:12]}: {row['machine']}, {row['accelerator']}, "
        abouts.append(f"{about}median of {row['runs']}.")
    return "\n".join(abouts) + "\n\n" + "\n".join(lines) + "\n"


def kept() -> list[dict[str, Any]]:
    """The conversions measured so far, by guest."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "bench").glob("convert-*.json"))]


def put(name: str, text: str) -> None:
    """Replaces what stands between two marks of bench/README.md."""
    readme = ROOT / "bench" / "README.md"
    old = readme.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    head, _, rest = old.partition(begin)
    _, _, tail = rest.partition(end)
    readme.write_text(head + begin + "\n" + text + "\n" + end + tail, encoding="utf-8")


def main() -> int:
    """Runs what was asked for, and writes it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--guest", action="append", default=[])
    parser.add_argument("--skip-copy", action="store_true")
    parser.add_argument("--skip-convert", action="store_true")
    given = parser.parse_args()
    if not given.skip_convert:
        if shutil.which("virt-v2v") is None:
            parser.error("virt-v2v is not installed: apt install virt-v2v")
        for name in given.guest or GUESTS:
            keep(f"convert-{name}", compare(name, given.runs))
            show("convert", table(kept()))
    if not given.skip_copy:
        result = copy(given.runs)
        said = "\n".join(result["said"])
        about = f"Measured on {result['date']} at commit {result['commit'][:12]}: {result['machine']}."
        keep("copy", result)
        show("copy", f"{about}\n\n```\n{said}\n```\n")
    return 0


def copy(runs: int) -> dict[str, Any]:
    """transfer() against nbdcopy: 10 GiB of data in a 20 GiB disk."""
    folder = os.environ.get("V2C_BENCH", "/var/tmp")
    argv = [sys.executable, str(ROOT / "bench" / "copy_speed.py"), "--data", "10", "--size", "20"]
    argv += ["--runs", str(runs), "--folder", folder]
    said = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    return {
        **measured(),
        "paths": ["v2c/transfer.py", "v2c/nbd", "v2c/rawfile.py", "v2c/targets/writers"],
        "said": said.splitlines(),
    }


def keep(name: str, result: dict[str, Any]) -> None:
    """Writes a result down."""
    (ROOT / "bench" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show(name: str, text: str) -> None:
    """Puts a table into bench/README.md, and prints it."""
    put(name, text)
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
