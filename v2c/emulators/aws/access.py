"""Who asks, and whether he may: SigV4 and IAM policies, by botocore's signer and moto's policies."""

import hashlib
import json
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from moto.iam.access_control import CreateAccessKeyFailure, IAMPolicy, PermissionResult, create_access_key
from moto.iam.models import iam_backends

from v2c.emulators.aws.wire import Asked, Inquiry, Refusal

FREE = ("sts:GetCallerIdentity",)  # nobody needs a right for it
_PREFIX = {"servicequotas": "servicequotas"}


class Access:
    """The keys of one account. `expired`: keys whose time is over."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.expired: set[str] = set()

    def user(self, name: str, statements: list[dict[str, Any]]) -> tuple[str, str]:
        """A user with a key and exactly these rights: (key, secret)."""
        backend = iam_backends[self.account]["aws"]
        backend.create_user("us-east-1", user_name=name, path="/")
        self.allow(name, statements)
        key = backend.create_access_key(user_name=name)
        return key.access_key_id, key.secret_access_key

    def role(self, name: str, service: str) -> None:
        """A role that a service of AWS's may act under."""
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        roles = iam_backends[self.account]["aws"]
        roles.create_role(name, document, "/", None, "", [], "3600")

    def allow(self, name: str, statements: list[dict[str, Any]]) -> None:
        """Gives a user these rights instead of those he had."""
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam_backends[self.account]["aws"].put_user_policy(name, "rights", document)

    def another_key(self, name: str) -> tuple[str, str]:
        """One more key of a user."""
        key = iam_backends[self.account]["aws"].create_access_key(user_name=name)
        return key.access_key_id, key.secret_access_key

    def check(self, asked: Asked, inquiry: Inquiry, actions: list[str], resource: str) -> None:
        """Refusal unless the signature is right and every action allowed."""
        headers = {"X-Amz-Security-Token": t} if (t := inquiry.headers.get("x-amz-security-token")) else {}
        try:
            who = create_access_key(self.account, "aws", asked.key, headers)
        except CreateAccessKeyFailure:
            raise _unknown(asked.service) from None
        if asked.key in self.expired:
            raise _expired(asked.service)
        if asked.service != "s3":  # S3 signs the path and chunks otherwise: its keys are known, its signatures not checked
            self._signed(asked, inquiry, who.create_credentials())
        policies = [IAMPolicy(policy) for policy in who.collect_policies()]
        for action in actions:
            if action not in FREE and not _permitted(policies, action, resource):
                raise _denied(asked.service, who.arn, action)

    @staticmethod
    def _signed(asked: Asked, inquiry: Inquiry, credentials: Any) -> None:
        authorization = inquiry.headers["authorization"]
        signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        headers = {name: inquiry.headers[name] for name in signed if name in inquiry.headers}
        url = f"http://{inquiry.headers['host']}{inquiry.path}" + (f"?{inquiry.query}" if inquiry.query else "")
        request = AWSRequest(method=inquiry.method, url=url, data=inquiry.body, headers=headers)
        request.context["timestamp"] = inquiry.headers.get("x-amz-date", "")
        sent = inquiry.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        signer = SigV4Auth(credentials, asked.service, asked.region)
        signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        honest = sent == "UNSIGNED-PAYLOAD" or sent == hashlib.sha256(inquiry.body).hexdigest()
        if signature != authorization.partition("Signature=")[2].strip() or not honest:
            if asked.service == "ec2":
                raise Refusal("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
            raise Refusal(
                "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.", 403
            )


def _permitted(policies: list[Any], action: str, resource: str) -> bool:
    answers = [policy.is_action_permitted(action, resource) for policy in policies]
    return PermissionResult.PERMITTED in answers and PermissionResult.DENIED not in answers


def _unknown(service: str) -> Refusal:
    if service == "ec2":
        return Refusal("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
    name = "UnrecognizedClientException" if service in ("ebs", "servicequotas", "kms") else "InvalidClientTokenId"
    return Refusal(name, "The security token included in the request is invalid.", 403)


def _expired(service: str) -> Refusal:
    if service == "ec2":
        return Refusal("RequestExpired", "Request has expired.", 400)
    name = "ExpiredTokenException" if service in ("ebs", "servicequotas", "kms") else "ExpiredToken"
    return Refusal(name, "The security token included in the request is expired", 403)


def _denied(service: str, arn: str, action: str) -> Refusal:
    message = f"User: {arn} is not authorized to perform: {action} because no identity-based policy allows the {action} action"
    if service == "ec2":
        return Refusal("UnauthorizedOperation", f"You are not authorized to perform this operation. {message}", 403)
    if service == "ebs":
        return Refusal("AccessDeniedException", message, 403, Reason="UNAUTHORIZED_ACCOUNT")
    return Refusal("AccessDeniedException" if service in ("servicequotas", "kms") else "AccessDenied", message, 403)
