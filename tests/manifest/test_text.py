"""YAML text to values and places: strict, bounded, and the same with both of ruamel's parsers."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import told
from ruamel.yaml import YAML

from v2c.manifest import text
from v2c.manifest.text import read

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=8)  # what the emitter writes as it is
SCALARS = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


def value(data: str) -> Any:
    document = read(data.encode(), "x")
    assert document.mistakes == []
    return document.value


@settings(deadline=None, max_examples=50)
@given(VALUES)
def test_json_is_yaml_and_reads_back(made: Any) -> None:
    assert value(json.dumps(made)) == made


PLAIN = st.from_regex(r"[A-Za-z0-9äöü][A-Za-z0-9äöü ._/-]{0,8}", fullmatch=True)
PLAINS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN, inner, max_size=4),
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(PLAIN, PLAINS, min_size=1, max_size=4), st.booleans())
def test_both_parsers_agree(made: dict[str, Any], flow: bool) -> None:
    """On all that ruamel writes: values and places."""
    import io

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = flow
    out = io.StringIO()
    yaml.dump(made, out)
    quick, own = read(out.getvalue().encode(), "x"), text._Builder("x")
    root = own.document(text._events(out.getvalue(), pure=True))
    assert quick.value == own.plain(root)
    assert [(p, n.line, n.column) for p, n in quick.root.walk()] == [(p, n.line, n.column) for p, n in root.walk()]


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("no", "no"),
        ("12:34:56", "12:34:56"),
        ("2026-12-05", "2026-12-05"),
        ("0x10", "0x10"),
        ("007", 7),
        ('"007"', "007"),
        ("1.50", 1.5),
        ("1_000", "1_000"),
        ("~", None),
        ("", None),
        ("True", True),
        ("!!str 7", "7"),
        (".inf", ".inf"),
        ("2026-11-28T20:00", "2026-11-28T20:00"),
    ],
)
def test_plain_words(written: str, read_as: object) -> None:
    found = value(f"a: {written}\n")["a"]
    assert found == read_as and type(found) is type(read_as)


def test_a_url_and_a_time_in_braces_are_read() -> None:
    """libyaml refuses these; YAML 1.2 allows them."""
    assert value("{a: http://x/y, b: 2026-11-28T20:00}") == {"a": "http://x/y", "b": "2026-11-28T20:00"}


def test_anchors_and_merges() -> None:
    assert value("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x\n") == {
        "a": {"p": 1, "q": 2},
        "b": {"p": 1, "q": 3},
        "c": {"p": 1, "q": 2},
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str) -> None:
    document = read("a: Größe\r\nb: 1\r\n".encode(encoding), "x")
    assert document.value == {"a": "Größe", "b": 1} and document.root.at(("b",))[0].line == 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("a: 1\nb: 2\na: 3\nb: 4\n", ["3:1: a: the key is given twice (first in line 1)", "4:1: b: the key is given twice"]),
        ("a: {b: 1, b: 2}\n", ["1:11: a.b: the key is given twice"]),
        ("a: *nothing\n", ["1:4: a: an alias (*) names no anchor"]),
        ("a: &x [*x]\n", ["1:8: a[0]: an alias stands inside what it names"]),
        ("a: !python/object x\n", ["1:4: a: a manifest uses no tags"]),
        ("? [a]\n: 1\n", ["1:3: a key is no plain text"]),
        ("a: 1\n---\nb: 2\n", [":1: a second document begins here"]),
        ("a: [1,\n b: }\n", ["2:5: this is no YAML"]),
        ("a:\n\t- b\n", ["2:1: this is no YAML"]),
        ("a: \x07\n", ["1:1: there is a character that YAML does not allow"]),
        (b"a: 1\nb: \xff\n", ["2:1: this is no UTF-8"]),
        ("[" * 100_000, ["it nests deeper than 40 levels"]),
    ],
)
def test_mistakes_of_the_text(data: str | bytes, says: list[str]) -> None:
    found = [str(m) for m in read(data if isinstance(data, bytes) else data.encode(), "x").mistakes]
    assert len(found) == len(says), found
    for line, said in zip(found, says, strict=True):
        assert said in line


def test_aliases_do_not_multiply_without_end() -> None:
    levels = [b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]".encode() for i in range(1, 9)]
    (only,) = told(b"\n".join(levels))
    assert "its aliases stand for more than" in only


def test_a_syntax_error_does_not_repeat_the_text() -> None:
    (only,) = told("password: 'canary-7f3a\nb: 1\n")
    assert "canary" not in only
