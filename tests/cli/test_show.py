"""Results as people and programs see them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from v2c.cli import show
from v2c.model import (
    GIB,
    MIB,
    Caps,
    Change,
    ChangeKind,
    Check,
    Disk,
    DiskPlan,
    Expectation,
    Facts,
    Filesystem,
    Finding,
    Firmware,
    Fitted,
    KernelFacts,
    Level,
    Machine,
    Mount,
    Needs,
    Plan,
    Report,
    Step,
    StepRecord,
    Swap,
    Verdict,
)

HOSTILE = "erp\x1b]0;owned\x07"
CHECK = Check("hostname", "hostname", Expectation.INSPECTED, "erp", "erp", Verdict.PASS)
REPORT = Report(
    job="abc",
    machine="erp",
    source="erp.vmdk",
    target="local:aws",
    verdict=Verdict.PASS,
    checks=(CHECK, replace(CHECK, id="kernel", verdict=Verdict.OBSERVED)),
    findings=(
        Finding("assumed.name", Level.INFO, "erp", "a name is assumed"),
        Finding("x", Level.WARNING, "disk-1", "it is odd"),
    ),
    steps=(StepRecord("fix", 80.0), StepRecord("upload", 4.0, 700 * MIB)),
    unproven=("ENA is not emulated",),
)
PLAN = Plan(
    job="abc",
    machine=Machine("erp", (Disk("disk-0", 3 * GIB),), memory_mib=1024),
    target="local:aws",
    platform="aws",
    disks=(DiskPlan("disk-0", "erp-0", 3 * GIB - 512, 3 * GIB),),
    needs=Needs(Firmware.BIOS, initramfs_required=("nvme",), kernel_add=("a=b",)),
    steps=(Step.DESCRIBE, Step.PLAN),
    data_bytes=GIB,
    seconds=200,
)


def test_a_report_ends_with_its_path_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert show.report(REPORT, Path("/s/abc"), as_json=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "findings:",
        "  warning: disk-1: it is odd",
        "not proven: ENA is not emulated",
        "erp -> local:aws: 1 of 2 checks pass, 1 observed; 84 s of work, 700 MiB sent",
        "report: /s/abc/report.html",
        "PASS",
    ]


def test_a_failed_check_is_shown_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    failed = replace(REPORT, verdict=Verdict.FAIL, checks=(replace(CHECK, seen=HOSTILE, verdict=Verdict.FAIL),))
    assert show.report(failed, Path("/s/abc"), as_json=False) == 1
    out = capsys.readouterr().out
    assert "  hostname  expected erp (inspected)  seen erp?]0;owned?\n" in out and out.endswith("\nFAIL\n")


def test_nothing_booted_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert show.report(replace(REPORT, verdict=Verdict.OBSERVED, checks=()), Path("/s"), as_json=False) == 0
    out = capsys.readouterr().out
    assert "nothing was booted, so nothing was compared" in out and out.endswith("OBSERVED\n")


def test_a_report_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert show.report(replace(REPORT, console=HOSTILE), Path("/s"), as_json=True) == 0
    out = capsys.readouterr().out
    document = json.loads(out)
    assert document["verdict"] == "pass" and document["console"] == HOSTILE and "\x1b" not in out


def test_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert show.plan(PLAN, None, as_json=False) == 0
    out = capsys.readouterr().out
    assert out.startswith("erp -> local:aws: describe -> plan\n")
    assert "  time         about 3 min 20 s\n" in out
    assert "  kernel line  a=b console=tty0 console=ttyS0,115200n8\n" in out and "tags" not in out
    show.plan(replace(PLAN, tags=(("owner", "anna"), ("env", "prod"))), None, as_json=False)
    assert "  tags         owner=anna, env=prod\n" in capsys.readouterr().out


def test_a_plan_with_a_blocker_is_exit_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    blocked = replace(PLAN, findings=(Finding("disk.size", Level.BLOCKER, "disk-0", "too large", "split it"),))
    assert show.plan(blocked, None, as_json=False) == 4
    assert "  blocker: disk-0: too large: split it\n" in capsys.readouterr().out
    assert show.plan(blocked, None, as_json=True) == 4
    assert json.loads(capsys.readouterr().out)["plan"]["findings"][0]["id"] == "disk.size"


def test_a_repair_on_trial_shows_reasons_and_changes(capsys: pytest.CaptureFixture[str]) -> None:
    fitted = Fitted(
        "",
        (),
        Caps(Firmware.BIOS),
        Facts("linux", "debian", "12", "Debian", "x86_64", "/dev/sda1"),
        reasons=(("fstab", "/ is mounted by a name that changes"),),
        changes=(Change("fstab", ChangeKind.CHANGED, "/etc/fstab", "-/dev/sda1 /\n+UUID=1 /\n"),),
    )
    assert show.plan(PLAN, fitted, as_json=False) == 0
    out = capsys.readouterr().out
    assert "repairs:\n  fstab  / is mounted by a name that changes\n" in out
    assert out.endswith("--- fstab: changed /etc/fstab\n-/dev/sda1 /\n+UUID=1 /\n")


def test_facts(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Facts(
        family="linux",
        distribution="debian",
        version="12",
        title=f"Debian {HOSTILE}",
        architecture="x86_64",
        root="/dev/sda1",
        root_uuid="u-1",
        root_type="ext4",
        hostname="erp",
        filesystems=(Filesystem("/dev/sda1", "ext4", "u-1"),),
        mounts=(Mount("/dev/sdb1", "/srv", "ext4"),),
        swaps=(Swap("UUID=2"),),
        kernels=(KernelFacts("6.1.0-1-amd64", "/boot/vmlinuz-6.1.0-1-amd64"),),
        default_kernel="6.1.0-1-amd64",
    )
    assert show.facts(seen, (), as_json=False) == 0
    out = capsys.readouterr().out
    assert out.startswith("Debian erp?]0;owned? (x86_64), host name erp\n")
    assert "  kernel       6.1.0-1-amd64 (default)\n" in out
    assert "  mount        /srv from /dev/sdb1 (not on these disks)\n" in out
    assert show.facts(seen, PLAN.findings, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["mounts"][0]["where"] == "/srv"
