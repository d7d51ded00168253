"""pydantic's complaints as mistakes that a person can act on: at their place, in plain words, with the word that was meant."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import ValidationError

from v2c.manifest.looks import looks_secret
from v2c.manifest.mistakes import Mistake
from v2c.manifest.schema import Manifest
from v2c.manifest.text import Document, Node, Path
from v2c.manifest.values import CIDR, CLOCK, ID, LOCAL, MAC, ZONE

_FORMS = {
    ID: "letters, digits, dots, dashes and underscores, beginning with a letter or digit, at most 63",
    CLOCK: "a time of day, like 08:00",
    LOCAL: "a day and time, like 2026-12-05T22:00",
    CIDR: "keep, dhcp, or an address, like 10.0.0.5/24",
    ZONE: "a time zone, like Europe/Berlin or UTC",
    MAC: "a hardware address, like 00:50:56:aa:bb:cc",
}
# The variants that our own rules tell apart: how each one's schema is known
_TAGS = {
    "weekly": {"$ref": "#/$defs/WeeklyBlackout"},
    "dated": {"$ref": "#/$defs/DatedBlackout"},
    "slot": {"$ref": "#/$defs/RateSlot"},
    "rate": {"type": "string"},
    "hours": {"type": "array"},
}
_KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def mistakes(error: ValidationError, document: Document) -> Iterator[Mistake]:
    """Each complaint of pydantic at its place in the document. What looks like a secret is not repeated."""
    for one in error.errors(include_url=False, include_context=True):
        path, fields = _trace(one["loc"])
        if one["type"] == "too_short" and document.root.at(path)[0].items:
            continue  # its members are wrong, and told
        text, remedy, key = _said(one["type"], one, path, fields, document.root.at(path))
        yield document.mistake(path, text, remedy, key=key)


def located(error: ValidationError, document: Any) -> Iterator[tuple[Path, str, str]]:
    """Each complaint about plain values that come from no YAML: path, text, remedy."""
    root = _noded(document)
    for one in error.errors(include_url=False, include_context=True):
        path, fields = _trace(one["loc"])
        if not (one["type"] == "too_short" and root.at(path)[0].items):
            text, remedy, _ = _said(one["type"], one, path, fields, root.at(path))
            yield path, text, remedy


def _noded(value: Any) -> Node:
    """Plain values as nodes without places."""
    if isinstance(value, dict):
        return Node("mapping", 0, 0, keys={k: (Node("scalar", 0, 0, k, k), _noded(v)) for k, v in value.items()})
    if isinstance(value, (list, tuple)):
        return Node("list", 0, 0, items=[_noded(item) for item in value])
    return Node("scalar", 0, 0, value, "" if value is None else str(value))


@cache
def _schema() -> dict[str, Any]:
    return Manifest.model_json_schema(by_alias=True)


def _trace(loc: tuple[int | str, ...]) -> tuple[Path, tuple[str, ...]]:
    """The path in the file that a pydantic location means, without the tags of unions; and the keys known beside its end."""
    schema, path, fields = _schema(), list[int | str](), tuple[str, ...]()
    for part in loc:
        schema, skip = _choose(schema, part)
        if skip:
            continue
        properties = schema.get("properties")
        fields = tuple(properties) if properties and isinstance(part, str) else ()
        path.append(part)
        if properties is not None:
            schema = properties.get(part, {})
        elif isinstance(part, int):
            schema = schema.get("items", {})
        else:
            schema = schema.get("additionalProperties", {})
            schema = schema if isinstance(schema, dict) else {}
    return tuple(path), fields


def _choose(schema: dict[str, Any], part: int | str) -> tuple[dict[str, Any], bool]:
    """The schema behind references and "or null"; True when the part is only the tag of the variant chosen."""
    skip = False
    while True:
        if "$ref" in schema:
            schema = _schema()["$defs"][schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema:
            schema = next(s for s in schema["anyOf"] if s.get("type") != "null")
        elif "oneOf" in schema and not skip:
            mapping = schema.get("discriminator", {}).get("mapping", {})
            known = {tag: {"$ref": name} for tag, name in mapping.items()} or _TAGS
            if str(part) not in known:
                return {}, False
            wanted = known[str(part)].items()
            schema, skip = next((s for s in schema["oneOf"] if wanted <= s.items()), {}), True
        else:
            return schema, skip


def close(word: str, known: Any) -> str:
    """What to do about an unknown word: the one that was meant, or those there are."""
    names = sorted(known)
    near = get_close_matches(word.casefold(), [n.casefold() for n in names], n=1, cutoff=0.6)
    if near:
        return f"did you mean {next(n for n in names if n.casefold() == near[0])}?"
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known here: {listed}" if names else ""


def _shown(node: Node) -> str:
    if node.kind != "scalar":
        return f"a {node.kind}"
    if looks_secret(node.raw):
        return "something else"
    value = node.raw if len(node.raw) <= 60 else node.raw[:57] + "..."
    if node.value is None:
        return "empty"
    if isinstance(node.value, bool):
        return f"{value}, which YAML reads as true or false"
    if isinstance(node.value, (int, float)):
        return f"the number {value}"
    return f'"{value}"'


def _said(kind: str, one: Any, path: Path, fields: tuple[str, ...], where: tuple[Node, bool]) -> tuple[str, str, bool]:
    """Text, remedy, and whether it stands at the key."""
    node, _ = where
    context = one.get("ctx", {})
    last = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        if looks_secret(last):
            return "there is no such key", "take it out", True
        return f"there is no key {last[:60]} here", close(last, fields), True
    if kind == "missing":
        return f"{last} is missing", "", False
    if kind in ("secret", "duration", "size", "rate", "moment", "zone"):
        return one["msg"], "", False
    shown = _shown(node)
    if kind == "string_type" and isinstance(node.value, (int, float)) and node.kind == "scalar":
        return f"this is {shown}, and a text is wanted", f'write it in quotes: "{node.raw[:60]}"', False
    if kind == "string_pattern_mismatch":
        pattern = context.get("pattern", "")
        return f"this is {shown}", f"write {_FORMS.get(pattern, f'what matches {pattern}')}", False
    if kind in ("literal_error", "enum"):
        meant = [w.strip().strip("'") for w in context.get("expected", "").replace(" or ", ", ").split(",")]
        near = get_close_matches(node.raw, meant, n=1) if node.kind == "scalar" else []
        return f"this is {shown}", f"write {', '.join(meant)}" + (f" (did you mean {near[0]}?)" if near else ""), False
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tags = [tag.strip("' ") for tag in context.get("expected_tags", "'tcp', 'http', 'ssh', 'command'").split(",")]
        text = (
            f'"{context["tag"]}" is not a type'
            if "tag" in context and not looks_secret(context["tag"])
            else "its type is missing"
        )
        return text, f"write type: {' or '.join(tags)}", False
    if kind in _KINDS:
        return f"this is {shown}, and {_KINDS[kind]} is wanted", "", False
    bounds = [f"{word} {context[name]}" for name, word in (("ge", "at least"), ("le", "at most")) if name in context]
    if bounds:
        return f"this is {shown}, and {bounds[0]} is right", "", False
    if kind in ("too_short", "string_too_short"):
        return "this is empty", "write at least one", False
    return f"{one['msg'][:1].lower()}{one['msg'][1:]}", "", False
