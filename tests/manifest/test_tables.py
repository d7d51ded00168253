"""Other tools' tables: read in every shape that Excel and PowerShell give them, and told by row and column when wrong."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import HEAD, machine, manifest, read, wave

from v2c.manifest import Manifest, ManifestError, load, ordered, parse, resolve, write
from v2c.manifest.tables import LAYOUTS, import_tables
from v2c.manifest.tables.own import export
from v2c.manifest.tables.reading import Wrong, flag, number, table, whole
from v2c.manifest.values import bytes_of

FIXTURES = Path(__file__).parents[2] / "fixtures" / "manifests"
TO = {"azure-migrate": "azure:sub/rg/westeurope", "rvtools": "aws:eu-central-1", "gcp-migration-center": "gcp:p/europe-west3-a"}
FILES = [
    ("mgn", "mgn.csv"),
    ("cmf", "cmf.csv"),
    ("azure-migrate", "azure-migrate.csv"),
    ("azure-migrate", "azure-scripts.csv"),
    ("rvtools", "RVTools_tabvInfo.csv"),
    ("gcp-migration-center", "vmInfo.csv"),
]


def plain(made: Manifest) -> list[Any]:
    """The machines with all that holds for each, as plain values."""
    rows = []
    for one in ordered(resolve(made)):
        values = one.machine.model_dump(mode="json", by_alias=True, exclude_none=True)
        rows.append((one.wave.name, values, made.targets[one.machine.target or ""].to, made.sources[one.machine.source.at].type))
    return rows


def told(layout: str, data: str | bytes, folder: Path, to: str | None = "local:kvm") -> list[str]:
    """The mistakes of a table, without the folder's name."""
    path = folder / "t.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(ManifestError) as caught:
        import_tables(layout, [path], to=to)
    return [str(mistake).replace(f"{folder}/", "") for mistake in caught.value.mistakes]


def again(made: Manifest, folder: Path) -> Manifest:
    (folder / "again.csv").write_text(export(made), encoding="utf-8", newline="")
    return import_tables("csv", [folder / "again.csv"]).manifest


# ---- the vendors' layouts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "file"), FILES)
def test_a_vendors_table_survives_yaml_and_csv(layout: str, file: str, tmp_path: Path) -> None:
    made = import_tables(layout, [FIXTURES / file], to=TO.get(layout)).manifest
    assert len(plain(made)) >= 2
    assert parse(write.text(made).encode(), "x") == made
    back = again(made, tmp_path)
    assert plain(back) == plain(made) and export(back) == export(made)


def test_mgn() -> None:
    made = import_tables("mgn", [FIXTURES / "mgn.csv"])
    assert [(w.name, [m.id for m in w.machines]) for w in made.manifest.waves] == [
        ("Wave-1", ["pay-web-01", "pay-db-01"]),
        ("Wave-2", ["led-app-01"]),
    ]
    web, db, ledger = (one.machine for one in resolve(made.manifest))
    assert web.nics[0].security_groups == ("sg-0web", "sg-0ssh") and web.nics[0].address == "10.10.0.11"
    assert web.tags == {"Phase": "one", "App": "pay", "Name": "Payment web", "CostCentre": "4711"} and web.licence == "byol"
    assert [(d.id, d.type) for d in db.disks] == [("/dev/sda", "gp3"), ("/dev/sdb", "io2")]
    assert ledger.licence == "included" and ledger.disks == (), "[RESET_VALUE] is a command to MGN"
    assert {t.to for t in made.manifest.targets.values()} == {"aws:eu-central-1", "aws:eu-west-1"}
    assert "mgn:launch:placement:tenancy" in made.notes[0]


def test_cmf_leaves_out_what_is_not_rehosted() -> None:
    made = import_tables("cmf", [FIXTURES / "cmf.csv"])
    assert [one.id for one in resolve(made.manifest)] == ["ledger-db01", "ledger-app01"]
    db = made.manifest.waves[0].machines[0]
    assert db.nics[0].security_groups == ("sg-0a1", "sg-0a2") and db.nics[0].test and db.nics[0].test.subnet == "subnet-0ff1"
    assert db.tags == {"environment": "prod", "tier": "db", "CostCentre": "4711", "Team": "Ledger"}
    assert any("archive01 is left out, its strategy is Retire" in note for note in made.notes)


def test_azure_template_and_scripts() -> None:
    made = import_tables("azure-migrate", [FIXTURES / "azure-migrate.csv"], to=TO["azure-migrate"]).manifest
    web, db = made.waves[0].machines
    assert (web.hardware.vcpus, web.hardware.memory, web.hardware.firmware) == (4, bytes_of("8GiB"), "bios")
    assert [d.size for d in db.disks] == [bytes_of("100GiB"), bytes_of("1500GiB")] and db.hardware.memory == bytes_of("64GiB")
    assert db.hardware.addresses == ("10.0.3.10", "10.0.3.11")
    app, file = (
        import_tables("azure-migrate", [FIXTURES / "azure-scripts.csv"], to=TO["azure-migrate"]).manifest.waves[0].machines
    )
    assert app.gates.ok_to_cutover and not app.gates.ok_to_finalize and not file.gates.ok_to_cutover
    assert app.size and app.size.type == "Standard_D4s_v5" and app.nics[0].subnet == "vnet-prod/snet-erp"
    assert [(d.id, d.type, d.boot) for d in app.disks] == [
        ("6000C29a-1111", "Premium_LRS", True),
        ("6000C29a-2222", "Premium_LRS", None),
    ]


def test_rvtools_with_its_other_tabs() -> None:
    made = import_tables("rvtools", [FIXTURES / "RVTools_tabvInfo.csv"], to="aws:eu-central-1")
    erp, legacy = made.manifest.waves[0].machines
    assert (erp.id, erp.source.name, erp.source.uuid) == ("ERP-App-prod", "ERP App (prod)", "5013aaaa-0001")
    assert [(d.id, d.size, d.datastore) for d in erp.disks] == [
        ("6000C29a-aaaa-0001", bytes_of("60GiB"), "gold"),
        ("6000C29a-aaaa-0002", bytes_of("60GiB"), "silver"),
    ]
    assert [(n.mac, n.network) for n in legacy.nics] == [("00:50:56:aa:00:02", "VLAN 20"), ("00:50:56:aa:00:03", "Backup")]
    assert legacy.hardware.os == "CentOS 7 (64-bit)", "the tools say nothing, the configuration does"
    assert made.manifest.sources["vc1.example.org"].type == "vsphere"
    assert any("rhel8-template is left out, it is a template" in note for note in made.notes)


def test_rvtools_without_its_other_tabs(tmp_path: Path) -> None:
    (tmp_path / "info.csv").write_bytes((FIXTURES / "RVTools_tabvInfo.csv").read_bytes())
    erp, _ = import_tables("rvtools", [tmp_path / "info.csv"], to="aws:eu-central-1").manifest.waves[0].machines
    assert [(d.id, d.size, d.used) for d in erp.disks] == [("all", bytes_of("131072MiB"), bytes_of("98304MiB"))]
    assert [n.network for n in erp.nics] == ["VLAN 20"]


def test_migration_center() -> None:
    made = import_tables("gcp-migration-center", [FIXTURES / "vmInfo.csv"], to="gcp:p/z").manifest
    web, db = made.waves[0].machines
    assert web.hardware.memory == bytes_of("7680MiB") and web.disks[0].used == bytes_of("48GiB") and web.tags == {"app": "shop"}
    assert [(d.id, d.size) for d in db.disks] == [("C:", bytes_of("200GiB")), ("E:", bytes_of("1000GiB"))]


def test_the_command_line_knows_every_layout() -> None:
    from v2c.cli.manifest import LAYOUTS as OFFERED

    assert tuple(LAYOUTS) == OFFERED


# ---- mistakes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "text", "says"),
    [
        (
            "azure-migrate",
            "*Server name,*Cores,*Memory (In MB),*OS name\nweb,four,8192,x\n,2,4096,x\ndb,2,lots,x\n",
            [
                'row 2, column "*Cores": "four" is no number: write digits only, without a unit',
                'row 3, column "*Server name": it is empty: fill it in, or remove the row',
                'row 4, column "*Memory (In MB)": "lots" is no number: write digits only, without a unit',
            ],
        ),
        (
            "azure-migrate",
            "*Server nmae,*Cores,*Memory (In MB)\nweb,4,8192\n",
            ['row 1: the column "*Server name" is missing: did you mean *Server nmae?'],
        ),
        (
            "azure-migrate",
            "Server name,Cores,Memory (In MB)\nweb,4,8192\nWEB,4,8192\n",
            ['row 3, column "Server name": the id "WEB" is taken by a machine of wave wave-1'],
        ),
        (
            "azure-migrate",
            "Server name,Cores,Memory (In MB),Boot type\nweb,4,8192,GRUB\n",
            ['row 2, column "Boot type": "GRUB" is no firmware: write BIOS or UEFI'],
        ),
        (
            "azure-migrate",
            "Server name,Cores,Memory (In MB),Number of disks,Disk 1 size (In GB)\nweb,4,8192,2,80\n",
            ['row 2, column "Number of disks": it says 2 disks, and the sizes of 1 are given'],
        ),
        (
            "azure-migrate",
            "Server name,Cores,Memory (In MB)\nweb,0,8192\n",
            ['row 2, column "Cores": this is the number 0, and at least 1 is right'],
        ),
        (
            "azure-migrate",
            "SOURCE_MACHINE_NAME,OK_TO_MIGRATE\na,maybe\n",
            ['row 2, column "OK_TO_MIGRATE": "maybe" is neither yes nor no: write Y or N'],
        ),
        (
            "mgn",
            "mgn:server:user-provided-id,mgn:launch:placement:operating-system-licensing\na,mine\n",
            ['"mine" is no licensing: write LI or BYOL'],
        ),
        (
            "mgn",
            "mgn:server:user-provided-id,mgn:launch:nic:0:private-ip:0\na,10.0.0.300\n",
            ['row 2, column "mgn:launch:nic:0:private-ip:0": this is no address'],
        ),
        ("mgn", "mgn:wave:name\nw\n", ['row 1: the column "mgn:server:user-provided-id" is missing']),
        (
            "cmf",
            "server_name,tags\na,blue\n",
            ['row 2, column "tags": "blue" holds no tags: write them like key=value;key=value'],
        ),
        ("cmf", "server_name,r_type\na,Retire\n", ["row 1: no row is left to be moved"]),
        ("rvtools", "VM;CPUs;Memory\nx;2;4.096,5\n", ['row 2, column "Memory": "4.096,5" is no whole number']),
        (
            "gcp-migration-center",
            "MachineId,AllocatedProcessorCoreCount,MemoryGiB\na,2,1.2.3\n",
            ['row 2, column "MemoryGiB": "1.2.3" is no number'],
        ),
        (
            "csv",
            "id,hardware.vcpus,rank\na,many,1\n",
            ['row 2, column "hardware.vcpus": this is "many", and a whole number is wanted'],
        ),
        ("csv", "id,colour\na,red\n", ['row 2, column "colour": there is no key colour here']),
        ("csv", "name\na\n", ['row 1: the column "id" is missing', 'row 2, column "id": it is empty']),
        ("csv", "id,dependsOn\na,b\nb,a\n", ['row 2, column "dependsOn": the dependencies go in a circle: a -> b -> a']),
        (
            "csv",
            "id,window.start,window.end,zone\na,2026-03-29T02:30,2026-03-29T05:00,Europe/Berlin\n",
            ["2026-03-29 02:30 does not exist in Europe/Berlin"],
        ),
        ("csv", "id,id\na,b\n", ['row 1, column "id": the column "id" is there twice: remove one']),
        (
            "csv",
            "id,name\na,b,c\n",
            ["row 2: it has 3 cells, and the header 2: put cells that contain the separator into quotation marks"],
        ),
        ("csv", 'id,name\na,"b\n', ["row 2: the row cannot be read (unexpected end of data)"]),
        ("csv", "id,name\n", ["row 1: the table has columns and no rows"]),
        ("csv", "", ["row 1: the table is empty"]),
        ("csv", "id,name\na,#REF!\n", ['row 2, column "name": the spreadsheet shows an error here (#REF!)']),
    ],
)
def test_mistakes_name_row_and_column(layout: str, text: str, says: list[str], tmp_path: Path) -> None:
    found = told(layout, text, tmp_path)
    assert len(found) == len(says), found
    for line, said in zip(found, says, strict=True):
        assert line.startswith("t.csv: row ") and said in line


@pytest.mark.parametrize("layout", [n for n in LAYOUTS if n not in ("mgn", "cmf")])
def test_where_the_machines_go_must_be_said(layout: str, tmp_path: Path) -> None:
    header = {
        "azure-migrate": "Server name,Cores,Memory (In MB)",
        "rvtools": "VM,CPUs,Memory",
        "gcp-migration-center": "MachineId,AllocatedProcessorCoreCount,MemoryGiB",
        "csv": "id,hardware.vcpus,rank",
    }[layout]
    found = told(layout, f"{header}\na,1,1\nb,1,1\n", tmp_path, to=None)
    assert "--to" in found[0] and len(found) == (2 if layout == "csv" else 1)


def test_a_workbook_is_not_a_table(tmp_path: Path) -> None:
    (only,) = told("csv", b"PK\x03\x04rest", tmp_path)
    assert "this is an Excel workbook: save the sheet as CSV UTF-8" in only


def test_a_secret_in_a_cell_is_refused_and_not_repeated(tmp_path: Path) -> None:
    for layout, header in (("csv", "id,tags.note"), ("mgn", "mgn:server:user-provided-id,mgn:server:tag:note")):
        (only, *_) = told(layout, f"{header}\na,password=Canary7f3aQ9\n", tmp_path)
        assert "row 2" in only and "looks like a secret" in only and "Canary" not in only


# ---- what spreadsheets do --------------------------------------------------------------------------------------------------

WANTED = [("a", "Größe 1", 8192), ("b", "x;y", 16384)]


@pytest.mark.parametrize(
    "data",
    [
        'id,name,n\r\na,Größe 1,8192\r\nb,"x;y",16384\r\n'.encode("utf-8-sig"),
        'id;name;n\r\na;Größe 1;8.192\r\nb;"x;y";16.384\r\n'.encode(),
        'sep=;\r\nid;name;n\r\na;Größe 1;8192\r\nb;"x;y";16384\r\n'.encode("cp1252"),
        "id\tname\tn\r\na\tGröße 1\t8192\r\nb\tx;y\t16384\r\n".encode("utf-16"),
        "id\tname\tn\na\tGröße 1\t8,192\nb\tx;y\t16,384\n".encode("utf-16-le"),
        '\n ID , Name ,N,,\n,,,,\na, Größe\u00a01 ,"8 192",,\nb,x;y,16384.0,,\n'.encode(),
        "id|name|n\na|Größe 1|8192\nb|x;y|1.6384E+04\n".encode(),
    ],
)
def test_the_same_table_in_many_shapes(data: bytes) -> None:
    read_ = table(data, "t")
    assert read_.mistakes == []
    assert [(r.cells["id"], r.cells["name"], whole(r.cells["n"], read_.comma)) for r in read_.rows] == WANTED


def test_rows_are_numbered_as_a_spreadsheet_shows_them() -> None:
    read_ = table(b'sep=,\nid,name\n\na,"two\nlines"\nb,x\n', "t")
    assert [(row.number, row.cells["id"]) for row in read_.rows] == [(3, "a"), (4, "b")]


def test_nothing_is_nothing() -> None:
    read_ = table(b"id,a,b,c,d\nx,N/A,-,null,#N/A\n", "t")
    assert read_.rows[0].cells == {"id": "x"}


@pytest.mark.parametrize(
    ("text", "comma", "value"),
    [("1,5", True, 1.5), ("1.5", True, 1.5), ("1.024,5", True, 1024.5), ("1,024.5", False, 1024.5), ("7.5", False, 7.5)],
)
def test_numbers(text: str, comma: bool, value: float) -> None:
    assert number(text, comma) == value


@pytest.mark.parametrize("text", ["", "12 GB", "1,2,3", "0x10", "--1", "1e999", "NaN"])
def test_no_numbers(text: str) -> None:
    with pytest.raises(Wrong, match="is no"):
        number(text)


def test_truth_in_the_users_language() -> None:
    assert flag("WAHR") and flag("Y") and not flag("FAUX")


def test_formulas_are_defused_and_come_back(tmp_path: Path) -> None:
    made = read(manifest(wave(machine("a", 'owner: "=HYPERLINK(1)", tags: {x: "-1", y: "@a", z: "+1"}'))))
    text = export(made)
    assert re.search(r"(^|,)[=+@-]", text) is None and "'=HYPERLINK(1)" in text
    assert plain(again(made, tmp_path)) == plain(made)


def test_excel_changes_times_and_truth(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "id;target.to;gates.okToTest;blackout[0].days;blackout[0].start;blackout[0].end\na;local:kvm;WAHR;mon;8:00;18:00:00\n"
    )
    one = import_tables("csv", [tmp_path / "t.csv"]).manifest.waves[0].machines[0]
    assert one.gates.ok_to_test and (one.blackout[0].start, one.blackout[0].end) == ("08:00", "18:00")


def test_aliases_of_our_own_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Hostname,vCPUs,Memory,Instance type,Subnet\nweb,2,4GiB,m7i.large,subnet-1\n")
    one = import_tables("csv", [tmp_path / "t.csv"], to="aws:eu-west-1", wave="w9").manifest
    made = one.waves[0].machines[0]
    assert (one.waves[0].name, made.id, made.hardware.vcpus, made.nics[0].subnet) == ("w9", "web", 2, "subnet-1")


# ---- out and back ----------------------------------------------------------------------------------------------------------


def test_the_example_survives(tmp_path: Path) -> None:
    made = load(FIXTURES / "wave.yaml")
    back = again(made, tmp_path)
    assert plain(back) == plain(made) and export(back) == export(made)


WORD = st.text(min_size=1, max_size=12).filter(lambda s: "\0" not in s)
TAGS = st.dictionaries(WORD, st.text(max_size=12).filter(lambda s: "\0" not in s), max_size=3)
MACHINES = st.fixed_dictionaries(
    {},
    optional={
        "name": WORD,
        "owner": WORD,
        "tags": TAGS,
        "rank": st.integers(0, 1000),
        "mode": st.sampled_from(["cold", "warm"]),
        "downtimeBudget": st.integers(1, 10**6).map(lambda n: f"{n}s"),
        "gates": st.dictionaries(st.sampled_from(["okToTest", "okToCutover", "okToFinalize"]), st.booleans()),
        "disks": st.lists(
            st.fixed_dictionaries({"id": WORD}, optional={"type": WORD, "size": st.integers(1, 10**13).map(lambda n: f"{n}B")}),
            max_size=3,
            unique_by=lambda d: d["id"],
        ),
        "nics": st.lists(
            st.fixed_dictionaries({}, optional={"subnet": WORD, "securityGroups": st.lists(WORD, max_size=3)}).filter(bool),
            max_size=2,
        ),
        "hooks": st.lists(
            st.fixed_dictionaries({"after": st.just("cutover"), "run": st.lists(WORD, min_size=1, max_size=3)}), max_size=2
        ),
        "checks": st.lists(st.fixed_dictionaries({"type": st.just("tcp"), "port": st.integers(1, 65535)}), max_size=2),
    },
)


@settings(deadline=None, max_examples=60)
@given(st.lists(MACHINES, min_size=1, max_size=4))
def test_anything_survives_the_table(tmp_path_factory: pytest.TempPathFactory, machines: list[dict[str, Any]]) -> None:
    """Manifest -> CSV -> manifest -> CSV: the same machines, and the same table, whatever the texts hold."""
    from v2c.manifest.looks import looks_secret

    document: dict[str, Any] = read(HEAD + wave(machine("x"))).model_dump(by_alias=True, mode="json", exclude_unset=True)
    for index, one in enumerate(machines):
        one |= {"id": f"m{index}", "source": {"at": "lab", "files": [f"m{index}.vmdk"]}}
    document["waves"][0]["machines"] = machines
    made = Manifest.model_validate(document)
    if looks_secret(export(made)):
        return
    back = again(made, tmp_path_factory.mktemp("t"))
    assert plain(back) == plain(made)
    assert export(back) == export(made)
