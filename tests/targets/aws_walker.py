"""A migration to AWS by hand, with the real journal, that can be killed at any of its boundaries.

    aws_walker.py FOLDER LOCATOR         V2C_CRASH_AT=N and V2C_CRASH_LOG=FILE: see v2c/crashpoints.py

FOLDER holds the state, a work folder and disk-0.raw, disk-1.raw; what came of it is written to FOLDER/result.
"""

import json
import sys
from pathlib import Path

from v2c import qemu
from v2c.blocks import BlockMap
from v2c.events import Meter
from v2c.journal import SqlJournal
from v2c.model import GIB, Caps, Disk, DiskFormat, DiskPlan, Firmware, Machine, Needs, Placement, Plan, Ref
from v2c.targets import Target, open_target
from v2c.transfer import transfer

JOB = "job-walk"


def send(target: Target, plan: Plan, number: int, journal: SqlJournal, folder: Path) -> Ref:
    disk = plan.machine.disks[number]
    with (
        qemu.serve(Path(disk.path), DiskFormat.RAW, socket=folder / f"nbd{number}") as export,
        BlockMap.open(folder / f"{disk.id}.blocks") as blocks,
        target.writer(plan, disk, None, journal) as writer,
    ):
        transfer(export, writer, blocks, generation="g", capture="c", parallel=target.features.parallel, size=GIB)
        return writer.commit()


def main(folder: Path, locator: str) -> None:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    journal, target = SqlJournal(folder / "state", JOB), open_target(locator)
    disks = tuple(Disk(f"d{n}", (folder / f"disk-{n}.raw").stat().st_size, path=str(folder / f"disk-{n}.raw")) for n in range(2))
    planned = tuple(DiskPlan(disk.id, disk.id, disk.size, GIB) for disk in disks)
    plan = target.size(Plan(JOB, Machine("erp", disks), locator, "aws", planned, Needs(Firmware.BIOS)))
    list(target.reserve(plan, journal))
    refs = [send(target, plan, number, journal, work) for number in range(2)]
    image = target.register(plan, refs, Caps(Firmware.BIOS, boot_disk="d0"), journal)
    if not journal.noted("tested"):
        test = target.launch(plan, image, Placement(), journal, Meter())
        target.observe(test)
        target.stop(test, journal)
        journal.note("tested", "yes")
    real = target.launch(plan, image, Placement(isolated=False, cutover=True), journal, Meter())
    list(target.finalize(plan, journal))
    told = [[ref.kind, ref.id] for ref in (*refs, image, real)]
    (folder / "result").write_text(json.dumps({"made": told, "refs": sorted([r.kind, r.id] for r in journal.refs())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
