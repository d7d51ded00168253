"""Requests as they come over the wire, read strictly by botocore's own service models; answers and errors in each protocol.

Nothing is known here about what an operation does. A parameter that the model does not have, of another type, too long, outside
its pattern or missing is refused with the words of the service's own protocol.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote

from moto.core.model import OperationModel, ServiceModel
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model

# What a client's HTTP library may send beside what the model lists (SigV4 and botocore's own headers).
_COMMON = {
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "x-amz-target",
    "x-amz-user-agent",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-trailer",
    "x-amz-decoded-content-length",
}


class Refusal(Exception):
    """A request is answered with an error: its published code, the message, the HTTP status, and further members."""

    def __init__(self, code: str, message: str, status: int = 400, **members: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.members = code, message, status, members


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Inquiry:
    """An HTTP request as it came: the path not yet unquoted; header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """Which operation of which service an inquiry means, in which region, and under whose key."""

    service: str
    region: str
    key: str
    operation: str = ""
    captured: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> OperationModel:
        """The operation's model."""
        found: OperationModel = model(self.service).operation_model(self.operation)
        return found


@cache
def model(service: str) -> ServiceModel:
    """botocore's model of a service, with moto's additions."""
    return get_service_model({"servicequotas": "service-quotas"}.get(service, service))


@cache
def _routes(service: str) -> tuple[tuple[str, "re.Pattern[str]", str], ...]:
    found = []
    for name in model(service).operation_names:
        http = model(service).operation_model(name).http
        path = re.sub(r"\\\{(\w+)\\?\}", r"(?P<\1>[^/]+)", re.escape(http["requestUri"].partition("?")[0]))
        found.append((http["method"], re.compile(path + r"/?\Z"), name))
    return tuple(found)


def scope(headers: Mapping[str, str]) -> tuple[str, str, str] | None:
    """(key, region, service) that a SigV4 header names; None when it is not signed."""
    found = re.search(r"Credential=([^/,\s]+)/\d{8}/([^/,\s]+)/([^/,\s]+)/aws4_request", headers.get("authorization", ""))
    return (found[1], found[2], found[3]) if found else None


def understood(inquiry: Inquiry) -> Asked | None:
    """What is asked; None when it is not signed. The operation stays empty for protocols that are only passed on."""
    signed = scope(inquiry.headers)
    if signed is None:
        return None
    key, region, service = signed
    asked = Asked(service, region, key)
    if service in ("ec2", "sts", "iam"):
        return Asked(service, region, key, dict(parse_qsl(inquiry.body.decode("utf-8", "replace"))).get("Action", ""))
    if service in ("servicequotas", "kms"):
        return Asked(service, region, key, inquiry.headers.get("x-amz-target", "").rpartition(".")[2])
    if service == "ebs":
        for method, path, name in _routes(service):
            if method == inquiry.method and (matched := path.match(inquiry.path)):
                captured = {part: unquote(value) for part, value in matched.groupdict().items()}
                return Asked(service, region, key, name, captured)
    return asked


# ---- reading -------------------------------------------------------------------------------------------------------------------


def parameters(asked: Asked, inquiry: Inquiry) -> dict[str, Any]:
    """The operation's parameters by their names in the SDK. Refusal for whatever the model does not allow."""
    shape = asked.model.input_shape
    if shape is None:
        return {}
    if asked.service == "ec2":
        given = _tree(inquiry.body.decode())
        for common in ("Action", "Version"):
            given.pop(common, None)
        return dict(_Ec2().read(shape, given, ""))
    if asked.service == "ebs":
        return _rest(asked, shape, inquiry)
    try:
        document = json.loads(inquiry.body or b"{}")
    except ValueError:
        raise Refusal("SerializationException", "the body is no JSON") from None
    return dict(_Json().read(shape, document, ""))


def _tree(body: str) -> dict[str, Any]:
    """Dotted keys as nested dictionaries."""
    tree: dict[str, Any] = {}
    for key, value in parse_qsl(body, keep_blank_values=True):
        *path, last = key.split(".")
        at = tree
        for part in path:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise Refusal("InvalidParameter", f"The parameter {key} is both a value and a structure")
        at[last] = value
    return tree


class _Reader:
    """Walks a shape and what was given for it. `unknown`, `invalid`, `missing`: the codes of the refusals."""

    unknown, invalid, missing = "ValidationException", "ValidationException", "ValidationException"

    def refuse(self, code: str, message: str) -> Refusal:
        return Refusal(code, message)

    def read(self, shape: Any, given: Any, path: str) -> Any:
        reader = getattr(self, f"read_{shape.type_name}", None)
        return reader(shape, given, path) if reader else self.scalar(shape, given, path)

    def name(self, key: str, member: Any) -> str:
        return str(member.serialization.get("name", key))

    def read_structure(self, shape: Any, given: Any, path: str) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise self.refuse(self.invalid, f"{path} is no structure")
        names = {self.name(key, member): (key, member) for key, member in shape.members.items()}
        for word in given:
            if word not in names:
                raise self.refuse(self.unknown, f"The parameter {path}{word} is not recognized")
        found = {key: self.read(member, given[name], f"{path}{name}.") for name, (key, member) in names.items() if name in given}
        for key in shape.required_members:
            if key not in found:
                raise self.refuse(self.missing, f"The request must contain the parameter {path}{key}")
        return found

    def scalar(self, shape: Any, given: Any, path: str) -> Any:
        path = path.rstrip(".")
        kind = shape.type_name
        value: Any = given
        try:
            if kind in ("integer", "long"):
                value = self.integer(given)
            elif kind in ("float", "double"):
                value = float(given)
            elif kind == "boolean":
                value = self.boolean(given)
            elif kind == "blob":
                value = base64.b64decode(given, validate=True)
            elif kind == "timestamp":
                value = given if isinstance(given, int | float) else datetime.fromisoformat(str(given)).isoformat()
            elif not isinstance(given, str):
                raise ValueError
        except (ValueError, TypeError):
            raise self.refuse(self.invalid, f"Value ({given}) for parameter {path} is invalid. Expected a {kind}") from None
        self.bounds(shape, value, path)
        return value

    def bounds(self, shape: Any, value: Any, path: str) -> None:
        """What the model says about lengths, ranges, patterns and choices."""
        about = shape.metadata
        measure = len(value) if isinstance(value, str | bytes) else value
        counts = isinstance(measure, int | float) and not isinstance(value, bool) and shape.type_name != "timestamp"
        if counts and not about.get("min", measure) <= measure <= about.get("max", measure):
            raise self.refuse(self.invalid, f"Value ({str(value)[:80]}) for parameter {path} is out of range")
        if isinstance(value, str) and "pattern" in about and not re.search(about["pattern"], value):
            raise self.refuse(self.invalid, f"Value ({value[:80]}) for parameter {path} does not satisfy {about['pattern']}")
        if isinstance(value, str) and getattr(shape, "enum", None) and value not in shape.enum:
            raise self.refuse(self.invalid, f"Value ({value[:80]}) for parameter {path} is invalid")

    def integer(self, given: Any) -> int:
        if isinstance(given, bool) or not isinstance(given, int):
            raise ValueError
        return given

    def boolean(self, given: Any) -> bool:
        if not isinstance(given, bool):
            raise ValueError
        return given


class _Json(_Reader):
    def read_list(self, shape: Any, given: Any, path: str) -> list[Any]:
        if not isinstance(given, list):
            raise self.refuse(self.invalid, f"{path} is no list")
        return [self.read(shape.member, one, f"{path}{number}.") for number, one in enumerate(given)]

    def read_map(self, shape: Any, given: Any, path: str) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise self.refuse(self.invalid, f"{path} is no map")
        return {str(key): self.read(shape.value, value, f"{path}{key}.") for key, value in given.items()}


class _Text(_Reader):
    """Values that come as text: numbers and truths are words."""

    def integer(self, given: Any) -> int:
        return int(given)

    def boolean(self, given: Any) -> bool:
        return {"true": True, "false": False}[given] if given in ("true", "false") else super().boolean(given)


class _Ec2(_Text):
    unknown, invalid, missing = "UnknownParameter", "InvalidParameterValue", "MissingParameter"

    def name(self, key: str, member: Any) -> str:
        serialized = member.serialization
        name = serialized.get("queryName") or serialized.get("name") or key
        return str(name if "queryName" in serialized else name[0].upper() + name[1:])

    def read_list(self, shape: Any, given: Any, path: str) -> list[Any]:
        if given == "":  # how an empty list is written
            return []
        if not isinstance(given, dict) or not all(part.isdigit() for part in given):
            raise self.refuse(self.invalid, f"{path} is no list")
        return [self.read(shape.member, given[part], f"{path}{part}.") for part in sorted(given, key=int)]


def _rest(asked: Asked, shape: Any, inquiry: Inquiry) -> dict[str, Any]:
    """Path, query, headers and body of the rest-json protocol."""
    reader, body = _Text(), _Json()
    query = dict(parse_qsl(inquiry.query, keep_blank_values=True))
    payload = shape.serialization.get("payload")
    known = {"uri": asked.captured, "querystring": query, "header": inquiry.headers}
    found: dict[str, Any] = {}
    in_body = {}
    for key, member in shape.members.items():
        where, name = member.serialization.get("location"), member.serialization.get("name", key)
        if where is None and key != payload:
            in_body[name] = (key, member)
            continue
        if key == payload:
            found[key] = inquiry.body
            continue
        name = name.lower() if where == "header" else name
        if name in known[where]:
            found[key] = reader.read(member, known[where][name], name)
    names = {m.serialization.get("name", k) for k, m in shape.members.items() if m.serialization.get("location") == "querystring"}
    if strange := set(query) - names:
        raise Refusal("ValidationException", f"the query parameter {min(strange)} is not known", Reason="INVALID_PARAMETER_VALUE")
    headers = {m.serialization["name"].lower() for m in shape.members.values() if m.serialization.get("location") == "header"}
    if strange := {h for h in inquiry.headers if h.startswith("x-amz-")} - headers - _COMMON:
        raise Refusal("ValidationException", f"the header {min(strange)} is not known", Reason="INVALID_PARAMETER_VALUE")
    if in_body:
        try:
            document = json.loads(inquiry.body or b"{}")
        except ValueError:
            raise Refusal("ValidationException", "the body is no JSON", Reason="INVALID_PARAMETER_VALUE") from None
        if strange := set(document) - set(in_body):
            raise Refusal("ValidationException", f"{min(strange)} is not known", Reason="INVALID_PARAMETER_VALUE")
        found |= {key: body.read(member, document[name], name) for name, (key, member) in in_body.items() if name in document}
    for key in shape.required_members:
        if key not in found:
            raise Refusal("ValidationException", f"{key} is missing", Reason="INVALID_PARAMETER_VALUE")
    return found


# ---- answering -----------------------------------------------------------------------------------------------------------------


def answered(asked: Asked, result: Mapping[str, Any]) -> Answer:
    """A result, whose keys the SDK's names are; what the model does not know is left out."""
    service = asked.model.service_model
    serializer = get_serializer_class(service.service_name, service.protocol)(operation_model=asked.model)
    done = serializer.serialize(dict(result))
    body = done["body"]
    return Answer(done["status_code"], body.encode() if isinstance(body, str) else bytes(body), tuple(_pairs(done["headers"])))


def _pairs(headers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        yield name, str(value)


def refused(service: str, refusal: Refusal, number: str) -> Answer:
    """An error in the service's protocol. `number`: the request's id."""
    code, text = refusal.code, _escaped(refusal.message)
    if service in ("ebs", "servicequotas", "kms"):
        names = {"Message" if service == "ebs" else "message": refusal.message, **refusal.members}
        if service != "ebs":
            names["__type"] = code
        headers = (("Content-Type", "application/json"), ("x-amzn-ErrorType", code), ("x-amzn-RequestId", number))
        return Answer(refusal.status, json.dumps(names).encode(), headers)
    if service == "ec2":
        xml = f"<Response><Errors><Error><Code>{code}</Code><Message>{text}</Message></Error></Errors>"
        xml += f"<RequestID>{number}</RequestID></Response>"
    elif service == "s3":
        xml = f"<Error><Code>{code}</Code><Message>{text}</Message><RequestId>{number}</RequestId></Error>"
    else:
        kind = "Sender" if refusal.status < 500 else "Receiver"
        xml = f"<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{text}</Message></Error>"
        xml += f"<RequestId>{number}</RequestId></ErrorResponse>"
    return Answer(refusal.status, f'<?xml version="1.0" encoding="UTF-8"?>{xml}'.encode(), (("Content-Type", "text/xml"),))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
