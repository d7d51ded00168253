"""Processes that can be killed at any boundary, forked from one that has imported what they need (an SDK takes seconds).

forks.py MODULE        each line of stdin: {"at": N, "log": FILE, "env": {...}, "argv": [...], "err": FILE}
                       each line of stdout: how it ended; MODULE.main(*argv) ran in a process of its own
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
KILLED = -9


class Forks:
    """`forks(argv, env)`: the exit code of the module's main, negative for the signal that ended it; `said` is its stderr."""

    def __init__(self, server: "subprocess.Popen[str]", folder: Path) -> None:
        self._server, self._err, self.said = server, folder / "err", ""

    def __call__(self, argv: Sequence[object], env: Mapping[str, str], at: int = 0, log: Path | None = None) -> int:
        assert self._server.stdin and self._server.stdout
        ask = {"at": at, "log": str(log or ""), "env": dict(env), "argv": list(map(str, argv)), "err": str(self._err)}
        self._server.stdin.write(json.dumps(ask) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        self.said = self._err.read_text()
        return code


@contextmanager
def forks(module: str, folder: Path, *imports: str) -> Iterator[Forks]:
    """A server of forks of `module`, which lies here; it has imported the others too."""
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(map(str, (HERE, HERE.parent / "contracts", HERE.parents[1])))
    argv = [sys.executable, str(HERE / "forks.py"), module, *imports]
    env = {**os.environ, "PYTHONPATH": path}
    server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    try:
        yield Forks(server, folder)
    finally:
        server.kill()
        server.wait()


def _serve(name: str, *imports: str) -> None:
    from v2c import crashpoints

    module, *_ = [importlib.import_module(one) for one in (name, *imports)]
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            code = 1
            try:
                os.dup2(os.open(asked["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
                os.environ.update(asked["env"])
                crashpoints.arm(asked["at"], asked["log"])
                module.main(*asked["argv"])
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{ended}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
