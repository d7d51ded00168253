"""Who may ask. The page shows an estate and can cut machines over, and a loopback port is open to every program and to every web
page that the user's browser has open.

- Every request needs the token: once in the address that `v2c serve` prints, then as a cookie that scripts cannot read and that
  other sites' requests do not carry (SameSite=Strict). The cookie is another secret than the token.
- The Host header must name loopback and our port: a foreign name that is made to mean 127.0.0.1 (DNS rebinding) is refused.
- What changes something must say the right Origin and a second token, which only the page itself can read.
"""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

NAMES = ("127.0.0.1", "localhost")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# a report brings its own style and its screenshot, and nothing that runs
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " sandbox allow-same-origin"  # or its links to the machines' reports would come without the cookie
)


def _secret() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Guard:
    """The secrets of one server, which live as long as it does."""

    port: int
    token: str = field(default_factory=_secret, repr=False)
    session: str = field(default_factory=_secret, repr=False)
    act: str = field(default_factory=_secret, repr=False)

    @property
    def cookie(self) -> str:
        """The cookie's name. Cookies do not know ports: two servers must not take each other's away."""
        return f"v2c-{self.port}"

    @property
    def set_cookie(self) -> str:
        """The header that makes a browser remember it until it is closed."""
        return f"{self.cookie}={self.session}; HttpOnly; SameSite=Strict; Path=/"

    def knows(self, token: str) -> bool:
        """Whether it is the token of the printed address."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def local(self, hosts: Sequence[str]) -> bool:
        """Whether the request was meant for us: exactly one Host, loopback's, with our port."""
        return len(hosts) == 1 and hosts[0].lower() in self.hosts

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a Host header may be. Browsers leave port 80 out."""
        return tuple(f"{name}:{self.port}" for name in NAMES) + (NAMES if self.port == 80 else ())

    def admits(self, cookies: Sequence[str]) -> bool:
        """Whether one of the Cookie headers holds the session."""
        pairs = [part.strip().partition("=") for header in cookies for part in header.split(";")]
        values = [value for name, _, value in pairs if name == self.cookie]
        return any(hmac.compare_digest(value.encode(), self.session.encode()) for value in values)

    def may_act(self, headers: Mapping[str, str]) -> bool:
        """Whether our own page asks for a change: its Origin is the Host that it was sent to, and it read the second token."""
        origin, host = headers.get("origin", ""), headers.get("host", "").lower()
        given = headers.get("x-v2c-act", "")
        return (
            origin == f"http://{host}"
            and headers.get("sec-fetch-site", "same-origin") == "same-origin"
            and hmac.compare_digest(given.encode(), self.act.encode())
        )
