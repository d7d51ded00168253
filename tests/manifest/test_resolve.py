"""Defaults, wave, machine: the nearest wins; and the order in which machines move."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from manifests import HEAD, machine, manifest, read, wave

from v2c.manifest import load, ordered, resolve, write
from v2c.manifest.resolve import cycle

EXAMPLE = Path(__file__).parents[2] / "fixtures" / "manifests" / "wave.yaml"


def test_the_nearest_wins_and_tags_and_gates_are_joined() -> None:
    head = HEAD.replace("zone: Europe/Berlin", "zone: Europe/Berlin, owner: ops, tags: {a: '1', b: '1'}, gates: {okToTest: true}")
    made = read(
        head
        + wave(
            machine("x", "tags: {c: '3'}, gates: {okToFinalize: true}, owner: null"),
            machine("y"),
            settings="tags: {b: '2'}",
        )
    )
    x, y = resolve(made)
    assert x.machine.tags == {"a": "1", "b": "2", "c": "3"} and y.machine.tags == {"a": "1", "b": "2"}
    assert x.machine.gates.ok_to_test and x.machine.gates.ok_to_finalize and not x.machine.gates.ok_to_cutover
    assert x.machine.owner is None and y.machine.owner == "ops"
    assert x.where("owner") == ("waves", 0, "machines", 0, "owner") and y.where("owner") == ("defaults", "owner")
    assert x.mode == "cold"


def test_a_list_is_replaced_whole() -> None:
    made = read(manifest(wave(machine("x", "checks: []"), machine("y"), settings="checks: [{type: tcp, port: 22}]")))
    x, y = resolve(made)
    assert x.machine.checks == () and len(y.machine.checks) == 1


def test_a_window_without_its_blackouts() -> None:
    pilot = resolve(load(EXAMPLE))[0]
    assert [(s.start.isoformat(), s.end.isoformat()) for s in pilot.spans()] == [
        ("2026-11-28T19:00:00+00:00", "2026-11-29T05:00:00+00:00")
    ]


def test_order_is_of_rank_and_dependencies_win() -> None:
    made = read(
        manifest(wave(machine("a", "rank: 2"), machine("b", "rank: 1, dependsOn: [c]"), machine("c", "rank: 9"), machine("d")))
    )
    assert [one.id for one in ordered(resolve(made))] == ["d", "a", "c", "b"]


@given(st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 19), max_size=3)), min_size=1, max_size=20))
def test_every_machine_once_and_after_its_dependencies(shape: list[tuple[int, set[int]]]) -> None:
    """Dependencies point to earlier machines, so there is no cycle."""
    rows = [
        machine(f"m{i}", f"rank: {rank}, dependsOn: [{', '.join(f'm{n}' for n in sorted(needs) if n < i)}]")
        for i, (rank, needs) in enumerate(shape)
    ]
    found = ordered(resolve(read(manifest(wave(*rows)))))
    place = {one.id: index for index, one in enumerate(found)}
    assert len(place) == len(rows)
    assert all(place[need] < place[one.id] for one in found for need in one.machine.depends_on)


def test_a_long_chain_is_no_cycle_and_no_recursion() -> None:
    rows = [machine(f"m{i}", f"dependsOn: [m{i + 1}]" if i < 2999 else "") for i in range(3000)]
    machines = [one.machine for one in resolve(read(manifest(wave(*rows))))]
    assert cycle(machines) == ()


def test_what_is_written_reads_back_as_the_same() -> None:
    from v2c.manifest import parse

    made = load(EXAMPLE)
    text = write.text(made, ("a comment\nwith a line",))
    assert parse(text.encode(), "again") == made
    assert text.startswith("# a comment?with a line\nversion: 1\n")
