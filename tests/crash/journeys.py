"""A conversion from memory: to memory: by the real command line, and how to look at what came of it."""

import json
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

from v2c.guest import kept
from v2c.model import MIB

CONVERT = ("convert", "memory:erp?disks=2&size=25165824", "--to", "memory:cloud", "--quiet")
HEAD = 8 * MIB  # of the boot disk: holds the guest's files
IN_FLIGHT = 4 * 2  # blocks that may be under way at a kill: the target's `parallel` on each of two disks


def command(folder: Path, *more: str) -> list[str]:
    """The command line, whose places lie in the folder; V2C_MEMORY must name its folder `memory`."""
    return [sys.executable, "-m", "v2c", *CONVERT, "--state", str(folder / "state"), "--workdir", str(folder / "work"), *more]


def events(folder: Path) -> list[dict[str, Any]]:
    """Every effect at the target, in order."""
    lines = (folder / "memory" / "targets" / "cloud" / "events").read_text().splitlines()
    return [json.loads(line) for line in lines]


def told(folder: Path) -> dict[str, Any]:
    """The report."""
    (job,) = [path for path in (folder / "work").iterdir() if path.is_dir()]
    found: dict[str, Any] = json.loads((job / "report.json").read_text())
    return found


def essence(folder: Path) -> Any:
    """What must be the same however often the way there was cut: verdict, checks, changes, and every byte of the disks."""
    report = told(folder)
    disks = sorted((folder / "memory" / "targets" / "cloud" / "disks").iterdir())
    nonce = report["plan"]["needs"]["probe"]["nonce"].encode()  # random for each job that is planned
    boot = disks[0].read_bytes()
    tree = {
        path: (node.kind, node.mode, node.uid, node.gid, node.data.replace(nonce, b"NONCE"))
        for path, node in kept.parse(boot).tree.items()
    }
    return (
        report["verdict"],
        [(check["id"], check["subject"], check["verdict"]) for check in report["checks"]],
        [(change["fix"], change["kind"], change["path"]) for change in report["changes"]],
        [step["name"] for step in report["steps"]],
        [(disk.name.rpartition("-")[2], disk.stat().st_size) for disk in disks],
        tree,
        [sha256(boot[HEAD:]).hexdigest(), *(sha256(disk.read_bytes()).hexdigest() for disk in disks[1:])],
    )


def left(folder: Path) -> list[str]:
    """Every file of the work folder, and those of the target that are neither disks nor objects."""
    work = [path for path in (folder / "work").rglob("*") if not path.is_dir()]
    target = folder / "memory" / "targets" / "cloud"
    other = [path for path in target.rglob("*") if path.is_file() and path.parent.name not in ("disks", "objects")]
    return sorted(path.name for path in work + other) + sorted(path.name for path in target.rglob("*.new"))


def again(folder: Path) -> int:
    """How many blocks were written more than once."""
    puts = Counter((event["id"], event["index"]) for event in events(folder) if event["what"] == "put")
    return sum(puts.values()) - len(puts)


def twice(folder: Path) -> list[str]:
    """What was made more than once."""
    made = Counter(event["id"] for event in events(folder) if event["what"] == "create")
    return [id for id, count in made.items() if count > 1]
