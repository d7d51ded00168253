"""The one way to AWS: clients, patience, and errors in our words.

Credentials, region endpoints and proxies come from the SDK's own chain and settings (environment, shared files, SSO, process,
instance role; AWS_ENDPOINT_URL*, AWS_CA_BUNDLE). Nothing of them is kept or told here.
"""

import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

from v2c.clock import CLOCK
from v2c.errors import Paused, TargetError, V2cError
from v2c.events import Meter
from v2c.patience import OUTAGE_S, Patience, meter_of
from v2c.targets import together
from v2c.targets.aws.facts import api
from v2c.throttle import turn

CONNECT_S, READ_S = 10, 60  # without limits an uploader outside EC2 hangs for ever
FIRST_POLL_S, MOST_POLL_S = 0.2, 15.0  # EC2's buckets of requests are shared by the whole account
POOL = 64  # connections per service: the default of 10 caps uploads silently

DATA = ("ebs", "s3")  # the services that blocks go through; their limits are other ones, and known to who sends

T = TypeVar("T")
Passing = Callable[[Exception], str | None]


class ApiError(TargetError):
    """AWS refused a call: its `code`, and the `reason` that EBS direct adds."""

    def __init__(self, text: str, *, code: str, reason: str = "", remedy: str = "", transient: bool = False) -> None:
        super().__init__(text, remedy=remedy, transient=transient)
        self.code, self.reason = code, reason


class Session:
    """Calls to one region. Thread-safe. `job`: whose step is asked whether to stop, and told what is waited for. `dry`: calls
    that change something are told, not made (dry.py)."""

    dry = False

    def __init__(self, region: str, profile: str = "") -> None:
        self.region, self.profile = region, profile
        self.job = ""
        self.clock = CLOCK
        self._clients: dict[str, Any] = {}
        self._session: Any = None
        self._lock = threading.RLock()

    @property
    def account(self) -> str:
        """Whose calls AWS counts together: each region has its own counts."""
        return f"aws:{self.profile}/{self.region}"

    @property
    def meter(self) -> Meter:
        """The meter of the step that the job is at."""
        return together.meter() or meter_of(self.job)

    def client(self, service: str) -> Any:
        """The SDK's client of a service, made once."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def _make(self, service: str) -> Any:
        import boto3
        import botocore.session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            max_pool_connections=POOL,
            retries={"mode": "standard", "total_max_attempts": 1},  # patience is ours: it can be stopped, and tells
            user_agent_extra="v2c",
            tcp_keepalive=True,
        )
        try:
            if self._session is None:
                core = botocore.session.Session(profile=self.profile or None)
                core.register_component("data_loader", _models())
                self._session = boto3.Session(region_name=self.region, botocore_session=core)
            made = self._session.client(service, config=config)
        except (BotoCoreError, ValueError) as error:
            raise TargetError(f"AWS: {error}", remedy="correct the region, the profile or the SDK's settings") from error
        if service not in DATA:
            made.meta.events.register("before-send", self._turn)
        return made

    def _turn(self, **_: Any) -> None:
        turn(self.account, self.meter.cancelled)

    def renew(self) -> None:
        """Asks the SDK's chain for credentials anew: what was in a file or a variable may have changed."""
        with self._lock:
            self._clients.clear()
            self._session = None

    def call(
        self, service: str, method: str, passing: Passing | None = None, *, patient: bool = True, **params: Any
    ) -> dict[str, Any]:
        """Calls, and calls again while the failure is a passing one. `passing` knows more of them. ApiError for a refusal."""

        def once() -> dict[str, Any]:
            answer: dict[str, Any] = getattr(self.client(service), method)(**params)
            return answer

        def whole() -> dict[str, Any]:
            return self.patiently(once, method, passing, patient=patient)

        if service in DATA:
            return whole()
        return together.once((self.account, service, method, repr(sorted(params.items()))), whole)

    def probe(self, service: str, method: str, **params: Any) -> dict[str, Any]:
        """A call that cannot change anything, though its name says so: EC2's DryRun, or one about things that do not exist."""
        return self.call(service, method, **params)

    def patiently(self, once: Callable[[], T], method: str, passing: Passing | None = None, *, patient: bool = True) -> T:
        """The same for anything that asks AWS: `once` is repeated, `method` names it in errors. Without `patient` it is for
        20 seconds, and expired credentials are told at once."""

        def why(error: Exception) -> str | None:
            return (passing(error) if passing else None) or self._passing(error, renewing=patient)

        limit = together.limit(OUTAGE_S) if patient else 20.0
        patience = Patience(meter=self.meter, limit_s=limit, clock=self.clock)
        try:
            return patience(once, why)
        except V2cError:
            raise
        except Exception as error:
            raise failure(error, method) from error

    def pages(self, service: str, method: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """All entries of a listing."""
        token: dict[str, Any] = {}
        while True:
            answer = self.call(service, method, **params, **token)
            yield from answer.get(key) or ()
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    def polls(self, limit_s: float) -> Iterator[None]:
        """Turns to ask whether something is done: at once, soon, then every quarter of a minute, until the time is over."""
        began, pause = self.clock.now(), FIRST_POLL_S
        while True:
            yield
            if self.clock.now() - began > limit_s:
                return
            self._rest(pause)
            pause = min(pause * 1.5, MOST_POLL_S)

    def _rest(self, seconds: float) -> None:
        """Sleeps; Paused when the user wants to stop."""
        until = self.clock.now() + seconds
        while (left := until - self.clock.now()) > 0:
            if self.meter.cancelled():
                raise Paused("stopped while waiting for AWS", remedy="the same command goes on")
            self.clock.sleep(min(left, 0.5))

    def _passing(self, error: Exception, *, renewing: bool) -> str | None:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
        from botocore.parsers import ResponseParserError

        if isinstance(error, ClientError):
            code, _, status = told(error)
            known = api().errors
            if code in known.expired:
                if not renewing:
                    return None
                self.renew()
                return "the credentials expired; new ones are looked for in the usual places"
            if code in known.passing or (status >= 500 and code not in known.lasting):
                return f"AWS answers {code}"
            return None
        if isinstance(error, ResponseParserError):
            return "AWS gave an answer that is none"
        if isinstance(error, HTTPClientError):  # lost, refused and slow connections, and reads cut short
            return None if "CERTIFICATE_VERIFY_FAILED" in str(error) else f"AWS cannot be reached ({type(error).__name__})"
        if isinstance(error, BotoCoreError) and not isinstance(error, NoCredentialsError):
            return None
        return "the connection broke" if isinstance(error, ConnectionError | TimeoutError) else None


@cache
def _models() -> Any:
    """The SDK's service models, read once in a process: EC2's alone takes half a second."""
    from botocore.loaders import Loader

    return Loader()


def told(error: Exception) -> tuple[str, str, int]:
    """(code, reason, HTTP status) of the SDK's error; empty for another one."""
    response = getattr(error, "response", None) or {}
    about = response.get("Error", {})
    reason = response.get("Reason") or about.get("Reason") or ""
    return about.get("Code", ""), str(reason), int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def failure(error: Exception, method: str) -> TargetError:
    """An error of the SDK as one of ours: the API's own words, and what to do."""
    code, reason, _ = told(error)
    known = api().errors
    operation = "".join(part.capitalize() for part in method.split("_"))
    if not code:
        remedy = "set them up as for the AWS command line" if "redentials" in str(error) else "check the network and the endpoint"
        return TargetError(f"AWS {operation}: {error}", remedy=remedy)
    words = str(getattr(error, "response", {}).get("Error", {}).get("Message") or error)
    text = f"AWS refuses {operation}: {code}{f' ({reason})' if reason else ''}: {words}"
    remedy = ""
    if code in known.denied:
        remedy = "give the identity this right (the README lists all that v2c needs)"
        if reason == "DEPENDENCY_ACCESS_DENIED":
            remedy = "give the identity its rights on the encryption key"
    elif code in known.unknown or code in known.expired:
        remedy = "renew the credentials, and look at this machine's clock"
    elif code in known.lasting:
        remedy = "choose another instance type (&type=) or a subnet in another zone"
    return ApiError(text, code=code, reason=reason, remedy=remedy)
