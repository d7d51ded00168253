"""The walker as a server of killable processes, and what its runs left behind."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WALKER = Path(__file__).with_name("walker.py")
KILLED = -9
VERBS = ("v2c.verbs", "v2c.cli.convert", "v2c.cli.cutover", "v2c.cli.jobs")  # what most commands import


@dataclass
class Walker:
    """Runs the walker's command, each time in a process of its own."""

    server: "subprocess.Popen[str]"

    def __call__(self, folder: Path, at: int = 0, log: Path | None = None) -> int:
        """Its exit code, negative for the signal that ended it. `at`: the boundary to die at."""
        return self._ask({"at": at, "log": str(log or ""), "argv": [str(folder / name) for name in ("state", "work", "world")]})

    def v2c(self, folder: Path, *argv: str, at: int = 0, log: Path | None = None) -> int:
        """The exit code of the product's command line, whose world lies in the folder, its words in the files `out` and `err`."""
        places = ["--state", str(folder / "state"), "--workdir", str(folder / "work")]
        env = {"V2C_MEMORY": str(folder / "memory")}
        ask: dict[str, object] = {"at": at, "log": str(log or ""), "argv": ["v2c", *argv, *places], "env": env}
        ask |= {name: str(folder / name) for name in ("out", "err")}
        return self._ask(ask)

    def _ask(self, ask: object) -> int:
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps(ask) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())


@contextmanager
def walking(*imported: str) -> Iterator[Walker]:
    """The walker as a server that has imported these modules; it has to end well."""
    argv = [sys.executable, str(WALKER), "--serve", *imported]
    server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield Walker(server)
    assert server.stdin
    server.stdin.close()
    assert server.wait(120) == 0


@dataclass
class World:
    """What the walker's runs in a folder left behind."""

    folder: Path

    @property
    def counts(self) -> Counter[str]:
        """How often each thing was written down."""
        return Counter((self.folder / "world" / "log").read_text().splitlines())

    @property
    def result(self) -> str:
        return (self.folder / "world" / "result").read_text()

    def left(self) -> list[str]:
        """Every file that lies about, by kind."""
        world = [p.name.partition("-")[0] for p in (self.folder / "world").iterdir()]
        work = [p.name for p in (self.folder / "work").rglob("*") if p.is_file()]
        return sorted(world + work)

    def running(self) -> list[int]:
        """Which of the programs that were started still run (a zombie does not)."""
        pids = self.folder / "world" / "pids"
        alive = []
        for pid in map(int, pids.read_text().split() if pids.exists() else []):
            status = Path(f"/proc/{pid}/stat")
            if status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX":
                alive.append(pid)
        return alive


def programs(folder: Path) -> list[str]:
    """The running programs whose command line names the folder; those that are being killed get a second to go."""
    deadline = time.monotonic() + 1
    while (found := _programs(folder)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def _programs(folder: Path) -> list[str]:
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended while we looked
        if str(folder) in words:
            found.append(words)
    return found
