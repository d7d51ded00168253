"""The addresses of the page, on loopback. Small on purpose: the standard library's server, a thread a connection, a fixed list of
addresses, and nothing read from the disk that was not read at the start."""

import json
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import v2c
from v2c.errors import UsageError, V2cError
from v2c.model.wave import Gate, MachineView
from v2c.report import harmless
from v2c.report import wave as waves
from v2c.serve import Runs, wire
from v2c.serve.feed import EVERY, Feed
from v2c.serve.guard import HEADERS, REPORT_POLICY, Guard

AT_ONCE = 64  # connections; a page holds one for its stream, and browsers open six at most
PATIENCE_S = 30.0  # for a request to arrive, and for a reader that does not read
ALIVE_S = 15.0  # between two signs of life of a quiet stream: so long is one noticed late that was left
LARGEST_BODY = 1 << 20  # bytes: 10,000 machines named
AGAIN_MS = 2000  # after so long a page asks anew when the stream broke

PAGE = Path(__file__).resolve().parent / "page"
FILES = {"/": ("index.html", "text/html"), "/page.css": ("page.css", "text/css")}
FILES |= {f"/{name}": (name, "text/javascript") for name in ("page.js", "machines.js", "dialogs.js")}
REPORTS = {"html": "text/html", "json": "application/json", "csv": "text/csv", "junit": "application/xml"}
_NAME = r"(?P<{}>[^/]+)"
_RUN = rf"/runs/{_NAME.format('run')}"
_MACHINE = rf"{_RUN}/machines/{_NAME.format('machine')}"


class Refused(Exception):
    """A request that gets no answer but a status and a sentence."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class Server(ThreadingHTTPServer):
    """Serves until `shutdown`. `guard` has the address to print: `address`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, runs: Runs, port: int = 0, every: float = EVERY) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.runs = runs
        self.guard = Guard(self.server_port)
        self.over = threading.Event()
        self.files = {path: ((PAGE / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
        self._every = every
        self._feeds: dict[str, Feed] = {}
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(AT_ONCE)

    @property
    def address(self) -> str:
        """What lets one in: for the user's eyes, and for nobody's log."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.guard.token}"

    def feed(self, run: str) -> Feed:
        """The run's feed, one for all who look. UsageError when there is no such run."""
        with self._lock:
            known = self._feeds.get(run)
        if known:
            return known
        self.runs.snapshot(run)
        with self._lock:
            return self._feeds.setdefault(run, Feed(lambda: self.runs.snapshot(run), self._every))

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is no news, and a trace would name tokens."""

    def shutdown(self) -> None:
        self.over.set()
        super().shutdown()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "v2c"
    sys_version = ""
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, *_: object) -> None:
        """Nothing: addresses hold the token."""

    def version_string(self) -> str:
        return "v2c"

    def _answer(self, how: Callable[[str], None]) -> None:
        """Guards, routes, and turns what went wrong into a status and a sentence."""
        try:
            where = urlsplit(self.path)
            if not self.server.guard.local(self.headers.get_all("Host", [])):
                raise Refused(HTTPStatus.FORBIDDEN, "this server is for this machine only")
            token = parse_qs(where.query).get("token", [""])[-1]
            if self.command == "GET" and where.path == "/" and token:
                if not self.server.guard.knows(token):
                    raise Refused(HTTPStatus.FORBIDDEN, "that token is not this server's: it has another each time it begins")
                self._greet()
                return
            if not self.server.guard.admits(self.headers.get_all("Cookie", [])):
                raise Refused(HTTPStatus.FORBIDDEN, "open the address that `v2c serve` printed")
            how(where.path)
        except Refused as refused:
            self._fail(refused.status, str(refused))
        except UsageError as error:
            self._fail(HTTPStatus.NOT_FOUND if self.command == "GET" else HTTPStatus.CONFLICT, str(error))
        except V2cError as error:
            self._fail(HTTPStatus.CONFLICT, str(error))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as mistake:  # never silently: the page says so, and goes on
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, f"this is a mistake of v2c: {type(mistake).__name__}: {mistake}")

    def _greet(self) -> None:
        """Takes the token out of the address. A page of ours that goes on by itself, and no redirect: a redirect after a link on
        another site's page would come without a cookie that is SameSite=Strict."""
        head = '<!DOCTYPE html><html lang="en"><title>v2c</title><link rel="icon" href="data:,">'
        text = f'{head}<meta http-equiv="refresh" content="0;url=/"><a href="/">v2c</a>'
        self._send(text, "text/html", extra={"Set-Cookie": self.server.guard.set_cookie})

    def _get(self, path: str) -> None:
        runs = self.server.runs
        if path in self.server.files:
            data, kind = self.server.files[path]
            self._send(data, kind)
        elif path == "/runs":
            self._json({"runs": list(runs.names()), "version": v2c.__version__, "act": self.server.guard.act})
        elif found := _match(rf"{_RUN}/news", path):
            self._stream(self.server.feed(found["run"]))
        elif found := _match(rf"{_RUN}/report\.(?P<form>html|json|csv|junit)", path):
            seen, form = runs.snapshot(found["run"]), found["form"]
            extra = {"Content-Security-Policy": REPORT_POLICY} if form == "html" else _saved(f"{found['run']}.{form}")
            self._send(waves.render(seen, form, link=partial(_link, found["run"])), REPORTS[form], extra=extra)
        elif found := _match(_MACHINE, path):
            seen = runs.snapshot(found["run"])
            self._json(wire.detail(seen, _machine(seen.machines, found["machine"])))
        elif found := _match(rf"{_MACHINE}/report", path):
            self._page(runs.report(found["run"], found["machine"]), "report", found["machine"])
        elif found := _match(rf"{_MACHINE}/console", path):
            self._page(runs.console(found["run"], found["machine"]), "console", found["machine"])
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _post(self, path: str) -> None:
        if not self.server.guard.may_act({name.lower(): value for name, value in self.headers.items()}):
            raise Refused(HTTPStatus.FORBIDDEN, "only this server's own page may change something")
        found = _match(rf"{_RUN}/gates/(?P<gate>\w+)/(?P<said>approve|refuse)", path)
        if not found or found["gate"] not in list(Gate):
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")
        machines = self._machines()
        heard = self.server.runs.agree(found["run"], Gate(found["gate"]), machines, yes=found["said"] == "approve")
        self._json({"heard": list(heard)})

    def _machines(self) -> list[str]:
        """The body: {"machines": ["erp", ...]}, by name, so that nobody agrees to a machine that came to the gate meanwhile."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > LARGEST_BODY:
            self.close_connection = True
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "say how long the request is, and no more than a mebibyte")
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            asked = None
        machines = asked.get("machines") if isinstance(asked, dict) else None
        if not isinstance(machines, list) or not machines or not all(isinstance(one, str) for one in machines):
            raise Refused(HTTPStatus.BAD_REQUEST, 'the body is {"machines": ["ID", ...]}')
        return machines

    def _stream(self, feed: Feed) -> None:
        """Server-sent events until the reader or the server goes. https://html.spec.whatwg.org/multipage/server-sent-events.html"""
        self.close_connection = True
        self._head(HTTPStatus.OK, "text/event-stream", {"Connection": "close", "X-Accel-Buffering": "no"})
        last = self.headers.get("Last-Event-ID", "")
        self.wfile.write(f"retry: {AGAIN_MS}\n\n".encode())
        told = time.monotonic()
        while not self.server.over.is_set():
            news = feed.since(last)
            if news:
                last = news.id
                self.wfile.write(f"id: {news.id}\ndata: {news.text}\n\n".encode())
            elif time.monotonic() - told > ALIVE_S:
                self.wfile.write(b": still here\n\n")
            else:
                self.server.over.wait(self.server._every / 2)
                continue
            self.wfile.flush()
            told = time.monotonic()

    def _page(self, text: str | None, what: str, machine: str) -> None:
        if text is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no {what} of {machine} on this host so far")
        if what == "report":
            self._send(text, "text/html", extra={"Content-Security-Policy": REPORT_POLICY})
        else:
            self._send(text, "text/plain")

    def _json(self, value: Any) -> None:
        self._send(json.dumps(value), "application/json")

    def _fail(self, status: HTTPStatus, text: str) -> None:
        """A sentence: as JSON where scripts ask, else as a page."""
        if "text/html" in self.headers.get("Accept", ""):
            self._send(f'<!DOCTYPE html><html lang="en"><title>v2c</title><p>{escape(text)}</p>', "text/html", status)
        else:
            self._send(json.dumps({"error": text}), "application/json", status)

    def _send(
        self, body: str | bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, extra: dict[str, str] | None = None
    ) -> None:
        data = body if isinstance(body, bytes) else body.encode("utf-8", "backslashreplace")
        if self.command == "POST" and status is not HTTPStatus.OK:
            self.close_connection = True  # its body may be unread
        self._head(status, kind, {"Content-Length": str(len(data)), **(extra or {})})
        self.wfile.write(data)

    def _head(self, status: HTTPStatus, kind: str, extra: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": f"{kind}; charset=utf-8", **HEADERS, **extra}.items():
            self.send_header(name, value)
        if self.close_connection and "Connection" not in extra:
            self.send_header("Connection", "close")
        self.end_headers()


def _match(pattern: str, path: str) -> dict[str, str] | None:
    """The parts of an address; its names were percent-encoded one by one, so a slash in a name is none between names."""
    found = re.fullmatch(pattern, path)
    return {name: unquote(value) for name, value in found.groupdict().items()} if found else None


def _machine(machines: tuple[MachineView, ...], id: str) -> MachineView:
    for one in machines:
        if harmless.text(one.id) == id:
            return one
    raise UsageError(f'the run has no machine "{id}"')


def _link(run: str, one: MachineView) -> str:
    """Where a machine's report is on this server."""
    return f"/runs/{quote(run, safe='')}/machines/{quote(one.id, safe='')}/report" if one.folder else ""


def _saved(name: str) -> dict[str, str]:
    """A file to keep: its name in letters that no header minds."""
    return {"Content-Disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "-", name)}"'}
