"""The comparison, as tables: what was inspected, what the probe told, and the verdict."""

from dataclasses import replace

import pytest

from v2c.model import (
    GIB,
    AddressNeed,
    Change,
    ChangeKind,
    Check,
    Declared,
    Disk,
    DiskPlan,
    Expectation,
    Facts,
    Firmware,
    Machine,
    Mount,
    Needs,
    Observation,
    Plan,
    Probe,
    Swap,
    User,
    Verdict,
)
from v2c.validate.boot import Evidence
from v2c.validate.checks import compare, expected_units, verdict

ROOT = "11111111-2222-3333-4444-555555555555"
SRV = "99999999-2222-3333-4444-555555555555"
SWAP = "77777777-2222-3333-4444-555555555555"
ERP = User("erp", 1000, 1000, "/home/erp", "/bin/bash")

FACTS = Facts(
    family="debian",
    distribution="debian",
    version="12",
    title="Debian",
    architecture="x86_64",
    root="/dev/sda1",
    root_uuid=ROOT,
    hostname="erp",
    machine_id="0123456789abcdef0123456789abcdef",
    default_kernel="6.1.0-56-amd64",
    mounts=(
        Mount("/dev/sda1", "/", "ext4", "errors=remount-ro", "/dev/sda1", ROOT),
        Mount("/dev/sdb1", "/srv", "ext4", "defaults", "/dev/sdb1", SRV),
        Mount("tmpfs", "/spool", "tmpfs", "size=16m"),
        Mount("/dev/sr0", "/media/cdrom0", "udf", "user,noauto"),
    ),
    swaps=(Swap("/dev/sda5", SWAP),),
    enabled_units=("erp.service", "open-vm-tools.service", "ssh.service"),
    users=(User("root", 0, 0, "/root", "/bin/bash"), ERP),
    network=("/etc/network/interfaces",),
)
SECTIONS = {
    "hostname": "erp\n",
    "machine-id": "0123456789abcdef0123456789abcdef\n",
    "kernel": "6.1.0-56-amd64\n",
    "mounts": f"/ /dev/nvme0n1p1 ext4 {ROOT}\n/srv /dev/nvme1n1p1 ext4 {SRV}\n/spool tmpfs tmpfs \n/sys sysfs sysfs \n",
    "swaps": f"/dev/nvme0n1p5 {SWAP}\n",
    "enabled": "erp.service enabled enabled\nssh.service enabled enabled\nv2c-probe.service enabled enabled\n",
    "failed": "",
    "passwd": "root:x:0:0:root:/root:/bin/bash\nerp:x:1000:1000:,,,:/home/erp:/bin/bash\n",
    "listening": "udp UNCONN 0 0 0.0.0.0:68 0.0.0.0:*\ntcp LISTEN 0 128 0.0.0.0:8080 0.0.0.0:*\n"
    "tcp LISTEN 0 128 [::]:8080 [::]:*\ntcp LISTEN 0 128 127.0.0.1:631 0.0.0.0:*\n",
    "disks": 'NAME="nvme0n1" TYPE="disk" SIZE="3221225472" SERIAL="v" UUID=""\n'
    'NAME="zram0" TYPE="disk" SIZE="100" SERIAL="" UUID=""\n'
    f'NAME="nvme0n1p1" TYPE="part" SIZE="2684354560" SERIAL="" UUID="{ROOT}"\n',
    "addresses": "1: lo    inet 127.0.0.1/8 scope host lo\n2: enp0s4    inet 169.254.169.15/24 brd 169.254.169.255 scope global\n"
    "2: enp0s4    inet6 fe80::1/64 scope link\n",
    "state": "running\n",
}
CHANGES = (
    Change("tools", ChangeKind.REMOVED, "/etc/systemd/system/multi-user.target.wants/open-vm-tools.service"),
    Change("tools", ChangeKind.LINKED, "/etc/systemd/system/open-vm-tools.service", "now a symlink to /dev/null"),
    Change("probe", ChangeKind.LINKED, "/etc/systemd/system/multi-user.target.wants/v2c-probe.service", "now a symlink to x"),
)
PLAN = Plan(
    job="j",
    machine=Machine("erp", (Disk("disk0", 3 * GIB),)),
    target="local:aws",
    platform="aws",
    disks=(DiskPlan("disk0", "erp-disk0", 3 * GIB, 3 * GIB),),
    needs=Needs(firmware=Firmware.BIOS, addresses=(AddressNeed(),)),
)


def run(
    *, facts: Facts = FACTS, plan: Plan = PLAN, declared: Declared | None = None, section: str = "", text: str = "", **told: str
) -> dict[str, Check]:
    """The checks by id, with sections of the probe replaced."""
    sections = {**SECTIONS, **told}
    if section:
        sections[section] = text
    evidence = Evidence(Observation("running", True), Probe("n", tuple(sections.items())), None, 31.4)
    return {check.id: check for check in compare(facts, evidence, plan, CHANGES, declared)}


def test_the_same_machine_passes() -> None:
    checks = run()
    assert verdict(checks.values()) is Verdict.PASS
    assert {id for id, check in checks.items() if check.verdict is Verdict.OBSERVED} == {"failed", "listening", "state"}
    assert "mount:/media/cdrom0" not in checks
    assert checks["units"].note == "disabled by the repair: open-vm-tools.service"
    assert checks["listening"].seen == "tcp 631 (local), tcp 8080, udp 68"


def test_nothing_passes_without_an_expectation() -> None:
    for check in run().values():
        assert check.expectation is not Expectation.NONE or check.verdict is Verdict.OBSERVED
        assert check.verdict is not Verdict.PASS or check.expected


@pytest.mark.parametrize(
    ("id", "section", "text"),
    [
        ("hostname", "hostname", "localhost\n"),
        ("hostname", "hostname", ""),
        ("machine-id", "machine-id", "ffffffffffffffffffffffffffffffff\n"),
        ("kernel", "kernel", "6.1.0-49-amd64\n"),
        ("root", "mounts", f"/ /dev/nvme0n1p1 ext4 {SRV}\n"),
        ("root", "mounts", ""),
        ("mount:/srv", "mounts", f"/ /dev/nvme0n1p1 ext4 {ROOT}\n"),
        ("mount:/srv", "mounts", f"/ /dev/nvme0n1p1 ext4 {ROOT}\n/srv /dev/nvme0n1p1 ext4 {ROOT}\n"),
        ("mount:/spool", "mounts", f"/ /dev/nvme0n1p1 ext4 {ROOT}\n/spool overlay overlay \n"),
        ("swap:/dev/sda5", "swaps", ""),
        ("swap:/dev/sda5", "swaps", f"/dev/sda5 {SRV}\n"),
        ("units", "enabled", "ssh.service enabled\nv2c-probe.service enabled\n"),
        ("units", "enabled", ""),
        ("users", "passwd", "root:x:0:0:root:/root:/bin/bash\n"),
        ("users", "passwd", SECTIONS["passwd"].replace("1000:1000", "1000:100")),
        ("disks", "disks", ""),
        ("disks", "disks", 'NAME="sda" TYPE="disk" SIZE="99" SERIAL="" UUID=""\n'),
        ("network", "addresses", "1: lo    inet 127.0.0.1/8 scope host lo\n2: eth0    inet6 fe80::1/64 scope link\n"),
    ],
)
def test_another_machine_fails(id: str, section: str, text: str) -> None:
    checks = run(section=section, text=text)
    assert checks[id].verdict is Verdict.FAIL
    assert checks[id].expectation is Expectation.INSPECTED
    assert verdict(checks.values()) is Verdict.FAIL


def test_a_user_that_changed_is_named() -> None:
    text = SECTIONS["passwd"].replace("/home/erp:/bin/bash", "/home/erp:/bin/sh")
    assert run(passwd=text)["users"].seen == "erp: shell /bin/bash is /bin/sh"


def test_without_a_probe_the_boot_fails_with_its_reason() -> None:
    (check,) = compare(FACTS, Evidence(Observation("stopped", False), None, "the root device never came", 60), PLAN, CHANGES)
    assert (check.id, check.verdict, check.seen) == ("boot", Verdict.FAIL, "the root device never came")


@pytest.mark.parametrize(
    ("kind", "path", "diff", "units"),
    [
        (ChangeKind.REMOVED, "/etc/systemd/system/multi-user.target.wants/a.service", "", {"b.service"}),
        (ChangeKind.RENAMED, "/etc/systemd/system/multi-user.target.wants/a.service", "", {"b.service"}),
        (ChangeKind.LINKED, "/etc/systemd/system/a.service", "now a symlink to /dev/null", {"b.service"}),
        (ChangeKind.LINKED, "/etc/systemd/system/a.service", "now a symlink to /opt/a.service", {"a.service", "b.service"}),
        (ChangeKind.LINKED, "/etc/systemd/system/x.target.requires/c.socket", "", {"a.service", "b.service", "c.socket"}),
        (ChangeKind.CHANGED, "/etc/fstab", "", {"a.service", "b.service"}),
    ],
)
def test_the_ledger_changes_what_is_expected(kind: ChangeKind, path: str, diff: str, units: set[str]) -> None:
    facts = replace(FACTS, enabled_units=("a.service", "b.service"))
    assert expected_units(facts, [Change("f", kind, path, diff)])[0] == units


def test_failed_units() -> None:
    failed = "networking.service loaded failed failed Raise interfaces\nopen-vm-tools.service loaded failed failed x\n"
    check = run(failed=failed)["failed"]
    assert (check.verdict, check.seen) == (Verdict.OBSERVED, "networking.service, open-vm-tools.service")
    assert check.note == "the repair changed what belongs to open-vm-tools.service"
    assert run(failed=failed, declared=Declared(failed_units=()))["failed"].verdict is Verdict.FAIL
    assert run(failed=failed, declared=Declared(failed_units=("networking.service", "open-vm-tools.service")))[
        "failed"
    ].verdict is (Verdict.PASS)
    assert run(declared=Declared(failed_units=()))["failed"].verdict is Verdict.PASS


def test_silence_of_systemctl_is_no_answer() -> None:
    checks = run(enabled="", failed="", unheard="enabled\nfailed\n", declared=Declared(failed_units=()))
    assert {checks[id].seen for id in ("units", "failed")} == {"not told: systemctl did not answer inside the guest"}
    assert {checks[id].verdict for id in ("units", "failed")} == {Verdict.FAIL}
    assert run(failed="", unheard="failed\n")["failed"].seen != "none"


def test_declared_ports() -> None:
    checks = run(declared=Declared(listening=("tcp 8080", "tcp 443")))
    assert checks["listening:tcp 8080"].verdict is Verdict.PASS
    assert checks["listening:tcp 443"].verdict is Verdict.FAIL
    assert checks["listening:tcp 443"].expectation is Expectation.DECLARED


def test_declared_addresses() -> None:
    plan = replace(PLAN, needs=replace(PLAN.needs, addresses=(AddressNeed(address="192.0.2.10/24"),)))
    assert run(plan=plan)["address:192.0.2.10/24"].verdict is Verdict.FAIL
    given = "2: eth0    inet 192.0.2.10/24 scope global eth0\n"
    assert run(plan=plan, addresses=given)["address:192.0.2.10/24"].verdict is Verdict.PASS


def test_what_stays_behind_is_skipped_not_failed() -> None:
    mounts = (
        *FACTS.mounts[:1],
        Mount("/dev/sdc1", "/archive", "ext4"),
        Mount("nas:/export", "/nas", "nfs"),
        Mount("/dev/sdb1", "/srv", "ext4", "defaults", "/dev/sdb1", SRV),
    )
    plan = replace(PLAN, needs=replace(PLAN.needs, staying=(SRV,)))
    checks = run(facts=replace(FACTS, mounts=mounts), plan=plan, mounts=f"/ /dev/vda1 ext4 {ROOT}\n")
    assert [checks[f"mount:{where}"].verdict for where in ("/archive", "/nas", "/srv")] == [Verdict.SKIPPED] * 3
    assert verdict(checks.values()) is Verdict.PASS


def test_an_unknown_past_is_only_observed() -> None:
    unknown = Facts("debian", "debian", "12", "Debian", "x86_64", "/dev/sda1")
    checks = run(facts=unknown)
    for id in ("hostname", "machine-id", "kernel", "root", "units", "users", "network"):
        assert (checks[id].verdict, checks[id].expectation) == (Verdict.OBSERVED, Expectation.NONE)
    assert checks["hostname"].seen == "erp"


def test_uuids_come_from_lsblk_when_findmnt_has_none() -> None:
    assert run(mounts="/ /dev/nvme0n1p1 ext4\n/srv /dev/x ext4 " + SRV + "\n/spool tmpfs tmpfs\n")["root"].verdict is Verdict.PASS


def test_blanks_in_mount_points_are_unescaped() -> None:
    facts = replace(FACTS, mounts=(Mount("tmpfs", "/my data", "tmpfs"),))
    assert run(facts=facts, mounts=SECTIONS["mounts"] + "/my\\x20data tmpfs tmpfs \n")["mount:/my data"].verdict is Verdict.PASS


def test_an_automount_counts_as_mounted() -> None:
    facts = replace(FACTS, mounts=(Mount("/dev/sdb1", "/srv", "ext4", "x-systemd.automount", "/dev/sdb1", SRV),))
    assert run(facts=facts, mounts="/srv systemd-1 autofs \n")["mount:/srv"].verdict is Verdict.PASS


def test_a_disk_more_is_noted() -> None:
    more = SECTIONS["disks"] + 'NAME="nvme1n1" TYPE="disk" SIZE="42" SERIAL="" UUID=""\n'
    check = run(disks=more)["disks"]
    assert (check.verdict, check.note) == (Verdict.PASS, "a disk more than planned: 42")


HOSTILE = (
    "\x00\x1b[2J",
    "a" * 100_000,
    "' OR 1=1 --",
    "<script>alert(1)</script>",
    '"\\x',
    "\\xZZ \\x2",
    "● ● ●",
    ":" * 50,
    "\n" * 9999,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_are_data(text: str) -> None:
    evidence = Evidence(Observation("running", True), Probe("n", tuple((name, text) for name in SECTIONS)), None, 1)
    checks = compare(FACTS, evidence, PLAN, CHANGES)
    assert verdict(checks) is Verdict.FAIL
    assert max(len(check.seen) for check in checks) < 2100
    passed = {check.id for check in checks if check.verdict is Verdict.PASS}
    assert passed <= {"boot"}


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ((), Verdict.OBSERVED),
        ((Verdict.OBSERVED, Verdict.SKIPPED), Verdict.OBSERVED),
        ((Verdict.OBSERVED, Verdict.PASS), Verdict.PASS),
        ((Verdict.PASS, Verdict.FAIL), Verdict.FAIL),
    ],
)
def test_the_whole_verdict(verdicts: tuple[Verdict, ...], whole: Verdict) -> None:
    assert verdict(Check("x", "x", Expectation.NONE, "", "", each) for each in verdicts) is whole
