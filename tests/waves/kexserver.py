"""As much of an SSH server as shows a host key: versions, algorithms, and the key exchange that proves whose the key is (RFC 4253
and 8731). Then it hangs up: nobody logs in."""

import hashlib
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

KEXINIT, NEWKEYS, ECDH_INIT, ECDH_REPLY = 20, 21, 30, 31
VERSION = b"SSH-2.0-kexserver"
KIND = b"ssh-ed25519"
OFFERED = (
    b"curve25519-sha256",
    KIND,
    b"aes128-ctr",
    b"aes128-ctr",
    b"hmac-sha2-256",
    b"hmac-sha2-256",
    b"none",
    b"none",
    b"",
    b"",
)


def made(folder: Path, name: str) -> str:
    """A new host key as ssh-keygen makes it: "ssh-ed25519 BASE64". Its private half lies in the folder under that name."""
    folder.mkdir(exist_ok=True)
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
    subprocess.run(argv, check=True, capture_output=True)
    return (folder / f"{name}.pub").read_text().strip()


class Server:
    """Shows the host key of a file; `show` changes it. `proven`: how many clients took it."""

    def __init__(self, key: Path) -> None:
        self.show(key)
        self.proven = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def show(self, key: Path) -> None:
        private = load_ssh_private_key(key.read_bytes(), None)
        assert isinstance(private, Ed25519PrivateKey)
        assert load_ssh_public_key(key.with_suffix(".pub").read_bytes())
        self._key = private

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        with connection, suppress(OSError, EOFError), connection.makefile("rb") as stream:
            connection.sendall(VERSION + b"\r\n")
            client = stream.readline().rstrip(b"\r\n")
            if not client:
                return  # somebody who only wanted to be greeted
            mine = bytes([KEXINIT]) + secrets.token_bytes(16) + b"".join(map(_string, OFFERED)) + bytes(5)
            connection.sendall(_packet(mine))
            theirs = _payload(stream.read)
            asked = _payload(stream.read)
            assert theirs[0] == KEXINIT and asked[0] == ECDH_INIT
            theirs_public, own = asked[5:], X25519PrivateKey.generate()
            shared = int.from_bytes(own.exchange(X25519PublicKey.from_public_bytes(theirs_public)), "big")
            key = _string(KIND) + _string(self._key.public_key().public_bytes_raw())
            public = own.public_key().public_bytes_raw()
            whole = b"".join(map(_string, (client, VERSION, theirs, mine, key, theirs_public, public))) + _mpint(shared)
            signature = _string(KIND) + _string(self._key.sign(hashlib.sha256(whole).digest()))
            connection.sendall(_packet(bytes([ECDH_REPLY]) + b"".join(map(_string, (key, public, signature)))))
            connection.sendall(_packet(bytes([NEWKEYS])))
            if _payload(stream.read)[:1] == bytes([NEWKEYS]):
                self.proven += 1


@contextmanager
def serving(key: Path) -> Iterator[Server]:
    """A server as long as the body runs."""
    server = Server(key)
    try:
        yield server
    finally:
        server.close()


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _mpint(number: int) -> bytes:
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _packet(payload: bytes) -> bytes:
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 * (padding < 4)
    return (len(payload) + padding + 1).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


def _payload(read: Callable[[int], bytes]) -> bytes:
    head = read(5)
    if len(head) < 5:
        raise EOFError
    body = read(int.from_bytes(head[:4], "big") - 1)
    return body[: len(body) - head[4]]
