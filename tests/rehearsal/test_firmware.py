"""UEFI firmware is found by the descriptors that QEMU's packages install."""

import json
from pathlib import Path

import pytest

from v2c.errors import ToolError
from v2c.rehearsal.firmware import uefi


def descriptor(folder: Path, name: str, *features: str, machine: str = "pc-q35-*") -> None:
    code, variables = folder / f"{name}.code", folder / f"{name}.vars"
    code.touch()
    variables.touch()
    mapping = {
        "device": "flash",
        "executable": {"filename": str(code), "format": "raw"},
        "nvram-template": {"filename": str(variables), "format": "raw"},
    }
    targets = [{"architecture": "x86_64", "machines": [machine]}]
    document = {"interface-types": ["uefi"], "mapping": mapping, "targets": targets, "features": list(features)}
    (folder / f"{name}.json").write_text(json.dumps(document))


def test_the_first_that_fits(tmp_path: Path) -> None:
    descriptor(tmp_path, "10-secure", "secure-boot", "requires-smm")
    descriptor(tmp_path, "20-arm", machine="virt-*")
    (tmp_path / "30-broken.json").write_text("{")
    descriptor(tmp_path, "60-plain", "acpi-s3")
    descriptor(tmp_path, "70-later")
    assert uefi((tmp_path,)).code.name == "60-plain.code"


def test_a_nearer_folder_hides_a_namesake(tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    descriptor(far, "60-plain")
    descriptor(near, "60-plain")
    assert uefi((near, far)).code.parent == near


def test_none_is_installed(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="apt install ovmf"):
        uefi((tmp_path,))
