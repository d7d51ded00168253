"""A small client for QEMU's monitor (QMP): one command at a time over a connected socket, events passed over.

The protocol: QEMU's docs/interop/qmp-spec. Line by line JSON; a greeting first, then qmp_capabilities.
"""

import array
import json
import socket
import time
from typing import Any

from v2c.errors import ToolError

LINE = 1 << 20  # bytes; QEMU's answers to our commands stay far below


class Monitor:
    """A conversation with one QEMU. Not thread-safe. Raises ToolError when QEMU refuses, ends, or takes too long."""

    def __init__(self, connection: socket.socket, timeout: float = 30.0) -> None:
        self._socket = connection
        self._buffer = b""
        self._timeout = timeout
        if "QMP" not in self._receive(time.monotonic() + timeout):
            raise ToolError("QEMU's monitor did not greet")
        self.execute("qmp_capabilities")

    def execute(self, command: str, *, descriptor: int | None = None, **arguments: object) -> Any:
        """Runs a command and returns its answer; `descriptor` travels along (for add-fd)."""
        message = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        rights = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        try:
            self._socket.sendmsg([message], rights)
        except OSError as error:
            raise ToolError(f"QEMU is gone: {error.strerror}", transient=True) from error
        deadline = time.monotonic() + self._timeout
        while True:
            answer = self._receive(deadline)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise ToolError(f"QEMU refused {command}: {answer['error'].get('desc', answer['error'])}")

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise ToolError("QEMU's monitor does not answer", transient=True) from error
            except OSError as error:
                raise ToolError(f"QEMU is gone: {error.strerror}", transient=True) from error
            if not data or len(self._buffer) > LINE:
                raise ToolError("QEMU is gone", transient=True)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        return answer if isinstance(answer, dict) else {}
