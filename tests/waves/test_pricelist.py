"""The price list of a run is fixed when it begins: every machine is sized by it, whenever it moves and by whichever worker."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from gcp_places import Places, environment
from kept_machines import KeptMachines
from waving import World, machine, manifest

from v2c import prices, report
from v2c.cli.waveplan import _prices
from v2c.journal import SqlJournal
from v2c.model import Plan
from v2c.model.wave import Stage, Standing
from v2c.prices import Prices
from v2c.waves import pricelist
from v2c.waves.begin import act_key
from v2c.waves.store import Store

LARGE, SMALL = "n2-highcpu-2", "e2-highcpu-2"  # both hold it; without prices the second is taken, which comes first by name


def book(day: int, **types: float) -> Prices:
    about = {"date": date(2026, 11, day), "source": "our contract", "currency": "USD"}
    return Prices.model_validate(
        {**about, "gcp": {"europe-west1": {name.replace("_", "-"): cost for name, cost in types.items()}}}
    )


FIRST, LATER = book(1, n2_highcpu_2=0.05, e2_highcpu_2=0.08), book(9, n2_highcpu_2=0.09, e2_highcpu_2=0.02)


def begun(world: World, text: str, run: str = "trial", **more: Prices) -> None:
    """Begins it, without the boot before the upload: machines in memory have nothing that QEMU could boot."""
    world.begin(text, **more)
    with Store(world.state).change(run) as change:
        for one in change.machines():
            request = replace(one.order.request, rehearse=False)
            change.put(replace(one, order=replace(one.order, request=request)), order=True)


def planned(world: World, id: str, run: str = "trial") -> Plan:
    seen = world.one(id, run)
    assert seen.standing is not Standing.FAILED, seen.why
    known = report.read(Path(seen.folder)).plan
    assert known
    return known


@pytest.mark.tool
def test_all_machines_are_sized_by_the_list_that_it_began_with(world: World, tmp_path: Path) -> None:
    places = Places()
    try:
        double = places.at(tmp_path / "cloud")
        double.instances.machines = KeptMachines(tmp_path)
        with environment(double):

            def text(*ids: str, name: str = "trial") -> str:
                whole = manifest([machine(id) for id in ids], name=name)
                return whole.replace('"memory:cloud"', f'"{double.locator}"')

            begun(world, text("a1"), book=FIRST)
            prices.keep(LATER, world.state.folder)
            world.work(stage=Stage.REPLICATE)
            begun(world, text("a1", "a2"), book=LATER)  # days later, by another command
            world.work(stage=Stage.REPLICATE)
            for id in ("a1", "a2"):
                plan = planned(world, id)
                assert plan.instance_type == LARGE and plan.price
                assert (plan.price.hourly, plan.price.date) == (0.05, "2026-11-01")
            (said,) = [act.detail for act in SqlJournal(world.state, act_key("trial")).acts() if act.what == "begin"]
            assert said.endswith("1 machines, sized by prices of 2026-11-01: our contract")

            begun(world, text("b1", name="bare"), "bare")
            world.work("bare", stage=Stage.REPLICATE)
            plan = planned(world, "b1", "bare")
            assert plan.instance_type == SMALL and plan.price is None, "it began without a list"
    finally:
        places.close()


def test_a_worker_elsewhere_needs_no_file(world: World, tmp_path: Path) -> None:
    world.begin(manifest([machine("a1")]), book=FIRST)
    elsewhere = replace(world.state, folder=tmp_path / "elsewhere")
    elsewhere.folder.mkdir(0o700)
    assert prices.kept(elsewhere.folder) is None
    place = Path(pricelist.folder(elsewhere, "trial"))
    assert prices.kept(place) == FIRST and place.is_relative_to(elsewhere.folder)
    assert place.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in place.iterdir()] == [prices.FILE]


def test_a_plan_of_a_run_is_by_its_list(world: World) -> None:
    folder = world.state.folder
    prices.keep(LATER, folder)
    assert _prices(folder, "trial") == LATER, "it was not begun: this is the list that it would get"
    world.begin(manifest([machine("a1")]), book=FIRST)
    world.begin(manifest([machine("b1")], name="bare"))
    assert _prices(folder, "trial") == FIRST and _prices(folder, "bare") is None and _prices(folder, "other") == LATER
    world.begin(manifest([machine("a1"), machine("a2")]), book=LATER, edit=True)
    assert pricelist.of(world.state, "trial") == FIRST
