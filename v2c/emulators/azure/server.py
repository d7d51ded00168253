"""The TLS server: one port for identity, Resource Manager and storage. Faults strike here, and every request is counted."""

import json
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from v2c.emulators.azure import accounts, disks, groups, network, pages, schema, vms
from v2c.emulators.azure.answers import Answer, Refusal, in_json, of_arm, of_storage
from v2c.emulators.azure.calls import Call, Cloud
from v2c.emulators.azure.identity import Identity
from v2c.emulators.faults import Faults
from v2c.emulators.ledger import Requests

OPERATIONS: Mapping[str, Callable[[Cloud, Call], Answer]] = {
    "disks.put": disks.put,
    "disks.patch": disks.patch,
    "disks.get": disks.get,
    "disks.list": disks.all_of,
    "disks.delete": disks.delete,
    "disks.grant": disks.grant,
    "disks.revoke": disks.revoke,
    "vms.put": vms.put,
    "vms.patch": vms.patch,
    "vms.get": vms.get,
    "vms.list": vms.all_of,
    "vms.delete": vms.delete,
    "vms.view": vms.view,
    "vms.start": vms.start,
    "vms.stop": vms.stop,
    "vms.diagnostics": vms.diagnostics,
    "groups.put": groups.reservation_group_put,
    "groups.get": groups.reservation_group_get,
    "groups.list": groups.reservation_group_list,
    "groups.delete": groups.reservation_group_delete,
    "reservations.put": groups.reservation_put,
    "reservations.get": groups.reservation_get,
    "reservations.list": groups.reservation_list,
    "reservations.delete": groups.reservation_delete,
    "usages.list": groups.usages,
    "skus.list": groups.skus,
    "nics.put": network.nic_put,
    "nics.get": network.nic_get,
    "nics.list": network.nic_list,
    "nics.delete": network.nic_delete,
    "nsgs.put": network.nsg_put,
    "nsgs.get": network.nsg_get,
    "nsgs.list": network.nsg_list,
    "nsgs.delete": network.nsg_delete,
    "subnets.get": network.subnet_get,
    "vnets.address": network.address_check,
    "resourcegroups.put": groups.group_put,
    "resourcegroups.get": groups.group_get,
    "resourcegroups.delete": groups.group_delete,
    "resources.list": groups.group_resources,
    "permissions.list": groups.permissions,
    "accounts.list": accounts.all_of,
}
KINDS = ("throttle", "busy", "internal", "reset", "lost-answer", "slow", "expired")
SLOW_S = 0.5
_HEADER = {"x-ms-request-id": "00000000-0000-0000-0000-000000000000", "x-ms-version": "2026-10-06"}


def refused(kind: str, storage: bool, challenge: str = "") -> Refusal | None:
    """The published failure behind a kind of fault; None: the connection is what fails. `challenge`: of a storage account."""
    if kind == "expired" and challenge:
        return _unbelieved(challenge)
    if kind in ("busy", "throttle", "outage") and storage:
        return Refusal(
            503, "ServerBusy", "The server is currently unable to receive requests. Please retry.", {"Retry-After": "1"}
        )
    if kind == "throttle":
        return Refusal(429, "TooManyRequests", "The request was throttled. Try again after the time told.", {"Retry-After": "1"})
    if kind in ("busy", "outage"):
        return Refusal(503, "ServerUnavailable", "The service is unavailable.", {"Retry-After": "1"})
    if kind == "internal":
        code = "OperationTimedOut" if storage else "InternalServerError"
        return Refusal(500, code, "The operation could not be completed within the permitted time.")
    if kind == "expired":
        code = "AuthenticationFailed" if storage else "ExpiredAuthenticationToken"
        return Refusal(403 if storage else 401, code, "The access token or signature expired.")
    return None


def _unbelieved(challenge: str) -> Refusal:
    text = "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."
    return Refusal(401, "InvalidAuthenticationInfo", text, {"WWW-Authenticate": challenge})


class Server(ThreadingHTTPServer):
    """Serves until `close`; then every connection is cut."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, context: ssl.SSLContext, cloud: Cloud, identity: Identity, faults: Faults, requests: Requests):
        super().__init__(("127.0.0.1", port), _Handler)
        self.context, self.cloud, self.identity, self.faults, self.requests = context, cloud, identity, faults, requests
        self.base = f"https://127.0.0.1:{self.server_address[1]}"
        self.challenge = (
            f"Bearer authorization_uri={self.base}/{identity.tenant}/oauth2/authorize resource_id={accounts.AUDIENCE}"
        )
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="v2c-azure", daemon=True)
        self._thread.start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """One connection, in its own thread: the handshake too, so that a client that says nothing holds up nobody."""
        try:
            request.settimeout(120)
            with self.context.wrap_socket(request, server_side=True) as secure:
                with self._lock:
                    self._open.add(secure)
                try:
                    _Handler(secure, client_address, self)
                finally:
                    with self._lock:
                        self._open.discard(secure)
        except OSError:
            return  # the client went away

    def close(self) -> None:
        """Ends."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for one in self._open:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # closed by its client meanwhile
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.told = {key.lower(): value for key, value in self.headers.items()}
        length = int(self.told.get("content-length") or 0)
        if length > 2 * pages.MOST:
            self.close_connection = True
            self._send(of_storage(Refusal(413, "RequestBodyTooLarge", "The request body is too large.")))
            return
        self.data = self.rfile.read(length)
        account = parts.path.startswith(accounts.PLACE)
        storage = account or parts.path.startswith(("/md-impexp-", "/bootdiag/"))
        name, subject, work = self._route(parts.path, storage)
        kind = self.server.faults.draw(name)
        refusal = refused(kind, storage, self.server.challenge if account else "")
        if kind == "slow":
            time.sleep(SLOW_S)
        if kind == "expired" and not account and name in ("PutPage", "ClearPages", "GetPageRanges", "GetBlob"):
            self._expire(parts.path)
        if kind == "reset":
            self._cut(name, subject)
            return
        try:
            if refusal:
                raise refusal
            answer = work(kind)
        except Refusal as found:
            answer = of_storage(found) if storage else of_arm(found)
        except Exception:  # a mistake of the double's own: no client may take it for a passing failure
            answer = in_json(400, {"error": {"code": "TheDoubleFailed", "message": traceback.format_exc()}})
        if kind == "lost-answer":
            self._cut(name, subject)
            return
        self.server.requests.tell(name, subject, answer.status, len(self.data))
        self._send(answer)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _serve

    def _route(self, path: str, storage: bool) -> tuple[str, str, Callable[[str], Answer]]:
        """The operation's name, what it is about, and how it is answered (given a fault that loses data)."""
        server, words = self.server, path.strip("/").split("/")
        if storage and words[0] == "bootdiag":
            return "Diagnostics", words[-1], lambda _: vms.shown(server.cloud, words[1], words[-1], self.query, self.told)
        if storage and path.startswith(accounts.PLACE):
            name = accounts.operation(self.command, self.query, self.told)
            at = pages.first(self.told) if name in ("PutPage", "ClearPages", "GetBlob") else ""
            subject = "/".join([*map(unquote, words[1:]), at]).rstrip("/")
            return name or "Storage", subject, lambda kind: self._account(name, words, kind)
        if storage:
            name = pages.operation(self.command, self.query, self.told)
            return name or "Storage", self._subject(words), lambda kind: self._pages(name, words, kind)
        if path.endswith("/.well-known/openid-configuration"):
            return "Discovery", words[0], lambda _: server.identity.configuration(server.base)
        if path.endswith("/oauth2/v2.0/token"):
            return "Token", words[0], lambda _: server.identity.token(words[0], self.data)
        if "/operations/" in path:
            return "operations.get", words[-1], lambda _: self._polled(words[-1])
        match = schema.find(self.command, path)
        if match is None:
            return "unknown", path, lambda _: self._unknown(path)
        about = [name for key, name in match.names.items() if key not in ("subscriptionid", "resourcegroupname")]
        return match.route.operation, "/".join(about), lambda _: self._arm(match)

    def _subject(self, words: list[str]) -> str:
        disk = next((d for d in self.server.cloud.store.all() if d.hidden.get("guid") == (words[1:2] or [""])[0]), None)
        return f"{disk.shown['name'] if disk else '?'}/{pages.first(self.told)}"

    def _expire(self, path: str) -> None:
        words = path.strip("/").split("/")
        for disk in self.server.cloud.store.all():
            if disk.hidden.get("guid") == words[1]:
                disks.expire(self.server.cloud, disk)

    def _pages(self, name: str, words: list[str], kind: str) -> Answer:
        if not name or len(words) != 3:
            raise Refusal(403, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation.")
        _, blob = disks.opened(self.server.cloud, words[1], self.query, name)
        return self.server.cloud.pages.answer(name, blob, self.told, self.data, lose=kind if kind in ("lost", "rotten") else "")

    def _account(self, name: str, words: list[str], kind: str) -> Answer:
        if self.server.identity.believes(self.told, accounts.AUDIENCE):
            raise _unbelieved(self.server.challenge)
        account, container = words[0].removeprefix(accounts.PLACE[1:]), words[1] if len(words) > 1 else ""
        key, lose = unquote("/".join(words[2:])), kind if kind in ("lost", "rotten") else ""
        asked = accounts.Asked(name, account, container, key, self.query, self.told, self.data, lose)
        return accounts.answer(self.server.cloud, asked)

    def _believed(self) -> None:
        if why := self.server.identity.believes(self.told):
            raise Refusal(401, why, "The access token is missing, invalid or has expired.", {"WWW-Authenticate": "Bearer"})

    def _polled(self, id: str) -> Answer:
        self._believed()
        return self.server.cloud.operations.answer(id, "monitor" in self.query)

    def _unknown(self, path: str) -> Answer:
        self._believed()
        raise Refusal(404, "InvalidResourceType", f"{self.command} {path} is not an operation that this double has.")

    def _arm(self, match: schema.Match) -> Answer:
        self._believed()
        cloud, route = self.server.cloud, match.route
        if match.names.get("subscriptionid", "").lower() != cloud.subscription:
            raise Refusal(404, "SubscriptionNotFound", f"The subscription '{match.names['subscriptionid']}' could not be found.")
        if (version := self.query.get("api-version")) not in route.versions:
            raise Refusal(
                400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid; supported: {route.versions}."
            )
        body = self._body()
        if wrong := schema.complaints(route, body):
            raise Refusal(400, "InvalidRequestContent", "; ".join(wrong))
        with cloud.store.lock:
            return OPERATIONS[route.operation](cloud, Call(route.operation, match.names, self.query, body, self.server.base))

    def _body(self) -> Any:
        if not self.data:
            return None
        try:
            return json.loads(self.data)
        except ValueError:
            raise Refusal(400, "InvalidRequestContent", "The request content was invalid JSON.") from None

    def _cut(self, name: str, subject: str) -> None:
        self.server.requests.tell(name, subject, 0, len(self.data))
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # cut already

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for key, value in {**_HEADER, **answer.headers}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        if answer.body or answer.length is not None:
            self.send_header("Content-Type", answer.type)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def version_string(self) -> str:
        return "v2c"

    def log_message(self, format: str, *args: object) -> None:
        """Requests are counted, not told."""
