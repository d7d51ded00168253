"""The plan of a wave: findings, sizes, sums and digests; nothing is asked of a cloud, nothing is written."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from v2c.manifest import ordered, parse, resolve
from v2c.model import GIB, MIB, Level
from v2c.waveplan import Choices, WavePlan, changed, document, make
from v2c.waveplan.describe import describe, repair

NOW = datetime(2026, 12, 1, tzinfo=UTC)
HEAD = """version: 1
name: move
sources:
  mem: {type: memory}
  inv: {type: inventory, copies: 2}
  lab: {type: files, at: disks}
targets:
  kvm: {to: "memory:there"}
  aws: {to: "aws:eu-central-1", quota: {vcpus: 10, machines: 2, storage: 200GiB}}
defaults: {zone: Europe/Berlin}
waves:
  - name: w1
    machines:
"""
NIGHT = 'window: {start: "2026-12-05T22:00", end: "2026-12-06T04:00"}'


def planned(*machines: str, head: str = HEAD, now: datetime = NOW, folder: Path = Path("/nowhere"), **choices: int) -> WavePlan:
    text = head + "".join(f"      - {{{machine}}}\n" for machine in machines)
    manifest = parse(text.encode(), "wave.yaml")
    found = ordered(resolve(manifest))
    return make(manifest, found, describe(manifest, found, folder), Choices(now, **choices))


def memory(id: str, more: str = "", size: int = 64 * MIB) -> str:
    return f'id: {id}, source: {{at: mem, name: "{id}?seed=1&size={size}"}}, target: kvm' + (f", {more}" if more else "")


def listed(id: str, more: str = "", disks: str = "{id: a, size: 40GiB, used: 10GiB}") -> str:
    hardware = "hardware: {vcpus: 4, memory: 8GiB, firmware: uefi}, nics: [{subnet: s}]"
    return f"id: {id}, source: {{at: inv}}, target: aws, {hardware}, disks: [{disks}]" + (f", {more}" if more else "")


def told(plan: WavePlan, id: str, least: Level = Level.WARNING) -> list[str]:
    levels = [Level.INFO, Level.WARNING, Level.BLOCKER]
    one = next(m for m in plan.machines if m.id == id)
    return [f.id for f in one.findings if levels.index(f.level) >= levels.index(least)]


def test_a_machine_that_is_read() -> None:
    plan = planned(memory("a"))
    (one,) = plan.machines
    assert not plan.blocked and one.disks[0].source_size == 64 * MIB and one.platform == "kvm" and one.order == 1
    assert one.duration.low < one.duration.likely < one.duration.high and one.downtime == one.duration
    assert one.start == "" and one.offset_s == 0


def test_a_machine_of_which_only_the_manifest_tells() -> None:
    one = planned(listed("a")).machines[0]
    assert told(planned(listed("a")), "a") == ["source.unread"]
    assert (one.vcpus, one.memory_mib, one.platform, one.data_bytes) == (4, 8192, "aws", 10 * GIB)
    assert one.disks[0].target_size == 40 * GIB


def test_sizes_of_disks_nobody_said() -> None:
    plan = planned(listed("a", disks="{id: a}"))
    assert "disk.size-unknown" in told(plan, "a") and plan.machines[0].data_bytes == 0


def test_disks_that_are_left_behind() -> None:
    plan = planned(listed("a", disks="{id: a, size: 40GiB}, {id: b, size: 50GiB, include: false}"))
    assert [d.disk for d in plan.machines[0].disks] == ["a"] and plan.waves[0].target_bytes == 40 * GIB


def test_a_disk_file_that_is_not_there_blocks_its_machine_only() -> None:
    plan = planned("id: a, source: {at: lab, files: [a.vmdk]}, target: kvm", memory("b"))
    assert told(plan, "a", Level.BLOCKER) == ["source.unreadable"] and told(plan, "b") == []
    assert plan.blocked and plan.waves[0].blocked == 1


def test_a_disk_that_the_machine_does_not_have() -> None:
    plan = planned(memory("a", "disks: [{id: other, size: 1GiB}]"))
    assert told(plan, "a", Level.BLOCKER) == ["disk.unknown"]


def test_right_sizing_by_use() -> None:
    one = planned(listed("a", "size: {rightSizing: used, cpuUsed: 50, memoryUsed: 25, headroom: 20}")).machines[0]
    assert (one.size, one.vcpus, one.memory_mib) == ("", 3, 2458), "4 x 50 % + 20 %, 8192 x 25 % + 20 %"
    assert planned(listed("a", "size: {type: m7i.large}")).machines[0].size == "m7i.large"


def test_warm_is_down_for_the_last_difference_only() -> None:
    cold, warm = planned(listed("a"), listed("b", "mode: warm")).machines
    assert warm.duration == cold.duration and warm.downtime.likely < cold.downtime.likely
    assert "mode.warm" in told(planned(memory("a", "mode: warm")), "a")


def test_the_downtime_budget() -> None:
    assert told(planned(listed("a", "downtimeBudget: 1s")), "a", Level.BLOCKER) == ["downtime.budget"]
    high = planned(listed("a")).machines[0].downtime.high
    close = planned(listed("a", f"downtimeBudget: {round(high) - 5}s"))
    assert "downtime.budget" in told(close, "a") and not close.blocked
    assert "downtime.budget" not in told(planned(listed("a", "downtimeBudget: 10h")), "a")


def test_quotas_are_added_up() -> None:
    plan = planned(listed("a"), listed("b"), listed("c"), listed("d"), listed("e"), listed("f"))
    target = next(t for t in plan.targets if t.name == "aws")
    assert (target.machines, target.vcpus, target.target_bytes) == (6, 24, 240 * GIB)
    assert [f.text for f in target.findings] == [
        "the machines need 24 processors, and the quota is 10",
        "the machines need 6 instances, and the quota is 2",
        "the machines need 240 GiB of disks, and the quota is 200",
    ]
    assert plan.blocked and not any(m.blocked for m in plan.machines)


def test_a_network_without_a_map() -> None:
    bare = listed("a").replace("{subnet: s}", "{network: VLAN 9}")
    assert told(planned(bare), "a", Level.BLOCKER) == ["network.unmapped"]
    mapped = HEAD.replace("defaults:", 'networks: [{source: "*", subnet: s}]\ndefaults:')
    assert told(planned(bare, head=mapped), "a", Level.BLOCKER) == []
    said = HEAD.replace("aws:eu-central-1", "aws:eu-central-1?subnet=subnet-0a1")
    assert told(planned(bare, head=said), "a", Level.BLOCKER) == [], "the target's own name says a subnet"


def test_a_target_that_nobody_knows() -> None:
    plan = planned(memory("a"), head=HEAD.replace("memory:there", "local:nothing"))
    assert told(plan, "a", Level.BLOCKER) == ["target.unknown"]


def test_windows_missed_full_tight_and_good() -> None:
    assert told(planned(memory("a", NIGHT), now=datetime(2026, 12, 7, tzinfo=UTC)), "a", Level.BLOCKER) == ["window.missed"]
    big = listed("a", NIGHT, disks="{id: a, size: 20TiB}")
    assert told(planned(big), "a", Level.BLOCKER) == ["window.full"]
    good = planned(memory("a", NIGHT)).machines[0]
    assert (good.start, good.end) == ("2026-12-05T21:00Z", "2026-12-05T21:03Z") and told(planned(memory("a", NIGHT)), "a") == []
    tight = planned(listed("a", NIGHT, disks="{id: a, size: 6000GiB}"))
    assert "window.tight" in told(tight, "a") and not tight.machines[0].blocked


def test_a_window_whose_time_occurs_twice() -> None:
    twice = 'window: {start: "2027-10-31T02:30", end: "2027-10-31T06:00"}'
    plan = planned(memory("a", twice))
    assert told(plan, "a") == ["window.ambiguous"] and plan.machines[0].start == "2027-10-31T01:30Z"


def test_dependencies_and_converters_in_a_window() -> None:
    plan = planned(memory("app", f"{NIGHT}, dependsOn: [db]"), memory("db", NIGHT), converters=4)
    app, db = (next(m for m in plan.machines if m.id == id) for id in ("app", "db"))
    assert db.start == "2026-12-05T21:00Z" and app.start == db.end and (db.order, app.order) == (1, 2)


def test_copies_from_a_datastore_in_a_window() -> None:
    head = HEAD.replace("copies: 2", "datastores: {gold: {copies: 1}}")
    on = "{id: a, size: 40GiB, used: 10GiB, datastore: %s}"
    ids = [listed(id, NIGHT, on % store) for id, store in (("a", "gold"), ("b", "gold"), ("c", "iron"), ("d", "iron"))]
    begins = {one.id: one.start for one in planned(*ids, head=head, converters=9).machines}
    assert begins["a"] == begins["c"] == begins["d"] == "2026-12-05T21:00Z" < begins["b"]
    every = {one.id: one.start for one in planned(*ids, head=head.replace("gold: {", '"*": {'), converters=9).machines}
    assert every["a"] == every["c"] == begins["a"] and every["b"] == every["d"] == begins["b"], "each of the others by itself"


def test_a_shared_line_is_slower() -> None:
    alone = planned(listed("a"), bandwidth=10 * MIB, converters=1).machines[0]
    both = planned(listed("a"), listed("b"), bandwidth=10 * MIB, converters=2).machines[0]
    assert both.duration.likely > 1.9 * alone.duration.likely - 400


def test_the_rates_of_manifest_wave_and_source_bound_the_estimate() -> None:
    """Each on the average of a week, shared by as many as there are at once."""

    def lasts(*machines: str, limits: str = "", wave: str = "", source: str = "", converters: int = 2) -> float:
        head = HEAD.replace("copies: 2", f"copies: 2{source}").replace("waves:\n", f"{limits}\nwaves:\n")
        head = head.replace("    machines:\n", f"    limits: {{{wave}}}\n    machines:\n")
        return planned(*machines, head=head, converters=converters).machines[0].duration.likely

    def slower(**said: str) -> float:
        return lasts(listed("a"), listed("b"), **said) - lasts(listed("a"), listed("b"))  # type: ignore[arg-type]

    def copying(rate: float) -> float:
        return 10 * GIB / rate - 10 * GIB / (400 * MIB)

    near = pytest.approx
    assert slower(limits="limits: {bandwidth: 20MiB/s}") == near(copying(10 * MIB))
    assert slower(limits="limits: {bandwidth: 20MiB/s, machines: 1}") == near(copying(20 * MIB))
    assert slower(limits="limits: {bandwidth: 20MiB/s}", wave="bandwidth: 8MiB/s") == near(copying(4 * MIB))
    assert slower(source=", bandwidth: 6MiB/s") == near(copying(3 * MIB))
    day = 'limits: {bandwidth: [{from: "06:00", to: "18:00", rate: 10MiB/s}, 30MiB/s]}'
    assert slower(limits=day) == near(copying(10 * MIB))


def test_the_digest_is_of_what_will_be_done() -> None:
    before = planned(memory("a"), memory("b"))
    assert planned(memory("a"), memory("b"), now=datetime(2027, 1, 1, tzinfo=UTC), converters=9).digest == before.digest
    edited = planned(memory("a"), memory("b", "mode: warm"), memory("c"))
    assert edited.digest != before.digest and changed(document(before), edited) == ("b", "c")
    assert changed(document(before), planned(memory("a"), memory("b"))) == ()
    other = planned(memory("a"), memory("b", size=128 * MIB))
    assert changed(document(before), other) == ("b",), "the source changed"


def test_the_repair_that_the_manifest_asks_for() -> None:
    def asked(nics: str, disks: str = "") -> object:
        text = HEAD + f"      - {{id: a, source: {{at: mem}}, target: kvm, nics: [{nics}]{disks}}}\n"
        return repair(resolve(parse(text.encode(), "x"))[0])

    given = asked('{mac: "00-50-56-AA-BB-CC", address: 10.0.0.5/24, gateway: 10.0.0.1, dns: [10.0.0.2]}, {address: dhcp}')
    assert "AddressNeed(mac='00:50:56:aa:bb:cc', address='10.0.0.5/24', gateway='10.0.0.1', dns=('10.0.0.2',))" in str(given)
    assert "keep_network=True" in str(asked("{address: keep}")) and "keep_network=False" in str(asked("{address: dhcp}"))
    assert "keys=('root:env:LUKS',)" in str(asked("{address: dhcp}", ', disks: [{id: root, unlock: "env:LUKS"}]'))


@pytest.mark.tool
def test_disk_files_are_read_below_their_folder(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "disks").mkdir()
    for name in ("root", "data"):
        made = ["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "disks" / f"{name}.qcow2"), "64M"]
        subprocess.run(made, check=True, capture_output=True)
    files = "source: {at: lab, files: [root.qcow2, data.qcow2]}, target: kvm"
    plan = planned(f"id: a, {files}, disks: [{{id: data.qcow2, include: false}}, {{id: root, size: 65MiB}}]", folder=tmp_path)
    one = plan.machines[0]
    assert [d.disk for d in one.disks] == ["root"] and one.disks[0].source_size == 64 * MIB
    assert told(plan, "a") == ["disk.drift"]


def test_a_tag_that_the_cloud_cannot_hold_is_told_before_the_run() -> None:
    plan = planned(listed("erp", 'tags: {"aws:x": mine}'), listed("web", "tags: {owner: anna}"))
    assert "tags.form" in told(plan, "erp", Level.BLOCKER) and "tags.form" not in told(plan, "web")
