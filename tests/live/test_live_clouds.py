"""Real accounts: one small disk to each cloud, through everything, and away again. Skipped unless asked for; costs some cents.

    V2C_LIVE_AWS='aws:eu-west-1?subnet=subnet-0a1b' ./run test --live tests/live
    V2C_LIVE_GCP='gcp:my-project/europe-west1-b'  V2C_LIVE_AZURE='azure:SUBSCRIPTION/GROUP/westeurope?subnet=net/servers'

Each variable names the account's place as `--to` does; a cloud that none names is skipped. Whatever goes wrong, what carries the
job's tag is removed at the end, and a listing proves it. The same journey runs over the doubles in every run of the tests.
"""

import hashlib
import os
import random
import secrets
import time
from pathlib import Path

import pytest

from v2c.blocks import BlockMap
from v2c.emulators import CLOUDS, open_emulator
from v2c.events import Meter
from v2c.journal import SqlJournal
from v2c.model import MIB, Caps, Disk, DiskPlan, Firmware, Level, Machine, Needs, Placement, Plan
from v2c.targets import Target, open_target

SIZE = 24 * MIB
RUNS_S = 600.0  # until an instance is said to run


def plan(target: Target, job: str) -> Plan:
    """One BIOS machine of one small disk."""
    unit = max(target.features.size_unit, MIB)
    machine = Machine("v2c-live", (Disk("d0", SIZE, allocated=SIZE),), memory_mib=1024, vcpus=1, firmware=Firmware.BIOS)
    planned = (DiskPlan("d0", "v2c-live-0", SIZE, -(-SIZE // unit) * unit),)
    return target.size(Plan(job, machine, "live", target.platform, planned, Needs(Firmware.BIOS), data_bytes=SIZE))


def journey(locator: str, folder: Path) -> None:
    """Check, reserve, upload, read back, register, launch a test, look at it, end it; then nothing is left."""
    job = f"live{secrets.token_hex(4)}"
    target, journal = open_target(locator), SqlJournal(folder / "state", job)
    mine = plan(target, job)
    try:
        assert [f for f in target.check(mine) if f.level is Level.BLOCKER] == []
        list(target.reserve(mine, journal))
        chunk = target.features.chunk
        dice = random.Random(job)
        blocks = {index: dice.randbytes(min(chunk, SIZE - index * chunk)) for index in (0, (SIZE - 1) // chunk)}
        with (
            BlockMap.open(folder / "d0.blocks") as told,
            target.writer(mine, mine.machine.disks[0], None, journal) as writer,
        ):
            told.begin("capture", "generation", chunk)
            writer.expect(sorted(blocks))
            assert list(writer.missing(told)) == []
            for index, data in blocks.items():
                writer.put(index, data, hashlib.sha256(data).digest())
            disk = writer.commit()
        for index, data in target.read(mine, disk, sorted(blocks)):
            assert data[: len(blocks[index])] == blocks[index], f"block {index} came back as another one"
        image = target.register(mine, [disk], Caps(Firmware.BIOS, boot_disk="d0"), journal)
        test = target.launch(mine, image, Placement(), journal, Meter())
        until = time.monotonic() + RUNS_S
        while (seen := target.observe(test)).state != "running" and time.monotonic() < until:
            time.sleep(2)
        assert seen.state == "running" and seen.alive, seen
        target.stop(test, journal)
        assert not target.observe(test).alive
        list(target.finalize(mine, journal))
        assert set(target.find(job)) == set(journal.refs())
    finally:
        for ref in reversed(list(target.find(job))):
            target.destroy(ref)
    assert list(target.find(job)) == []


@pytest.mark.live
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_real_account(cloud: str, tmp_path: Path) -> None:
    locator = os.environ.get(f"V2C_LIVE_{cloud.upper()}", "")
    if not locator:
        pytest.skip(f"V2C_LIVE_{cloud.upper()} names no place")
    assert locator.startswith(f"{cloud}:")
    journey(locator, tmp_path)


@pytest.mark.tool
@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_same_over_the_doubles(cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_emulator(cloud, tmp_path / "cloud") as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        journey(double.locator, tmp_path)
        assert double.left() == []
