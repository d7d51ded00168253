"""Random kills: conversions are killed after random times and gone on with, as often as V2C_SOAK_KILLS says (default 20).

The result goes to bench/soak.json, with the commit it was made at.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import journeys
import pytest
from worlds import programs

ROOT = Path(__file__).resolve().parent.parent.parent
KILLS = int(os.environ.get("V2C_SOAK_KILLS", "20"))
SEED = int(os.environ.get("V2C_SOAK_SEED", "0")) or random.randrange(1, 1 << 32)
STARTUP_S = 0.5  # a kill sooner than this finds only imports
SLOW = ("--bandwidth", "16M")  # so that kills fall into the upload too
MEASURED = ["v2c/engine", "v2c/journal.py", "v2c/jobs.py", "v2c/state.py", "v2c/transfer.py", "v2c/blocks.py", "v2c/overlays.py"]


def _git(*argv: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *argv], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.soak
@pytest.mark.timeout(300 + 60 * KILLS)
def test_random_kills(tmp_path: Path) -> None:
    """Kills come at random moments of random runs; every machine arrives whole, exactly once, and the same as undisturbed."""
    chance = random.Random(SEED)
    began = time.monotonic()
    whole = tmp_path / "whole"
    whole.mkdir()
    assert subprocess.run(journeys.command(whole, *SLOW), env=_env(whole), check=False, stdout=subprocess.DEVNULL).returncode == 0
    alone = time.monotonic() - began
    essence, left = journeys.essence(whole), journeys.left(whole)
    kills = machines = 0
    blocks = 0  # that were written again, over all machines
    while kills < KILLS:
        machines += 1
        folder = tmp_path / str(machines)
        folder.mkdir()
        here = 0
        for _ in range(50):
            convert = subprocess.Popen(journeys.command(folder, *SLOW), env=_env(folder), stdout=subprocess.DEVNULL)
            try:
                limit = chance.uniform(STARTUP_S, alone) if kills < KILLS and here < 6 else None
                assert convert.wait(limit) == 0, f"seed {SEED}, machine {machines}"
                break
            except subprocess.TimeoutExpired:
                convert.kill()
                convert.wait()
                kills, here = kills + 1, here + 1
            assert programs(folder) == [], f"seed {SEED}, machine {machines}"
        assert journeys.essence(folder) == essence, f"seed {SEED}, machine {machines}"
        assert journeys.left(folder) == left, f"seed {SEED}, machine {machines}"
        assert journeys.twice(folder) == [], f"seed {SEED}, machine {machines}"
        assert journeys.again(folder) <= journeys.IN_FLIGHT * here, f"seed {SEED}, machine {machines}"
        assert programs(folder) == []
        blocks += journeys.again(folder)
    result = {
        "commit": _git("rev-parse", "HEAD"),
        "date": time.strftime("%Y-%m-%d"),
        "paths": MEASURED,
        "kills": kills,
        "machines": machines,
        "blocks_written_again": blocks,
        "seed": SEED,
    }
    if KILLS >= 20:  # fewer prove nothing worth keeping
        (ROOT / "bench" / "soak.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(f"{kills} kills over {machines} machines, {blocks} blocks written again, seed {SEED}\n")


def _env(folder: Path) -> dict[str, str]:
    return os.environ | {"V2C_MEMORY": str(folder / "memory")}
