"""Microsoft Entra ID as far as a service principal's secret: where tokens are had, and tokens that only this double believes."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from v2c.emulators.azure.answers import Answer, in_json


@dataclass
class Identity:
    """One application of one tenant. `lifetime_s`: of the tokens it hands out."""

    tenant: str
    client: str
    password: str
    secret: bytes
    lifetime_s: int = 3600

    def configuration(self, base: str) -> Answer:
        """OpenID Connect discovery 1.0."""
        place = f"{base}/{self.tenant}"
        document = {
            "issuer": f"{place}/v2.0",
            "authorization_endpoint": f"{place}/oauth2/v2.0/authorize",
            "token_endpoint": f"{place}/oauth2/v2.0/token",
            "response_types_supported": ["code", "token"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        }
        return in_json(200, document)

    def token(self, tenant: str, body: bytes) -> Answer:
        """The client credentials grant (RFC 6749, 4.4)."""
        form = dict(parse_qsl(body.decode("utf-8", "replace")))
        if tenant != self.tenant:
            return self._refused("invalid_request", f"AADSTS90002: Tenant '{tenant}' not found.")
        if form.get("grant_type") != "client_credentials" or not form.get("scope", "").endswith("/.default"):
            return self._refused("invalid_request", "AADSTS900144: grant_type or scope is missing or not supported.")
        if form.get("client_id") != self.client:
            return self._refused("unauthorized_client", "AADSTS700016: Application was not found in the directory.")
        if form.get("client_secret") != self.password:
            return self._refused("invalid_client", "AADSTS7000215: Invalid client secret provided.", 401)
        audience = form["scope"].removesuffix("/.default")
        claims = {"aud": audience, "appid": self.client, "tid": self.tenant, "exp": int(time.time()) + self.lifetime_s}
        return in_json(200, {"token_type": "Bearer", "expires_in": self.lifetime_s, "access_token": self._signed(claims)})

    def believes(self, headers: Mapping[str, str], audience: str = "") -> str:
        """Why the request's bearer token is not believed, as ARM's error code; empty: it is. `audience`: for whom it must be."""
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind != "Bearer":
            return "AuthenticationFailed"
        try:
            _, claims, _ = token.split(".")
            told = json.loads(base64.urlsafe_b64decode(claims + "=="))
        except ValueError:
            return "InvalidAuthenticationToken"
        if not hmac.compare_digest(self._signed(told), token):
            return "InvalidAuthenticationToken"
        if audience and told["aud"] != audience:
            return "InvalidAuthenticationTokenAudience"
        return "ExpiredAuthenticationToken" if told["exp"] < time.time() else ""

    def _signed(self, claims: Mapping[str, object]) -> str:
        parts = [_packed(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
        return ".".join([*parts, _packed(hmac.new(self.secret, ".".join(parts).encode(), hashlib.sha256).digest())])

    @staticmethod
    def _refused(error: str, text: str, status: int = 400) -> Answer:
        return in_json(status, {"error": error, "error_description": text, "error_codes": [int(text[6 : text.index(":")])]})


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
