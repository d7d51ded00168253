"""What instance types cost: a file that the user brings, or names by URL, kept with its date and its source. An estimate, fetched
only when `v2c prices update URL` says so.

    date = 2026-11-01
    source = "the price list of ..., exported on that day"
    currency = "USD"
    [aws.eu-west-1]            # platform and region, as target locators name them; then the price of an hour
    "m7i.large" = 0.1123
    [disks.aws.eu-west-1]      # the price of a GiB for a month, by the disk's type; without what is provisioned above it
    gp3 = 0.088

TOML or JSON, the same words in both.
"""

import datetime
import http.client
import json
import os
import secrets
import time
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from v2c.errors import UsageError
from v2c.model import GIB, HOURS_A_MONTH, DiskPlan, Plan, Price

LARGEST = 16 << 20  # bytes of a price file that is fetched: 100,000 types take 4 MiB
FETCH_S, CONNECT_S = 60.0, 10.0
STEP = 64 << 10
FILE = "prices.json"  # in the state's folder
Hourly = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]
Word = Annotated[str, Field(min_length=1, max_length=200)]


class Prices(BaseModel):
    """A price file: prices of an hour by platform, region and type."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, dict[Word, dict[Word, Hourly]]] = Field(init=False)

    date: datetime.date
    source: Word
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    disks: dict[str, dict[Word, dict[Word, Hourly]]] = Field(default_factory=dict)

    def at(self, locator: str) -> Mapping[str, float]:
        """The prices of the place that a target locator names, its region or that of its zone ("europe-west1-b")."""
        return _at(self.__pydantic_extra__ or {}, locator)

    def price(self, locator: str, type: str) -> Price | None:
        """What an hour of the type costs there; None: not known."""
        hourly = self.at(locator).get(type)
        return None if hourly is None else Price(hourly, self.currency, self.date.isoformat(), self.source)

    def storage(self, locator: str, disks: Iterable[DiskPlan]) -> Price | None:
        """What an hour of all these disks costs there; None: not known of each."""
        known, monthly = _at(self.disks, locator), 0.0
        for disk in disks:
            if disk.type not in known:
                return None
            monthly += known[disk.type] * disk.target_size / GIB
        return Price(monthly / HOURS_A_MONTH, self.currency, self.date.isoformat(), self.source) if monthly else None

    def told(self, plan: Plan) -> Plan:
        """The plan with what its instance and its disks cost an hour."""
        price = self.price(plan.target, plan.instance_type)
        return replace(plan, price=price, storage=self.storage(plan.target, plan.disks))

    def counts(self) -> dict[str, int]:
        """How many types there are, by "platform.region"."""
        known = (self.__pydantic_extra__ or {}).items()
        return {f"{platform}.{region}": len(types) for platform, regions in known for region, types in regions.items()}


def _at(platforms: Mapping[str, Mapping[str, Mapping[str, float]]], locator: str) -> Mapping[str, float]:
    platform, _, rest = locator.partition(":")
    place = rest.partition("?")[0].rpartition("/")[2]
    regions = platforms.get(platform, {})
    return regions.get(place) or regions.get(place.rpartition("-")[0]) or {}


def read(path: Path) -> Prices:
    """A price file. UsageError names every mistake in it."""
    try:
        return parsed(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"the price file {path} cannot be read ({error.strerror})", remedy="name another one") from error


def fetch(url: str) -> Prices:
    """The price file at an https: or file: URL, of at most `LARGEST` bytes, within `FETCH_S` seconds. UsageError when there is
    none, or mistakes are in it; what was kept before stays until all of it was understood."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("https", "file") or (parts.scheme == "file" and parts.netloc not in ("", "localhost")):
        raise UsageError(f"{url} is no place to take prices from", remedy="write https://HOST/FILE, file:///FILE or a path")
    if parts.scheme == "file":
        return read(Path(urllib.parse.unquote(parts.path)))
    try:
        return parsed(_body(url), url)
    except (OSError, http.client.HTTPException) as error:
        raise UsageError(
            f"the price file {url} cannot be fetched ({error})", remedy="fetch it yourself, and name the file"
        ) from error


def _body(url: str) -> bytes:
    """What the server sends; a redirection leads to https only, so that nobody on the line writes the prices."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        _Redirections,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    opener.add_handler(urllib.request.ProxyHandler())
    until, data = time.monotonic() + FETCH_S, bytearray()
    with opener.open(url, timeout=CONNECT_S) as answer:
        while piece := answer.read1(STEP):
            data += piece
            if len(data) > LARGEST or time.monotonic() > until:
                why = f"is larger than {LARGEST >> 20} MiB" if len(data) > LARGEST else f"takes more than {FETCH_S:.0f} seconds"
                raise UsageError(f"the price file {url} {why}", remedy="fetch it yourself, cut it down, and name the file")
    return bytes(data)


class _Redirections(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *about: Any) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(about[-1]).scheme != "https":
            raise OSError(f"it leads to {about[-1]}, which is not https")
        return super().redirect_request(*about)


def parsed(data: bytes, path: str) -> Prices:
    """What a price file says; `path` names it in errors. UsageError names every mistake in it."""
    try:
        text = data.decode("utf-8")
        document: Any = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, UnicodeDecodeError) as error:
        raise UsageError(f"the price file {path} is neither TOML nor JSON: {error}", remedy="correct it there") from error
    try:
        return Prices.model_validate(document)
    except ValidationError as wrong:
        mistakes = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in wrong.errors()[:20])
        remedy = 'it says date, source and currency, and [PLATFORM.REGION] with "TYPE" = PRICE an hour'
        raise UsageError(f"the price file {path} is wrong: {mistakes}", remedy=remedy) from wrong


def keep(prices: Prices, folder: Path) -> Path:
    """Puts the prices where plans look for them (0600, whole or not at all)."""
    path = folder / FILE
    part = path.with_name(f"{FILE}.{secrets.token_hex(4)}.part")  # of several who keep them at once, each its own
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(prices.model_dump_json(indent=1))
    part.replace(path)
    return path


def kept(folder: Path) -> Prices | None:
    """The prices that were kept; None: none were."""
    return read(folder / FILE) if (folder / FILE).exists() else None
