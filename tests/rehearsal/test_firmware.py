"""UEFI firmware is found by the descriptors that QEMU's packages install."""

import json
from pathlib import Path

import pytest

from v2c.errors import ToolError
from v2c.rehearsal.firmware import uefi, verifies


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


def test_secure_boot_is_asked_for_by_name(tmp_path: Path) -> None:
    """With keys in it: an empty store verifies nothing. Sealed hosts' firmware is neither."""
    descriptor(tmp_path, "05-sealed", "secure-boot", "enrolled-keys", "amd-sev-snp")
    descriptor(tmp_path, "10-empty", "secure-boot", "requires-smm")
    descriptor(tmp_path, "60-plain")
    assert not verifies((tmp_path,)) and uefi((tmp_path,)).code.name == "60-plain.code"
    with pytest.raises(ToolError, match="no UEFI firmware with secure boot"):
        uefi((tmp_path,), secure=True)
    descriptor(tmp_path, "40-keys", "secure-boot", "enrolled-keys", "requires-smm")
    found = uefi((tmp_path,), secure=True)
    assert verifies((tmp_path,)) and (found.code.name, found.smm) == ("40-keys.code", True)
    assert not uefi((tmp_path,)).smm
