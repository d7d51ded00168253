"""kill -9 of a whole wave, and the same command again: nothing finished is redone, nothing is made twice, the end is the same."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waving import World, machine, manifest
from worlds import KILLED, Walker, programs, walking

from v2c.model.wave import Stage, Standing

MOMENTS = 5
MACHINES = ("a1", "a2", "a3")
WARM = ("v2c.waves.worker", "v2c.waves.orders", "v2c.targets.memory", "v2c.sources.memory", "v2c.cli.waves", "psycopg")


@pytest.fixture(scope="module")
def walker() -> Iterator[Walker]:
    with walking(*WARM) as found:
        yield found


@dataclass
class Wave:
    """A wave of three in a folder, run by the product's command line."""

    walker: Walker
    folder: Path
    machines: tuple[str, ...] = MACHINES

    def run(self, at: int = 0, log: Path | None = None) -> int:
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "wave.yaml"
        file.write_text(manifest([machine(id, "dependsOn: [a1]" if id == "a3" else "") for id in self.machines]))
        return self.walker.v2c(self.folder, "run", str(file), "--slots", "3", at=at, log=log)

    def said(self) -> str:
        return (self.folder / "err").read_text()

    @property
    def world(self) -> World:
        return World(self.folder)

    def reports(self) -> dict[str, Any]:
        """By machine: what must be the same, however often the way there was cut."""
        made = {}
        for one in self.world.seen().machines:
            told = json.loads((Path(one.folder) / "report.json").read_text())
            checks = [(check["id"], check["subject"], check["verdict"]) for check in told["checks"]]
            changes = [(change["fix"], change["kind"], change["path"]) for change in told["changes"]]
            made[one.id] = (told["verdict"], checks, changes, [step["name"] for step in told["steps"]], one.stage, one.standing)
        return made

    def things(self) -> Counter[str]:
        """What lies at the target, by kind."""
        objects = (self.folder / "memory" / "targets" / "cloud" / "objects").iterdir()
        return Counter(path.name.partition("-")[0] for path in objects)


def test_killed_at_five_moments(walker: Walker, tmp_path: Path) -> None:
    whole = Wave(walker, tmp_path / "whole")
    log = tmp_path / "boundaries"
    assert whole.run(log=log) == 0, whole.said()
    names = log.read_text().splitlines()
    assert {"claimed", "settled", "moved upload", "made image", "before cutover", "done confirm"} <= set(names)
    assert len(names) > 100
    expected, things = whole.reports(), whole.things()
    assert all(report[0] == "pass" and report[-2:] == (Stage.FINALIZE, Standing.DONE) for report in expected.values())
    for moment in range(1, MOMENTS + 1):
        cut = Wave(walker, tmp_path / f"cut-{moment}")
        assert cut.run(at=len(names) * moment // (MOMENTS + 1)) == KILLED
        before = finished(cut)
        assert cut.run() == 0, cut.said()
        assert cut.reports() == expected, moment
        assert cut.things() == things
        assert cut.world.twice() == []
        assert not programs(cut.folder)
        after = finished(cut)
        assert not before - after  # what had ended is still there, once: no step ended twice
        assert max(after.values()) == 1
        puts = Counter((event["id"], event["index"]) for event in cut.world.events() if event["what"] == "put")
        again = sum(puts.values()) - len(puts)
        assert again <= 3 * 4  # blocks that were under way, of three machines of four blocks each


def finished(wave: Wave) -> Counter[tuple[str, str]]:
    """How often each step of each machine ended well."""
    return Counter(
        (one.id, span.step) for one in wave.world.seen().machines for span in one.spans if span.ended and not span.error
    )


def test_killed_between_a_claim_and_its_outcome(walker: Walker, tmp_path: Path) -> None:
    """The narrowest places: a claim that is not committed, one that is, an outcome that is not, one that is."""
    log = tmp_path / "boundaries"
    assert Wave(walker, tmp_path / "whole").run(log=log) == 0
    names = log.read_text().splitlines()
    for name in ("claiming", "claimed", "settling", "settled"):
        cut = Wave(walker, tmp_path / name)
        assert cut.run(at=names.index(name) + 1) == KILLED
        assert cut.run() == 0, cut.said()
        assert set(cut.world.stood().values()) == {(Stage.FINALIZE, Standing.DONE)}
        assert cut.world.twice() == []
        assert max(finished(cut).values()) == 1


@pytest.mark.parametrize("name", ["done stop", "told", "concluded", "settling", "settled"])
def test_a_test_that_is_over_is_not_made_again(walker: Walker, tmp_path: Path, name: str) -> None:
    """Killed when the machine was tested, before that is settled: nothing is booted a second time."""
    log = tmp_path / "boundaries"
    assert Wave(walker, tmp_path / "whole", ("a1",)).run(log=log) == 0
    names = log.read_text().splitlines()
    cut = Wave(walker, tmp_path / "cut", ("a1",))
    assert cut.run(at=names.index(name, names.index("done stop")) + 1) == KILLED
    assert cut.run() == 0, cut.said()
    assert set(cut.world.stood().values()) == {(Stage.FINALIZE, Standing.DONE)}
    starts = Counter(event["id"] for event in cut.world.events() if event["what"] == "start")
    assert sorted(starts.values()) == [1, 1], "one test, one real instance"


def test_ctrl_c_parks_all_and_the_same_command_goes_on(tmp_path: Path) -> None:
    from test_workers import Fleet, begin, uploading

    fleet = Fleet(tmp_path, "")
    try:
        begin(fleet, 3)
        fleet.start("w1", "run", str(tmp_path / "wave.yaml"), "--slots", "3", slow=1.0)
        fleet.until(lambda: bool(uploading(fleet, "w1")))
        fleet.running["w1"].terminate()
        assert fleet.running.pop("w1").wait(60) == 130
        assert "paused: everything is kept, and the same command goes on" in fleet.said("w1")
        cut = [one for one in fleet.seen().machines if one.standing is Standing.RUNNING]
        assert cut and all(one.why.endswith("is not heard any more: another one takes over") for one in cut)
        fleet.start("w2", "run", str(tmp_path / "wave.yaml"), "--slots", "3")
        assert fleet.running["w2"].wait(300) == 0, fleet.said("w2")
        assert [one.standing for one in fleet.seen().machines] == [Standing.DONE] * 3
        assert max(fleet.steps().values()) == 1
    finally:
        fleet.end()
