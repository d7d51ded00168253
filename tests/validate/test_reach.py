"""Checks over the network, against servers that answer, refuse, hang, and talk nonsense."""

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from v2c.emulators.tls import authority
from v2c.errors import Paused, UsageError
from v2c.events import Meter
from v2c.model import Expectation, Verdict
from v2c.validate import reach
from v2c.validate.reach import Reach, ask, checks, parse


@pytest.mark.parametrize(
    ("spec", "made"),
    [
        ("tcp:db.example.org:5432", ("tcp", "db.example.org", 5432, "", 0)),
        ("tcp:{address}:22", ("tcp", "{address}", 22, "", 0)),
        ("tcp:[2001:db8::1]:443", ("tcp", "2001:db8::1", 443, "", 0)),
        ("ssh:{address}", ("ssh", "{address}", 22, "", 0)),
        ("ssh:192.0.2.1:2222", ("ssh", "192.0.2.1", 2222, "", 0)),
        ("http://{address}/", ("http", "{address}", 80, "/", 200)),
        ("http://{address}:8080/health?deep=1=204", ("http", "{address}", 8080, "/health?deep=1", 204)),
        ("https://erp.example.org=301", ("https", "erp.example.org", 443, "/", 301)),
        ("http://erp/x?a=b", ("http", "erp", 80, "/x?a=b", 200)),
    ],
)
def test_how_checks_are_written(spec: str, made: tuple[str, str, int, str, int]) -> None:
    assert parse(spec) == Reach(spec, *made)


@pytest.mark.parametrize(
    "spec",
    [
        *["", "tcp", "tcp:host", "tcp::22", "tcp:host:0", "tcp:host:99999", "tcp:host:port", "udp:host:53", "ssh:", "http:host"],
        *["http:///x", "ftp://h/", "http://user:secret@host/"],
    ],
)
def test_what_is_no_check(spec: str) -> None:
    with pytest.raises(UsageError, match=r"is not understood: write it as tcp:HOST:PORT"):
        parse(spec)


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/": 200, "/moved": 301}.get(self.path, 404))
        self.send_header("Location", "http://192.0.2.1/")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def web() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def talking() -> Iterator[Callable[[bytes], int]]:
    """A server that says the words to whoever comes, and then waits."""
    open: list[socket.socket] = []

    def serve(words: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        open.append(listener)

        def talk() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                open.append(connection)
                connection.sendall(words)

        threading.Thread(target=talk, daemon=True).start()
        return int(listener.getsockname()[1])

    yield serve
    for each in open:
        each.close()


def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_pages(web: int) -> None:
    for spec, good, seen in (("/", True, "status 200"), ("/moved=301", True, "status 301"), ("/moved", False, "status 301"),
                             ("/none=200", False, "status 404")):  # fmt: skip
        assert ask(parse(f"http://127.0.0.1:{web}{spec}"), "127.0.0.1") == (good, seen), "a redirection is not followed"


def test_a_page_over_tls_whose_name_nobody_knows(tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.socket = authority(tmp_path).context().wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert ask(parse(f"https://127.0.0.2:{server.server_address[1]}/"), "127.0.0.1") == (True, "status 200")
    server.shutdown()
    server.server_close()


def test_greetings(talking: Callable[[bytes], int]) -> None:
    port = talking(b"SSH-2.0-OpenSSH_9.2p1\r\nmore")
    assert ask(parse(f"ssh:h:{port}"), "127.0.0.1") == (True, "SSH-2.0-OpenSSH_9.2p1")
    assert ask(parse(f"tcp:h:{port}"), "127.0.0.1") == (True, "answers")
    good, seen = ask(parse(f"ssh:h:{talking(b'x' * 100_000)}"), "127.0.0.1")
    assert not good and len(seen) <= 255
    began = time.monotonic()
    assert not ask(parse(f"ssh:h:{talking(b'')}"), "127.0.0.1", timeout_s=0.3)[0] and time.monotonic() - began < 3
    assert not ask(parse(f"http://h:{talking(b'nonsense')}/"), "127.0.0.1", timeout_s=0.3)[0]
    assert "refused" in ask(parse(f"tcp:h:{closed()}"), "127.0.0.1")[1].lower()


def test_a_service_that_comes_up_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "PAUSE_S", 0.1)
    port, late = closed(), []
    timer = threading.Timer(0.5, lambda: late.append(socket.create_server(("127.0.0.1", port))))
    timer.start()
    (check,) = checks([f"tcp:{{address}}:{port}"], ["127.0.0.1"], Meter(), isolated=False, patience_s=20)
    assert check.verdict is Verdict.PASS and check.note == f"asked 127.0.0.1 port {port}"
    late[0].close()
    (check,) = checks([f"tcp:127.0.0.1:{closed()}"], [], Meter(), isolated=True, patience_s=0)
    assert check.verdict is Verdict.FAIL and check.expectation is Expectation.DECLARED, "another host is asked in any case"


def test_what_cannot_be_asked_is_skipped() -> None:
    isolated = checks(["ssh:{address}"], ["192.0.2.1"], Meter(), isolated=True)
    unknown = checks(["ssh:{address}"], [], Meter(), isolated=False)
    assert [(check.verdict, check.note) for check in (*isolated, *unknown)] == [
        (Verdict.SKIPPED, "a test is isolated"),
        (Verdict.SKIPPED, "the target tells no address of the instance"),
    ]


def test_ctrl_c_is_heard() -> None:
    with pytest.raises(Paused):
        checks([f"tcp:127.0.0.1:{closed()}"], [], Meter(cancelled=lambda: True), isolated=False)
