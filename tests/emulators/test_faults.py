"""Faults on demand, and the count of what was asked."""

from concurrent.futures import ThreadPoolExecutor

from clocks import HandClock

from v2c.emulators.faults import Faults
from v2c.emulators.ledger import Requests


def test_nothing_fails_unless_asked() -> None:
    assert {Faults(kinds=("reset",)).draw("Put") for _ in range(100)} == {""}


def test_the_same_seed_fails_alike_and_in_every_kind() -> None:
    def dealt(seed: int) -> list[str]:
        faults = Faults(kinds=("throttle", "reset", "internal"), share=0.05, seed=seed)
        return [faults.draw("Put") for _ in range(2000)]

    assert dealt(1) == dealt(1) != dealt(2)
    assert 60 < sum(map(bool, dealt(1))) < 140
    assert set(dealt(1)) == {"", "throttle", "reset", "internal"}


def test_a_planned_fault_comes_once_and_to_its_operation() -> None:
    faults = Faults()
    faults.once("Put", "lost-answer", times=2)
    faults.once("Get", "reset")
    assert [faults.draw(operation) for operation in ("List", "Put", "Get", "Put", "Put", "Get")] == [
        "",
        "lost-answer",
        "reset",
        "lost-answer",
        "",
        "",
    ]
    assert faults.drawn == [("Put", "lost-answer"), ("Get", "reset"), ("Put", "lost-answer")]


def test_an_outage_ends() -> None:
    clock = HandClock()
    faults = Faults(clock=clock)
    faults.outage(1800)
    assert faults.draw("Put") == "outage"
    clock.on(1799)
    assert faults.draw("Put") == "outage"
    clock.on(1)
    assert faults.draw("Put") == ""


def test_requests_are_counted_from_several_threads() -> None:
    requests = Requests()

    def ask(index: int) -> None:
        requests.tell("Put", f"snap-1/{index % 10}", 200 if index % 4 else 503, bytes=7)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(1000)))
    assert sum(requests.done("Put").values()) == 750 and len(requests.done("Put")) == 10
    assert requests.bytes("Put") == 7000 and requests.done("Get") == {} and len(list(requests)) == 1000
    requests.clear()
    assert list(requests) == []
