"""Where a crash hurts most, by name: the boundaries that the crash tests kill a real process at.

The engine and the journal call `point` just before and just after they write something down. With `V2C_CRASH_AT=N` the
process kills itself with SIGKILL at the Nth of them, as a power cut or an impatient operator would; with `V2C_CRASH_LOG=FILE`
their names are appended to a file, so that a test knows how many there are. Without either, `point` costs nothing.
"""

import os
import signal
import threading

_at = 0
_log = ""
_count = 0
_lock = threading.Lock()


def arm(at: int, log: str) -> None:
    """Kills at the `at`th boundary from here on (0: never), and writes their names to `log` (empty: nowhere)."""
    global _at, _log, _count
    _at, _log, _count = at, log, 0


def point(name: str) -> None:
    """A boundary: `name` says what was just written, or is about to be."""
    global _count
    if not (_at or _log):
        return
    with _lock:
        _count += 1
        if _log:
            descriptor = os.open(_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(descriptor, f"{name}\n".encode())
            os.close(descriptor)
        if _count == _at:
            os.kill(os.getpid(), signal.SIGKILL)


arm(int(os.environ.get("V2C_CRASH_AT", "0")), os.environ.get("V2C_CRASH_LOG", ""))
