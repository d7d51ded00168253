"""Random kills: the walker is killed after random times and gone on with, as often as V2C_SOAK_KILLS says (default 20)."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worlds import WALKER, World

KILLS = int(os.environ.get("V2C_SOAK_KILLS", "20"))
SEED = int(os.environ.get("V2C_SOAK_SEED", "0")) or random.randrange(1, 1 << 32)
STARTUP_S = 0.5  # a kill sooner than this finds only imports


@pytest.mark.soak
@pytest.mark.timeout(120 + 60 * KILLS)
def test_random_kills(tmp_path: Path) -> None:
    """Kills come at random moments of random runs; every machine arrives whole, and exactly once."""
    chance = random.Random(SEED)
    kills = machines = 0
    while kills < KILLS:
        machines += 1
        folder = tmp_path / str(machines)
        folder.mkdir()
        argv = [sys.executable, str(WALKER), *(str(folder / part) for part in ("state", "work", "world")), "0.05"]
        for _ in range(50):
            walk = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
            try:
                code = walk.wait(chance.uniform(STARTUP_S, 4.0) if kills < KILLS else None)
                assert code == 0, f"seed {SEED}, machine {machines}"
                break
            except subprocess.TimeoutExpired:
                walk.kill()
                walk.wait()
                kills += 1
            time.sleep(0.05)  # the kernel kills our programs a moment after us
            assert World(folder).running() == [], f"seed {SEED}"
        else:
            pytest.fail(f"seed {SEED}: machine {machines} never arrived")
        world = World(folder)
        assert world.left() == ["disk", "image", "log", "pids", "result"], f"seed {SEED}"
        assert (world.counts["made hold"], world.counts["made image"]) == (1, 1), f"seed {SEED}"
        assert {f"block {n}" for n in range(12)} <= set(world.counts)
    sys.stdout.write(f"{kills} kills over {machines} machines, seed {SEED}\n")
