"""Slots of a host: never more at once than said, over threads and processes, and free again when their holder dies."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from v2c import slots
from v2c.errors import Paused


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    slots.limit(tmp_path, 2)
    yield tmp_path
    slots._limits.clear()


def test_never_more_than_said(folder: Path) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def work(_: int) -> None:
        with slots.taken():
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.02)
            with lock:
                now[0] -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    assert most == [2]


def test_a_slot_of_a_process_that_died_is_free(folder: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from v2c import slots\n"
        "slots.limit(Path(sys.argv[1]), 2)\n"
        "with slots.taken(), slots.taken():\n    print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert other.stdout and other.stdout.readline() == "held\n"
    with pytest.raises(Paused, match="stopped while waiting for an appliance"), slots.taken(cancelled=lambda: True):
        pass
    other.kill()
    other.communicate()
    with slots.taken(cancelled=lambda: True):
        pass


def test_without_a_limit_there_is_none() -> None:
    with slots.taken(), slots.taken(), slots.taken():
        pass


def test_memory_gives_at_least_one() -> None:
    assert slots.by_memory() >= 1
