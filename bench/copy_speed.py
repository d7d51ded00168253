"""transfer() with digests against bare nbdcopy, of the same disk into the same file system: through the same qemu-nbd
("served", as disks of other formats are read) and as a raw disk is ("transfer", past its server).

    python bench/copy_speed.py [--data GIB] [--size GIB] [--runs N] [--folder DIR]

Prints the seconds of each, in turn, and the ratios of the medians. nbdcopy runs with --flush, as the transfer ends with one.
"""

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from v2c import qemu
from v2c.model import GIB, MIB, DiskFormat, Ref
from v2c.nbd import Export
from v2c.targets.writers.raw import RawWriter
from v2c.transfer import BlockMap, transfer

STRIPE = 256 * MIB


def make(path: Path, data: int, size: int) -> None:
    """A sparse raw file: `data` bytes that no zero scan or compression can shorten, spread in stripes over `size`."""
    chance = random.Random(1)
    block = chance.randbytes(4 * MIB)
    step = size // max(1, data // STRIPE)
    with path.open("wb") as disk:
        disk.truncate(size)
        for at in range(0, data // STRIPE * step, step):
            for part in range(0, STRIPE, len(block)):
                disk.seek(at + part)
                disk.write((at + part).to_bytes(8, "big") + block[8:])
    os.sync()


def ours(export: Export, folder: Path) -> float:
    """Seconds of a transfer into a raw file."""
    began = time.monotonic()
    with (
        BlockMap.open(folder / "map") as blocks,
        RawWriter(folder / "ours.raw", export.size, Ref.of("file", "x")) as writer,
    ):
        transfer(export, writer, blocks, generation="none", capture="bench", parallel=4)
        writer.commit()
    seconds = time.monotonic() - began
    (folder / "ours.raw").unlink()
    (folder / "map").unlink()
    return seconds


def served(export: Export, folder: Path) -> float:
    """The same through the server."""
    return ours(replace(export, raw=""), folder)


def bare(export: Export, folder: Path) -> float:
    """Seconds of nbdcopy."""
    out = folder / "bare.raw"
    out.touch()
    os.truncate(out, export.size)
    began = time.monotonic()
    uri = f"nbd+unix:///{export.name}?socket={export.socket}"
    subprocess.run(["nbdcopy", "--destination-is-zero", "--flush", uri, str(out)], check=True)
    seconds = time.monotonic() - began
    out.unlink()
    return seconds


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=float, default=10.0)
    words.add_argument("--size", type=float, default=20.0)
    words.add_argument("--runs", type=int, default=3)
    words.add_argument("--folder", type=Path)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        make(folder / "disk.raw", int(asked.data * GIB), int(asked.size * GIB))
        times: dict[str, list[float]] = {"nbdcopy": [], "served": [], "transfer": []}
        with qemu.serve(folder / "disk.raw", DiskFormat.RAW, socket=folder / "s.sock", name="disk") as export:
            for run in range(asked.runs):
                for label, what in (("nbdcopy", bare), ("served", served), ("transfer", ours)):
                    seconds = what(export, folder)
                    os.sync()
                    times[label].append(seconds)
                    print(f"run {run + 1}: {label:9} {seconds:6.2f} s  {asked.data * GIB / seconds / 1e9:5.2f} GB/s", flush=True)
        middle = {label: statistics.median(seconds) for label, seconds in times.items()}
        ratios = {
            label: f"{middle[label]:.2f} s, ratio {middle[label] / middle['nbdcopy']:.2f}" for label in ("served", "transfer")
        }
        print(f"median: nbdcopy {middle['nbdcopy']:.2f} s; " + "; ".join(f"{label} {told}" for label, told in ratios.items()))


if __name__ == "__main__":
    main()
