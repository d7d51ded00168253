"""The source in memory: the contract, the same bytes everywhere, and a guest that can be repaired."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from source_contract import SourceContract

from v2c.errors import UsageError
from v2c.events import Meter
from v2c.fixes.repair import repair
from v2c.guest import kept
from v2c.guest.ledger import Ledger
from v2c.model import MIB, Firmware, Repair
from v2c.plan import needs
from v2c.platforms import platforms
from v2c.sources import memory, open_source
from v2c.sources.memory import MemorySource


class TestMemory(SourceContract):
    def make(self, folder: Path) -> MemorySource:
        made = open_source("memory:erp?disks=2&size=12582912&seed=7")
        assert isinstance(made, MemorySource)
        return made

    def disks(self, folder: Path) -> list[bytes]:
        return [self.make(folder).content(number).read(0, 12 * MIB) for number in range(2)]


def test_the_same_bytes_in_another_process() -> None:
    script = (
        "import hashlib; from v2c.sources.memory import open_source\n"
        "print(hashlib.sha256(open_source('erp?seed=3').content(0).read(0, 48 << 20)).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    content = memory.open_source("erp?seed=3").content(0)
    assert hashlib.sha256(content.read(0, content.size)).hexdigest() == other
    assert content.read(5, 100) == content.read(0, MIB)[5:105]
    assert content.read(9 * MIB - 7, MIB) == content.read(8 * MIB, 4 * MIB)[MIB - 7 : 2 * MIB - 7]


def test_seeds_and_names_differ() -> None:
    seen = set()
    for locator in ("erp", "erp?seed=1", "web", "erp?disks=2", "erp?size=1048576"):
        source = memory.open_source(locator)
        seen.add(source.describe("").fingerprint)
    assert len(seen) == 5
    whole = [memory.open_source(locator).content(1).read(8 * MIB, 8 * MIB) for locator in ("erp", "erp?seed=1")]
    assert whole[0] != whole[1]
    data = [e for e in memory.open_source("erp").content(0).extents(0, 48 * MIB) if e.data]
    assert 8 * MIB < sum(e.length for e in data) < 32 * MIB


@pytest.mark.parametrize("rest", ["", "a/b", "../x", "a?disks=0", "a?disks=x", "a?size=1000", "a?color=red", "a?size=100", "a?="])
def test_a_locator_that_is_not_understood(rest: str) -> None:
    with pytest.raises(UsageError, match="is not understood"):
        open_source(f"memory:{rest}")


@pytest.mark.parametrize("name", [name for name, platform in platforms().items() if platform.boot])
def test_its_guest_is_repaired_for_every_platform_without_a_program(name: str) -> None:
    machine = memory.open_source("erp").describe("")
    need = needs(machine, platforms()[name], platforms(), Repair(), Firmware.BIOS, None)
    content = memory.open_source("erp").content(0)
    found = kept.parse(content.read(0, 8 * MIB))
    assert found.facts.root == "/dev/sda1"
    done = repair(Ledger(found), need, meter=Meter())
    assert {"fstab", "kernel-root", "network-ifupdown"} <= {fix for fix, _ in done.reasons}
    assert repair(Ledger(found), need, meter=Meter()).reasons == ()
    assert done.caps.kernels
    assert f"UUID={memory.ROOT}" in found.text("/etc/fstab")
