"""Calls to an account take turns, by the counters of its double; what is sent is none of them."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from aws_places import places as aws_places
from azure_place import at, azure
from clocks import SimulatedClock
from gcp_places import Places as GcpPlaces
from gcp_places import target_at

from v2c import throttle
from v2c.emulators.ledger import Requests
from v2c.targets.aws import AwsTarget
from v2c.throttle import Throttle

RATE = 5
CALLS = 24


def asked(account: str, call: Callable[[], object], requests: Requests) -> None:
    """Asks so often from four threads, and compares when the double heard each with when its turn was."""
    call()  # who is logged in from now on
    clock = SimulatedClock()
    requests.clear()
    requests.clock = clock
    throttle.pace(account, Throttle(RATE, clock))
    try:
        for running in [clock.start(lambda: [call() for _ in range(CALLS // 4)]) for _ in range(4)]:
            running.join()
    finally:
        throttle.pace(account, None)
    turns = [0.0, *(number / RATE for number in range(CALLS - 1))]  # a burst of a fifth of a second, and one in advance
    assert [request.at for request in requests] == pytest.approx(turns, abs=1e-6)
    assert requests.most_in(1.0 - 1e-6) == RATE + 1


def test_aws(tmp_path: Path) -> None:
    with aws_places() as places:
        target = places.target(tmp_path)
        assert isinstance(target, AwsTarget)
        session, requests = target.session, places[tmp_path].requests
        assert target.features.account == session.account == "aws:/eu-west-1"
        asked(session.account, lambda: session.call("ec2", "describe_images", Owners=["self"]), requests)
        throttle.pace(session.account, Throttle(lambda: 0.0))  # blocks do not wait, whatever the account's limit
        try:
            session.call("s3", "list_buckets")
        finally:
            throttle.pace(session.account, None)


def test_gcp(tmp_path: Path) -> None:
    places = GcpPlaces()
    try:
        double = places.at(tmp_path)
        target = target_at(double)
        session = target.place.session
        account = target.features.account
        assert account == f"gcp:{session.project}"
        asked(account, lambda: session.compute("GET", "global/images"), double.requests)
    finally:
        places.close()


def test_azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(tmp_path, monkeypatch) as double:
        target = at(double)
        session, account = target.session, target.features.account
        assert account == f"azure:{target.place.subscription}"
        asked(account, lambda: session.list("snapshots", session.compute.snapshots.list), double.requests)


def test_who_is_stopped_while_it_waits_does_not_wait_on() -> None:
    clock, stopping = SimulatedClock(), threading.Event()
    throttle.pace("there", Throttle(lambda: 0.0, clock))
    try:
        waiting = clock.start(lambda: throttle.turn("there", stopping.is_set))
        assert not waiting.join(3600)
        stopping.set()
        assert waiting.join(0.2)
    finally:
        throttle.pace("there", None)
