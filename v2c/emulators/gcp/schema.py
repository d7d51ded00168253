"""Google's own description of its APIs (the discovery documents that google-api-python-client carries) as a judge of requests.

Routes come from `flatPath`, queries and bodies are walked by it: unknown fields, fields that only the server sets, values outside
an enum or a pattern, and missing required ones are refused.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

DOCUMENTS = ("compute.v1", "storage.v1", "cloudresourcemanager.v3")
# what storage.v1 marks in no way, though only the server sets it (Cloud Storage, "Objects" and "Buckets": not "writable")
_SET_BY_STORAGE = {
    "Object": {"bucket", "etag", "generation", "id", "mediaLink", "metageneration", "selfLink", "size", "timeCreated", "updated"},
    "Bucket": {"etag", "generation", "id", "metageneration", "projectNumber", "selfLink", "timeCreated", "updated"},
}


@dataclass(frozen=True, slots=True)
class Method:
    """A method of an API: its id ("compute.images.insert"), what it takes, and the document it stands in."""

    id: str
    about: Mapping[str, Any]
    document: "Document"


@dataclass(frozen=True, slots=True)
class Match:
    """A request's method, and the parameters in its path."""

    method: Method
    params: Mapping[str, str]


class Document:
    """One API."""

    def __init__(self, name: str) -> None:
        import googleapiclient

        folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
        self.about: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        self.schemas: dict[str, Any] = self.about["schemas"]
        self._routes: dict[tuple[str, int], list[tuple[list[str], Method]]] = {}
        for about in _methods(self.about):
            parts = (self.about["servicePath"] + about.get("flatPath", about["path"])).split("/")
            entry = (parts, Method(about["id"], about, self))
            self._routes.setdefault((about["httpMethod"], len(parts)), []).append(entry)

    def match(self, verb: str, path: str) -> Match | None:
        """The method that the path (still quoted, without its first slash) belongs to."""
        given = path.split("/")
        for parts, method in self._routes.get((verb, len(given)), ()):
            if (params := _params(parts, given)) is not None:
                return Match(method, params)
        return None


def _params(parts: list[str], given: list[str]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for part, word in zip(parts, given, strict=True):
        if "{" not in part:
            if part != word:
                return None
            continue
        shaped = re.fullmatch(_shape(part), word)
        if shaped is None or not all(shaped.groups()):
            return None
        found |= {name: unquote(value) for name, value in shaped.groupdict().items()}
    return found


@cache
def _shape(part: str) -> str:
    return "".join(f"(?P<{piece[1:-1]}>.+)" if piece[:1] == "{" else re.escape(piece) for piece in re.split(r"(\{\w+\})", part))


def _methods(resource: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from resource.get("methods", {}).values()
    for inner in resource.get("resources", {}).values():
        yield from _methods(inner)


@cache
def documents() -> tuple[Document, ...]:
    """The APIs that the double speaks."""
    return tuple(Document(name) for name in DOCUMENTS)


def find(verb: str, path: str) -> Match | None:
    """The method of any of them that a request is for."""
    return next((match for document in documents() if (match := document.match(verb, path)) is not None), None)


def query_complaints(method: Method, params: Mapping[str, str], query: Mapping[str, str]) -> list[str]:
    """What is wrong with a request's path and query."""
    known = {**method.document.about["parameters"], **method.about.get("parameters", {})}
    found = [f"unknown name {name!r}: cannot bind query parameter" for name in query if name not in known]
    for name, value in {**query, **params}.items():
        found += _text(known.get(name, {}), value, name)
    required = [n for n, p in method.about.get("parameters", {}).items() if p.get("required") and p["location"] == "query"]
    return found + [f"required parameter {name!r} is missing" for name in required if name not in query]


def body_complaints(method: Method, body: Any) -> list[str]:
    """What is wrong with a request's body (None: it has none)."""
    wanted = method.about.get("request")
    if wanted is None:
        return ["this method takes no body"] if body else []
    if body is None and method.about["httpMethod"] in ("GET", "DELETE"):
        return []
    return list(_walk(method, wanted, {} if body is None else body, "", False))


def answer_complaints(method: Method, answer: Any) -> list[str]:
    """What is wrong with an answer of ours: the schema keeps the double honest too."""
    wanted = method.about.get("response")
    return list(_walk(method, wanted, answer, "", True)) if wanted else []


def _walk(method: Method, schema: Mapping[str, Any], value: Any, path: str, answer: bool) -> Iterator[str]:
    if "$ref" in schema:
        yield from _object(method, schema["$ref"], value, path, answer)
        return
    kind = schema.get("type")
    if kind == "array":
        if not isinstance(value, list):
            yield f"{path}: an array is expected"
            return
        for number, item in enumerate(value):
            yield from _walk(method, schema["items"], item, f"{path}[{number}]", answer)
    elif kind == "object":
        yield from _fields(method, schema, value, path, answer, "")
    elif kind == "boolean":
        if not isinstance(value, bool):
            yield f"{path}: true or false is expected"
    elif kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{path}: a number is expected"
    elif kind == "string":
        whole = schema.get("format", "") in ("int64", "uint64") and isinstance(value, int) and not isinstance(value, bool)
        if not isinstance(value, str) and not whole:
            yield f"{path}: a string is expected"
        elif not answer:
            yield from _text(schema, str(value), path)


def _object(method: Method, name: str, value: Any, path: str, answer: bool) -> Iterator[str]:
    schema = method.document.schemas[name]
    if schema.get("type") != "object":
        yield from _walk(method, schema, value, path, answer)
        return
    yield from _fields(method, schema, value, path, answer, name)


def _fields(method: Method, schema: Mapping[str, Any], value: Any, path: str, answer: bool, name: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: an object is expected"
        return
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        if key in known:
            if not answer and (_only_read(known[key]) or key in _SET_BY_STORAGE.get(name, ())):
                yield f"{where}: only the server sets this field"
            else:
                yield from _walk(method, known[key], item, where, answer)
        elif more is not None:
            yield from _walk(method, more, item, where, answer)
        else:
            yield f"Unknown name {where!r}: cannot find field in {name or 'object'}"
    if not answer:
        for key, about in known.items():
            if method.id in about.get("annotations", {}).get("required", ()) and key not in value:
                yield f"{path}.{key}: required field is missing"


def _only_read(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("readOnly")) or "[Output Only]" in schema.get("description", "")


def _text(schema: Mapping[str, Any], value: str, where: str) -> Iterator[str]:
    if schema.get("enum") and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {', '.join(schema['enum'])}"
    if schema.get("pattern") and not re.fullmatch(schema["pattern"], value):
        yield f"{where}: {value!r} does not match {schema['pattern']}"
    if schema.get("format") in ("int64", "uint64", "int32", "uint32") and not re.fullmatch(r"-?\d+", value):
        yield f"{where}: {value!r} is not a whole number"
    if schema.get("type") == "boolean" and value not in ("true", "false"):
        yield f"{where}: {value!r} is neither true nor false"
