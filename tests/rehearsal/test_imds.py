"""The metadata service answers as the clouds do, and whatever it is sent."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2c.model import Firmware
from v2c.rehearsal import imds, metadata
from v2c.rehearsal.shape import BootSpec

SPEC = BootSpec("any", Firmware.BIOS, seed="0123", name="erp")


def ask(kind: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    config = json.loads(metadata.environment(kind, SPEC, secret="s")["V2C_METADATA"])
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    _, _, status, text, _ = imds.answer(config, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
    return status, text


def token(ttl: str = "60") -> str:
    return ask("aws", "/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds=ttl)[1]


def test_ec2_wants_a_token() -> None:
    assert ask("aws", "/latest/meta-data/instance-id")[0] == 401
    assert ask("aws", "/latest/meta-data/instance-id", X_aws_ec2_metadata_token="forged-0")[0] == 401
    status, text = ask("aws", "/latest/meta-data/instance-id", X_aws_ec2_metadata_token=token())
    assert status == 200 and re.fullmatch("i-0[0-9a-f]{16}", text)


def test_an_expired_token_is_refused() -> None:
    old = imds.sign("s", 1)
    assert ask("aws", "/latest/meta-data/instance-id", X_aws_ec2_metadata_token=old)[0] == 401


def test_ec2_tokens_need_a_lifetime() -> None:
    assert ask("aws", "/latest/api/token", "PUT")[0] == 400
    assert ask("aws", "/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="21601")[0] == 400


def test_ec2_lists_what_is_below() -> None:
    status, text = ask("aws", "/2021-03-23/meta-data/placement/", X_aws_ec2_metadata_token=token())
    assert (status, text) == (200, "availability-zone\nregion")
    assert "placement/" in ask("aws", "/latest/meta-data/", X_aws_ec2_metadata_token=token())[1].splitlines()
    assert ask("aws", "/latest/user-data", X_aws_ec2_metadata_token=token())[0] == 404


def test_google_wants_its_header() -> None:
    assert ask("gcp", "/computeMetadata/v1/instance/name")[0] == 403
    assert ask("gcp", "/computeMetadata/v1/instance/name", Metadata_Flavor="Google") == (200, "erp")


def test_google_tells_all_at_once() -> None:
    status, text = ask("gcp", "/computeMetadata/v1/instance/?recursive=true&alt=json", Metadata_Flavor="Google")
    told = json.loads(text)
    assert status == 200 and told["networkInterfaces"][0]["ip"] == "169.254.169.15" and told["name"] == "erp"


def test_azure_wants_its_header_and_a_version() -> None:
    assert ask("azure", "/metadata/instance?api-version=2021-02-01")[0] == 400
    assert ask("azure", "/metadata/instance", Metadata="true")[0] == 400
    status, text = ask("azure", "/metadata/instance?api-version=2021-02-01", Metadata="true")
    told = json.loads(text)
    assert status == 200 and told["compute"]["vmId"] == SPEC.uuid
    assert told["network"]["interface"][0]["ipv4"]["ipAddress"][0]["privateIpAddress"] == "169.254.169.15"


@pytest.mark.parametrize("kind", ["aws", "gcp", "azure"])
@given(request=st.binary(max_size=300))
def test_any_bytes_get_an_answer(kind: str, request: bytes) -> None:
    config = {"kind": kind, "tree": metadata.tree(kind, SPEC), "secret": "s", "log": ""}
    for noise in (request, request + b"\r\n\r\n", b"GET " + request.replace(b" ", b"") + b" HTTP/1.1\r\n\r\n"):
        assert imds.answer(config, noise)[2] in imds.REASONS


def test_the_command_fits_what_qemu_keeps_of_it() -> None:
    assert len(f"tcp:169.254.169.254:80-cmd:{metadata.COMMAND}") < 1024
