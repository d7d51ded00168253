"""The double's HTTP: one port for all of Google's hosts. Judges each request by the discovery documents, deals faults, counts."""

import io
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import replace
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from v2c.emulators.faults import Faults
from v2c.emulators.gcp import schema
from v2c.emulators.gcp.calls import Answer, Call, Verb
from v2c.emulators.gcp.rights import Rights
from v2c.emulators.gcp.storage import Storage
from v2c.emulators.gcp.store import Refusal, Thing
from v2c.emulators.gcp.tokens import Tokens
from v2c.emulators.ledger import Requests

UPLOADS = "upload/storage/v1/"
STEP = 1024 * 1024
BODY_MOST = 4 * STEP  # of a JSON document
REFUSALS = {  # a fault's kind -> how Google answers so
    "throttle": Refusal(429, "rateLimitExceeded", "Rate Limit Exceeded"),
    "unavailable": Refusal(503, "backendError", "Backend Error"),
    "internal": Refusal(500, "internalError", "Internal Error"),
    "quota": Refusal(403, "quotaExceeded", "Quota exceeded."),
}


class Server(ThreadingHTTPServer):
    """Serves until `close`. `verbs`: what each method of the APIs does here."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, verbs: Mapping[str, Verb], storage: Storage, tokens: Tokens) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.verbs, self.storage, self.tokens = dict(verbs), storage, tokens
        self.faults, self.requests, self.rights = Faults(), Requests(), Rights()
        self.base = f"http://127.0.0.1:{self.server_port}"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="gcp", daemon=True)
        self._thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        """Ends it, connections that are kept alive too."""
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            self.shutdown_request(connection)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed; the ledger knows."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def _serve(self) -> None:
        self._length = int(self.headers.get("content-length") or 0)
        self._unread = self._length
        url = urlsplit(self.path)
        path, query = url.path.lstrip("/"), dict(parse_qsl(url.query, keep_blank_values=True))
        if "upload_id" not in query:  # one parameter may come many times
            asked = [value for key, value in parse_qsl(url.query) if key == "permissions"]
            query |= {"permissions": ",".join(asked)} if asked else {}
        self._operation, self._subject, fault = "", path, ""
        try:
            run, call = self._understood(path, query)
            fault = self.server.faults.draw(self._operation)
            if fault in ("reset", "outage"):
                self._drain()
                self._cut(0)
                return
            if fault in REFUSALS:
                raise REFUSALS[fault]
            answer = run(replace(call, fault=fault))
            if not isinstance(answer, Answer):
                answer = Answer(answer)
        except Refusal as refusal:
            answer = Answer(refusal.body() if refusal.status != 304 else None, refusal.status)
        except ConnectionError:
            self._cut(0)
            return
        except (KeyError, TypeError, AttributeError) as error:  # what the schema leaves to prose
            answer = Answer(Refusal(400, "required", f"Required field is missing or of the wrong kind: {error}").body(), 400)
        if fault == "lost-answer":
            self._cut(0)
            return
        self._drain()
        self.server.requests.tell(self._operation, self._subject, answer.status, self._length)
        self._say(answer)

    # ---- what is asked -----------------------------------------------------------------------------------------------------

    def _understood(self, path: str, query: dict[str, str]) -> tuple[Verb, Call]:
        headers = {key.lower(): value for key, value in self.headers.items()}
        if path == "token" and self.command == "POST":
            self._operation = "token"
            form = self._body()
            return (lambda call: self.server.tokens.exchange(form, self.server.base)), Call({})
        if path.startswith(UPLOADS) and "upload_id" in query:  # the session's own URI is its only credential
            self._operation = "upload" if self._length else "upload-status"
            if self.command == "DELETE":
                self._operation = "upload-cancel"
            resumed = self.server.storage.cancel if self.command == "DELETE" else self.server.storage.resume
            session = self.server.storage.store.things.get(f"u/{query['upload_id']}", {})
            self._subject = f"{session.get('metadata', {}).get('name', '?')} {headers.get('content-range', '')}".strip()
            return resumed, Call({}, query, {}, headers, self._stream(), self._length, self.server.base)
        self.server.tokens.known(headers.get("authorization", ""))
        media = path.startswith((UPLOADS, "download/storage/v1/"))
        found = schema.find(self.command, path.partition("/")[2] if media else path)
        if found is None:
            raise Refusal(404, "notFound", f"Not Found: {self.command} /{unquote(path)}")
        method = found.method
        self._operation = method.id.split(".", 1)[1]
        wrong = schema.query_complaints(method, found.params, query)
        stream: Any = self._stream()
        length = self._length
        body: Any = None
        if media and query.get("uploadType") == "media":
            body = {}
        elif media and query.get("uploadType") == "multipart":
            body, data = _parts(self._body(), headers.get("content-type", ""))
            stream, length = io.BytesIO(data), len(data)
        elif self._length:
            body = self._json()
        self._subject = self._about(found.params, body, query)
        wrong += schema.body_complaints(method, body)
        if wrong:
            raise Refusal(400, "invalid", "; ".join(wrong))
        self.server.rights.check(method.id, body)
        call = Call(found.params, query, body or {}, headers, stream, length, self.server.base)
        if media and self.command == "POST":
            return self.server.storage.upload, call
        run_it = self.server.verbs.get(method.id)
        if run_it is None:
            raise Refusal(501, "notImplemented", f"The double does not know {method.id} yet.")
        wanted = method

        def run(asked: Call) -> Answer | Thing:
            answer = run_it(asked)
            shown = answer.json if isinstance(answer, Answer) else answer
            if shown is not None and (mistakes := schema.answer_complaints(wanted, shown)):
                raise Refusal(500, "internalError", f"the double's own answer is wrong: {'; '.join(mistakes)}")
            return answer

        return run, call

    @staticmethod
    def _about(params: Mapping[str, str], body: Any, query: Mapping[str, str]) -> str:
        """What the request is about, for the ledger: the thing's name."""
        named = body.get("name") if isinstance(body, dict) else None
        return str(named or query.get("name") or next(reversed(list(params.values())), ""))

    def _json(self) -> Any:
        try:
            return json.loads(self._body())
        except ValueError:
            raise Refusal(400, "parseError", "Parse Error") from None

    # ---- bytes -------------------------------------------------------------------------------------------------------------

    def _stream(self) -> Any:
        return _Counted(self)

    def _body(self) -> bytes:
        if self._length > BODY_MOST:
            raise Refusal(413, "uploadTooLarge", "Request entity too large")
        data = self.rfile.read(self._unread)
        self._unread = 0
        return data

    def _drain(self) -> None:
        while self._unread > 0 and (data := self.rfile.read(min(STEP, self._unread))):
            self._unread -= len(data)

    def _cut(self, status: int) -> None:
        """The connection ends without an answer."""
        self.server.requests.tell(self._operation, self._subject, status, self._length)
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            self.close_connection = True

    def _say(self, answer: Answer) -> None:
        data = b"" if answer.json is None else json.dumps(answer.json).encode()
        self.send_response(
            answer.status if answer.status != 499 else 499, None if answer.status != 499 else "Client Closed Request"
        )
        for key, value in answer.headers.items():
            self.send_header(key, value)
        if answer.json is not None:
            self.send_header("Content-Type", "application/json; charset=UTF-8")
        length = answer.length if answer.file else len(data)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if answer.file:
            self._send(answer.file, answer.start, answer.length)
        else:
            self.wfile.write(data)
        self.wfile.flush()

    def _send(self, path: Path, start: int, length: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            while length and (data := file.read(min(STEP, length))):
                self.wfile.write(data)
                length -= len(data)


class _Counted:
    """The body of a request as a stream, which knows how much of it was read."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def read(self, size: int = -1) -> bytes:
        handler = self._handler
        data = handler.rfile.read(min(size, handler._unread) if size >= 0 else handler._unread)
        handler._unread -= len(data)
        return data


def _parts(data: bytes, kind: str) -> tuple[Any, bytes]:
    """The metadata and the bytes of a multipart upload."""
    message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + data)
    parts = message.get_payload()
    if not isinstance(parts, list) or len(parts) != 2:
        raise Refusal(400, "badContent", "A multipart upload has two parts.")
    first, second = (part.get_payload(decode=True) for part in parts)  # type: ignore[union-attr]
    return json.loads(first), bytes(second)  # type: ignore[arg-type]
