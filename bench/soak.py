"""Writes down the last soak: `python bench/soak.py KILLS SECONDS`, called by `./run soak` when every test of it passed."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.run import measured  # noqa: E402 - a script finds the checkout first

PATHS = ["v2c/engine", "v2c/journal.py", "v2c/jobs.py", "v2c/pipeline.py", "v2c/transfer.py", "v2c/overlays.py"]

if __name__ == "__main__":
    result = {**measured(), "paths": PATHS, "kills": int(sys.argv[1]), "seconds": int(sys.argv[2])}
    (ROOT / "bench" / "soak.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"bench/soak.json: {result['kills']} kills in {result['seconds']} s, commit {result['commit'][:12]}")
