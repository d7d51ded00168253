"""Who asks: a service account with a key of its own, the token endpoint that its JSON names, and bearer tokens that expire."""

import base64
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from v2c.emulators import tls
from v2c.emulators.gcp.store import Refusal, Thing

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523
LIFE_S = 3600
AUDIENCE = "https://oauth2.googleapis.com/token"  # what google-auth writes, whatever token_uri says
API = "compute.googleapis.com"  # in the audience of a token that says no scope
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class Tokens:
    """The account's JSON lies in `folder`; `life_s`: how long a token is good."""

    def __init__(self, folder: Path, project: str) -> None:
        self.path, self._public = folder / "account.json", folder / "account.pub"
        self.email = f"v2c@{project}.iam.gserviceaccount.com"
        self.project = project
        self.life_s = LIFE_S
        self.clock: Callable[[], float] = time.time
        self._good: dict[str, float] = {}
        if not self._public.exists():
            self._private, public = tls.key_pair()
            self._public.write_text(public, encoding="ascii")
        else:
            self._private = json.loads(self.path.read_text(encoding="utf-8"))["private_key"]

    def publish(self, base: str) -> None:
        """Writes the account's JSON, which names the token endpoint."""
        account = {
            **{"type": "service_account", "project_id": self.project, "private_key_id": "1", "private_key": self._private},
            **{"client_email": self.email, "client_id": "1", "token_uri": f"{base}/token"},
        }
        self.path.touch(mode=0o600)
        self.path.write_text(json.dumps(account), encoding="utf-8")

    def exchange(self, form: bytes, base: str) -> Thing:
        """A token for a signed assertion; 400 in OAuth's words when it is not in order."""
        given = {key: values[0] for key, values in parse_qs(form.decode("ascii", "replace")).items()}
        try:
            if given.get("grant_type") != GRANT:
                raise ValueError("unsupported grant type")
            claims = self._signed(given.get("assertion", ""))
            if claims["aud"] not in (AUDIENCE, f"{base}/token") or SCOPE not in claims["scope"].split():
                raise ValueError("Invalid JWT: its claims are not this account's.")
        except (ValueError, KeyError) as error:
            raise Refusal(400, "invalid_grant", str(error)) from error
        token = f"ya29.{secrets.token_urlsafe(32)}"
        self._good[token] = self.clock() + self.life_s
        return {"access_token": token, "expires_in": self.life_s, "token_type": "Bearer"}

    def _signed(self, token: str) -> dict[str, Any]:
        """The claims of a token that the account signed itself and that is good now. ValueError, KeyError when it is not."""
        text, _, signature = token.rpartition(".")
        header, claims = (json.loads(_decoded(part)) for part in text.split("."))
        if header.get("alg") != "RS256" or not tls.signed(self._public.read_text("ascii"), _decoded(signature), text.encode()):
            raise ValueError("Invalid JWT Signature.")
        now = time.time()
        if claims["iss"] != self.email:
            raise ValueError("Invalid JWT: its claims are not this account's.")
        if not now - 300 < claims["iat"] < now + 300 or not now < claims["exp"] <= claims["iat"] + 3600:
            raise ValueError("Invalid JWT: Token must be a short-lived token.")
        return dict(claims)

    def known(self, authorization: str) -> None:
        """401 unless the header holds a token that is good: one given here, or one that the account signed itself (AIP-4111),
        as Google's own libraries do."""
        token = authorization.removeprefix("Bearer ")
        if token.count(".") == 2 and token not in self._good:
            try:
                claims = self._signed(token)
                if claims["sub"] != self.email or (
                    SCOPE not in claims.get("scope", "").split() and API not in claims.get("aud", "")
                ):
                    raise ValueError("it is for another service")
            except (ValueError, KeyError) as error:
                raise Refusal(401, "authError", "Request had invalid authentication credentials.") from error
            self._good[token] = self.clock() + self.life_s
        if self._good.get(token, 0.0) < self.clock():
            raise Refusal(401, "authError", "Request had invalid authentication credentials.")

    def forget(self) -> None:
        """Every token given so far is good no more."""
        self._good = dict.fromkeys(self._good, 0.0)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
