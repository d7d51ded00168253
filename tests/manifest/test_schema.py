"""The published JSON Schema, judged by a validator of strangers: it is one, and it agrees with the models."""

import functools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from manifests import HEAD, machine, manifest, wave
from pydantic import ValidationError

from v2c.manifest import json_schema
from v2c.manifest.schema import Manifest
from v2c.manifest.text import read

EXAMPLE = Path(__file__).parents[2] / "fixtures" / "manifests" / "wave.yaml"
SCHEMA = json_schema()
JUDGE = Draft202012Validator(SCHEMA)


@functools.cache
def example() -> bytes:
    return json.dumps(plain(EXAMPLE.read_bytes())).encode()


def plain(text: str | bytes) -> Any:
    return read(text if isinstance(text, bytes) else text.encode(), "x").value


def model_says(document: Any) -> bool:
    try:
        Manifest.model_validate(document)
    except ValidationError:
        return False
    return True


def test_it_is_a_schema_and_every_key_is_described() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    bare = [
        f"{name}.{key}"
        for name, part in {"Manifest": SCHEMA, **SCHEMA["$defs"]}.items()
        for key, value in part["properties"].items()
        if "description" not in value and "const" not in value
    ]
    assert bare == []


def test_nothing_unknown_is_allowed_anywhere() -> None:
    parts = {"Manifest": SCHEMA, **SCHEMA["$defs"]}
    assert [name for name, part in parts.items() if part.get("additionalProperties") is not False] == []


def test_the_example_is_right_by_both() -> None:
    document = plain(EXAMPLE.read_bytes())
    assert list(JUDGE.iter_errors(document)) == [] and model_says(document)


@pytest.mark.parametrize(
    "text",
    [
        manifest(wave(machine("a", "mdoe: warm"))),
        manifest(wave(machine("a", "mode: warn"))),
        manifest(wave(machine("a", "rank: -1"))),
        manifest(wave(machine("a", "rank: 1.5"))),
        manifest(wave(machine("a", "disks: [{size: 40GiB}]"))),
        manifest(wave(machine("a", "disks: [{id: x, size: 40}]"))),
        manifest(wave(machine("a", "checks: [{type: tcp, port: 0}]"))),
        manifest(wave(machine("a", "checks: [{type: udp, port: 1}]"))),
        manifest(wave(machine("a", "downtimeBudget: 2 hours"))),
        manifest(wave(machine("a", "nics: [{address: static}]"))),
        manifest(wave(machine("a", "window: {start: tonight, end: 2026-12-06T04:00}"))),
        manifest(wave(machine("a", "blackout: [{days: [], start: '08:00', end: '18:00'}]"))),
        manifest(wave(machine("a b"))),
        manifest(wave(machine("a"))).replace("version: 1", "version: 2"),
        manifest(wave(machine("a"))).replace("local:kvm", "ftp:somewhere"),
        HEAD.replace("at: disks", "at: disks, password: plain") + wave(machine("a")),
        HEAD + "  []\n",
        "version: 1\n",
    ],
)
def test_what_is_wrong_is_wrong_by_both(text: str) -> None:
    document = plain(text)
    assert not JUDGE.is_valid(document) and not model_says(document)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, below in inner for place in places(below, (*path, key)))]


STRANGE = [
    None,
    True,
    0,
    -1,
    7,
    70000,
    1.5,
    "",
    "x",
    "a b",
    [],
    {},
    ["x"],
    {"x": "y"},
    "40GiB",
    "30m",
    "2026-12-05T22:00",
    "08:00",
]


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**9))
def test_they_agree_on_a_manifest_with_any_one_value_changed(seed: int) -> None:
    """Any value of the example replaced, taken out or joined by an unknown key: both say yes, or both say no.

    Whether a zone or a day of the calendar exists is not a matter of form, which is all that a schema can say."""
    choose = random.Random(seed)
    document = json.loads(example())
    path = choose.choice([p for p in places(document) if p])
    parent = document
    for part in path[:-1]:
        parent = parent[part]
    way = choose.choice(["replace", "remove", "add"])
    if way == "add" and isinstance(parent[path[-1]], dict):
        parent[path[-1]]["unknown"] = choose.choice(STRANGE)
    elif way == "remove":
        del parent[path[-1]]
    else:
        parent[path[-1]] = choose.choice(STRANGE)
    if path[-1] == "zone" and parent.get("zone") == "x":
        return  # whether a zone exists no form says
    assert JUDGE.is_valid(document) == model_says(document), (path, way, json.dumps(parent, default=str)[:300])
