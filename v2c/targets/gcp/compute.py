"""Compute Engine by google-cloud-compute, spoken to as the API's own reference does: a method, a path below the project, JSON.

`Compute()("POST", "zones/Z/instances/NAME/start", None, {"requestId": ...})` finds the client, the method and the request of the
library by those words, so that the rest of this package holds documents and no second set of types. A field or a method that the
library does not know it refuses. Its own waiting for operations is not used: it asks compute.googleapis.com whatever endpoint
was given. Importing it takes two seconds and 95 MiB (measured), so it is imported by the first call.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 130.0  # operations' `wait` answers within two minutes
VERBS = {"GET": "get", "POST": "insert", "DELETE": "delete"}
ACTIONS = {
    "serialPort": "get_serial_port_output",
    "screenshot": "get_screenshot",
    "wait": "wait",
    "start": "start",
    "stop": "stop",
}
CHANGES = ("insert", "delete", "start", "stop")  # these begin an operation: the library's `..._unary` returns it at once


@dataclass(frozen=True, slots=True)
class Words:
    """A path, taken apart: the collection ("machineTypes"), where it lies ("zone", "Z"), a thing's name, what is done to it."""

    collection: str
    scope: tuple[tuple[str, str], ...] = ()
    name: str = ""
    action: str = ""

    @classmethod
    def of(cls, path: str) -> "Words":
        """Of "", "zones/Z", "global/images", "zones/Z/instances/NAME/start", ..."""
        parts = [part for part in path.split("/") if part]
        scope: tuple[tuple[str, str], ...] = ()
        if not parts:
            return cls("projects")
        if parts[0] == "global":
            del parts[0]
        elif parts[0] in ("zones", "regions") and len(parts) > 2:
            scope = ((parts[0].removesuffix("s"), parts[1]),)
            del parts[:2]
        collection, name, action = [*parts, "", ""][:3]
        return cls(collection, scope, name, action)

    @property
    def singular(self) -> str:
        """ "machine_type" of "machineTypes", "address" of "addresses"."""
        word = snake(self.collection)
        return word.removesuffix("es" if word.endswith("sses") else "s")

    @property
    def client(self) -> str:
        """The library's class: operations have one for each kind of place."""
        place = dict(self.scope)
        kind = "Zone" if "zone" in place else "Region" if "region" in place else "Global"
        prefix = kind if self.collection == "operations" else ""
        return f"{prefix}{self.collection[0].upper()}{self.collection[1:]}Client"

    def verb(self, method: str) -> str:
        """The library's method."""
        known = ACTIONS[self.action] if self.action else VERBS[method]
        if known == "get" and not self.name and self.collection != "projects":
            return "list"
        return f"{known}_unary" if known in CHANGES else known


class Compute:
    """Calls for one project; `endpoint` without a path ("https://compute.googleapis.com"), `login()` gives the credentials.
    Usable from several threads: each has its own clients."""

    def __init__(self, project: str, endpoint: str, login: Callable[[], Any]) -> None:
        self.project, self.endpoint, self._login = project, endpoint, login
        self._local = threading.local()

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str]) -> dict[str, Any]:
        """One call, once: the answer's document. Raises what the library raises."""
        words = Words.of(path)
        verb = words.verb(method)
        request: dict[str, Any] = {"project": self.project, **dict(words.scope)}
        request |= {snake(key): int(value) if key in ("start", "port") else value for key, value in query.items()}
        if words.name:
            request[words.singular] = words.name
        if body is not None:
            request[f"{words.singular}_resource"] = _typed(words.singular, body)
        answer = getattr(self._client(words.client), verb)(request=request, timeout=TIMEOUT_S, retry=None)
        return _document(next(iter(answer.pages)) if verb == "list" else answer)

    def _client(self, name: str) -> Any:
        made: dict[str, Any] = self._local.__dict__.setdefault("clients", {})
        if name not in made:
            from google.cloud import compute_v1

            made[name] = getattr(compute_v1, name)(credentials=self._login(), client_options={"api_endpoint": self.endpoint})
        return made[name]


def _typed(singular: str, body: Mapping[str, Any]) -> Any:
    """The document as the library's type. ValueError (json_format.ParseError) for a field that the API does not have."""
    from google.cloud import compute_v1

    kind: Any = getattr(compute_v1, "".join(word.capitalize() for word in singular.split("_")))
    return kind.from_json(json.dumps(body))


def _document(answer: Any) -> dict[str, Any]:
    """The library's answer as the API's JSON: what is absent or false is left out."""
    kind: Any = type(answer)
    found: dict[str, Any] = kind.to_dict(
        answer, preserving_proto_field_name=False, use_integers_for_enums=False, always_print_fields_with_no_presence=False
    )
    return found


def snake(word: str) -> str:
    """ "request_id" of "requestId"."""
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", word)
