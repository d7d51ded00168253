"""HTTP over TLS, as SDKs speak it to AWS (bodies of blocks are then not signed). Connections stay open, which is how SDKs send
thousands of blocks, and are cut on demand."""

import logging
import socket
import ssl
import struct
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from v2c.emulators.aws.wire import Answer, Inquiry, Refusal, refused

LARGEST = 5 * 1024**3  # bytes of a body: S3's largest part


class Server(ThreadingHTTPServer):
    """`respond` answers an inquiry; None cuts the connection, as a firewall would."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, respond: Callable[[Inquiry], Answer | None], tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.respond, self.tls = respond, tls

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up: that is their right."""
        logging.getLogger("v2c.emulators.aws").debug("a connection ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    server: Server

    def setup(self) -> None:
        """Shakes hands in the connection's own thread: a slow client keeps nobody else waiting."""
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle_expect_100(self) -> bool:
        """S3's clients wait for this before they send a body; it must not wait in our buffer."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST:
            self._send(refused("s3", Refusal("EntityTooLarge", "too large", 413), "0"))
            return
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        inquiry = Inquiry(self.command, parts.path, parts.query, headers, body)
        try:
            answer = self.server.respond(inquiry)
        except Exception as error:
            logging.getLogger("v2c.emulators.aws").exception("%s %s", self.command, self.path)
            answer = refused("s3", Refusal("InternalError", f"the emulator failed: {error}", 500), "0")
        if answer is None:
            self._cut()
        else:
            self._send(answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in answer.headers}:  # a HEAD says that of what it does not send
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are in the ledger."""
