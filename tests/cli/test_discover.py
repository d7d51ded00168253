"""`v2c discover` through the real command line: what it finds becomes a manifest that plans."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tool


def v2c(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "v2c", *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done
    return done


@pytest.fixture
def estate(tmp_path: Path) -> Path:
    folder = tmp_path / "disks"
    for name in ("erp/erp.vmdk", "erp/erp_1.vmdk", "web.qcow2"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["qemu-img", "create", "-q", "-f", path.suffix[1:], path, "8M"], check=True)
    (folder / "erp/machine.toml").write_text('memory_mib = 4096\nvcpus = 4\nfirmware = "uefi"\nnics = ["00:50:56:aa:bb:cc"]\n')
    return folder


def test_what_lies_there(estate: Path) -> None:
    lines = [line.split() for line in v2c("discover", str(estate)).stdout.splitlines()]
    assert [line[0] for line in lines] == ["erp", "web"]
    assert lines[0][1:3] == ["2", "disks"] and "uefi" in lines[0] and lines[0][-1] == "erp/erp_1.vmdk"
    shown = json.loads(v2c("discover", str(estate), "--json").stdout)
    assert shown[0]["machine"]["memory_mib"] == 4096 and len(shown[0]["files"]) == 2


def test_its_manifest_is_right_and_plans(estate: Path, tmp_path: Path) -> None:
    wave = tmp_path / "wave.yaml"
    said = v2c("discover", str(estate), "--manifest", str(wave), "--to", "local:kvm", "--wave", "pilot")
    assert said.stdout == f"{wave}: 2 machines\n"
    assert v2c("manifest", "check", str(wave)).stdout.endswith("2 machines in 1 wave, no mistake\n")
    erp, web = json.loads(v2c("manifest", "show", str(wave), "--json").stdout)
    assert erp["source"] == {"at": "images", "files": ["erp/erp.vmdk", "erp/erp_1.vmdk"]} and erp["wave"] == "pilot"
    assert erp["hardware"] == {"vcpus": 4, "memory": "4GiB", "firmware": "uefi", "addresses": []}
    assert [nic["mac"] for nic in erp["nics"]] == ["00:50:56:aa:bb:cc"]
    assert "memory" not in web.get("hardware", {})  # nobody knows, so nobody says it
    assert "at: disks\n" in wave.read_text()
    plan = json.loads(v2c("plan", str(wave), "--json").stdout)
    assert [one["id"] for one in plan["machines"]] == ["erp", "web"]
    assert "exists already" in v2c("discover", str(estate), "--manifest", str(wave), "--to", "local:kvm", code=2).stderr


def test_a_broken_one_is_left_out_and_said(estate: Path, tmp_path: Path) -> None:
    (estate / "old.vmdk").write_bytes(b"KDMV" + bytes(60))
    done = v2c("discover", str(estate), "--manifest", "-", "--to", "local:kvm", code=3)
    assert done.stderr.startswith("old: ") and "# left out: old: " in done.stdout and "id: web" in done.stdout


def test_bad_words(estate: Path, tmp_path: Path) -> None:
    assert "say --to TARGET" in v2c("discover", str(estate), "--manifest", "x.yaml", code=2).stderr
    assert "is no folder" in v2c("discover", str(tmp_path / "nowhere"), code=2).stderr
    (tmp_path / "empty").mkdir()
    assert (
        "no machine was found" in v2c("discover", str(tmp_path / "empty"), "--manifest", "-", "--to", "local:kvm", code=2).stderr
    )
