"""A migration to a cloud by hand, with the real journal, that can be killed at any of its boundaries.

    cloud_walker.py FOLDER LOCATOR         V2C_CRASH_AT=N and V2C_CRASH_LOG=FILE: see v2c/crashpoints.py

FOLDER holds the state, a work folder and disk-0.raw, disk-1.raw; what came of it is written to FOLDER/result.
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

from v2c import qemu
from v2c.blocks import BlockMap
from v2c.events import Meter
from v2c.journal import SqlJournal
from v2c.model import GIB, MIB, Caps, Disk, DiskFormat, DiskPlan, Firmware, Machine, Needs, Placement, Plan, Ref
from v2c.targets import Target, open_target
from v2c.transfer import transfer

JOB = "job-walk"


def disks(folder: Path, count: int, blocks: int, chunk: int) -> None:
    """The raw disks: so many blocks of noise on each, a hole behind every one."""
    folder.mkdir(parents=True, exist_ok=True)
    dice = random.Random(5)
    for number in range(count):
        with (folder / f"disk-{number}.raw").open("wb") as file:
            file.truncate(32 * MIB)
            for index in range(blocks):
                file.seek(index * 2 * chunk)
                file.write(dice.randbytes(chunk))


def send(target: Target, plan: Plan, number: int, journal: SqlJournal, folder: Path) -> Ref:
    disk = plan.machine.disks[number]
    with (
        qemu.serve(Path(disk.path), DiskFormat.RAW, socket=folder / f"nbd{number}") as export,
        BlockMap.open(folder / f"{disk.id}.blocks") as blocks,
        target.writer(plan, disk, None, journal) as writer,
    ):
        known = target.features
        transfer(
            export,
            writer,
            blocks,
            generation="g",
            capture="c",
            parallel=known.parallel,
            sequential=known.sequential,
            size=GIB,
        )
        return writer.commit()


def step(journal: SqlJournal, name: str, do: Callable[[], list[Ref]]) -> list[Ref]:
    """What the engine does: a step that ended is not done again, and answers what it answered."""
    told = journal.noted(f"step {name}")
    if told is not None:
        return [Ref.of(kind, id, **attributes) for kind, id, attributes in json.loads(told)]
    made = do()
    journal.note(f"step {name}", json.dumps([[ref.kind, ref.id, dict(ref.attributes)] for ref in made]))
    return made


def main(where: str, locator: str) -> None:
    folder = Path(where)
    work = folder / "work"
    work.mkdir(exist_ok=True)
    journal, target = SqlJournal(folder / "state", JOB), open_target(locator)
    disks = tuple(Disk(f"d{n}", (folder / f"disk-{n}.raw").stat().st_size, path=str(folder / f"disk-{n}.raw")) for n in range(2))
    planned = tuple(DiskPlan(disk.id, disk.id, disk.size, GIB) for disk in disks)
    plan = target.size(Plan(JOB, Machine("erp", disks), locator, target.platform, planned, Needs(Firmware.BIOS)))

    def launched(placement: Placement) -> list[Ref]:
        return [target.launch(plan, image, placement, journal, Meter())]

    def tested() -> list[Ref]:
        (test,) = launched(Placement())
        target.observe(test)
        return [test]

    def ended() -> list[Ref]:
        target.stop(test, journal)
        return []

    step(journal, "reserved", lambda: list(target.reserve(plan, journal)))
    refs = step(journal, "sent", lambda: [send(target, plan, number, journal, work) for number in range(2)])
    (image,) = step(journal, "registered", lambda: [target.register(plan, refs, Caps(Firmware.BIOS, boot_disk="d0"), journal)])
    (test,) = step(journal, "tested", tested)
    step(journal, "ended", ended)
    (real,) = step(journal, "cut over", lambda: launched(Placement(isolated=False, cutover=True)))
    list(target.finalize(plan, journal))
    told = [[ref.kind, ref.id] for ref in (*refs, image, real)]
    (folder / "result").write_text(json.dumps({"made": told, "refs": sorted([r.kind, r.id] for r in journal.refs())}))


if __name__ == "__main__":
    main(*sys.argv[1:])
