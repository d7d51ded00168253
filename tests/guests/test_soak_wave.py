"""A wave of real guests whose converters are killed at random moments: the whole process, and one worker of three.

Nothing that ended is done again, nothing is made twice at the cloud, and the wave ends as if nobody had been killed.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conversions import House, Watch
from real_waves import real_instances, said
from servers import Server

from v2c.emulators import Emulator, open_emulator

if TYPE_CHECKING:
    from fixtures.build import BuiltGuest

SEED = int(os.environ.get("V2C_SOAK_SEED", "0")) or random.randrange(1, 1 << 32)
KILLS = 3  # of the whole process
IN_FLIGHT = 32  # blocks under way to AWS when a process dies
LONGEST_S = 3600

pytestmark = [pytest.mark.guest, pytest.mark.soak, pytest.mark.timeout(2 * LONGEST_S)]

MANIFEST = """\
version: 1
name: hall-3
sources: {{ images: {{ type: files, at: "{images}" }} }}
targets:
  aws: {{ to: "{aws}" }}
  lab: {{ to: "local:gcp" }}
defaults: {{ gates: {{ okToTest: true, okToCutover: true, okToFinalize: true }} }}
waves:
  - name: all
    machines:
      - {{ id: erp, {bios}, target: aws }}
      - {{ id: db, {uefi}, target: lab }}
"""
DONE = {"erp": ("done", "pass"), "db": ("done", "pass")}


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Emulator]:
    with open_emulator("aws", tmp_path / "aws") as cloud:
        yield cloud


@pytest.fixture
def wave(aws: Emulator, guests: "Callable[[str], BuiltGuest]", tmp_path: Path) -> Path:
    """The manifest of two machines."""
    bios, uefi = guests("debian12-bios"), guests("debian12-uefi-lvm")
    file = tmp_path / "wave.yaml"
    file.write_text(MANIFEST.format(images=bios.folder.parent, aws=aws.locator, bios=said(bios), uefi=said(uefi)))
    return file


def status(house: House, environment: Mapping[str, str]) -> dict[str, Any]:
    shown = house.run("status", "--run", "hall-3", "--json", **environment)
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def stood(seen: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["id"]: (one["standing"], one["verdict"]) for one in seen["machines"]}


def ended(seen: Mapping[str, Any], *ids: str) -> Counter[tuple[str, str, str]]:
    """How often each step of these machines ended well."""
    spans = [(one["id"], span) for one in seen["machines"] if one["id"] in ids for span in one["spans"]]
    return Counter((id, span["stage"], span["step"]) for id, span in spans if span["ended"] and not span["error"])


def test_the_whole_process_is_killed(wave: Path, aws: Emulator, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    house = House(tmp_path / "house")
    words = ("run", str(wave), "--slots", "2", "--appliances", "1")
    kills: list[str] = []
    while len(kills) < KILLS:
        watch = Watch(house, *words, **aws.environment)
        watch.wait(chance.uniform(20.0, 240.0))
        if watch.process.poll() is not None:
            break
        watch.kill()
        assert house.gone() == [], f"seed {SEED}: after a kill"
        kills.append(", ".join(f"{one['id']} in {_step(one)}" for one in status(house, aws.environment)["machines"]))
    watch = Watch(house, *words, **aws.environment)
    assert watch.finish() == 0, f"seed {SEED}: {watch.words}"
    seen = status(house, aws.environment)
    assert stood(seen) == DONE and kills, f"seed {SEED}"
    assert max(ended(seen, "erp", "db").values()) == 1, f"seed {SEED}: a step that ended was done again"
    assert len(real_instances("aws", aws)) == 1, aws.left()
    sent = aws.requests.done("PutSnapshotBlock")
    assert sum(count - 1 for count in sent.values()) <= IN_FLIGHT * len(kills), f"seed {SEED}: blocks were sent twice"
    assert house.gone() == [] and house.temporary() == []
    sys.stdout.write(f"killed {len(kills)} times, seed {SEED}: {'; '.join(kills)}\n")


def test_one_of_three_workers_is_killed(wave: Path, aws: Emulator, postgres: Server, tmp_path: Path) -> None:
    """Each has a state and a work folder of its own; who takes the machine over does not need the dead one's."""
    chance = random.Random(SEED)
    environment = {**aws.environment, "V2C_ENGINE": postgres.database()}
    looks = House(tmp_path / "looks")
    assert looks.run("run", str(wave), "--detach", **environment).returncode == 0
    houses = [House(tmp_path / f"w{number}") for number in range(3)]
    watches = [Watch(house, "worker", "--slots", "1", "--appliances", "1", **environment) for house in houses]
    deadline = time.monotonic() + LONGEST_S
    killed = machine = ""
    kill_at = time.monotonic() + chance.uniform(20.0, 150.0)  # a quiet machine is through in 240 s
    while True:
        seen = status(looks, environment)
        if all(one["standing"] not in ("waiting", "gated", "running", "paused") for one in seen["machines"]):
            break
        assert time.monotonic() < deadline, f"seed {SEED}: {[watch.words[-1000:] for watch in watches]}"
        busy = {one["worker"]: one for one in seen["machines"] if one["standing"] == "running"}
        mine = [(watch, one) for watch in watches for one in seen["workers"] if one["pid"] == watch.process.pid]
        if not killed and time.monotonic() > kill_at:
            for watch, worker in mine:
                if worker["id"] in busy and not killed:
                    machine = busy[worker["id"]]["id"]
                    killed = f"{machine} in {_step(busy[worker['id']])}"
                    watch.kill()
                    assert watch.house.gone() == [], f"seed {SEED}: after the kill"
        time.sleep(2)
    assert killed and stood(seen) == DONE, f"seed {SEED}: {killed}"
    others = ended(seen, *(DONE.keys() - {machine}))
    assert max(others.values()) == 1, f"seed {SEED}: a step of another's machine was done again"
    assert len(real_instances("aws", aws)) == 1, aws.left()
    for watch in watches:
        if watch.process.poll() is None:
            watch.process.send_signal(signal.SIGTERM)
            assert watch.finish() == 130, watch.words
    assert all(house.gone() == [] for house in houses)
    sys.stdout.write(f"one of three workers was killed, seed {SEED}: {killed}\n")


def _step(machine: Mapping[str, Any]) -> str:
    """What was under way."""
    open_spans = [span["step"] for span in machine["spans"] if not span["ended"]]
    return open_spans[-1] if open_spans else f"nothing ({machine['standing']})"
