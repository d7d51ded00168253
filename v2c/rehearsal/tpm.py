"""A TPM 2.0 for one boot: swtpm, spoken to by QEMU over a socket pair. What it holds is gone with it, as a new cloud machine's
begins empty."""

import os
import pwd
import shutil
import socket
import tempfile
from pathlib import Path

from v2c.processes import Process

PROGRAM = "swtpm"


def installed() -> bool:
    """Whether this host has one to give."""
    return shutil.which(PROGRAM) is not None


class Tpm:
    """From `start` to `close`. `peer` is the descriptor for QEMU's end; who passes it on closes it."""

    def __init__(self, workdir: Path, user: str = "") -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=".boot-tpm-", dir=workdir))
        self._user = user
        if user:
            entry = pwd.getpwnam(user)
            os.chown(self._folder, entry.pw_uid, entry.pw_gid)
        self._socket, theirs = socket.socketpair()
        self.peer = theirs.detach()
        self._process: Process | None = None

    def start(self) -> None:
        """Starts it, from the thread that is to outlive it. It goes when QEMU does. ToolError when it is not installed."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        given = [folder, self._socket.fileno()]
        for descriptor in given:
            os.set_inheritable(descriptor, True)
        try:
            # the folder by its descriptor: whoever it runs as may not enter those above it
            argv = [PROGRAM, "socket", "--tpm2", "--terminate", "--tpmstate", f"dir=/proc/self/fd/{folder}"]
            argv += ["--ctrl", f"type=unixio,clientfd={given[1]}"]
            self._process = Process(argv, pass_fds=given, user=self._user)
        finally:
            os.close(folder)
            self._socket.close()

    def words(self) -> str:
        """What it complained of last."""
        return self._process.words() if self._process else ""

    def close(self) -> None:
        """Ends it. Twice is harmless."""
        if self._process is not None:
            self._process.kill()
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)
