"""The front door: every request is read, validated, allowed or refused, failed on demand, answered, and written down.

What this emulator does better than moto it does itself (`OPERATIONS`); everything else moto answers.
"""

import base64
import io
import json
import os
import threading
import uuid
from pathlib import Path
from typing import Any

from botocore.model import OperationNotFoundError
from moto.moto_api._internal import mock_random
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from v2c.emulators.aws import account, cards, ebs, imageimports, images, imports, instances, s3
from v2c.emulators.aws.access import Access
from v2c.emulators.aws.cloud import Call, Cloud, Operation
from v2c.emulators.aws.wire import Answer, Asked, Inquiry, Refusal, answered, parameters, refused, understood
from v2c.emulators.faults import Faults
from v2c.emulators.ledger import Requests

OPERATIONS: dict[str, dict[str, Operation]] = {
    "ebs": ebs.OPERATIONS,
    "ec2": {
        **images.OPERATIONS,
        **imports.OPERATIONS,
        **imageimports.OPERATIONS,
        **instances.OPERATIONS,
        **cards.OPERATIONS,
        **account.EC2,
    },
    "servicequotas": account.QUOTA_OPERATIONS,
}
LIES = ("lost-block", "wrong-block", "wrong-checksum", "capacity", "unsupported-guest")  # faults that an operation itself commits
MOTO: tuple[Any, ...] = ("ec2", "iam", "kms", "s3", "sts")
CUT = ("reset", "outage")  # the connection is cut before the request is looked at
_READS = ("Describe", "Get", "List", "Head")


class Front:
    """One account's whole cloud: asked with an inquiry."""

    def __init__(self, cloud: Cloud, access: Access, faults: Faults, requests: Requests, seed: str) -> None:
        self.cloud, self.access, self.faults, self.requests = cloud, access, faults, requests
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._moto.app_instances = {name: create_backend_app(name) for name in MOTO}  # now: each draws ids when it is made
        self._log = cloud.folder / "moto.jsonl"
        self._seed, self._count = seed, 0
        self._lock = threading.RLock()

    def __call__(self, inquiry: Inquiry) -> Answer | None:
        """The answer; None: the connection is cut."""
        asked = understood(inquiry)
        if asked is None:
            return refused("sts", Refusal("MissingAuthenticationToken", "Request is missing Authentication Token", 403), "0")
        operation = asked.operation or (s3.operation(inquiry) if asked.service == "s3" else f"{inquiry.method} {asked.service}")
        fault = self.faults.draw(operation)
        if fault in CUT:
            self.requests.tell(operation, "", 0, len(inquiry.body))
            return None
        answer, subject = self._answer(asked, inquiry, operation, fault)
        # also when nobody hears of it: what was done was done, and the ledger says so
        self.requests.tell(operation, subject, answer.status, len(inquiry.body))
        return None if fault == "lost-answer" else answer

    def _answer(self, asked: Asked, inquiry: Inquiry, operation: str, fault: str) -> tuple[Answer, str]:
        subject, number = "", str(uuid.uuid4())
        try:
            if fault and fault not in (*LIES, "lost-answer"):
                raise published(asked.service, operation, fault)
            ours = OPERATIONS.get(asked.service, {}).get(asked.operation)
            if asked.service not in ("ec2", "ebs", "servicequotas"):
                if asked.service == "s3":
                    subject = s3.subject(inquiry)
                self._check(asked, inquiry, {})
                if asked.service == "s3":
                    s3.living(self.cloud.account, inquiry)
                    s3.honest(inquiry)
                return self._by_moto(asked, inquiry), subject
            try:
                params = parameters(asked, inquiry)
            except OperationNotFoundError:
                raise Refusal("InvalidAction", f"The action {asked.operation} is not valid for this endpoint.") from None
            subject = _subject(params)
            self._check(asked, inquiry, params)
            with self._lock:
                if asked.service == "ec2":
                    self.region(asked.region)
            call = Call(asked, params, inquiry, fault)
            result = ours(self.cloud, call) if ours else None
            if result is None:
                return self._by_moto(asked, inquiry), subject
            return (result if isinstance(result, Answer) else answered(asked, result)), subject
        except Refusal as refusal:
            return refused(asked.service, refusal, number), subject

    def _check(self, asked: Asked, inquiry: Inquiry, params: dict[str, Any]) -> None:
        actions = [f"{asked.service}:{asked.operation}"]
        if asked.service == "s3":
            actions = [s3.right(s3.operation(inquiry))]
        tagged = params.get("TagSpecifications") or (params.get("Tags") and asked.operation == "StartSnapshot")
        if tagged:
            actions.append("ec2:CreateTags")
        if params.get("IamInstanceProfile"):
            actions.append("iam:PassRole")
        resource = "*"
        if asked.service == "ebs":
            resource = f"arn:aws:ec2:{asked.region}::snapshot/{params.get('SnapshotId', '*')}"
        self.access.check(asked, inquiry, actions, resource)

    # ---- moto's part -------------------------------------------------------------------------------------------------------

    def seeded(self, word: str) -> None:
        """The next ids that moto draws are the same each time."""
        mock_random.seed(f"{self._seed}/{word}")

    def region(self, name: str) -> None:
        """moto makes a region, with its default network, when it is first looked at: with the same ids each time."""
        from moto.ec2.models import ec2_backends

        if name not in dict.keys(ec2_backends[self.cloud.account]):
            self.seeded(name)
            ec2_backends[self.cloud.account][name]

    def _by_moto(self, asked: Asked, inquiry: Inquiry) -> Answer:
        with self._lock:
            changes = not asked.operation.startswith(_READS) and asked.service != "s3"
            number = self._count + 1
            if changes:
                self.seeded(str(number))
            answer = self._ask_moto(inquiry)
            if changes and answer.status < 300:
                self._count = number
                self._remember(inquiry)
            return answer

    def _ask_moto(self, inquiry: Inquiry) -> Answer:
        environ = {
            "REQUEST_METHOD": inquiry.method,
            "PATH_INFO": inquiry.path,
            "RAW_URI": inquiry.path + (f"?{inquiry.query}" if inquiry.query else ""),
            "QUERY_STRING": inquiry.query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": inquiry.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(inquiry.body)),
            "wsgi.input": io.BytesIO(inquiry.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in inquiry.headers.items()},
        }
        told: list[Any] = []
        body = b"".join(self._moto(environ, lambda status, headers, info=None: told.extend((status, headers))))
        ours = {"date", "server", "connection", *(() if inquiry.method == "HEAD" else ("content-length",))}
        headers = tuple((n, v) for n, v in told[1] if n.lower() not in ours)
        return Answer(int(told[0].split()[0]), body, headers)

    def _remember(self, inquiry: Inquiry) -> None:
        line = [inquiry.method, inquiry.path, inquiry.query, dict(inquiry.headers), base64.b64encode(inquiry.body).decode()]
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def replay(self) -> None:
        """moto forgets: it is told again what was asked of it before, and draws the same ids."""
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        for line in lines:
            method, path, query, headers, body = json.loads(line)
            inquiry = Inquiry(method, path, query, headers, base64.b64decode(body))
            asked = understood(inquiry)
            assert asked
            self.region(asked.region)
            self._count += 1
            self.seeded(str(self._count))
            self._ask_moto(inquiry)


def published(service: str, operation: str, kind: str) -> Refusal:
    """A fault in the words of the service's own documentation."""
    if service == "s3" and kind in ("throttle", "unavailable"):
        return Refusal("SlowDown", "Please reduce your request rate.", 503)
    if service == "s3" and kind == "internal":
        return Refusal("InternalError", "We encountered an internal error. Please try again.", 500)
    json_like = service in ("ebs", "servicequotas", "kms")
    if service == "ebs" and operation == "PutSnapshotBlock":
        if kind == "slow":
            return Refusal("ValidationException", "Failed to read block data", 400, Reason="INVALID_PARAMETER_VALUE")
        if kind == "write-timeout":
            return Refusal("ValidationException", "The write request timed out", 400, Reason="WRITE_REQUEST_TIMEOUT")
        if kind == "conflict":
            return Refusal("ValidationException", "Another update is in progress", 400, Reason="CONFLICTING_BLOCK_UPDATE")
    if service == "ebs" and kind == "not-found-yet" and operation != "StartSnapshot":
        return Refusal("ResourceNotFoundException", "The snapshot does not exist.", 404, Reason="SNAPSHOT_NOT_FOUND")
    if kind == "expired":
        return Refusal("RequestExpired" if service == "ec2" else "ExpiredTokenException", "The token is expired", 400)
    if kind == "unavailable":
        return Refusal("Unavailable" if service == "ec2" else "ServiceUnavailable", "The server is overloaded", 503)
    if kind == "internal":
        name = {"ebs": "InternalServerException", "ec2": "InternalError", "servicequotas": "ServiceException"}
        return Refusal(name.get(service, "InternalFailure"), "An internal error has occurred", 500)
    if service == "ebs":
        return Refusal("RequestThrottledException", "Rate exceeded", 400, Reason="ACCOUNT_THROTTLED")
    if service == "ec2":
        return Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)
    return Refusal("TooManyRequestsException" if json_like else "Throttling", "Rate exceeded", 400)


def _subject(params: dict[str, Any]) -> str:
    """What a request is about, in a word."""
    if "BlockIndex" in params:
        return f"{params['SnapshotId']}/{params['BlockIndex']}"
    for key in ("Name", "ClientToken", "SnapshotId", "ImageId", "InstanceId", "GroupId", "GroupName", "CapacityReservationId"):
        if isinstance(params.get(key), str):
            return str(params[key])
    return ",".join(params.get("InstanceIds") or [])


def settings(folder: Path) -> dict[str, str]:
    """What makes a folder's cloud the same each time: its account and the seed of moto's ids."""
    path = folder / "settings.json"
    if not path.exists():
        number = int.from_bytes(os.urandom(8), "big")
        path.write_text(json.dumps({"account": f"{number % 10**12:012d}", "seed": os.urandom(16).hex()}), encoding="utf-8")
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found
