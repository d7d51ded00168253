"""The user's tags as each cloud can hold them."""

import pytest

from v2c.model import Level
from v2c.platforms import platform
from v2c.tags import fitting


def test_what_fits_stays_as_it_is() -> None:
    tags = (("Owner", "Anna & Bert"), ("env", "prod"))
    for name in ("aws", "azure", "kvm"):
        assert fitting(tags, platform(name)) == (tags, ())


def test_labels_are_written_in_google_s_way_and_that_is_told() -> None:
    made, told = fitting((("Owner", "Anna & Bert"), ("env", "prod")), platform("gcp"))
    assert made == (("owner", "anna---bert"), ("env", "prod"))
    (one,) = told
    assert (one.id, one.level, one.subject) == ("tags.written", Level.INFO, "Owner=Anna & Bert")
    assert "owner=anna---bert" in one.text


@pytest.mark.parametrize(
    ("name", "tags", "says"),
    [
        ("aws", [("aws:cloudformation", "x")], "do not begin with aws:"),
        ("aws", [("k" * 128, "x")], "at most 127"),
        ("aws", [(f"k{n}", "x") for n in range(45)], "there are 45 tags"),
        ("azure", [("cost/centre", "x")], "keys without"),
        ("azure", [("cost", "x" * 257)], "at most 256"),
        ("gcp", [("1st", "x")], "begin with a letter"),
        ("gcp", [("cost", "x" * 64)], "at most 63"),
        ("gcp", [("Owner", "a"), ("owner", "b")], "another tag is written owner"),
    ],
)
def test_what_no_way_of_writing_saves_is_a_blocker(name: str, tags: list[tuple[str, str]], says: str) -> None:
    _, told = fitting(tuple(tags), platform(name))
    assert [one.level for one in told if says in one.text] == [Level.BLOCKER]
