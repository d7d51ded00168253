"""Uploads against a sink that discards: v2c, the floor of the same client library, and the staged way.

    python -m bench.upload_speed [--cloud aws]... [--data 2] [--size 4] [--rate 0,104857600,10485760] [--runs 3] [--folder DIR]

One disk of --size GiB with --data GiB in it, the same for all. Each measurement is a process of its
own, which says how much it grew:

  v2c     the target's own writer and transfer(), from a qemu-nbd export; nothing else lies on disk but the block map
  floor   the same blocks, with their digests, from memory, by the same client library with as many threads: no source
  staged  qemu-img convert to a file, then the vendor's own uploader

--rate: the sink's uplink in bytes per second, 0 for none. The floor is measured without a limit only.
"""

import argparse
import hashlib
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from v2c.model import GIB, KIB, MIB, Disk, DiskFormat, DiskPlan, Firmware, Machine, Needs, Plan  # noqa: E402 - finds the checkout first

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


def chunks(disk: Path, chunk: int) -> Iterator[tuple[int, bytes]]:
    """The blocks of the disk that are not zero."""
    with disk.open("rb") as file:
        for index in range(disk.stat().st_size // chunk):
            data = file.read(chunk)
            if data.count(0) != chunk:
                yield index, data


# ---- Amazon ----------------------------------------------------------------------------------------------------------------


def aws_floor(disk: Path, threads: int = 32) -> float:
    """put_snapshot_block from memory: a few blocks, again and again, as many as the disk has."""
    from base64 import b64encode

    import boto3
    from botocore.config import Config

    ebs = boto3.client("ebs", config=Config(max_pool_connections=64))
    found = list(chunks(disk, 512 * KIB))
    few = [data for _, data in found[:64]]
    indexes = [index for index, _ in found]
    del found

    def put(number: int) -> None:
        data = few[number % len(few)]
        checksum = b64encode(hashlib.sha256(data).digest()).decode()
        ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=indexes[number],
            BlockData=data,
            DataLength=len(data),
            Checksum=checksum,
            ChecksumAlgorithm="SHA256",
        )

    began = time.monotonic()
    snapshot = ebs.start_snapshot(VolumeSize=disk.stat().st_size // GIB)["SnapshotId"]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(put, range(len(indexes))))
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=len(indexes))
    return time.monotonic() - began


def aws_staged(disk: Path, folder: Path) -> float:
    """A raw file, and boto3's own upload_file into a bucket; the import that AWS does then is not counted."""
    import boto3
    from botocore.config import Config

    s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    began = time.monotonic()
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", str(disk), str(folder / "staged.raw")], check=True)
    s3.upload_file(str(folder / "staged.raw"), "bucket", "disk.raw")
    return time.monotonic() - began


def aws_environment(place: str, folder: Path) -> dict[str, str]:
    """What points the SDK at the sink."""
    return {
        "AWS_ENDPOINT_URL": f"http://{place}",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


# ---- Azure -----------------------------------------------------------------------------------------------------------------


def azure_client(place: str, threads: int) -> Any:
    """The SDK's client of the sink's page blob."""
    from azure.storage.blob import BlobClient

    return BlobClient.from_blob_url(f"https://{place}/page/disk?sig=bench", retry_total=0)


def azure_floor(disk: Path, threads: int = 8) -> float:
    """upload_page from memory."""
    blob = azure_client(os.environ["BENCH_PLACE"], threads)
    found = list(chunks(disk, 4 * MIB))
    few = [data for _, data in found[:8]]
    indexes = [index for index, _ in found]
    del found

    def put(number: int) -> None:
        data = few[number % len(few)]
        hashlib.sha256(data).digest()
        blob.upload_page(data, offset=indexes[number] * 4 * MIB, length=4 * MIB)

    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(put, range(len(indexes))))
    return time.monotonic() - began


def azure_staged(disk: Path, folder: Path) -> float:
    """A fixed VHD, and the SDK's own upload_blob, which leaves zeros out."""
    blob = azure_client(os.environ["BENCH_PLACE"], 8)
    file = folder / "staged.vhd"
    began = time.monotonic()
    options = "subformat=fixed,force_size=on"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", options, str(disk), str(file)], check=True)
    with file.open("rb") as data:
        blob.upload_blob(data, blob_type="PageBlob", length=file.stat().st_size, max_concurrency=8)
    return time.monotonic() - began


def azure_environment(place: str, folder: Path) -> dict[str, str]:
    """A service principal that logs in at the sink."""
    return {
        "AZURE_TENANT_ID": "bench",
        "AZURE_CLIENT_ID": "bench",
        "AZURE_CLIENT_SECRET": "bench",
        "AZURE_AUTHORITY_HOST": f"https://{place}",
        "AZURE_RESOURCE_MANAGER_URL": f"https://{place}",
        "REQUESTS_CA_BUNDLE": str(folder / "tls" / "ca.pem"),
        "BENCH_PLACE": place,
    }


def azure_sink(folder: Path) -> list[str]:
    """Over TLS, which the SDK insists on."""
    from v2c.emulators.tls import authority

    (folder / "tls").mkdir(exist_ok=True)
    authority(folder / "tls")
    return ["--tls", str(folder / "tls")]


@dataclass(frozen=True)
class Cloud:
    """How one cloud is measured. `warm(target)` makes the SDK's clients, so that what they take counts as idle."""

    locator: str
    chunk: int
    sink: Callable[[Path], list[str]]
    environment: Callable[[str, Path], dict[str, str]]
    floor: Callable[[Path], float]
    staged: Callable[[Path, Path], float]
    warm: Callable[[Any], None]


def _aws_warm(target: Any) -> None:
    for service in ("ebs", "ec2"):
        target.session.client(service)


def _azure_warm(target: Any) -> None:
    import azure.storage.blob

    assert target.session.compute and azure.storage.blob


CLOUDS = {
    "azure": Cloud(
        "azure:bench/bench/westeurope", 4 * MIB, azure_sink, azure_environment, azure_floor, azure_staged, _azure_warm
    ),
    "aws": Cloud("aws:eu-west-1", 512 * KIB, lambda _: [], aws_environment, aws_floor, aws_staged, _aws_warm),
}


# ---- one measurement, and all of them --------------------------------------------------------------------------------------


def once(what: str, cloud: str, disk: Path) -> dict[str, Any]:
    """One measurement in this process."""
    with tempfile.TemporaryDirectory(dir=disk.parent) as name:
        if what == "v2c":
            return ours(cloud, disk, Path(name))
        return {"seconds": CLOUDS[cloud].floor(disk) if what == "floor" else CLOUDS[cloud].staged(disk, Path(name))}


def measure(what: str, cloud: str, rate: int, disk: Path) -> dict[str, Any]:
    """One measurement in a process of its own, against a sink of its own; with what the sink was sent."""
    with sink(cloud, rate, disk.parent) as place:
        environment = {**os.environ, **CLOUDS[cloud].environment(place, disk.parent)}
        argv = [sys.executable, "-m", "bench.upload_speed", "--once", what, "--cloud", cloud, "--disk", str(disk)]
        said = subprocess.run(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        trusted = environment.get("REQUESTS_CA_BUNDLE")
        context = ssl.create_default_context(cafile=trusted) if trusted else None
        with urllib.request.urlopen(f"http{'s' * bool(trusted)}://{place}/sink", context=context) as answer:
            return {**json.loads(said), "sent": json.load(answer)["bytes"]}


def main() -> None:
    """Measures what was asked for, by turns; prints JSON lines, and a summary with the ratios."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--cloud", action="append", choices=sorted(CLOUDS))
    words.add_argument("--data", type=float, default=2.0)
    words.add_argument("--size", type=float, default=4.0)
    words.add_argument("--rate", default=f"0,{100 * MIB},{10 * MIB}")
    words.add_argument("--runs", type=int, default=3)
    words.add_argument("--folder", type=Path)
    words.add_argument("--once", choices=["v2c", "floor", "staged"], help=argparse.SUPPRESS)
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
                    for what in ("v2c", "staged") if rate else ("v2c", "floor", "staged"):
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
    line += f", staged {middle['staged']:.1f} s; blocks {mine['blocks']} of {blocks}"
    line += f", sent {mine['sent'] / (blocks * CLOUDS[cloud].chunk):.3f} x data, grown {mine['grown'] / MIB:.0f} MiB"
    return f"{line}, scratch {mine['scratch'] / MIB:.1f} MiB"


if __name__ == "__main__":
    main()
