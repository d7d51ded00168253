"""What becomes of a manifest's words in the locator of a target: by the words of its platform, and only those."""

from pathlib import Path

import pytest

from v2c.errors import UsageError
from v2c.manifest import parse, resolve
from v2c.model import Machine
from v2c.platforms import Platform, platforms, read
from v2c.targets import open_target
from v2c.usage import sized
from v2c.waveplan.aim import aim
from v2c.waves.orders import Wanted, wanted

MACHINE = """
      - id: a1
        source: { at: made }
        size: { type: large }
        nics: [{ subnet: front, securityGroups: [web, ssh], test: { subnet: quiet } }]
        disks: [{ id: d0, type: fast }]
"""
PLACES = {
    "aws": "aws:eu-west-1",
    "gcp": "gcp:my-project-1/europe-west1-b",
    "azure": "azure:0000-1111/rg/westeurope",
}

SAID = {  # where not any word will do
    ("aws", "volume-type"): "gp3",
    ("azure", "subnet"): "net/front",
    ("azure", "test-subnet"): "net/quiet",
    ("aws", "licence"): "included",
    **{(cloud, "private-ip"): "10.0.0.5" for cloud in PLACES},
}


def aimed(to: str) -> str:
    text = f'version: 1\nname: t\nsources: {{ made: {{ type: memory }} }}\ntargets: {{ there: {{ to: "{to}" }} }}\n'
    text += f"defaults: {{ target: there }}\nwaves:\n  - name: w\n    machines:{MACHINE}"
    manifest = parse(text.encode(), "wave.yaml")
    return aim(manifest, resolve(manifest)[0])


@pytest.mark.parametrize(
    ("to", "words"),
    [
        (PLACES["aws"], "?subnet=front&security-group=web,ssh&type=large"),
        (PLACES["gcp"], "?subnet=front&type=large"),
        (PLACES["azure"], "?subnet=front&test-subnet=quiet&nsg=web,ssh&size=large"),
        (f"{PLACES['azure']}?size=small", "&subnet=front&test-subnet=quiet&nsg=web,ssh"),
        ("local:aws", ""),
        ("memory:there", ""),
        ("file:out/", ""),
    ],
)
def test_a_target_is_told_what_it_has_words_for(to: str, words: str) -> None:
    assert aimed(to) == to + words


def clouds() -> list[Platform]:
    return [one for one in platforms().values() if one.locator.words]


def test_every_cloud_has_words() -> None:
    assert {one.name for one in clouds()} == {one.name for one in platforms().values() if one.kind == "cloud"} == set(PLACES)


@pytest.mark.parametrize("platform", clouds(), ids=lambda one: str(one.name))
def test_the_locator_knows_every_word(platform: Platform) -> None:
    for word in platform.locator.words.values():
        open_target(f"{PLACES[platform.name]}?{word}={SAID.get((platform.name, word), 'x1')}")
    with pytest.raises(UsageError):
        open_target(f"{PLACES[platform.name]}?no-such-word=x1")


@pytest.mark.parametrize(
    ("line", "says"), [('net = "subnet"', "locator.net: Extra inputs"), ('subnet = "a=b"', "locator.subnet: String should match")]
)
def test_the_words_are_read_strictly(tmp_path: Path, line: str, says: str) -> None:
    folder = tmp_path / "cloud"
    folder.mkdir()
    (folder / "platform.toml").write_text(f'name = "cloud"\ntitle = "A cloud"\nkind = "cloud"\n[locator]\n{line}\n')
    with pytest.raises(UsageError, match=says):
        read(folder / "platform.toml")


MAPPED = """version: 1
name: t
sources: { made: { type: memory }, vc: { type: inventory } }
targets:
  one: { to: "aws:eu-west-1?volume-type=gp2" }
  two: { to: "gcp:my-project-1/europe-west1-b" }
  kvm: { to: "local:kvm" }
storage:
  - { source: "*", type: gp3 }
  - { source: gold, type: io2, iops: 4000 }
  - { source: gold, target: two, type: hyperdisk-balanced, iops: 9000, throughput: 300 }
  - { source: "*", target: two, type: pd-ssd }
defaults: { target: one }
waves:
  - name: w
    machines:
      - id: said
        source: { at: vc }
        disks:
          - { id: a, size: 8GiB, datastore: gold }
          - { id: b, size: 8GiB, datastore: gold, type: sc1 }
          - { id: c, size: 8GiB, datastore: gold, iops: 500, throughput: 200 }
          - { id: d, size: 8GiB, datastore: iron }
          - { id: "[gold] e.vmdk", size: 8GiB }
      - id: other
        target: two
        source: { at: vc }
        disks: [{ id: a, size: 8GiB, datastore: gold }, { id: b, size: 8GiB }, { id: c, size: 8GiB, include: false }]
      - { id: read, source: { at: made, name: "m?disks=2" }, disks: [{ id: disk-1, type: st1 }] }
      - { id: none, target: kvm, source: { at: vc }, disks: [{ id: a, size: 8GiB, datastore: gold, type: gp3 }] }
"""


def mapped(folder: Path, text: str = MAPPED) -> Wanted:
    return wanted(parse(text.encode(), "wave.yaml"), folder / "wave.yaml")


def test_what_disks_become(tmp_path: Path) -> None:
    """As the disk says, else as the map of its datastore does, else as the map of all others: the target's own before the one of
    all targets."""
    orders = {order.id: order for order in mapped(tmp_path).orders}
    said = {id: {v.disk: (v.type, v.iops, v.throughput) for v in order.request.volumes} for id, order in orders.items()}
    assert said == {
        "said": {
            "a": ("io2", 4000, 0),
            "b": ("sc1", 0, 0),
            "c": ("io2", 500, 200),
            "d": ("gp3", 0, 0),
            "[gold] e.vmdk": ("io2", 4000, 0),
        },
        "other": {"a": ("hyperdisk-balanced", 9000, 300), "b": ("pd-ssd", 0, 0)},
        "read": {"disk-0": ("gp3", 0, 0), "disk-1": ("st1", 0, 0)},
        "none": {},
    }
    assert orders["said"].request.target == "aws:eu-west-1?volume-type=gp2", "the locator's is for the others"
    (found,) = [f for f in orders["none"].findings if f.id == "disk.type"]
    assert found.text == "its type gp3 is not used: disks have no types at kvm"


def test_maps_of_files_are_by_their_paths(tmp_path: Path) -> None:
    """Also where a file before it is left behind."""
    text = MAPPED.replace("vc: { type: inventory }", f'vc: {{ type: files, at: "{tmp_path}" }}')
    text = text[: text.index("waves:")] + "waves:\n  - name: w\n    machines:\n      - id: erp\n        target: two\n"
    text += "        source: { at: vc, files: [a.raw, b.raw, vmfs/volumes/gold/c.raw] }\n"
    text += "        disks: [{ id: a.raw, include: false }, { id: b.raw, datastore: gold, type: pd-standard }]\n"
    for name in ("a", "b", "vmfs/volumes/gold/c"):
        file = tmp_path / f"{name}.raw"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1 << 20))
    (order,) = mapped(tmp_path, text).orders
    kinds = [(v.type, v.iops) for v in order.request.volumes]
    assert kinds == [("pd-standard", 0), ("hyperdisk-balanced", 9000)], [f.text for f in order.findings]
    assert [Path(file).name for file in order.request.sources] == ["b.raw", "c.raw"], "what is left behind is sent"


def test_disks_that_are_left_behind_are_named_as_they_lie_there(tmp_path: Path) -> None:
    """By file or by id; the others keep the ids that they have without it, also where two files have one name."""
    for name in ("one/root.raw", "two/root.raw", "data.raw"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1 << 20))
    text = MAPPED.replace("vc: { type: inventory }", f'vc: {{ type: files, at: "{tmp_path}" }}')
    text = text[: text.index("waves:")] + "waves:\n  - name: w\n    machines:\n      - id: erp\n        target: two\n"
    text += "        source: { at: vc, files: [one/root.raw, two/root.raw, data.raw] }\n        disks: [%s]\n"
    left = {
        "{ id: root, include: false }, { id: data }": ["two/root.raw", "data.raw"],
        "{ id: root-2, include: false }, { id: data }": ["one/root.raw", "data.raw"],
    }
    for words, kept in left.items():
        (order,) = mapped(tmp_path, text % words).orders
        assert [str(Path(file).relative_to(tmp_path)) for file in order.request.sources] == kept
        assert [v.disk for v in order.request.volumes] == ["root", "data"]
    words = "{ id: root, include: false }, { id: root-2, type: pd-ssd }"
    (order,) = mapped(tmp_path, text % words).orders
    assert next((v.disk, v.type) for v in order.request.volumes) == ("root", "pd-ssd"), [f.text for f in order.findings]
    (order,) = mapped(tmp_path, text % "{ id: other, include: false }, { id: root }").orders
    assert [f.text for f in order.findings if f.id == "disk.unknown"] == ['there is no disk "other"']


def test_an_edited_map_is_another_order_of_the_same_job(tmp_path: Path) -> None:
    before, after = mapped(tmp_path), mapped(tmp_path, MAPPED.replace("iops: 4000", "iops: 5000"))
    changed = [a.id for a, b in zip(before.orders, after.orders, strict=True) if a.digest != b.digest]
    assert changed == ["said"] and before.plan.digest != after.plan.digest
    assert [o.request.job for o in before.orders] == [o.request.job for o in after.orders]


PLACED = """version: 1
name: t
sources:
  hall: { type: files, at: /mnt, datastores: { gold: { copies: 2 }, "*": { copies: 3 } } }
  vc: { type: inventory, datastores: { gold: { copies: 5 } } }
  made: { type: memory }
targets: { there: { to: "memory:there" } }
defaults: { target: there }
waves:
  - name: w
    machines:
      - id: said
        source: { at: vc }
        disks: [{ id: a, datastore: gold }, { id: b, datastore: iron }, { id: c, datastore: gold }, { id: d }]
      - id: path
        source: { at: vc }
        disks: [{ id: "[gold] x/y.vmdk" }, { id: "[silver (2)] x/y.vmdk", include: false }, { id: "[x]y" }]
      - id: files
        source: { at: hall, files: [vmfs/volumes/gold/erp/erp.vmdk, x/vmfs/volumes/tin/erp_1.vmdk, left.vmdk, other.vmdk] }
        disks: [{ id: left.vmdk, datastore: lead, include: false }, { id: other, datastore: zinc }]
  - name: later
    machines:
      - { id: made, source: { at: made } }
      - { id: late, source: { at: vc }, disks: [{ id: a, datastore: gold }] }
"""


def test_where_a_machine_lies_and_how_many_may_be_copied_from_there(tmp_path: Path) -> None:
    """As the manifest says, else as the paths of disks do; of all waves, also of those that are not begun."""
    for wave in ("w", None):
        found = wanted(parse(PLACED.encode(), "wave.yaml"), tmp_path / "wave.yaml", wave=wave)
        stores = {order.id: order.stores for order in found.orders}
        assert stores["said"] == ("vc [gold]", "vc [iron]") and stores["path"] == ("vc [gold]",)
        assert stores["files"] == ("hall [gold]", "hall [tin]", "hall [zinc]")
        assert stores.get("made", ()) == ()
        assert found.limits.stores == {"vc [gold]": 5, "hall [gold]": 2, "hall [tin]": 3, "hall [zinc]": 3}


def test_a_machine_is_sized_by_its_use_when_it_says_so(tmp_path: Path) -> None:
    said = "size: { rightSizing: used, cpuUsed: 50, memoryUsed: 25 }"
    text = "version: 1\nname: t\nsources: { made: { type: memory } }\ntargets: { there: { to: 'memory:there' } }\n"
    text += "defaults: { target: there }\nwaves:\n  - name: w\n    machines:\n"
    text += f"      - {{ id: a1, source: {{ at: made }}, {said} }}\n      - {{ id: a2, source: {{ at: made }} }}\n"
    first, second = wanted(parse(text.encode(), "wave.yaml"), tmp_path / "wave.yaml").orders
    assert second.request.usage is None
    asked = first.request.usage
    assert asked and (asked.cpu, asked.memory, asked.where) == (0.5, 0.25, "the manifest")
    now = sized(Machine("a1", (), memory_mib=8192, vcpus=8), asked)
    assert (now.vcpus, now.memory_mib) == (5, 2458), "with the usual 20 % of headroom"
