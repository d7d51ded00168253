"""What was put into a snapshot: kept by many threads at once, and by a process that is killed."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from v2c.targets.aws.putlog import PutLog


def digest(index: int, version: int = 0) -> bytes:
    return hashlib.sha256(f"{index} {version}".encode()).digest()


def test_many_threads_at_once_lose_and_tear_nothing(tmp_path: Path) -> None:
    log = PutLog(tmp_path / "d.ebs.blocks")
    log.restart("snap-1")
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda i: log.add(i, digest(i)), range(3000)))) == 3000
    log.add(7, digest(7, 1))  # put once more: the last one counts
    told = log.whole()
    log.close()
    linear = hashlib.sha256(b"".join(digest(i, int(i == 7)) for i in range(3000))).digest()
    assert told == (3000, linear)
    again = PutLog(tmp_path / "d.ebs.blocks")
    assert again.whole() == told and again.snapshot == "snap-1" and again.worker == log.worker
    assert all(i in again for i in range(3000)) and 3000 not in again
    again.close()


def test_a_record_that_a_crash_tore_is_cut_off(tmp_path: Path) -> None:
    log = PutLog(tmp_path / "d.ebs.blocks")
    log.restart("snap-1")
    for index in (4, 2):
        log.add(index, digest(index))
    log.close()
    path = tmp_path / "d.ebs.blocks"
    path.write_bytes(path.read_bytes()[:-3])
    again = PutLog(tmp_path / "d.ebs.blocks")
    assert 4 in again and 2 not in again
    again.add(2, digest(2))
    assert list(again.items()) == [(4, digest(4)), (2, digest(2))]
    again.close()
