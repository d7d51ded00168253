"""Words of the command line become values, or one sentence."""

from pathlib import Path

import click
import pytest

from v2c.cli import asked, options
from v2c.errors import UsageError
from v2c.model import AddressNeed


@pytest.mark.parametrize(
    ("word", "rate"),
    [
        (None, 0),
        ("20MiB/s", 20 * 1024**2),
        ("20M", 20 * 1024**2),
        ("20 MB/s", 20_000_000),
        ("100Mbit/s", 12_500_000),
        ("1Gbps", 125_000_000),
        ("1.5k", 1536),
        ("512", 512),
    ],
)
def test_bandwidth(word: str | None, rate: int) -> None:
    assert options.bandwidth(None, None, word) == rate  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["fast", "0", "-3M", "20 parsec", "1e9"])
def test_bandwidth_that_is_none(word: str) -> None:
    with pytest.raises(Exception, match="is no rate; write it like 20MiB/s"):
        options.bandwidth(None, None, word)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "need"),
    [
        ("192.0.2.10/24", AddressNeed(None, "192.0.2.10/24")),
        ("192.0.2.10/24,192.0.2.1", AddressNeed(None, "192.0.2.10/24", "192.0.2.1")),
        (
            "52:54:00:AA:bb:cc=192.0.2.10/24,192.0.2.1,192.0.2.53,2001:db8::53",
            AddressNeed("52:54:00:aa:bb:cc", "192.0.2.10/24", "192.0.2.1", ("192.0.2.53", "2001:db8::53")),
        ),
        ("2001:db8::10/64,2001:db8::1", AddressNeed(None, "2001:db8::10/64", "2001:db8::1")),
    ],
)
def test_address(word: str, need: AddressNeed) -> None:
    assert asked.address(word) == need


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("192.0.2.10", "has no prefix length"),
        ("192.0.2.300/24", "does not appear to be"),
        ("192.0.2.10/24,198.51.100.1", "the gateway 198.51.100.1 is not in 192.0.2.0/24"),
        ("eth0=192.0.2.10/24", '"eth0" is no hardware address'),
        ("192.0.2.10/24,", "does not appear to be"),
    ],
)
def test_address_that_cannot_be_meant(word: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        asked.address(word)


def test_key_by_file_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "k").write_text("canary")
    monkeypatch.chdir(tmp_path)
    assert asked.key("/dev/sda2:file:k") == f"/dev/sda2:file:{tmp_path}/k"


def test_key_by_environment_stays_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUKS", "canary")
    assert asked.key("all:env:LUKS") == "all:env:LUKS"
    monkeypatch.delenv("LUKS")
    with pytest.raises(UsageError, match="LUKS is not set"):
        asked.key("all:env:LUKS")


@pytest.mark.parametrize("word", ["all:key:canary", "canary", ":file:canary", "all:file:", "all:canary:canary"])
def test_a_key_itself_is_refused_and_not_repeated(word: str) -> None:
    with pytest.raises(UsageError) as refused:
        asked.key(word)
    assert "canary" not in str(refused.value)


def test_network_choices_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        asked.repair_choices("", (), ("192.0.2.10/24",), True, False, ())


def test_folders_are_private(tmp_path: Path) -> None:
    places = options.placed(tmp_path / "s", None)
    assert places.workdir == tmp_path / "s" / "work"
    assert [p.stat().st_mode & 0o777 for p in (places.state, places.workdir)] == [0o700, 0o700]


def test_nic() -> None:
    assert asked.nic("00-50-56-AA-BB-CC") == "00:50:56:aa:bb:cc"
    with pytest.raises(UsageError, match="no hardware address"):
        asked.nic("00:50:56:aa:bb")


def test_tags() -> None:
    assert options._tags(None, None, ("owner=anna", "note=a=b", "empty=")) == (("owner", "anna"), ("note", "a=b"), ("empty", ""))  # type: ignore[arg-type]
    for word, sentence in (("owner", "is no tag"), ("=x", "is no tag"), ("V2C-job=x", "are v2c's own")):
        with pytest.raises(click.BadParameter, match=sentence):
            options._tags(None, None, (word,))  # type: ignore[arg-type]


def test_the_way_of_the_disks() -> None:
    assert asked.by("aws:eu-west-1", "") == "aws:eu-west-1"
    assert asked.by("aws:eu-west-1", "s3-import") == "aws:eu-west-1?via=s3-import"
    assert asked.by("azure:s/g/l?sku=x", "blob") == "azure:s/g/l?sku=x&via=blob"
    assert asked.by("aws:eu-west-1?via=s3-import", "s3-import") == "aws:eu-west-1?via=s3-import"
    for target, sentence in (("aws:eu-west-1?via=ebs-direct", "says via=ebs-direct"), ("local:aws", "one way only")):
        with pytest.raises(UsageError, match=sentence):
            asked.by(target, "s3-import")
