"""The examination of this machine: every row is tried, and what is missing comes with the command that helps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from v2c import doctor
from v2c.doctor import Health, Row, healthy


def test_a_missing_row_is_no_health() -> None:
    fine, weak, missing = (Row("x", health, "") for health in Health)
    assert healthy([fine, weak]) and not healthy([fine, missing])


@pytest.mark.tool
def test_a_tool_that_is_not_there_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("setpriv", "sh"):
        (tmp_path / name).symlink_to(Path("/usr/bin") / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    row = doctor._tool("qemu-img", "--version", "reads and writes disk images", Health.MISSING)
    assert row == Row("qemu-img", Health.MISSING, "not installed; it reads and writes disk images", "apt install qemu-utils")


def test_a_tool_that_breaks_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "qemu-img"
    broken.write_text("#!/bin/sh\necho torn >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    row = doctor._tool("qemu-img", "--version", "", Health.MISSING)
    assert row.health is Health.MISSING and "torn" in row.seen and "--reinstall qemu-utils" in row.remedy


def test_a_python_without_guestfs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "SYSTEM_PYTHON", sys.executable)  # the environment's own Python has no guestfs
    row = doctor._guestfs()
    assert row.health is Health.MISSING and row.remedy == "apt install python3-guestfs"


def test_no_room(tmp_path: Path) -> None:
    row = doctor._room("work folder", tmp_path / "not" / "yet", 1 << 60)
    assert row.health is Health.WEAK and str(tmp_path / "not" / "yet") in row.seen
    assert doctor._room("work folder", tmp_path, 1).health is Health.OK


@pytest.mark.tool
def test_this_machine(tmp_path: Path) -> None:
    """Where the tests run, all that is needed is there; the rows say versions and paths."""
    argv = [sys.executable, "-m", "v2c", "doctor", "--json", "--state", str(tmp_path / "state")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    missing = [row for row in told["rows"] if row["health"] == "missing"]
    assert done.returncode == 0 and told["healthy"], missing
    rows = {row["name"]: row for row in told["rows"]}
    assert rows["qemu-img"]["seen"][0].isdigit() and "in /usr/bin/python3" in rows["guestfs"]["seen"]
    assert {"KVM", "appliance kernel", "UEFI firmware", "work folder", "Python packages"} <= set(rows)
    assert not (tmp_path / "state").exists(), "the doctor only looks"
