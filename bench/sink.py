"""A server that discards what it is sent, at the rate of an uplink: what uploads are measured against.

    python -m bench.sink aws|azure|gcp [--rate BYTES_PER_SECOND] [--tls FOLDER]

Prints its port, then serves the few calls that an upload makes of that cloud, without keeping a byte, until it is killed; GET
/sink answers what it was sent, as JSON. It is no emulator: it believes everything.
"""

import argparse
import asyncio
import json
import re
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SMALL = 64 * 1024  # bodies up to here are kept for the answer
SLICE_S = 0.02  # how long the line may run ahead of its rate


@dataclass
class Call:
    """A request: its headers in lower case, its body if it was small, and how many bytes the body had."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    length: int = 0


@dataclass(frozen=True)
class Answer:
    """What is said to it."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


Routes = Callable[[Call], Answer]


@dataclass
class Counted:
    """What came: requests, bytes of bodies, and those by method and kind of path."""

    requests: int = 0
    bytes: int = 0
    by: dict[str, int] = field(default_factory=dict)


@dataclass
class Uplink:
    """One line that all connections share, `rate` bytes per second (0: as fast as it goes)."""

    rate: int
    free: float = 0.0

    def wait(self, count: int) -> float:
        """Seconds until the line has carried `count` more bytes, less what it may run ahead."""
        now = time.monotonic()
        self.free = max(self.free, now) + (count / self.rate if self.rate else 0.0)
        return max(0.0, self.free - now - SLICE_S)


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, lengths and chunks; as little work a byte as Python allows."""

    def __init__(self, routes: Routes, counted: Counted, uplink: Uplink) -> None:
        self._routes, self._counted, self._uplink = routes, counted, uplink
        self._head = bytearray()
        self._call: Call | None = None
        self._left = 0
        self._chunked = False
        self._body = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport
        pause = self._uplink.wait(len(data))
        if pause:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(pause, self._go_on)
        view = memoryview(data)
        while view:
            view = self._take(view)

    def _go_on(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()

    def _take(self, view: memoryview) -> memoryview:
        if self._call is None:
            self._head += view
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return view[:0]
            rest = memoryview(bytes(self._head[end + 4 :]))
            self._begin(bytes(self._head[:end]))
            self._head = bytearray()
            return rest
        if self._chunked:
            return self._chunk(view)
        piece = view[: self._left]
        self._keep(piece)
        self._left -= len(piece)
        if not self._left:
            self._end()
        return view[len(piece) :]

    def _begin(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._call = Call(method, path, headers)
        self._body.clear()
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = int(headers.get("content-length", "0"))
        if headers.get("expect", "").lower() == "100-continue":
            assert self._transport
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._chunked and not self._left:
            self._end()

    def _keep(self, piece: memoryview) -> None:
        assert self._call
        self._call.length += len(piece)
        if len(self._body) + len(piece) <= SMALL:
            self._body += piece

    def _chunk(self, view: memoryview) -> memoryview:
        """Chunks: a line with the length, the bytes, an empty line."""
        if self._left:
            piece = view[: self._left]
            self._keep(piece)
            self._left -= len(piece)
            return view[len(piece) :]
        self._head += view
        line, found, rest = bytes(self._head).lstrip(b"\r\n").partition(b"\r\n")
        if not found:
            self._head = bytearray(bytes(self._head))
            return view[:0]
        self._head = bytearray()
        self._left = int(line.split(b";")[0] or b"0", 16)
        if not self._left:
            self._end()
            return memoryview(rest.lstrip(b"\r\n"))
        return memoryview(rest)

    def _end(self) -> None:
        assert self._call and self._transport
        call, self._call = self._call, None
        call.body = bytes(self._body)
        self._counted.requests += 1
        self._counted.bytes += call.length
        kind = f"{call.method} {re.sub(r'[0-9a-f-]{8,}|[0-9]+', '*', call.path.partition('?')[0])}"
        self._counted.by[kind] = self._counted.by.get(kind, 0) + call.length
        if call.path == "/sink":
            said = Answer(200, json.dumps({"requests": self._counted.requests, **vars(self._counted)}).encode())
        else:
            said = self._routes(call)
        told = {"Content-Length": str(len(said.body)), **dict(said.headers)}  # a HEAD tells the length of something else
        lines = [f"HTTP/1.1 {said.status} .", *(f"{name}: {value}" for name, value in told.items())]
        self._transport.write("\r\n".join([*lines, "", ""]).encode() + (b"" if call.method == "HEAD" else said.body))


async def serve(routes: Routes, rate: int, context: ssl.SSLContext | None) -> None:
    """Listens on a free port of the loopback address, says which, and stays."""
    counted, uplink = Counted(), Uplink(rate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(routes, counted, uplink), "127.0.0.1", 0, ssl=context)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Serves one cloud's calls."""
    from bench import sinks

    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("cloud", choices=sorted(sinks.ROUTES))
    words.add_argument("--rate", type=int, default=0)
    words.add_argument("--tls", type=Path)
    asked = words.parse_args()
    context = None
    if asked.tls:
        from v2c.emulators.tls import authority

        context = authority(asked.tls).context()
    asyncio.run(serve(sinks.ROUTES[asked.cloud](), asked.rate, context))


if __name__ == "__main__":
    main()
