"""Where a crash hurts most, by name: the boundaries that the crash tests kill a real process at.

The engine and the journal call `point` just before and just after they write something down. With `V2C_CRASH_AT=N` the
process kills itself with SIGKILL at the Nth of them, as a power cut or an impatient operator would; with `V2C_CRASH_LOG=FILE`
their names are appended to a file, so that a test knows how many there are. Without either, `point` costs nothing.
"""

import os
import signal
import threading

_at = int(os.environ.get("V2C_CRASH_AT", "0"))
_log = os.environ.get("V2C_CRASH_LOG", "")
_count = 0
_lock = threading.Lock()

armed = bool(_at or _log)


def point(name: str) -> None:
    """A boundary: `name` says what was just written, or is about to be."""
    global _count
    if not armed:
        return
    with _lock:
        _count += 1
        if _log:
            descriptor = os.open(_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(descriptor, f"{name}\n".encode())
            os.close(descriptor)
        if _count == _at:
            os.kill(os.getpid(), signal.SIGKILL)
