"""Who may ask the page's server, and who may agree at a gate."""

import socket
from urllib.parse import quote

import pytest
from asking import MACHINE, agree, ask
from example_runs import ExampleRuns

from v2c.model.wave import Gate
from v2c.serve.guard import Guard
from v2c.serve.server import Server

PATHS = ("/", "/page.css", "/page.js", "/machines.js", "/runs", "/runs/dc-exit/news", "/runs/dc-exit/report.html", "/nowhere")


@pytest.mark.parametrize("path", [*PATHS, MACHINE, f"{MACHINE}/console"])
@pytest.mark.parametrize(
    "cookie", ["", "v2c={session}", "v2c-1={session}", "{name}=", "{name}={token}", "{name}={session}x", "x"]
)
def test_nothing_without_the_session(server: Server, path: str, cookie: str) -> None:
    given = cookie.format(name=server.guard.cookie, session=server.guard.session, token=server.guard.token)
    answer = ask(server, path, Cookie=given)
    assert answer.status == 403
    assert b"v2c serve" in answer.body and server.guard.session.encode() not in answer.body


@pytest.mark.parametrize("path", ["/", "/runs", MACHINE])
def test_the_session_is_let_in_among_other_cookies(server: Server, path: str) -> None:
    assert ask(server, path, Cookie=f"a=b; {server.guard.cookie}={server.guard.session}; c=d").status == 200


def test_the_printed_address_becomes_a_cookie_that_scripts_and_other_sites_do_not_have(server: Server) -> None:
    path = server.address.partition(str(server.server_port))[2]
    answer = ask(server, path, Cookie="")
    assert answer.status == 200
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{server.guard.cookie}={server.guard.session}; ") and server.guard.token not in cookie
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert b'content="0;url=/"' in answer.body, "the token leaves the address"


@pytest.mark.parametrize("token", ["x", "%00", "é", "{session}", "{token}x"])
def test_another_token_is_refused(server: Server, token: str) -> None:
    path = f"/?token={quote(token.format(session=server.guard.session, token=server.guard.token))}"
    answer = ask(server, path, Cookie="")
    assert answer.status == 403 and "set-cookie" not in answer.headers


def test_the_token_opens_one_address_only(server: Server) -> None:
    assert ask(server, f"/runs?token={server.guard.token}", Cookie="").status == 403


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", "[::1]:{port}"],
)
def test_another_host_is_refused(server: Server, host: str) -> None:
    """DNS rebinding: the browser takes us for evil.example, and sends that name."""
    answer = ask(server, "/runs", Host=host.format(port=server.server_port))
    assert answer.status == 403 and b"this machine only" in answer.body


def test_two_hosts_are_refused(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), 60) as connection:
        own = f"127.0.0.1:{server.server_port}"
        cookie = f"{server.guard.cookie}={server.guard.session}"
        connection.sendall(f"GET /runs HTTP/1.1\r\nHost: {own}\r\nHost: evil\r\nCookie: {cookie}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 403 ")


def test_localhost_is_a_name_of_ours(server: Server) -> None:
    assert ask(server, "/runs", Host=f"LocalHost:{server.server_port}").status == 200


def test_it_listens_on_loopback_only(server: Server) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_secrets_differ_and_are_not_shown() -> None:
    one, two = Guard(1), Guard(1)
    assert len({one.token, one.session, one.act, two.token, two.session, two.act}) == 6
    assert min(map(len, (one.token, one.session, one.act))) >= 43, "256 bits"
    assert one.token not in repr(one) and one.session not in repr(one) and one.act not in repr(one)


@pytest.mark.parametrize("path", ["/", "/page.js", "/runs", "/nowhere", f"{MACHINE}/report"])
def test_every_answer_is_closed_to_others(server: Server, path: str) -> None:
    for cookie in ({}, {"Cookie": ""}):
        headers = ask(server, path, **cookie).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert "script-src 'self';" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store" and headers["cross-origin-resource-policy"] == "same-origin"
        assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_not_there(server: Server, method: str) -> None:
    assert ask(server, "/", method).status == 501


# --- agreeing -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "yes"), [("approve", True), ("refuse", False)])
def test_agreeing(server: Server, runs: ExampleRuns, said: str, yes: bool) -> None:
    answer = agree(server, said=said)
    assert answer.status == 200 and answer.json == {"heard": ["web-003"]}
    assert runs.said == [("dc-exit", Gate.CUTOVER, ("web-003",), yes)]


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": ""},
        {"Origin": ""},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost:{port}"},
        {"X_V2c_Act": ""},
        {"X_V2c_Act": "x"},
        {"X_V2c_Act": "{session}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Host": "evil.example"},
    ],
)
def test_only_the_page_itself_may_agree(server: Server, runs: ExampleRuns, headers: dict[str, str]) -> None:
    told = {name: value.format(port=server.server_port, session=server.guard.session) for name, value in headers.items()}
    assert agree(server, **told).status == 403
    assert runs.said == []


def test_who_does_not_wait_there_is_not_approved(server: Server, runs: ExampleRuns) -> None:
    answer = agree(server, machines=["mail-004"])
    assert answer.status == 409 and "none of mail-004 waits at okToCutover" in answer.json["error"]
    assert agree(server, machines=["web-003", "mail-004"]).json == {"heard": ["web-003"]}
    assert agree(server).status == 409, "somebody was faster"


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"machines": []}', '{"machines": "web-003"}', '{"machines": [1]}', "{" * 5000, "[" * 100_000, "\x00"],
)
def test_bad_bodies(server: Server, runs: ExampleRuns, body: str) -> None:
    own = {"Origin": f"http://127.0.0.1:{server.server_port}", "X_V2c_Act": server.guard.act}
    assert ask(server, "/runs/dc-exit/gates/okToCutover/approve", "POST", body, **own).status == 400
    assert runs.said == []


@pytest.mark.parametrize("length", ["", "-1", "x", "99999999999", "\u00b2"])
def test_bad_lengths(server: Server, length: str) -> None:
    own = {"Origin": f"http://127.0.0.1:{server.server_port}", "X_V2c_Act": server.guard.act, "Content_Length": length}
    assert ask(server, "/runs/dc-exit/gates/okToCutover/approve", "POST", **own).status == 413


@pytest.mark.parametrize(
    "path", ["/runs/dc-exit/gates/okToEverything/approve", "/runs/dc-exit/gates/okToCutover/perhaps", "/runs", "/"]
)
def test_there_is_nothing_else_to_post_to(server: Server, path: str) -> None:
    own = {"Origin": f"http://127.0.0.1:{server.server_port}", "X_V2c_Act": server.guard.act}
    assert ask(server, path, "POST", '{"machines": ["web-003"]}', **own).status == 404
