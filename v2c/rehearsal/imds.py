"""A cloud's metadata service on stdin and stdout: one process answers one connection, then ends.

QEMU starts it for each connection of the guest, with this text and its configuration in the environment (see `metadata`), so
it imports nothing outside the standard library, and runs under QEMU's user and system call filter. V2C_METADATA is JSON:
`kind` (aws, gcp, azure), `tree` (path -> text), `secret` (signs tokens), `log` (abstract socket that is told of each request).

What each cloud asks of its callers: EC2 User Guide, "IMDSv2"; Compute Engine, "View and query VM metadata"; Azure
Instance Metadata Service.
"""

import hashlib
import hmac
import json
import os
import signal
import socket
import sys
import time
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BIGGEST = 16384  # bytes of request; longer ones are cut and refused
PATIENCE = 60  # seconds for one connection

Answer = tuple[int, str, dict[str, str]]  # status, text, headers
Config = dict[str, Any]
Pairs = dict[str, str]


def sign(secret: str, expiry: int) -> str:
    return f"{expiry}-" + hmac.new(secret.encode(), str(expiry).encode(), hashlib.sha256).hexdigest()


def token(config: Config, headers: Pairs) -> Answer:
    ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
    if not ttl.isdigit() or not 1 <= int(ttl) <= 21600 or "x-forwarded-for" in headers:
        return 400, "", {}
    return 200, sign(config["secret"], int(time.time()) + int(ttl)), {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl}


def authorised(config: Config, headers: Pairs) -> bool:
    given = headers.get("x-aws-ec2-metadata-token", "")
    expiry = given.partition("-")[0]
    if not expiry.isdigit() or len(expiry) > 12 or int(expiry) < time.time():
        return False
    return hmac.compare_digest(given, sign(config["secret"], int(expiry)))


def below(tree: Pairs, path: str) -> list[str]:
    """The names directly below a path, with a slash where they go on."""
    prefix = path.rstrip("/") + "/"
    names: Pairs = {}
    for key in tree:
        if key.startswith(prefix):
            name, slash, _ = key[len(prefix) :].partition("/")
            names[name] = name + slash
    return sorted(names.values())


def nested(tree: Pairs, path: str) -> Any:
    """A subtree as JSON shows it: names in camel case, all-digit levels as lists."""
    prefix = path.rstrip("/") + "/"
    found: dict[str, Any] = {}
    for name in below(tree, path):
        key = name.rstrip("/")
        value = nested(tree, prefix + key) if name.endswith("/") else tree[prefix + key]
        first, *rest = key.split("-")
        found[first + "".join(word.title() for word in rest)] = value
    if found and all(key.isdigit() for key in found):
        return [found[key] for key in sorted(found, key=int)]
    return found


def aws(config: Config, method: str, path: str, query: Pairs, headers: Pairs) -> Answer:
    if path == "/latest/api/token":
        return token(config, headers) if method == "PUT" else (405, "", {})
    if method != "GET":
        return 405, "", {}
    if not authorised(config, headers):
        return 401, "", {}
    if path == "/":
        return 200, "1.0\n2021-03-23\nlatest", {}
    version, _, rest = path[1:].partition("/")
    if version != "latest" and not (len(version) == 10 and version[:4].isdigit()):
        return 404, "", {}
    path = "/latest/" + rest
    if path.rstrip("/") in config["tree"]:
        return 200, config["tree"][path.rstrip("/")], {}
    names = below(config["tree"], path)
    return (200, "\n".join(names), {}) if names else (404, "", {})


def gcp(config: Config, method: str, path: str, query: Pairs, headers: Pairs) -> Answer:
    flavor = {"Metadata-Flavor": "Google"}
    if path == "/":
        return 200, "computeMetadata/\n", flavor
    if headers.get("metadata-flavor", "").lower() != "google" or "x-forwarded-for" in headers:
        return 403, "", flavor
    if method != "GET":
        return 405, "", flavor
    if "wait_for_change" in query:
        time.sleep(min(PATIENCE - 5, int(query.get("timeout_sec", "50")) if query.get("timeout_sec", "50").isdigit() else 50))
    if query.get("recursive", "").lower() == "true":
        found = config["tree"].get(path.rstrip("/"), nested(config["tree"], path))
        return 200, json.dumps(found), {**flavor, "Content-Type": "application/json", "ETag": "0"}
    if path.rstrip("/") in config["tree"]:
        return 200, config["tree"][path.rstrip("/")], {**flavor, "ETag": "0"}
    names = below(config["tree"], path)
    return (200, "".join(name + "\n" for name in names), flavor) if names else (404, "", flavor)


def azure(config: Config, method: str, path: str, query: Pairs, headers: Pairs) -> Answer:
    if headers.get("metadata", "").lower() != "true" or "x-forwarded-for" in headers:
        return 400, '{"error":"Bad request. Required metadata header not specified"}', {}
    if method != "GET":
        return 405, "", {}
    if path.startswith("/metadata/instance") and "api-version" not in query:
        return 400, '{"error":"Bad request. api-version was not specified in the request"}', {}
    path = path.rstrip("/")
    if path in config["tree"]:
        return 200, config["tree"][path], {}
    found = nested(config["tree"], path)
    return (200, json.dumps(found), {"Content-Type": "application/json"}) if found else (404, "", {})


REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}
CLOUDS = {"aws": aws, "gcp": gcp, "azure": azure}


def answer(config: Config, request: bytes) -> tuple[str, str, int, str, Pairs]:
    """The request's bytes (head only) -> (method, path, status, text, headers). Whatever the bytes are."""
    first, *lines = request.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or "\r\n\r\n" not in request.decode("latin-1"):
        return "?", "?", 400, "", {}
    method, url, _ = words
    try:
        parts = urlsplit(url)
    except ValueError:
        return method, "?", 400, "", {}
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    status, text, more = CLOUDS[config["kind"]](config, method, unquote(parts.path), query, headers)
    return method, url, status, text, more


def main() -> None:
    config = json.loads(os.environ["V2C_METADATA"])
    signal.alarm(PATIENCE)
    request = b""
    while b"\r\n\r\n" not in request and len(request) < BIGGEST:
        data = os.read(0, 4096)
        if not data:
            break
        request += data
    method, url, status, text, more = answer(config, request)
    body = text.encode()
    head = {"Server": "v2c", "Content-Type": "text/plain", **more, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    try:
        log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        log.sendto(json.dumps([method[:16], url[:512], status]).encode(), "\0" + config["log"])
    except OSError:
        pass  # nobody listens: the machine was started by hand
    sys.stdout.buffer.write("\r\n".join(lines).encode() + body)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
