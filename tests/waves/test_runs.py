"""Runs of waves in memory: stages, gates, policies, what operators do, edited manifests."""

import json
import time
from pathlib import Path

import pytest
from waving import SIZE, World, machine, manifest

from v2c.errors import UsageError
from v2c.jobs import Jobs
from v2c.journal import SqlJournal
from v2c.model.wave import Gate, Stage, Standing
from v2c.sources import open_source
from v2c.waves import actions
from v2c.waves.store import Store

DONE = (Stage.FINALIZE, Standing.DONE)


def test_a_wave_goes_through_its_stages(world: World) -> None:
    begun = world.begin(manifest([machine("a1"), machine("a2", "dependsOn: [a1]"), machine("a3")]))
    assert (begun.run, begun.joined, begun.changed, begun.gone) == ("trial", ("a1", "a2", "a3"), (), ())
    seen = world.work()
    assert world.stood() == {"a1": DONE, "a2": DONE, "a3": DONE}
    assert seen.over and seen.ended and not seen.workers
    first = seen.machines[0]
    assert (first.verdict, first.target, first.wave) == ("pass", "memory:cloud", "pilot")
    assert first.cut_over and first.finalized and first.sent_bytes
    assert first.downtime_s is not None and first.downtime_s < 60
    assert list(dict.fromkeys(span.stage for span in first.spans)) == [Stage.REPLICATE, Stage.TEST, Stage.CUTOVER]
    assert [span.step for span in first.spans][-3:] == ["end-test", "cutover", "confirm"]
    assert all(span.ended >= span.began and not span.error for span in first.spans)
    cut = [event["id"] for event in world.events() if event["what"] == "create" and "cutover" in event["id"]]
    assert cut.index(next(id for id in cut if first.job in id)) == 0 or len(cut) == 3
    assert world.twice() == []
    assert [act.what for act in seen.acts] == ["begin"]


def test_a_dependency_is_cut_over_first(world: World) -> None:
    world.begin(manifest([machine("a1", "gates: { okToCutover: false }"), machine("a2", "dependsOn: [a1]")]))
    world.work()
    assert world.one("a2").why == "waits for a1 to be cut over"
    actions.approve(world.state, "trial", Gate.CUTOVER, ["a1"])
    world.work()
    assert world.stood() == {"a1": DONE, "a2": DONE}
    ends = {one.id: max(span.ended for span in one.spans if span.step == "confirm") for one in world.seen().machines}
    begins = {one.id: min(span.began for span in one.spans if span.stage is Stage.CUTOVER) for one in world.seen().machines}
    assert begins["a2"] >= ends["a1"]


def test_gates_are_waited_at_and_a_no_is_an_end(world: World) -> None:
    world.begin(manifest([machine("a1"), machine("a2")], gates="{ okToTest: true }"))
    seen = world.work()
    assert world.stood() == {"a1": (Stage.CUTOVER, Standing.GATED), "a2": (Stage.CUTOVER, Standing.GATED)}
    assert (seen.machines[0].gate, seen.over) == (Gate.CUTOVER, False)
    assert seen.machines[0].approvals == (("okToTest", "the manifest"),)
    actions.approve(world.state, "trial", Gate.CUTOVER, ["a1"], yes=False)
    actions.approve(world.state, "trial", Gate.CUTOVER, ["a2"])
    world.work()
    assert world.stood() == {"a1": (Stage.CUTOVER, Standing.REFUSED), "a2": (Stage.FINALIZE, Standing.GATED)}
    assert "said no to okToCutover" in world.one("a1").why
    with pytest.raises(UsageError, match="a2 is past okToCutover"):
        actions.approve(world.state, "trial", Gate.CUTOVER, ["a2"])
    actions.approve(world.state, "trial", Gate.CUTOVER, ["a1"])
    actions.approve(world.state, "trial", Gate.FINALIZE, wave="pilot")
    world.work()
    assert world.stood() == {"a1": DONE, "a2": DONE}
    told = [(act.what, act.detail) for act in world.seen().acts]
    assert ("refuse okToCutover", "a1") in told and ("approve okToCutover", "a1") in told
    acts = [act.what for act in SqlJournal(world.state, world.one("a1").job).acts()]
    assert "refuse okToCutover" in acts  # and so it stands in the machine's report


def test_a_pause_begins_nothing(world: World) -> None:
    world.begin(manifest([machine("a1"), machine("a2")]))
    actions.pause(world.state, "trial")
    seen = world.work()
    assert seen.paused and [one.standing for one in seen.machines] == [Standing.PAUSED] * 2
    actions.resume(world.state, "trial")
    actions.pause(world.state, "trial", ["a2"])
    world.work()
    assert world.stood() == {"a1": DONE, "a2": (Stage.REPLICATE, Standing.PAUSED)}
    actions.resume(world.state, "trial")
    world.work()
    assert world.stood()["a2"] == DONE


def test_one_that_fails_ends_nobody_else(world: World) -> None:
    """A block that the target loses is seen by the verification; what depends on it is left out, and goes on after a retry."""
    text = manifest([machine("a1", "target: bad"), machine("a2", "dependsOn: [a1]"), machine("a3")])
    bad = text.replace("targets: {", 'targets: { bad: { to: "memory:bad?lose=0" },')
    world.begin(bad)
    world.work()
    stood = world.stood()
    assert (stood["a1"], stood["a2"][1], stood["a3"]) == ((Stage.REPLICATE, Standing.FAILED), Standing.SKIPPED, DONE)
    seen = world.seen()
    assert seen.over and "does not hold what was sent" in seen.machines[0].why
    assert seen.machines[1].why == "a1, which it depends on, failed"
    assert [span.step for span in seen.machines[0].spans if span.error] == ["verify"]
    actions.retry(world.state, "trial", ["a1"])
    world.work()
    assert world.one("a1").standing is Standing.FAILED  # nothing was mended


@pytest.mark.parametrize(
    ("policy", "a2", "a3"),
    [
        ("stop", Standing.SKIPPED, Standing.SKIPPED),
        ("skip", Standing.SKIPPED, Standing.DONE),
        ("continue", Standing.DONE, Standing.DONE),
    ],
)
def test_policies_when_one_fails(world: World, policy: str, a2: Standing, a3: Standing) -> None:
    text = manifest(
        [machine("a1", f"target: bad, onFailure: {policy}"), machine("a2", "rank: 1, dependsOn: [a1]"), machine("a3", "rank: 1")]
    )
    world.begin(text.replace("targets: {", 'targets: { bad: { to: "memory:bad?lose=0" },'))
    world.work(slots=1)
    assert [one.standing for one in world.seen().machines] == [Standing.FAILED, a2, a3]


def test_a_machine_that_is_not_ready_is_blocked_and_the_others_go_on(world: World) -> None:
    text = manifest([machine("a1"), "id: a2, source: { at: vc, name: x }, disks: [{ id: d, size: 1GiB }]"])
    world.begin(text.replace("sources: {", "sources: { vc: { type: inventory },"))
    world.work()
    assert world.stood() == {"a1": DONE, "a2": (Stage.REPLICATE, Standing.BLOCKED)}
    assert "cannot be moved from yet" in world.one("a2").why


@pytest.mark.parametrize("known", [False, True], ids=["first", "known"])
def test_a_finding_of_the_target_at_run_time_blocks(world: World, known: bool) -> None:
    """A quota, or here a name, that was free when it was planned and is not when it moves. `known`: an earlier try broke off."""
    world.begin(manifest([machine("a1"), machine("a2")]))
    job = world.one("a1").job
    if known:
        sources = (f"memory:a1?size={SIZE}",)
        with Jobs(world.state, world.folder / "work").claim(job) as broken_off:
            broken_off.began(sources, "memory:cloud", open_source(sources).describe("a1").fingerprint)
    objects = world.folder / "memory" / "targets" / "cloud" / "objects"
    objects.mkdir(parents=True)
    (objects / f"disk-{job}-disk-0.json").write_text('{"kind": "disk", "v2c-job": "another"}')
    world.work()
    assert world.stood() == {"a1": (Stage.REPLICATE, Standing.BLOCKED), "a2": DONE}
    one = world.one("a1")
    assert "exists already" in one.why and one.remedy == "choose another name"
    assert [f.id for f in one.findings if f.level == "blocker"] == ["memory.exists"]
    (objects / f"disk-{job}-disk-0.json").unlink()
    actions.retry(world.state, "trial", ["a1"])
    world.work()
    assert world.stood()["a1"] == DONE, world.one("a1")


def test_a_quota_that_is_too_small_blocks_the_machines_of_its_target(world: World) -> None:
    text = manifest([machine("a1"), machine("a2"), machine("a3", "target: wide")])
    narrow = 'targets: { wide: { to: "memory:wide" }, cloud: { to: "memory:cloud", quota: { machines: 1 } },'
    world.begin(text.replace('targets: { cloud: { to: "memory:cloud" },', narrow))
    world.work()
    assert [one.standing for one in world.seen().machines] == [Standing.BLOCKED, Standing.BLOCKED, Standing.DONE]
    assert world.one("a1").why == "cloud: the machines need 2 instances, and the quota is 1"
    world.begin(text.replace("targets: { cloud", 'targets: { wide: { to: "memory:wide" }, cloud'))
    assert world.one("a1").standing is Standing.BLOCKED  # nobody said that it tries again
    actions.retry(world.state, "trial", ["a1", "a2"])
    world.work()
    assert world.stood() == {"a1": DONE, "a2": DONE, "a3": DONE}


def test_stages_are_those_that_the_target_has(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder)
    world.begin(
        manifest([machine("a1", "target: files"), machine("a2", "target: local"), machine("a3")]).replace(
            "targets: {", 'targets: { local: { to: "local:kvm" },'
        )
    )
    stages = {one.id: one.order.stages for one in Store(world.state).machines("trial")}
    assert stages == {
        "a1": (Stage.REPLICATE, Stage.FINALIZE),
        "a2": (Stage.REPLICATE, Stage.TEST, Stage.FINALIZE),
        "a3": (Stage.REPLICATE, Stage.TEST, Stage.CUTOVER, Stage.FINALIZE),
    }
    with pytest.raises(UsageError, match="a2 has no cutover"):
        actions.approve(world.state, "trial", Gate.CUTOVER, ["a2"])
    with pytest.raises(UsageError, match="a2 has no cutover: its target local:kvm has none"):
        actions.ask(world.state, "trial", Stage.CUTOVER, ["a2"])
    with pytest.raises(UsageError, match="a1 has no test-cutover"):
        actions.approve(world.state, "trial", Gate.TEST, ["a1"])


def test_as_far_as_a_stage(world: World) -> None:
    world.begin(manifest([machine("a1")]), until=Stage.REPLICATE)
    world.work()
    assert world.one("a1").why == "the run goes as far as replicate"
    world.begin(manifest([machine("a1")]))
    world.work()
    assert world.stood() == {"a1": DONE}


# ---- asked for ---------------------------------------------------------------------------------------------------------------


def test_stages_on_request(world: World) -> None:
    world.begin(manifest([machine("a1"), machine("a2")], gates="{}"))
    world.work()
    with pytest.raises(UsageError, match="a1 is not there yet: test-cutover comes first"):
        actions.ask(world.state, "trial", Stage.CUTOVER, ["a1"])
    actions.ask(world.state, "trial", Stage.TEST, ["a1"])
    world.work(stage=Stage.TEST, only=["a1"])
    assert world.stood() == {"a1": (Stage.CUTOVER, Standing.GATED), "a2": (Stage.TEST, Standing.GATED)}
    actions.ask(world.state, "trial", Stage.TEST, ["a1"])  # once more
    world.work(stage=Stage.TEST, only=["a1"])
    assert world.stood()["a1"] == (Stage.CUTOVER, Standing.GATED)
    assert sum(span.step == "validate" for span in world.one("a1").spans) == 2
    actions.ask(world.state, "trial", Stage.CUTOVER, ["a1"])
    world.work(stage=Stage.CUTOVER, only=["a1"])
    one = world.one("a1")
    assert (one.stage, one.standing, one.gate) == (Stage.FINALIZE, Standing.GATED, Gate.FINALIZE)
    assert "okToCutover" in dict(one.approvals)
    with pytest.raises(UsageError, match="--discard-target-writes"):
        actions.ask(world.state, "trial", Stage.ROLLBACK, ["a1"])
    actions.ask(world.state, "trial", Stage.ROLLBACK, ["a1"], discard=True)
    world.work(stage=Stage.ROLLBACK, only=["a1"])
    one = world.one("a1")
    assert (one.standing, bool(one.rolled_back)) == (Standing.ROLLED_BACK, True)
    left = [event for event in world.events() if one.job in event["id"] and event["what"] in ("create", "destroy")]
    assert sum(event["what"] == "create" for event in left) == sum(event["what"] == "destroy" for event in left)
    actions.retry(world.state, "trial", ["a1"])
    actions.approve(world.state, "trial", Gate.TEST)
    actions.approve(world.state, "trial", Gate.CUTOVER)
    actions.approve(world.state, "trial", Gate.FINALIZE)
    world.work()
    assert world.stood() == {"a1": DONE, "a2": DONE}
    with pytest.raises(UsageError, match="was finalized on"):
        actions.ask(world.state, "trial", Stage.CLEANUP, ["a1"], discard=True)


def test_cleanup_leaves_nothing(world: World) -> None:
    world.begin(manifest([machine("a1")], gates="{}"))
    world.work()
    actions.ask(world.state, "trial", Stage.CLEANUP, ["a1"])
    world.work(stage=Stage.CLEANUP)
    assert world.one("a1").standing is Standing.ROLLED_BACK
    assert not list((world.folder / "memory" / "targets" / "cloud" / "objects").iterdir())


def test_cancelled_and_tried_again(world: World) -> None:
    world.begin(manifest([machine("a1"), machine("a2")], gates="{ okToTest: true }"))
    world.work()
    assert actions.cancel(world.state, "trial", ["a1"]) == ["a1"]
    assert world.one("a1").standing is Standing.CANCELLED
    with pytest.raises(UsageError, match="a1 is cancelled already"):
        actions.cancel(world.state, "trial", ["a1"])
    actions.approve(world.state, "trial", Gate.CUTOVER, ["a2"])
    world.work()
    assert world.stood() == {"a1": (Stage.CUTOVER, Standing.CANCELLED), "a2": (Stage.FINALIZE, Standing.GATED)}
    actions.retry(world.state, "trial", ["a1"])
    assert world.stood()["a1"] == (Stage.CUTOVER, Standing.GATED)
    assert world.twice() == []


# ---- edited manifests ------------------------------------------------------------------------------------------------------


def test_an_edited_manifest_given_again(world: World) -> None:
    actions_text = manifest([machine("a1"), machine("a2"), machine("a3")], gates="{ okToTest: true }")
    world.begin(actions_text, until=Stage.REPLICATE)
    actions.pause(world.state, "trial", ["a2", "a3"])
    world.work()
    edited = manifest([machine("a1"), machine("a2", "owner: anna"), machine("a4")], gates="{ okToTest: true }")
    begun = world.begin(edited)
    assert (begun.joined, begun.changed, begun.gone) == (("a4",), ("a2",), ("a3",))
    assert [one.id for one in world.seen().machines] == ["a1", "a2", "a4"]
    assert (world.one("a2").owner, world.one("a2").standing) == ("anna", Standing.PAUSED)
    changed = manifest([machine("a1", "owner: anna"), machine("a2", "owner: anna"), machine("a4")], gates="{ okToTest: true }")
    with pytest.raises(
        UsageError, match=r"^a1 began with other settings than the manifest has now: v2c retry --run trial --edit"
    ):
        world.begin(changed)
    assert world.one("a1").owner == ""
    assert world.begin(changed, edit=True).changed == ("a1",)
    assert world.one("a1").owner == "anna"
    gone = manifest([machine("a2", "owner: anna"), machine("a4")], gates="{ okToTest: true }")
    with pytest.raises(UsageError, match="a1 began, and the manifest does not name it any more"):
        world.begin(gone)
    other = changed.replace("a1?size", "b1?size")
    with pytest.raises(UsageError, match="a1 began from or to another place"):
        world.begin(other, edit=True)


def test_a_missed_window_gets_another_one(world: World) -> None:
    def text(start: float, end: float) -> str:
        def when(seconds: float) -> str:
            return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(seconds))

        window = f'window: {{ start: "{when(start)}", end: "{when(end)}", zone: UTC }}'
        return manifest([machine("a1", window)])

    now = time.time()
    world.begin(text(now + 3600, now + 7200))
    actions.pause(world.state, "trial")
    world.work()
    actions.resume(world.state, "trial")
    late = world.seen(now=now + 7200).machines[0]
    assert (late.standing, late.why[:20]) == (Standing.MISSED, "its window ended at ")
    assert late.remedy == "give it another window, and v2c retry --run trial --edit"
    world.begin(text(now - 60, now + 7200), edit=True)
    world.work()
    assert world.stood() == {"a1": DONE}


def test_two_runs_that_are_the_same_disks_are_refused(world: World) -> None:
    text = manifest([machine("a1"), machine("a2").replace('"a2?', '"a1?')])
    with pytest.raises(UsageError, match="a1 and a2 are the same disks that go to the same target"):
        world.begin(text)


def test_a_plan_binds(world: World, tmp_path: Path) -> None:
    from v2c import waveplan
    from v2c.manifest import parse
    from v2c.waves import begin, orders

    def wanted(text: str) -> orders.Wanted:
        return orders.wanted(parse(text.encode(), "w.yaml"), tmp_path / "w.yaml")

    first = wanted(manifest([machine("a1"), machine("a2")]))
    begin.bound(waveplan.document(first.plan), first)
    with pytest.raises(UsageError, match="since it was planned these changed: a2"):
        begin.bound(waveplan.document(first.plan), wanted(manifest([machine("a1"), machine("a2", "owner: anna")])))
    with pytest.raises(UsageError, match="is not one that v2c plan wrote"):
        begin.bound({"x": 1}, first)


def test_an_outcome_of_a_claim_that_was_lost_is_dropped(world: World) -> None:
    from v2c.errors import TargetError
    from v2c.waves.claims import claim, locks
    from v2c.waves.settle import settle
    from v2c.waves.store import Heart

    world.begin(manifest([machine("a1")]))
    store = Store(world.state)
    first, second = (Heart(name, "elsewhere", 1, 0.0, 0.0, 1, f"not {locks(world.state)}") for name in ("w1", "w2"))
    store.beat(first)
    (mine,), _ = claim(store, "trial", first, 1)
    assert claim(store, "trial", second, 1) == ([], True)  # it runs
    store.beat(Heart("w1", "elsewhere", 1, 0.0, 0.0, 1, first.locks, left=True))
    (theirs,), _ = claim(store, "trial", second, 1)
    assert (theirs.epoch, theirs.tries, theirs.claimed) == (mine.epoch + 1, mine.tries, mine.claimed)
    assert settle(store, "trial", mine, TargetError("late")) is False
    assert world.one("a1").standing is Standing.RUNNING
    assert settle(store, "trial", theirs, TargetError("no room", remedy="make some")) is True
    one = world.one("a1")
    assert (one.standing, one.why, one.remedy) == (Standing.FAILED, "no room", "make some")


def test_tags_of_target_wave_and_machine_are_on_the_instance(world: World) -> None:
    text = manifest([machine("a1", "tags: { owner: bert, tier: db }"), machine("a2")], more="")
    text = text.replace('to: "memory:cloud" }', 'to: "memory:cloud", tags: { cost: "4711", owner: nobody } }')
    world.begin(text.replace("zone: Europe/Berlin,", "zone: Europe/Berlin, tags: { owner: anna },"))
    world.work()
    made = [
        json.loads(path.read_text("utf-8")) for path in (world.folder / "memory" / "targets" / "cloud" / "objects").glob("*.json")
    ]
    jobs = {one.job: one.id for one in world.seen().machines}
    seen = {jobs[one["v2c-job"]]: one["tags"] for one in made if one["kind"] == "instance"}
    assert seen == {"a1": {"cost": "4711", "owner": "bert", "tier": "db"}, "a2": {"cost": "4711", "owner": "anna"}}
