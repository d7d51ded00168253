"""Uploads against a sink that discards: v2c, the floor of the same client library, and the staged way.

    python -m bench.upload_speed [--cloud aws]... [--data 2] [--size 4] [--rate 0,104857600,10485760] [--runs 3] [--folder DIR]

One disk of --size GiB with --data GiB in it, the same for all. Each measurement is a process of its
own, which says how much it grew:

  v2c     the target's own writer and transfer(), from a qemu-nbd export; nothing else lies on disk but the block map
  floor   the same blocks, with their digests, from memory, by the same client library with as many threads: no source
  wire    (Google) the floor's bytes, packed beforehand: what the library and the sink alone take
  staged  qemu-img convert to a file, then the vendor's own uploader

--rate: the sink's uplink in bytes per second, 0 for none. The floor is measured without a limit only.
"""

import argparse
import json
import os
import random
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.uploaders import CLOUDS, chunks  # noqa: E402 - finds the checkout first
from v2c.model import GIB, KIB, MIB, Disk, DiskFormat, DiskPlan, Firmware, Machine, Needs, Plan  # noqa: E402 - the same

STRIPE = 64 * MIB
JOB = "bench"


def make(path: Path, data: int, size: int) -> None:
    """A sparse raw file: stripes of data over the whole size, a quarter of it noise and the rest words, as servers hold."""
    chance = random.Random(1)
    noise = chance.randbytes(MIB)
    words = b" ".join(b"%x" % chance.randrange(1 << 20) for _ in range(MIB))[: 3 * MIB]
    step = size // (data // STRIPE)
    with path.open("wb") as disk:
        disk.truncate(size)
        for at in range(0, data // STRIPE * step, step):
            for part in range(0, STRIPE, 4 * MIB):
                disk.seek(at + part)
                disk.write((at + part).to_bytes(8, "big") + noise[8:] + words)
    os.sync()


@contextmanager
def sink(cloud: str, rate: int, folder: Path) -> Iterator[str]:
    """The cloud's sink: its host and port."""
    argv = [sys.executable, "-m", "bench.sink", cloud, "--rate", str(rate)]
    with subprocess.Popen([*argv, *CLOUDS[cloud].sink(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def rss() -> int:
    """Bytes that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def plan(target: str, platform: str, size: int) -> Plan:
    """One machine with one disk."""
    machine = Machine("bench", (Disk("disk", size, DiskFormat.RAW),))
    return Plan(JOB, machine, target, platform, (DiskPlan("disk", "bench-0", size, size),), Needs(Firmware.BIOS))


def ours(cloud: str, disk: Path, folder: Path) -> dict[str, Any]:
    """The target's writer, fed by transfer()."""
    from v2c import qemu
    from v2c.blocks import BlockMap
    from v2c.journal import MemoryJournal
    from v2c.targets import open_target
    from v2c.transfer import transfer

    size = disk.stat().st_size
    target = open_target(CLOUDS[cloud].locator)
    planned = plan(CLOUDS[cloud].locator, target.platform, size)
    CLOUDS[cloud].warm(target)
    idle = rss()
    began = time.monotonic()
    with (
        qemu.serve(disk, DiskFormat.RAW, socket=folder / "s.sock", name="disk") as export,
        BlockMap.open(folder / "disk.blocks") as blocks,
        target.writer(planned, planned.machine.disks[0], None, MemoryJournal(JOB)) as writer,
    ):
        features = target.features
        sent = transfer(
            export, writer, blocks, generation="g", capture="c", parallel=features.parallel, sequential=features.sequential
        )
        writer.commit()
    seconds = time.monotonic() - began
    scratch = sum(file.stat().st_blocks * 512 for file in folder.iterdir() if file.is_file())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB - idle
    return {"seconds": seconds, "grown": grown, "scratch": scratch, "blocks": sent.sent_blocks, "chunk": features.chunk}


# ---- one measurement, and all of them --------------------------------------------------------------------------------------


def once(what: str, cloud: str, disk: Path) -> dict[str, Any]:
    """One measurement in this process."""
    with tempfile.TemporaryDirectory(dir=disk.parent) as name:
        if what == "v2c":
            return ours(cloud, disk, Path(name))
        if what == "staged":
            return {"seconds": CLOUDS[cloud].staged(disk, Path(name))}
        floor = CLOUDS[cloud].wire if what == "wire" else CLOUDS[cloud].floor
        assert floor, f"{cloud} has no {what}"
        return {"seconds": floor(disk)}


def measure(what: str, cloud: str, rate: int, disk: Path) -> dict[str, Any]:
    """One measurement in a process of its own, against a sink of its own; with what the sink was sent."""
    with sink(cloud, rate, disk.parent) as place:
        given = CLOUDS[cloud].environment(place, disk.parent)
        environment = {**os.environ, **given}
        argv = [sys.executable, "-m", "bench.upload_speed", "--once", what, "--cloud", cloud, "--disk", str(disk)]
        said = subprocess.run(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        trusted = given.get("REQUESTS_CA_BUNDLE")  # not the user's own, which says nothing of whether the sink speaks TLS
        context = ssl.create_default_context(cafile=trusted) if trusted else None
        with urllib.request.urlopen(f"http{'s' * bool(trusted)}://{place}/sink", context=context) as answer:
            return {**json.loads(said), "sent": json.load(answer)["bytes"]}


def measured(cloud: str, rate: int) -> list[str]:
    """What is measured at a rate."""
    if rate:
        return ["v2c", "staged"]
    return ["v2c", "floor", *(["wire"] if CLOUDS[cloud].wire else []), "staged"]


def main() -> None:
    """Measures what was asked for, by turns; prints JSON lines, and a summary with the ratios."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--cloud", action="append", choices=sorted(CLOUDS))
    words.add_argument("--data", type=float, default=2.0)
    words.add_argument("--size", type=float, default=4.0)
    words.add_argument("--rate", default=f"0,{100 * MIB},{10 * MIB}")
    words.add_argument("--runs", type=int, default=3)
    words.add_argument("--folder", type=Path)
    words.add_argument("--once", choices=["v2c", "floor", "wire", "staged"], help=argparse.SUPPRESS)
    words.add_argument("--disk", type=Path, help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.once:
        sys.stdout.write(json.dumps(once(asked.once, asked.cloud[0], asked.disk)) + "\n")
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        disk = Path(name) / "disk.raw"
        make(disk, int(asked.data * GIB), int(asked.size * GIB))
        for cloud in asked.cloud or sorted(CLOUDS):
            for rate in map(int, asked.rate.split(",")):
                taken: dict[str, list[dict[str, Any]]] = {}
                for _ in range(asked.runs if not rate else 1):  # a limited line is the same every time
                    for what in measured(cloud, rate):
                        seen = measure(what, cloud, rate, disk)
                        taken.setdefault(what, []).append(seen)
                        sys.stdout.write(json.dumps({"cloud": cloud, "rate": rate, "what": what, **seen}) + "\n")
                        sys.stdout.flush()
                sys.stdout.write(summary(cloud, rate, taken, disk) + "\n")


def summary(cloud: str, rate: int, taken: dict[str, list[dict[str, Any]]], disk: Path) -> str:
    """One line: medians and ratios."""
    middle = {what: statistics.median(seen["seconds"] for seen in runs) for what, runs in taken.items()}
    mine = max(taken["v2c"], key=lambda seen: seen["grown"])
    blocks = sum(1 for _ in chunks(disk, CLOUDS[cloud].chunk))
    line = f"{cloud} at {f'{rate // MIB} MiB/s' if rate else 'no limit'}: v2c {middle['v2c']:.1f} s"
    if "floor" in middle:
        line += f", floor {middle['floor']:.1f} s ({middle['floor'] / middle['v2c']:.2f} of its speed)"
    if "wire" in middle:
        line += f", packed beforehand {middle['wire']:.1f} s"
    line += f", staged {middle['staged']:.1f} s; blocks {mine['blocks']} of {blocks}"
    line += f", sent {mine['sent'] / (blocks * CLOUDS[cloud].chunk):.3f} x data, grown {mine['grown'] / MIB:.0f} MiB"
    return f"{line}, scratch {mine['scratch'] / MIB:.1f} MiB"


if __name__ == "__main__":
    main()
