"""A wave of real guests: BIOS and UEFI, to the doubles of three clouds and to hardware here, out of one manifest; one that
is not ready and one whose disk is broken. What comes of each is told, and the rest is not held up."""

import csv
import io
import json
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conversions import House, Watch
from real_waves import hardware, real_instances, said

from v2c.emulators import CLOUDS, Emulator, open_emulator
from v2c.model import MIB

if TYPE_CHECKING:
    from fixtures.build import BuiltGuest

pytestmark = [pytest.mark.guest, pytest.mark.full, pytest.mark.timeout(5400)]

MANIFEST = """\
version: 1
name: hall-2
sources:
  images: {{ type: files, at: "{images}" }}
  bench: {{ type: files, at: "{bench}" }}
targets:
  aws: {{ to: "{aws}" }}
  gcp: {{ to: "{gcp}" }}
  azure: {{ to: "{azure}" }}
  lab: {{ to: "local:aws" }}
defaults:
  zone: Europe/Berlin
  owner: platform
  gates: {{ okToTest: true, okToCutover: true, okToFinalize: true }}
waves:
  - name: pilot
    machines:
      - {{ id: erp-aws, {bios}, target: aws, downtimeBudget: 4h }}
      - {{ id: db-gcp, {uefi}, target: gcp }}
      - {{ id: files-azure, {two}, target: azure }}
  - name: rest
    machines:
      - {{ id: erp-lab, {bios}, target: lab }}
      - {{ id: hurried, {two}, target: lab, downtimeBudget: 1s }}
      - {{ id: broken, source: {{ at: bench, files: [broken.raw] }}, {hardware}, target: lab }}
"""


@pytest.fixture
def clouds(tmp_path: Path) -> Iterator[dict[str, Emulator]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(open_emulator(name, tmp_path / name)) for name in CLOUDS}


def test_six_machines_of_one_manifest(clouds: dict[str, Emulator], guests: "Callable[[str], BuiltGuest]", tmp_path: Path) -> None:
    bios, uefi, two = guests("debian12-bios"), guests("debian12-uefi-lvm"), guests("debian12-two-disks")
    bench = tmp_path / "bench"
    bench.mkdir()
    (bench / "broken.raw").write_bytes(random.Random(4).randbytes(64 * MIB))
    wave = tmp_path / "wave.yaml"
    wave.write_text(
        MANIFEST.format(
            images=bios.folder.parent,
            bench=bench,
            bios=said(bios),
            uefi=said(uefi),
            two=said(two),
            hardware=hardware(bios),
            **{name: cloud.locator for name, cloud in clouds.items()},
        )
    )
    house = House(tmp_path / "house")
    environment = {key: value for cloud in clouds.values() for key, value in cloud.environment.items()}
    plan = house.run("plan", str(wave), "--json", **environment)
    assert plan.returncode == 4 and json.loads(plan.stdout)["waves"][1]["blocked"] == 1, plan.stderr

    watch = Watch(house, "run", str(wave), "--slots", "2", "--appliances", "1", **environment)
    assert watch.finish() == 3, watch.words
    seen = json.loads(house.run("status", "--run", "hall-2", "--json", **environment).stdout)
    stood = {one["id"]: (one["stage"], one["standing"], one["verdict"]) for one in seen["machines"]}
    assert stood == {
        "erp-aws": ("finalize", "done", "pass"),
        "db-gcp": ("finalize", "done", "pass"),
        "files-azure": ("finalize", "done", "pass"),
        "erp-lab": ("finalize", "done", "pass"),
        "hurried": ("replicate", "blocked", ""),
        "broken": ("replicate", "failed", ""),
    }
    why = {one["id"]: one["why"] for one in seen["machines"]}
    assert "downtime" in why["hurried"] and why["broken"], why
    down = {one["id"]: one["downtime_s"] for one in seen["machines"]}
    assert all(0 < down[id] < 4 * 3600 for id in ("erp-aws", "db-gcp", "files-azure")), down

    told(house, environment)
    # at each cloud the real instance stands, and only that; what was sent was sent once
    for name, cloud in clouds.items():
        assert len(real_instances(name, cloud)) == 1, cloud.left()
    assert max(clouds["aws"].requests.done("PutSnapshotBlock").values()) == 1
    assert max(clouds["azure"].requests.done("PutPage").values()) == 1
    assert house.temporary() == [] and house.gone() == []


def told(house: House, environment: dict[str, str]) -> None:
    """The report of the wave, in each of its forms."""

    def form(name: str) -> str:
        done = house.run("report", "--run", "hall-2", "--format", name, **environment)
        assert done.returncode == 3, done.stderr  # that of the run
        return done.stdout

    rows = list(csv.DictReader(io.StringIO(form("csv").lstrip("\ufeff"))))
    assert len(rows) == 6
    document: Any = json.loads(form("json"))
    assert len(document["machines"]) == 6
    suite = ElementTree.fromstring(form("junit"))
    cases = list(suite.iter("testcase"))
    assert len(cases) == 6 and len([case for case in cases if list(case.iter("failure"))]) >= 1
    page = form("html")
    assert all(word in page for word in ("erp-aws", "db-gcp", "files-azure", "erp-lab", "hurried", "broken"))
    assert "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")
