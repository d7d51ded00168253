"""The door to Google's APIs: credentials by google-auth's own chain, endpoints by the public settings, patience, errors.

Compute Engine is spoken to by google-cloud-compute (compute.py). Cloud Storage is by its JSON API: a stream that is made as it is
sent, and made again from where a session stands, is more than the library's uploads can do.

    CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE / _STORAGE / _CLOUDRESOURCEMANAGER    as gcloud reads them
    STORAGE_EMULATOR_HOST                                                        as Google's storage clients read it
"""

import os
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from v2c.errors import BusyError, TargetError
from v2c.events import Meter
from v2c.patience import OUTAGE_S, Patience
from v2c.targets import together
from v2c.targets.gcp.compute import Compute
from v2c.throttle import turn

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT_S = (10.0, 130.0)  # to connect, to hear something: operations' `wait` answers within two minutes
PASSING = frozenset({408, 429, 500, 502, 503, 504})
PASSING_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "backendError"})
OPERATION_S = 3600.0  # no operation of ours takes longer: an import of 2 TB takes half of it
REMEDIES = {  # by the API's reason words and the operations' error codes
    "quotaExceeded": "ask for a higher quota (IAM & Admin > Quotas), or free some of it",
    "QUOTA_EXCEEDED": "ask for a higher quota (IAM & Admin > Quotas), or free some of it",
    "ZONE_RESOURCE_POOL_EXHAUSTED": "try another zone or another type (?type=), or reserve capacity (?reserve=HOURS)",
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": "try another zone or another type (?type=), or reserve capacity",
    "forbidden": "give the account the rights that README lists for Google Cloud",
    "authError": "log in again: gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS",
    "accessNotConfigured": "switch the API on: gcloud services enable compute.googleapis.com storage.googleapis.com",
    "notFound": "check the names in the locator",
}


class ApiError(Exception):
    """An answer that is no success: HTTP status, the API's reason word and its own words."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status, self.reason, self.text = status, reason, text


class Unreachable(Exception):
    """Nobody answered; says how. What was asked is not said: the URI of an upload session is a secret."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the APIs are, each with its version and no slash at the end."""

    compute: str
    storage: str
    projects: str

    @property
    def host(self) -> str:
        """Compute Engine's endpoint without its path, as the library wants it."""
        return self.compute.removesuffix("/compute/v1")

    @classmethod
    def chosen(cls, options: Mapping[str, str]) -> "Endpoints":
        """By the locator's `compute-endpoint` and `storage-endpoint` (private service connect), else by the environment."""
        env = os.environ
        compute = options.get("compute-endpoint") or env.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", "")
        storage = (
            options.get("storage-endpoint")
            or env.get("STORAGE_EMULATOR_HOST", "")
            or env.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", "").removesuffix("/").removesuffix("/storage/v1")
        )
        projects = env.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER", "")
        return cls(
            _whole(compute or "compute.googleapis.com", "/compute/v1"),
            _whole(storage or "storage.googleapis.com", ""),
            _whole(projects or "cloudresourcemanager.googleapis.com", "/v3"),
        )


def _whole(url: str, path: str) -> str:
    url = url.rstrip("/") if "://" in url else f"https://{url.rstrip('/')}"
    return url if url.endswith(path) else url + path


@dataclass
class Session:
    """Calls for one project. Usable from several threads: each has its own connections."""

    project: str
    endpoints: Endpoints
    patience: Patience = field(default_factory=lambda: Patience(together.meter() or Meter(), together.limit(OUTAGE_S)))
    _credentials: Any = None
    _local: threading.local = field(default_factory=threading.local)
    _compute: Compute = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._compute = Compute(self.project, self.endpoints.host, self._login)

    # ---- calls -------------------------------------------------------------------------------------------------------------

    def compute(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """Of Compute Engine: `path` below the project ("zones/Z/disks/NAME"). Raises ApiError, after patience."""
        below = f"/{path}" if path else ""
        return self.json(method, f"{self.endpoints.compute}/projects/{self.project}{below}", body, query)

    def storage(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """Of Cloud Storage's JSON API: `path` below storage/v1 ("b/BUCKET")."""
        return self.json(method, f"{self.endpoints.storage}/storage/v1/{path}", body, query)

    def object(self, method: str, bucket: str, name: str, body: Any = None, **query: str) -> Any:
        """Of an object's metadata."""
        return self.storage(method, f"b/{bucket}/o/{quote(name, safe='')}", body, **query)

    def json(self, method: str, url: str, body: Any, query: Mapping[str, str]) -> Any:
        """The answer's document; {} when there is none."""

        below = f"{self.endpoints.compute}/projects/{self.project}"

        def call() -> Any:
            turn(f"gcp:{self.project}", self.patience.meter.cancelled)
            if url == below or url.startswith(f"{below}/"):
                try:
                    return self._compute(method, url.removeprefix(below), body, query)
                except Exception as error:
                    raise (_translated(error) or error) from None
            answer = self.send(method, url, json=body, params=dict(query))
            return answer.json() if answer.content else {}

        def whole() -> Any:
            return self.patience(call, passing)

        if method != "GET" and not url.endswith(":testIamPermissions"):
            return whole()
        return together.once(("gcp", method, url, repr(body), *sorted(query.items())), whole)

    def page(self, path: str, **query: str) -> list[dict[str, Any]]:
        """All items of a list of Compute Engine."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self.compute("GET", path, **query)
            found += answer.get("items", [])
            if not (token := answer.get("nextPageToken")):
                return found
            query["pageToken"] = token

    def objects(self, bucket: str, prefix: str) -> list[dict[str, Any]]:
        """All objects below a prefix."""
        found: list[dict[str, Any]] = []
        query = {"prefix": prefix}
        while True:
            answer = self.storage("GET", f"b/{bucket}/o", **query)
            found += answer.get("items", [])
            if not (token := answer.get("nextPageToken")):
                return found
            query["pageToken"] = token

    def send(self, method: str, url: str, **about: Any) -> Any:
        """One request, once; the answer of `requests`. ApiError when it is no success (308 is one, to an upload), Unreachable
        when there is none."""
        from google.auth.exceptions import TransportError
        from requests.exceptions import RequestException

        try:
            answer = self._http().request(method, url, timeout=TIMEOUT_S, allow_redirects=False, **about)
        except (TransportError, RequestException) as error:
            raise Unreachable(type(error).__name__) from None
        if answer.status_code >= 400:
            raise _error(answer)
        return answer

    def request_id(self) -> str:
        """For one change, however often it is tried."""
        return str(uuid.uuid4())

    def change(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """A call that begins an operation; tried again under the same request id, so that it happens once."""
        begun: dict[str, Any] = self.compute(method, path, body, requestId=self.request_id(), **query)
        return begun

    def done(self, operation: Mapping[str, Any]) -> None:
        """Waits for an operation; ApiError, with the operation's error code as its reason, when it went wrong."""
        until = time.monotonic() + OPERATION_S
        path = _below(operation["selfLink"], self.project)
        while operation.get("status") != "DONE":
            if time.monotonic() > until:
                raise ApiError(504, "operationTimeout", f"the operation {path} took longer than an hour")
            operation = self.compute("POST", f"{path}/wait")
        errors = operation.get("error", {}).get("errors", [])
        if errors:
            status = int(operation.get("httpErrorStatusCode", 400))
            raise ApiError(status, errors[0].get("code", ""), errors[0].get("message", "it failed"))

    # ---- the line ----------------------------------------------------------------------------------------------------------

    def account(self) -> str:
        """Whose credentials are used. TargetError when there are none."""
        credentials = together.once(("gcp", self.project), self._login)
        return str(
            getattr(credentials, "service_account_email", "") or getattr(credentials, "account", "") or "the user logged in"
        )

    def _login(self) -> Any:
        with self._lock:
            if self._credentials is None:
                import google.auth
                from google.auth.exceptions import GoogleAuthError

                try:
                    self._credentials, _ = google.auth.default(scopes=[SCOPE])
                except (GoogleAuthError, OSError, ValueError) as error:
                    raise TargetError(
                        f"there are no credentials for Google Cloud ({error})", remedy=REMEDIES["authError"]
                    ) from error
            return self._credentials

    def _http(self) -> Any:
        if not hasattr(self._local, "http"):
            from google.auth.transport.requests import AuthorizedSession

            opener: Any = AuthorizedSession
            self._local.http = opener(self._login())
        return self._local.http


def passing(error: Exception) -> str | None:
    """Why a failure will pass; None: it will not."""
    if isinstance(error, ApiError):
        passes = error.status in PASSING or (error.status == 403 and error.reason in PASSING_REASONS)
        return f"Google answers {error.status} {error.reason}" if passes else None
    if isinstance(error, Unreachable):
        return f"Google cannot be reached ({error})"
    return "no token could be had" if getattr(error, "retryable", False) else None  # google-auth's RefreshError


def refused(error: Exception, what: str) -> TargetError | BusyError:
    """The error of ours for a failure of theirs: `what` was tried ("the image v2c-x was not made")."""
    if isinstance(error, ApiError):
        remedy = REMEDIES.get(error.reason) or (REMEDIES["forbidden"] if error.status == 403 else "")
        return TargetError(f"{what}: {error.text}", remedy=remedy, transient=passing(error) is not None)
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, GoogleAuthError):
        return TargetError(f"{what}: the credentials were refused", remedy=REMEDIES["authError"])
    return TargetError(f"{what}: Google cannot be reached ({error})", remedy="check the line", transient=True)


def failures() -> tuple[type[Exception], ...]:
    """What a call may raise: for `except`."""
    from google.auth.exceptions import GoogleAuthError

    return (ApiError, Unreachable, GoogleAuthError)


def _below(link: str, project: str) -> str:
    """The part of a self link below the project."""
    return link.partition(f"/projects/{project}/")[2]


def _translated(error: Exception) -> Exception | None:
    """A failure of google-cloud-compute as one of the two that this package knows; None: it is none of these."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import TransportError
    from requests.exceptions import RequestException

    if isinstance(error, GoogleAPICallError):
        told = error.errors[0] if error.errors and isinstance(error.errors[0], dict) else {}
        status = int(error.code or 0)
        return ApiError(status, str(told.get("reason", "")), str(told.get("message") or error.message))
    if isinstance(error, TransportError | RequestException | RetryError):
        return Unreachable(type(error).__name__)
    return None


def _error(answer: Any) -> ApiError:
    try:
        told = answer.json()["error"]
        reason = told["errors"][0]["reason"] if told.get("errors") else told.get("status", "")
        return ApiError(answer.status_code, reason, told["message"])
    except (ValueError, KeyError, TypeError):
        return ApiError(answer.status_code, answer.reason or "", answer.text[:300].strip() or f"HTTP {answer.status_code}")
