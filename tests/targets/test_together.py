"""What is asked once for all machines of a wave: by several threads, failures too, and until somebody stops it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from v2c.errors import Paused, TargetError
from v2c.events import Meter
from v2c.targets import together


def test_everybody_asks_for_himself_unless_many_are_asked_for() -> None:
    asked: list[int] = []
    for _ in range(3):
        together.once("question", lambda: asked.append(1))
    assert len(asked) == 3 and together.meter() is None and together.limit(900) == 900


def test_many_threads_ask_once() -> None:
    asked, begun = list[str](), threading.Barrier(8)

    def ask(key: str) -> str:
        begun.wait(5)
        return together.once(key, lambda: answered(key))

    def answered(key: str) -> str:
        asked.append(key)
        return f"{key}!"

    with together.asking(Meter()), ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, ["a", "b"] * 4)) == {"a!", "b!"}
        assert together.limit(900) == together.LIMIT_S
    assert sorted(asked) == ["a", "b"]


def test_a_failure_is_an_answer() -> None:
    asked: list[int] = []

    def fail() -> None:
        asked.append(1)
        raise TargetError("nobody is logged in")

    with together.asking(Meter()):
        for _ in range(3):
            with pytest.raises(TargetError, match="nobody is logged in"):
                together.once("login", fail)
    assert len(asked) == 1
    with pytest.raises(TargetError), together.asking(Meter()):  # the next one asks anew
        together.once("login", fail)
    assert len(asked) == 2


def test_who_waits_for_another_is_stopped() -> None:
    stop, begun, go_on = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(10)

    with together.asking(Meter(cancelled=stop.is_set)), ThreadPoolExecutor(2) as pool:
        first = pool.submit(together.once, "slow", slow)
        assert begun.wait(5)
        second = pool.submit(together.once, "slow", slow)
        stop.set()
        with pytest.raises(Paused):
            second.result(5)
        with pytest.raises(Paused):
            together.once("another", lambda: None)
        go_on.set()
        assert first.result(5) is None
