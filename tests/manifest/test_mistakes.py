"""Every mistake at once, at its place, in words that say what to do; and secrets are never repeated."""

import re
from pathlib import Path

import pytest
from manifests import HEAD, machine, manifest, mistakes, one, read, told, wave

from v2c.manifest import ManifestError, load, parse

FIXTURES = Path(__file__).parents[2] / "fixtures" / "manifests"


def test_the_example_is_right() -> None:
    made = load(FIXTURES / "wave.yaml")
    assert [w.name for w in made.waves] == ["pilot", "erp"]


def test_many_mistakes_at_once() -> None:
    """All of them, in the file's order, though one stands in each kind of part."""
    text = manifest(
        wave(machine("a"), machine("b", "rank: one"), settings="mdoe: warm")
        + wave(machine("c", "disks: [{id: x, size: 40GiB}, {id: y, typ: gp3, size: 40}]"), name="w 2")
    )
    found = mistakes(text)
    assert [m.path for m in found] == [
        "waves[0].mdoe",
        "waves[0].machines[1].rank",
        "waves[1].name",
        "waves[1].machines[0].disks[1].typ",
        "waves[1].machines[0].disks[1].size",
    ]
    assert [text.splitlines()[m.line - 1][m.column - 1 :][:4] for m in found] == ["mdoe", "one}", "w 2", "typ:", "40}]"]
    assert "did you mean mode?" in str(found[0]) and "did you mean type?" in str(found[3])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("colour: red", r"colour: there is no key colour here: known here: application, blackout"),
        ("id: 7", r"\.id: the key is given twice"),
        ("size: {type: m5, rightSizing: used}", r"\.size: a size is either a type or a rightSizing"),
        ("size: {rightSizing: used}", r"\.size: rightSizing: used needs what it uses: say cpuUsed"),
        ("target: prdo", r'\.target: there is no target "prdo": did you mean prod\?'),
        ("target: null", r"machines\[0\]: it has no target"),
        ("dependsOn: [erq]", r'\.dependsOn\[0\]: there is no machine "erq": did you mean erp\?'),
        ("dependsOn: [erp]", r"the dependencies go in a circle: erp -> erp"),
        ("mode: warn", r'\.mode: this is "warn": write cold, warm \(did you mean warm\?\)'),
        ("tags: {cost: 42}", r'\.tags\.cost: this is the number 42, and a text is wanted: write it in quotes: "42"'),
        ("tags: {v2c-job: mine}", r'\.tags: the tag "v2c-job" is one of v2c itself: choose another name'),
        ("gates: {okToCutover: yes}", r'\.gates\.okToCutover: this is "yes", and true or false is wanted'),
        ("downtimeBudget: 2 hours", r"\.downtimeBudget: a duration is written like 90s"),
        ("hooks: [{after: cutover, run: [x], user: a}]", r"\.hooks\[0\]: user and key are for hooks inside the machine"),
        (
            "hooks: [{after: cutover, run: [x], where: guest, key: 'file:k'}]",
            r"\]: a hook inside the machine needs user",
        ),
        (
            "hooks: [{before: cutover, run: [x], where: guest, user: a, key: 'file:k'}]",
            r"\.hooks\[0\]: before cutover there is no new machine to run it in: run it after cutover",
        ),
        (
            "hooks: [{after: cutover, run: [x], where: guest, user: '-oProxyCommand=x', key: 'file:k'}]",
            r"\.hooks\[0\]\.user: this is no name to log in with",
        ),
        (
            "hooks: [{after: cutover, run: [x], where: guest, user: a, key: 'env:K'}]",
            r"\.hooks\[0\]\.key: SSH takes its key from a file",
        ),
        (
            "hooks: [{after: cutover, run: [x], where: guest, user: a, key: 'file:k', environment: {a-b: 'env:K'}}]",
            r"\.environment\.a-b: no shell knows a variable of this name",
        ),
        ("disks: {id: a}", r"\.disks: this is a mapping, and a list is wanted"),
        ("disks: [{id: a}, {id: a}]", r'\.disks\[1\]\.id: the disk "a" is there twice'),
        ("disks: [{id: a, include: false}]", r"\.disks: every disk is left behind"),
        ("disks: [{id: a, size: 1GiB, used: 2GiB}]", r"\.disks\[0\]\.used: more is used than the disk holds"),
        ("disks: [{id: a, boot: true}, {id: b, boot: true}]", r"\.disks: two disks are said to be the boot disk"),
        ("nics: [{address: static}]", r'\.nics\[0\]\.address: this is "static": write keep, dhcp, or an address'),
        ("nics: [{address: 10.0.0.500/24}]", r"\.nics\[0\]\.address: this is no address"),
        ("nics: [{address: 10.0.0.5/24, gateway: 10.0.1.1}]", r"\.gateway: 10\.0\.1\.1 is not in 10\.0\.0\.0/24"),
        ("nics: [{gateway: 10.0.1.1}]", r"\.nics\[0\]: gateway and dns go with a given address, and this is dhcp"),
        ("nics: [{mac: 00-50-56}]", r"\.mac: this is .*write a hardware address"),
        ("hooks: [{run: [x]}]", r"\.hooks\[0\]: a hook runs before or after a step"),
        ("hooks: [{run: x, after: cutover}]", r'\.hooks\[0\]\.run: this is "x", and a list is wanted'),
        ("hooks: [{run: [], after: cutover}]", r"\.hooks\[0\]\.run: this is empty: write at least one"),
        ("checks: [{type: tcp, port: 70000}]", r"\.port: this is the number 70000, and at most 65535 is right"),
        ("checks: [{type: tpc}]", r'\.checks\[0\]: "tpc" is not a type: write type: tcp or http or ssh or command'),
        ("checks: [{type: tcp}]", r"\.checks\[0\]\.port: port is missing"),
        ("checks: [{type: http, url: example.org}]", r"\.url: this is "),
        ("zone: Europe/Berln", r'\.zone: "Europe/Berln" is no time zone'),
        ("window: {start: 2026-12-05T22:00, end: 2026-12-05T21:00}", r"\.window: the window is empty: it ends before it begins"),
        ("window: {start: 2026-12-05T22:00, end: 2027-12-06T04:00}", r"\.window: the window lasts 365 days"),
        ("window: {start: 2026-02-30T22:00, end: 2026-03-01T04:00}", r"\.window\.start: 2026-02-30T22:00 is no day and time"),
        ("window: {start: 22:00, end: 04:00}", r'\.start: this is "22:00": write a day and time, like 2026-12-05T22:00'),
        ("zone: null, window: {start: 2026-12-05T22:00, end: 2026-12-06T04:00}", r"\.window: the window has no time zone"),
        (
            "window: {start: 2026-12-05T22:00, end: 2026-12-06T04:00}, blackout: [{days: [sat], start: '20:00', end: '08:00'}]",
            r"\.window: the blackout covers the whole window",
        ),
        ("blackout: [{days: [sunday], start: '20:00', end: '08:00'}]", r'\.days\[0\]: this is "sunday": write mon, tue'),
        (
            "window: {start: 2026-12-05T22:00, end: 2026-12-06T04:00},"
            " blackout: [{start: 2026-03-29T02:30, end: 2026-12-06T00:00}]",
            r"\.blackout: 2026-03-29 02:30 does not exist in Europe/Berlin: the clocks go forward by 60 minutes",
        ),
    ],
)
def test_a_machine_gone_wrong(more: str, says: str) -> None:
    found = told(manifest(wave(machine("erp", more))))
    assert any(re.search(says, line) for line in found), found
    if "circle" not in says and "twice" not in says:
        assert len(found) <= 2


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{at: lba, files: [a]}", 'there is no source "lba": did you mean lab?'),
        ("{at: lab}", "its disk files are not named"),
        ("{at: lab, files: [../a.vmdk]}", "../a.vmdk leaves the source's folder"),
        ("{at: lab, files: [/etc/shadow]}", "/etc/shadow leaves the source's folder"),
        ("lab", 'this is "lab", and a mapping is wanted'),
    ],
)
def test_a_source_gone_wrong(source: str, says: str) -> None:
    assert says in one(manifest(wave(f"{{id: erp, source: {source}}}")))


def test_ids_and_waves_are_unique_over_the_file() -> None:
    found = told(manifest(wave(machine("erp")) + wave(machine("ERP"), name="W1")))
    assert 'the id "ERP" is taken by a machine of wave w1' in found[1]
    assert 'the wave "W1" is there twice' in found[0]


def test_a_cycle_is_named_once_and_whole() -> None:
    line = one(manifest(wave(machine("a", "dependsOn: [c]"), machine("b", "dependsOn: [a]"), machine("c", "dependsOn: [b]"))))
    assert "the dependencies go in a circle: a -> c -> b -> a" in line and "machines[0].dependsOn" in line


def test_dependencies_over_waves() -> None:
    later = wave(machine("b"), name="w2")
    assert read(manifest(wave(machine("a")) + wave(machine("b", "dependsOn: [a]"), name="w2")))
    assert '"b" belongs to the later wave w2' in one(manifest(wave(machine("a", "dependsOn: [b]")) + later))


def test_a_window_that_ends_before_its_dependency_begins() -> None:
    early = "window: {start: 2026-12-01T20:00, end: 2026-12-02T02:00}"
    late = "window: {start: 2026-12-05T20:00, end: 2026-12-06T02:00}"
    line = one(manifest(wave(machine("db", late), machine("app", f"{early}, dependsOn: [db]"))))
    assert 'the window ends before that of "db" begins' in line


def test_a_mistake_of_the_wave_is_told_once() -> None:
    text = manifest(
        wave(*[machine(f"m{i}") for i in range(20)], settings="window: {start: 2026-03-29T02:30, end: 2026-03-29T05:00}")
    )
    line = one(text)
    assert line.startswith("wave.yaml:10:13: waves[0].window: 2026-03-29 02:30 does not exist in Europe/Berlin")


def test_not_a_manifest_at_all() -> None:
    assert "a manifest is a mapping" in one("- a\n") and "a manifest is a mapping" in one("~")
    assert any("waves is missing" in line for line in told(""))


def test_the_sentence_of_the_error_counts_the_others() -> None:
    with pytest.raises(ManifestError, match=r"^wave\.yaml:11:.*\(and 2 more mistakes: see `v2c manifest check`\)$"):
        parse(manifest(wave(machine("a", "x: 1, y: 2, z: 3"))).encode(), "wave.yaml")


CANARY = "Canary7f3aQ9"


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace("at: disks", f"at: disks, password: {CANARY}") + wave(machine("a")),
        HEAD.replace("at: disks", f'at: disks, password: ["{CANARY}"]') + wave(machine("a")),
        HEAD.replace("at: disks", f"at: disks, password: {{{CANARY}: 1}}") + wave(machine("a")),
        HEAD.replace("at: disks", f"at: 'https://admin:{CANARY}@vc.example.org'") + wave(machine("a")),
        HEAD.replace("at: disks", f"at: disks, passwort: {CANARY}") + wave(machine("a")),
        manifest(wave(machine("a", f"tags: {{db_password: {CANARY}}}"))),
        manifest(wave(machine("a", f"tags: {{note: 'password={CANARY}'}}"))),
        manifest(wave(machine("a", f"owner: AKIA{CANARY.upper()}0123"))),
        manifest(wave(machine("a", f"hooks: [{{before: cutover, run: [mysql, --password, {CANARY}]}}]"))),
        manifest(wave(machine("a", f"hooks: [{{before: cutover, run: [mysql, '--password={CANARY}']}}]"))),
        manifest(wave(machine("a", f"hooks: [{{before: cutover, run: [x], environment: {{TOKEN: {CANARY}}}}}]"))),
        manifest(wave(machine("a", f"disks: [{{id: x, unlock: {CANARY}}}]"))),
        manifest(wave(machine("a", f"owner: wJalrXUtnFEMI/K7MDENG/bPxRfiCY{CANARY[:10]}"))),
        manifest(wave(machine("a", f"tags: {{note: 'eyJhbGciOiJIUzI1NiJ9.{CANARY}.x'}}"))),
        manifest(wave(machine("a", f"checks: [{{type: http, url: 'https://x/y?sig={CANARY}{CANARY}'}}]"))),
        manifest(wave(machine("a", f"password: {CANARY}"))),
        manifest(wave(machine("a", f"AKIA{CANARY.upper()}0123: 1"))),
        manifest(wave(machine("a", f"AKIA{CANARY.upper()}0123: 1, AKIA{CANARY.upper()}0123: 2"))),
        manifest(wave(machine("a", f"tags: {{AKIA{CANARY.upper()}0123: {{x: 1}}}}"))),
    ],
)
def test_a_secret_is_refused_and_never_repeated(text: str) -> None:
    found = told(text)
    assert found and not any(CANARY.casefold() in line.casefold() for line in found), found
    assert any("secret" in line or "passwort" in line for line in found), found


def test_references_and_plain_words_are_no_secrets() -> None:
    text = HEAD.replace("at: disks", "at: disks, password: 'file:/run/secrets/vc'")
    words = 'tags: {commit: 0f4d2a7be6c1984500d3e1f2a3b4c5d6e7f80910, note: "ask for the password"}'
    assert read(text + wave(machine("a", f"{words}, hooks: [{{after: cutover, run: [x, --token-file, /y]}}]")))
