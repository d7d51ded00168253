"""Price files: read strictly, kept with their date, and found by the place that a locator names."""

import json
import stat
from pathlib import Path

import pytest

from v2c import prices, sizing
from v2c.errors import UsageError
from v2c.model import Disk, Firmware, Machine, Price
from v2c.sizing import Offer, choose

GOOD = """
date = 2026-11-01
source = "list prices, exported by hand"
currency = "USD"
[aws.eu-west-1]
"m7i.large" = 0.1123
"m7i.xlarge" = 0.2246
[gcp.europe-west1]
n2-standard-2 = 0.1068
[azure.westeurope]
Standard_D2s_v5 = 0.115
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "prices.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("locator", "type", "hourly"),
    [
        ("aws:eu-west-1?subnet=a/b", "m7i.large", 0.1123),
        ("gcp:project/europe-west1-b", "n2-standard-2", 0.1068),
        ("gcp:project/europe-west1", "n2-standard-2", 0.1068),
        ("azure:0-1/group/westeurope?subnet=a/b", "Standard_D2s_v5", 0.115),
        ("aws:eu-west-1", "m7i.huge", None),
        ("aws:eu-west-2", "m7i.large", None),
        ("local:aws", "m7i.large", None),
    ],
)
def test_prices_are_found_by_place_and_type(tmp_path: Path, locator: str, type: str, hourly: float | None) -> None:
    found = prices.read(written(tmp_path, GOOD)).price(locator, type)
    assert found == (None if hourly is None else Price(hourly, "USD", "2026-11-01", "list prices, exported by hand"))


def test_json_says_the_same_and_what_is_kept_is_what_was_read(tmp_path: Path) -> None:
    book = prices.read(written(tmp_path, GOOD))
    path = prices.keep(book, tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and json.loads(path.read_text())["aws"]["eu-west-1"]["m7i.large"] == 0.1123
    assert prices.kept(tmp_path) == book and prices.kept(tmp_path / "elsewhere") is None
    assert book.counts() == {"aws.eu-west-1": 2, "gcp.europe-west1": 1, "azure.westeurope": 1}


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('currency = "USD"', 'currency = "dollars"', "currency"),
        ("date = 2026-11-01", "", "date"),
        ("0.1123", "-1", "aws.eu-west-1.m7i.large"),
        ("0.1123", "nan", "aws.eu-west-1.m7i.large"),
        ("0.1123", '"cheap"', "aws.eu-west-1.m7i.large"),
        ("[aws.eu-west-1]", "[aws]", "aws."),
        ("date =", "date", "neither TOML nor JSON"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, old: str, new: str, where: str) -> None:
    with pytest.raises(UsageError, match=r"the price file .*prices\.toml") as wrong:
        prices.read(written(tmp_path, GOOD.replace(old, new, 1)))
    assert where in str(wrong.value)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as wrong:
        prices.read(written(tmp_path, GOOD.replace("USD", "x").replace("0.1068", "-2")))
    assert "currency" in str(wrong.value) and "n2-standard-2" in str(wrong.value)


def test_the_choice_knows_the_prices_while_they_are_set() -> None:
    machine = Machine("erp", (Disk("d", 512),), memory_mib=4096, vcpus=2)
    offers = (Offer("dear", 2, 4096), Offer("cheap", 2, 8192))

    def chosen() -> str:
        found = choose(machine, Firmware.BIOS, offers)
        assert found
        return found.name

    with sizing.priced({"dear": 1.0, "cheap": 0.5}):
        assert chosen() == "cheap"
        with sizing.priced({}):
            assert chosen() == "dear"
    assert chosen() == "dear", "nobody knows a price: the smallest"
