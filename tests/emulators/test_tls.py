"""The certificate authority: a client that trusts it talks to the server, one that does not refuses."""

import http.server
import ssl
import stat
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest

from v2c.emulators.tls import Authority, authority


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def made(tmp_path: Path) -> Authority:
    return authority(tmp_path)


@pytest.fixture
def port(made: Authority) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    server.socket = made.context().wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_who_trusts_it_is_served(made: Authority, port: int, host: str) -> None:
    trusting = ssl.create_default_context(cafile=str(made.trusted))
    with urllib.request.urlopen(f"https://{host}:{port}/", context=trusting, timeout=10) as answer:
        assert answer.read() == b"hello"


def test_who_does_not_trust_it_refuses(port: int) -> None:
    with pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"https://localhost:{port}/", context=ssl.create_default_context(), timeout=10)


def test_it_is_made_once_and_its_key_is_private(made: Authority, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert authority(tmp_path) == made
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert b"PRIVATE" not in made.trusted.read_bytes() + made.certificate.read_bytes()
