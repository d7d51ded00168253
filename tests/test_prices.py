"""Price files: read strictly, kept with their date, and found by the place that a locator names."""

import json
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from v2c import prices, sizing
from v2c.emulators.tls import authority
from v2c.errors import UsageError
from v2c.model import GIB, Disk, DiskPlan, Firmware, Machine, Price
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
[disks.aws.eu-west-1]
gp3 = 0.073
io2 = 0.146
[disks.gcp.europe-west1]
pd-ssd = 0.204
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


@pytest.mark.parametrize(
    ("locator", "types", "hourly"),
    [
        ("aws:eu-west-1?subnet=a/b", ["gp3", "io2"], 0.03),
        ("gcp:project/europe-west1-b", ["pd-ssd"], 0.204 * 100 / 730),
        ("aws:eu-west-1", ["gp3", "st1"], None),
        ("aws:eu-west-1", [""], None),
        ("aws:eu-west-1", [], None),
        ("azure:0-1/group/westeurope", ["gp3"], None),
    ],
)
def test_prices_of_disks(tmp_path: Path, locator: str, types: list[str], hourly: float | None) -> None:
    """Of a GiB for a month; of disks of which not each is known, nothing."""
    disks = [DiskPlan(f"d{n}", f"erp-{n}", 1, 100 * GIB, type) for n, type in enumerate(types)]
    found = prices.read(written(tmp_path, GOOD)).storage(locator, disks)
    assert (found and round(found.hourly, 9)) == (hourly and round(hourly, 9))
    assert found is None or (found.currency, found.date) == ("USD", "2026-11-01")


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


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, bytes]]]:
    """An https server that clients trust by the public setting: (its URL, what it answers by path)."""
    files: dict[str, bytes] = {}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/away/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/away/"))
                self.end_headers()
                return
            data = files.get(self.path)
            self.send_response(200 if data is not None else 404)
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, format: str, *words: object) -> None:
            """Nothing is printed."""

    own = authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(own.trusted))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    http.socket = own.context().wrap_socket(http.socket, server_side=True)
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    yield f"https://127.0.0.1:{http.server_port}", files
    http.shutdown()
    http.server_close()


def test_prices_come_by_https_and_are_judged_before_they_replace_any(
    server: tuple[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, files = server
    monkeypatch.setattr(prices, "LARGEST", 100_000)
    files |= {"/good": GOOD.encode(), "/wrong": GOOD.replace("USD", "dollars").encode(), "/large": b"#" * 200_000}
    argv = ["prices", "update", "--state", str(tmp_path / "state"), "--workdir", str(tmp_path / "work")]

    def update(place: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-m", "v2c", *argv, place], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert update(f"{url}/good")[0] == 0
    before = prices.kept(tmp_path / "state")
    assert before == prices.fetch(f"{url}/good") == prices.fetch(written(tmp_path, GOOD).as_uri())
    assert prices.fetch(f"{url}/away/{url}/good") == before
    for place, word in (("/wrong", "currency"), ("/none", "404"), ("/away/http://127.0.0.1/x", "not https")):
        code, said = update(url + place)
        assert code == 2 and word in said and url in said
    with pytest.raises(UsageError, match="is larger than"):
        prices.fetch(f"{url}/large")
    assert prices.kept(tmp_path / "state") == before, "what is wrong replaces nothing"


@pytest.mark.parametrize("url", ["http://localhost/x", "ftp://localhost/x", "file://elsewhere/x"])
def test_prices_come_from_nowhere_else(url: str) -> None:
    with pytest.raises(UsageError, match="no place to take prices from"):
        prices.fetch(url)


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
