"""The way to Azure: who we are, the SDK's clients, and calls that outlast an outage.

Logs in by azure-identity's chain (environment, workload, managed identity, the CLI's login). What fails for the moment is tried
again by `Patience`, and never by the SDK, whose sleeps nobody can interrupt; everything else becomes one TargetError.
"""

import os
import re
import time
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from v2c.errors import Paused, TargetError, V2cError
from v2c.events import Meter
from v2c.patience import OUTAGE_S, Patience, meter_of
from v2c.targets import together
from v2c.targets.azure.place import Place
from v2c.throttle import turn

if TYPE_CHECKING:
    from v2c.targets.azure.shadow import Shadow

T = TypeVar("T")

CONNECTIONS = 64  # kept to each host: eight disks with eight pages in flight
POLL_S = 2.0  # between questions about an operation that does not say when to ask (the SDK's own 30 s are for people)
# Azure's own login hosts; elsewhere (Azure Stack, private clouds) nobody vouches for the authority
AUTHORITIES = (
    "login.microsoftonline.com",
    "login.chinacloudapi.cn",
    "login.partner.microsoftonline.cn",
    "login.microsoftonline.us",
)
# Failures with other statuses than 429 and 5xx that pass by themselves (ARM's error codes)
PASSING = {
    "AnotherOperationInProgress",
    "RetryableError",
    "ExpiredAuthenticationToken",
    "NicReservedForAnotherVm",
    "OperationPreempted",
    "ContainerBeingDeleted",
    "InvalidAuthenticationInfo",  # of the storage service: the token ran out
}
# What azure-identity says of a login service that is not well; it keeps neither the status nor the cause
_UNWELL = re.compile(
    r"HTTP Error: (429|5\d\d)|Connection aborted|Connection reset|Max retries|[Tt]imed out|AADSTS90033|AADSTS90025"
)
_SECRET = re.compile(r"(?i)((?:[?&;]|\b)(?:sig|access_token|client_secret)=)[^&\s\"'<>]+")
REMEDIES = {
    "AuthorizationFailed": "ask the subscription's owner for the rights that the README lists",
    "SkuNotAvailable": "choose another size with ?size=, or another location",
    "AllocationFailed": "Azure has no room for this size now: try later, or choose another with ?size=",
    "ZonalAllocationFailed": "Azure has no room for this size now: try later, or choose another with ?size=",
    "OverconstrainedAllocationRequest": "choose another size with ?size=",
    "PrivateIPAddressInUse": "choose another address with ?private-ip=, or free this one",
    "ResourceGroupNotFound": "make the resource group, or add ?create-group",
    "SubscriptionNotFound": "correct the subscription's id, or log in to its tenant",
    "AuthorizationPermissionMismatch": "have the role Storage Blob Data Contributor on the storage account (README, Azure)",
    "AuthorizationFailure": "let this machine through the storage account's firewall, or through its private endpoint",
    "InvalidAuthenticationToken": "log in again: az login, or the AZURE_* variables of a service principal",
}


class Session:
    """One process's way to one place. Thread-safe, as the SDK's clients are."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.limit_s = OUTAGE_S
        self.shadow: Shadow | None = None  # of a dry run
        self.kept: dict[str, Any] = {}  # catalogues that were read
        self.job = ""  # whose steps this process does now: they may be asked to stop

    @property
    def meter(self) -> Meter:
        """Of the step that the job is at."""
        return together.meter() or meter_of(self.job)

    # ---- clients -----------------------------------------------------------------------------------------------------------

    @cached_property
    def endpoint(self) -> tuple[str, tuple[str, ...]]:
        """Resource Manager's URL and the scopes of its tokens: the user's, else those of the cloud in AZURE_SDK_CLOUD_CONF."""
        if self.place.endpoint:
            return self.place.endpoint, (f"{self.place.endpoint}/.default",)
        from azure.core.settings import settings
        from azure.mgmt.core.tools import get_arm_endpoints

        current: Any = settings.current
        known = get_arm_endpoints(current.azure_cloud)
        return str(known["resource_manager"]).rstrip("/"), tuple(known["credential_scopes"])

    @cached_property
    def credential(self) -> Any:
        from azure.identity import DefaultAzureCredential

        host = os.environ.get("AZURE_AUTHORITY_HOST", "").removeprefix("https://").rstrip("/")
        known = not host or host in AUTHORITIES
        make = partial(DefaultAzureCredential, disable_instance_discovery=not known, retry_total=0)
        return together.once(("azure", "credential"), make)

    @cached_property
    def compute(self) -> Any:
        from azure.mgmt.compute import ComputeManagementClient

        return self._client(ComputeManagementClient)

    @cached_property
    def network(self) -> Any:
        from azure.mgmt.network import NetworkManagementClient

        return self._client(NetworkManagementClient)

    @cached_property
    def resources(self) -> Any:
        from azure.mgmt.resource.resources import ResourceManagementClient

        return self._client(ResourceManagementClient)

    def _client(self, kind: Callable[..., Any]) -> Any:
        url, scopes = self.endpoint
        make = partial(
            kind,
            self.credential,
            self.place.subscription,
            base_url=url,
            credential_scopes=list(scopes),
            retry_total=0,
            polling_interval=POLL_S,
            transport=self.transport(),
            raw_request_hook=lambda _: turn(f"azure:{self.place.subscription}", self.meter.cancelled),
        )
        return self.once(kind.__name__, make)

    @cached_property
    def _pool(self) -> Any:
        import requests
        from requests.adapters import HTTPAdapter

        if self.shadow is not None:
            return self.shadow.session()
        pool = requests.Session()
        pool.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=0))
        return pool

    def transport(self) -> Any:
        """The SDK's HTTP; its connections are shared by all clients of this session."""
        from azure.core.pipeline.transport import RequestsTransport

        return RequestsTransport(session=self._pool, session_owner=False, connection_timeout=20, read_timeout=60)

    def once(self, what: str, ask: Callable[[], T]) -> T:
        """What is the same for all machines of the subscription is asked once where many are planned."""
        return together.once(("azure", self.endpoint, self.place.subscription, what), ask)

    # ---- calls -------------------------------------------------------------------------------------------------------------

    def ask(self, what: str, call: Callable[[], T], meter: Meter | None = None) -> T:
        """The answer of a call; `what` says what it does, for errors. Raises TargetError, Paused."""
        patience = Patience(meter or self.meter, limit_s=self.limit_s)
        quiet = 0.0  # seconds that Azure asked for: on top of the patience's own

        def once() -> T:
            nonlocal quiet
            until = time.monotonic() + quiet
            while (left := until - time.monotonic()) > 0:
                if patience.meter.cancelled():
                    raise Paused(f"stopped while Azure asked for patience: {what}", remedy="the same command goes on")
                time.sleep(min(left, 0.2))
            try:
                return call()
            except Exception as error:
                quiet = retry_after(error)
                raise

        try:
            return patience(once, passing)
        except V2cError:
            raise
        except Exception as error:
            raise told(what, error) from error

    def look(self, what: str, call: Callable[[], T], meter: Meter | None = None) -> T | None:
        """The same, None when there is no such thing."""
        from azure.core.exceptions import ResourceNotFoundError

        def looked() -> T | None:
            try:
                return call()
            except ResourceNotFoundError:
                return None

        return self.ask(what, looked, meter)

    def list(self, what: str, call: Callable[[], Iterable[Any]]) -> list[Any]:
        """All pages of a list."""
        return self.look(what, lambda: list(call())) or []

    def rows(self, what: str, path: str, version: str) -> tuple[Any, ...]:
        """All pages of a list of Resource Manager's that none of the SDK's packages at hand asks for."""
        from azure.core.rest import HttpRequest

        def ask() -> tuple[Any, ...]:
            found: tuple[Any, ...] = ()
            url, params = f"{self.endpoint[0]}{path}", {"api-version": version}
            while url:
                answer = self.compute.send_request(HttpRequest("GET", url, params=params))
                answer.raise_for_status()
                document = answer.json()
                found += tuple(document["value"])
                url, params = document.get("nextLink") or "", {}
            return found

        return self.once(path, lambda: self.ask(what, ask))

    def run(self, what: str, begin: Callable[[], Any], meter: Meter | None = None) -> Any:
        """A long-running operation to its end: begun again as a whole when something passing came between, which is harmless:
        every operation used here is, by its own definition, the same when asked for twice."""

        def whole() -> Any:
            poller = begin()
            while not poller.done():
                if (meter or self.meter).cancelled():
                    raise Paused(f"stopped while Azure was busy: {what}", remedy="the same command goes on")
                poller.wait(0.2)
            return poller.result()

        return self.ask(what, whole, meter)

    def gone(self, what: str, begin: Callable[[], Any]) -> None:
        """A deletion; absent is success."""
        self.look(what, lambda: self.run(what, begin))


def passing(error: Exception) -> str | None:
    """Why a failure of Azure's will pass; None: it will not."""
    from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return "Azure cannot be reached"
    if not isinstance(error, HttpResponseError):
        return None
    status = status_of(error)
    if not status and _UNWELL.search(str(error)):
        return "the login service is not well"
    if status == 429:
        return "Azure asks for patience (429)"
    if status in (408, 500, 502, 503, 504):
        return f"Azure is not well ({status})"
    return f"Azure says {code_of(error)}" if code_of(error) in PASSING else None


def status_of(error: Exception) -> int:
    """The HTTP status of an SDK's error; 0: none."""
    response = getattr(error, "response", None)
    return int(getattr(error, "status_code", None) or getattr(response, "status_code", None) or 0)


def code_of(error: Exception) -> str:
    """The service's own code ("AuthorizationFailed"); empty: none."""
    code = getattr(error, "error_code", None) or getattr(getattr(error, "error", None), "code", None)
    return str(getattr(code, "value", code) or "")


def retry_after(error: Exception) -> float:
    """Seconds that the service asks to wait; 0: it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return min(60.0, float(headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def told(what: str, error: Exception) -> TargetError:
    """An SDK's error as ours: one sentence with the service's own words, without the secrets of its URLs."""
    own = str(getattr(getattr(error, "error", None), "message", None) or getattr(error, "message", None) or error).strip()
    lines = [line.strip() for line in own.split("\n")]
    if "Attempted credentials:" in lines:  # azure-identity: what each of its chain said, and a link
        lines = ["nobody is logged in (" + "; ".join(lines[lines.index("Attempted credentials:") + 1 : -1]) + ")"]
    words = _SECRET.sub(r"\1...", lines[0])[:600]
    code = code_of(error)
    text = f"{what}: {code + ': ' if code and code not in words else ''}{words}"
    remedy = REMEDIES.get(code, "")
    if (
        not remedy
        and type(error).__name__ in ("ClientAuthenticationError", "CredentialUnavailableError")
        and status_of(error) != 403
    ):
        remedy = REMEDIES["InvalidAuthenticationToken"]
    return TargetError(text, remedy=remedy, transient=passing(error) is not None)
