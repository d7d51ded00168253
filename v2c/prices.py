"""What instance types cost: a file that the user brings, kept with its date and its source. An estimate, and never fetched by us.

    date = 2026-11-01
    source = "the price list of ..., exported on that day"
    currency = "USD"
    [aws.eu-west-1]            # platform and region, as target locators name them; then the price of an hour
    "m7i.large" = 0.1123

TOML or JSON, the same words in both.
"""

import datetime
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from v2c.errors import UsageError
from v2c.model import Price

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

    def at(self, locator: str) -> Mapping[str, float]:
        """The prices of the place that a target locator names, its region or that of its zone ("europe-west1-b")."""
        platform, _, rest = locator.partition(":")
        place = rest.partition("?")[0].rpartition("/")[2]
        regions = (self.__pydantic_extra__ or {}).get(platform, {})
        return regions.get(place) or regions.get(place.rpartition("-")[0]) or {}

    def price(self, locator: str, type: str) -> Price | None:
        """What an hour of the type costs there; None: not known."""
        hourly = self.at(locator).get(type)
        return None if hourly is None else Price(hourly, self.currency, self.date.isoformat(), self.source)

    def counts(self) -> dict[str, int]:
        """How many types there are, by "platform.region"."""
        known = (self.__pydantic_extra__ or {}).items()
        return {f"{platform}.{region}": len(types) for platform, regions in known for region, types in regions.items()}


def read(path: Path) -> Prices:
    """A price file. UsageError names every mistake in it."""
    try:
        text = path.read_text(encoding="utf-8")
        document: Any = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"the price file {path} cannot be read ({error.strerror})", remedy="name another one") from error
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
    part = path.with_name(f"{FILE}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(prices.model_dump_json(indent=1))
    part.replace(path)
    return path


def kept(folder: Path) -> Prices | None:
    """The prices that were kept; None: none were."""
    return read(folder / FILE) if (folder / FILE).exists() else None
