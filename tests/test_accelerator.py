"""The trial guest: it must run wherever QEMU runs, or a failure would say nothing about KVM."""

import base64
from pathlib import Path

import pytest

from v2c import accelerator, processes


@pytest.mark.tool
def test_the_boot_sector_runs_to_its_end_without_kvm(tmp_path: Path) -> None:
    disk = tmp_path / "sector.img"
    disk.write_bytes(base64.b64decode(accelerator._SECTOR).ljust(510, b"\0") + b"\x55\xaa")
    argv = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "64", "-nodefaults", "-display", "none"]
    argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive", f"file={disk},format=raw,if=ide"]
    process = processes.Process(argv)
    code = process.wait(60)
    process.kill()
    assert code == accelerator._RAN


@pytest.mark.tool
def test_the_answer_is_kept_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    accelerator.accelerator.cache_clear()
    answer = accelerator.accelerator()
    note = tmp_path / "v2c" / "accelerator"
    assert note.read_text().split("\n")[1] == answer == accelerator.probe().accelerator

    lines = note.read_text().split("\n")
    other = {"kvm": "tcg", "tcg": "kvm"}[answer]
    note.write_text("\n".join([lines[0], other, ""]))
    accelerator.accelerator.cache_clear()
    assert accelerator.accelerator() == other, "a kept answer is believed"

    note.write_text("\n".join(["another boot", other, ""]))
    accelerator.accelerator.cache_clear()
    assert accelerator.accelerator() == answer, "an answer of another boot is not"
    accelerator.accelerator.cache_clear()


def test_without_the_device_the_reason_and_the_remedy_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "KVM", tmp_path / "kvm")
    seen = accelerator.probe()
    assert not seen.kvm
    assert seen.reason == "there is no /dev/kvm" and seen.remedy
