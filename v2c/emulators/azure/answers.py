"""What is answered: a status, a body, headers; refusals come in ARM's envelope, or in the storage service's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `length` is what a HEAD says without a body."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    type: str = "application/json"
    length: int | None = None


class Refusal(Exception):
    """A request that is refused, with the service's own code."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})


def in_json(status: int, body: object, headers: Mapping[str, str] | None = None) -> Answer:
    """A document."""
    return Answer(status, json.dumps(body).encode(), dict(headers or {}))


def of_arm(refusal: Refusal) -> Answer:
    """A refusal of Resource Manager."""
    return in_json(refusal.status, {"error": {"code": refusal.code, "message": refusal.message}}, refusal.headers)


def of_storage(refusal: Refusal) -> Answer:
    """A refusal of the storage service."""
    words = f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
    text = f'<?xml version="1.0" encoding="utf-8"?><Error>{words}</Error>'
    return Answer(refusal.status, text.encode(), {"x-ms-error-code": refusal.code, **refusal.headers}, "application/xml")
