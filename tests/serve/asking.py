"""Asking the page's server over a real socket, as a browser, a stranger and a fuzzer ask."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from example_runs import ExampleRuns

from v2c.serve.server import Server

MACHINE = "/runs/dc-exit/machines/erp-db-001"


@contextmanager
def serving(runs: ExampleRuns) -> Iterator[Server]:
    """The page's server over these runs, as long as the body runs."""
    made = Server(runs, every=0.05)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join(10)


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(server: Server, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
    """A request that knows the session; a header given as "" is left out, one with underscores is told with dashes."""
    given = {"Cookie": f"{server.guard.cookie}={server.guard.session}", "Host": f"127.0.0.1:{server.server_port}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in given.items():
            if value:
                connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body.encode())))
        connection.endheaders(body.encode() if body is not None else None)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def agree(
    server: Server, gate: str = "okToCutover", machines: object = ("web-003",), said: str = "approve", **headers: str
) -> Answer:
    """As the page does it, but for the headers that are given."""
    own = {"Origin": f"http://127.0.0.1:{server.server_port}", "X_V2c_Act": server.guard.act, **headers}
    return ask(server, f"/runs/dc-exit/gates/{gate}/{said}", "POST", json.dumps({"machines": machines}), **own)
