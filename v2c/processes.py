"""Programs of this machine: started through `sh` in a session of their own, watched, and never outliving us.

Every child is run as `setpriv --pdeathsig KILL -- ...`: the kernel kills it when the thread that started it ends, so a
`kill -9` of v2c leaves no qemu-nbd holding a lock (qemu-img ignores SIGPIPE and would go on writing). Start a child from the
thread that waits for it. Ctrl-C calls `kill_all`.
"""

import contextlib
import os
import pwd
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

import sh

from v2c.errors import ToolError

_GUARD = ("--pdeathsig", "KILL", "--")
_TAIL = 40  # last lines of a program's words that an error may quote

_running: "set[Process | Conversation]" = set()
_withheld: set[str] = set()
_owner: ContextVar[str] = ContextVar("owner", default="")
_lock = threading.RLock()  # a signal handler may call kill_all while its thread is in here

PACKAGES = {  # Debian package that holds a program, for the remedy of "not found"
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "nbdcopy": "libnbd-bin",
}


def line(argv: Sequence[str]) -> str:
    """The command as one can paste it."""
    return shlex.join(argv)


@contextlib.contextmanager
def owned(owner: str) -> Iterator[None]:
    """Programs that this thread starts while the body runs belong to `owner`, for `kill_all(owner)`. So do those of threads
    that it starts by `pool`."""
    token = _owner.set(owner)
    try:
        yield
    finally:
        _owner.reset(token)


def owner() -> str:
    """Whom the programs of this thread belong to; nobody: ""."""
    return _owner.get()


def pool(threads: int) -> ThreadPoolExecutor:
    """Threads whose programs belong to whom this thread's do."""
    return ThreadPoolExecutor(threads, initializer=_owner.set, initargs=(owner(),))


def withhold(name: str) -> None:
    """This variable of our environment holds a secret: no program that is started from now on inherits it."""
    _withheld.add(name)


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    """What a program finds in its environment: ours, without what is withheld, and what it is given."""
    return {name: value for name, value in os.environ.items() if name not in _withheld} | dict(env or {})


def _lowered(user: str, groups: Sequence[int]) -> tuple[str, ...]:
    """Options of setpriv that make a program somebody else, for good."""
    if not user:
        return ()
    entry = pwd.getpwnam(user)
    more = ("--groups", ",".join(map(str, groups))) if groups else ("--clear-groups",)
    return ("--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), *more, "--no-new-privs", "--inh-caps=-all")


def _command(argv: Sequence[str], user: str = "", groups: Sequence[int] = ()) -> Any:
    try:
        sh.Command(argv[0])
        return sh.Command("setpriv").bake(*_lowered(user, groups), *_GUARD, *argv)
    except sh.CommandNotFound as missing:
        name = str(missing)
        package = PACKAGES.get(name, name)
        raise ToolError(f"{name} is not installed", command=line(argv), remedy=f"apt install {package}") from missing


def run(argv: Sequence[str], *, timeout: float | None = None, env: Mapping[str, str] | None = None) -> str:
    """Runs a program to its end and returns its stdout (small: keep bulk data out of here).

    Raises ToolError with the last lines of stderr when it fails, is killed, or takes over `timeout` seconds.
    """
    process = Process(argv, env=env)
    code = process.wait(timeout)
    if code is None:
        process.kill()
        raise ToolError(f"{argv[0]} took over {timeout:.0f} s", command=line(argv), transient=True)
    if code != 0:
        raise ToolError(f"{argv[0]} failed ({code}): {process.words() or 'it said nothing'}", command=line(argv))
    return process.output


class Process:
    """A running program. Its stdout is kept (or written to `out`), of its stderr the last lines.

    `stdin`: the text that it reads there.
    `pass_fds`: inheritable descriptors that it gets beside the standard three. `user`: whom it runs as (we must be root),
    with `groups` (ids) and no way back.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        out: Path | None = None,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        user: str = "",
        groups: Sequence[int] = (),
    ) -> None:
        self.argv = tuple(argv)
        self.owner = owner()
        self._stdout: list[str] = []
        self._stderr: deque[str] = deque(maxlen=_TAIL)
        self._handle = _command(argv, user, groups)(
            _pass_fds=set(pass_fds),
            _bg=True,
            _bg_exc=False,
            _new_session=True,
            _tty_out=False,
            _no_out=True,
            _no_err=True,
            **({} if stdin is None else {"_in": stdin}),
            _out=str(out) if out else self._stdout.append,
            _err=self._stderr.append,
            _env=_environment(env),
        )
        with _lock:
            _running.add(self)

    @property
    def pid(self) -> int:
        """Its process id, also its session's and group's."""
        return int(self._handle.pid)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return bool(self._handle.is_alive())

    @property
    def code(self) -> int | None:
        """Its exit code, at once; None while it runs. `wait` takes a moment longer, for the last of its words."""
        return None if self.alive else int(self._handle.process.exit_code)

    @property
    def output(self) -> str:
        """Its stdout so far."""
        return "".join(self._stdout)

    def words(self) -> str:
        """The last lines of its stderr, on one line."""
        return " ".join(" ".join(self._stderr).split())

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code (negative: the signal that ended it), or None when it still runs after `timeout` seconds."""
        if not self._over(timeout):
            return None
        with contextlib.suppress(sh.ErrorReturnCode):
            self._handle.wait()  # for the last of its words, too
        with _lock:
            _running.discard(self)
        return int(self._handle.exit_code)

    def _over(self, timeout: float | None) -> bool:
        """Whether it ends within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.001
        while self.alive:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        return True

    def kill(self, grace: float = 0.0) -> None:
        """Ends its whole group: with SIGTERM and up to `grace` seconds, then with SIGKILL. Harmless when it is over."""
        if grace and self.alive:
            self._signal(signal.SIGTERM)
            self._over(grace)
        if self.alive:
            self._signal(signal.SIGKILL)
            self._over(5)
        with _lock:
            _running.discard(self)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Conversation:
    """A program that is spoken to over its stdin and stdout, a line at a time (the appliance's helper).

    `stderr` is drained by a thread; its last lines are in `words()`.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
        self.argv = tuple(argv)
        self.owner = owner()
        self._stderr: deque[str] = deque(maxlen=_TAIL)
        try:
            self._popen = subprocess.Popen(
                ["setpriv", *_GUARD, *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=_environment(env),
                text=True,
                encoding="utf-8",
                errors="surrogateescape",
            )
        except FileNotFoundError as missing:
            raise ToolError("setpriv is not installed", remedy="apt install util-linux") from missing
        assert self._popen.stdin and self._popen.stdout and self._popen.stderr
        self.stdin: IO[str] = self._popen.stdin
        self.stdout: IO[str] = self._popen.stdout
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()
        with _lock:
            _running.add(self)

    def _read_stderr(self) -> None:
        assert self._popen.stderr
        for text in self._popen.stderr:
            self._stderr.append(text)

    @property
    def pid(self) -> int:
        """Its process id, also its session's and group's."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def words(self) -> str:
        """The last lines of its stderr, on one line."""
        return " ".join(" ".join(self._stderr).split())

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code, or None when it still runs after `timeout` seconds."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        with _lock:
            _running.discard(self)
        return code

    def kill(self, grace: float = 0.0) -> None:
        """Ends its whole group: closes its stdin and waits `grace` seconds, then SIGKILL. Harmless when it is over."""
        with contextlib.suppress(OSError):
            self.stdin.close()
        if grace:
            self.wait(grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(5)
        with _lock:
            _running.discard(self)


def kill_all(owner: str = "") -> None:
    """Kills every program we started (or those of `owner`), at once, and sees them gone (at most half a second). For Ctrl-C, for
    a job that is cancelled beside others, and for the end of a test."""
    with _lock:
        running = [process for process in _running if not owner or process.owner == owner]
    for process in running:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 0.5  # a busy machine takes a moment; a disk's lock is free only then
    while any(process.alive for process in running) and time.monotonic() < deadline:
        time.sleep(0.005)
