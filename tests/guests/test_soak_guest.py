"""Random kills of a real conversion: killed after random times and gone on with, V2C_SOAK_KILLS times (default 20).

The result goes to bench/soak-guest.json, with the commit it was made at.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conversions import UNDISTURBED, Conversions, House, Watch, convert
from sameness import arrived_the_same, steps

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("V2C_SOAK_KILLS", "20"))
SEED = int(os.environ.get("V2C_SOAK_SEED", "0")) or random.randrange(1, 1 << 32)
EACH = 7  # kills of one machine, at most
MEASURED = [
    "v2c/engine",
    "v2c/journal.py",
    "v2c/jobs.py",
    "v2c/pipeline.py",
    "v2c/transfer.py",
    "v2c/blocks.py",
    "v2c/overlays.py",
]

pytestmark = [pytest.mark.guest, pytest.mark.soak, pytest.mark.timeout(1200 + 300 * KILLS)]


def test_random_kills_of_a_real_conversion(conversions: Conversions, tmp_path: Path) -> None:
    """Kills come at random moments, in whatever step: every machine arrives whole, once, and the same as undisturbed."""
    chance = random.Random(SEED)
    whole = conversions(*UNDISTURBED)
    kills = machines = again = 0
    cut: dict[str, int] = {}  # how many kills fell into which step
    while kills < KILLS:
        machines += 1
        house = House(tmp_path / str(machines))
        done: set[str] = set()
        here: list[str] = []
        while True:
            watch = Watch(house, *convert(whole.guest, whole.platform))
            if kills < KILLS and len(here) < EACH:
                watch.wait(chance.uniform(1.0, whole.seconds))
            ended = watch.process.poll() is not None or kills >= KILLS or len(here) >= EACH
            if ended:
                assert watch.finish() == 0, f"seed {SEED}, machine {machines}: {watch.words}"
            else:
                watch.kill()
                assert house.gone() == [], f"seed {SEED}, machine {machines}: after a kill"
            assert done & steps(watch.events, "began") == set(), f"seed {SEED}: a finished step is done again"
            done |= steps(watch.events, "ended")
            if ended:
                break
            open_steps = steps(watch.events, "began") - done
            here.append(next(iter(open_steps), "between"))
            kills += 1
        for step in here:
            cut[step] = cut.get(step, 0) + 1
        sys.stdout.write(f"machine {machines}: killed in {', '.join(here) or 'nothing'}\n")
        again += arrived_the_same(whole, house, house.folder, cut=here.count("upload"))
    result = {
        "commit": subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout[:-1],
        "date": time.strftime("%Y-%m-%d"),
        "paths": MEASURED,
        "kills": kills,
        "killed_in": dict(sorted(cut.items())),
        "machines": machines,
        "blocks_written_again": again,
        "seed": SEED,
    }
    if KILLS >= 20:  # fewer prove nothing worth keeping
        (ROOT / "bench" / "soak-guest.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(f"{kills} kills over {machines} machines, {again} blocks written again, seed {SEED}\n")
