"""The machine file: what it may say, and every mistake at once."""

from pathlib import Path

import pytest

from v2c.errors import UsageError
from v2c.model import DiskFormat, Firmware, Nic
from v2c.sources.spec import MachineSpec, load_spec


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "erp.toml"
    path.write_text(text)
    return path


def test_all_that_can_be_said(tmp_path: Path) -> None:
    text = """
        name = "erp"
        memory_mib = 4096
        vcpus = 2
        firmware = "uefi"
        formats = ["vmdk", "raw"]
        [[nics]]
        mac = "00-50-56-AA-BB-CC"
        network = "lan"
        [[nics]]
    """
    assert load_spec(written(tmp_path, text)) == MachineSpec(
        "erp",
        4096,
        2,
        Firmware.UEFI,
        (Nic("00:50:56:aa:bb:cc", "lan"), Nic()),
        (DiskFormat.VMDK, DiskFormat.RAW),
    )
    assert load_spec(written(tmp_path, "")) == MachineSpec()
    assert load_spec(written(tmp_path, "nics = []")).nics == ()


def test_every_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    text = """
        name = "../erp"
        memroy_mib = 1
        memory_mib = "much"
        vcpus = 0
        firmware = "efi"
        formats = ["iso"]
        [[nics]]
        mac = "no"
    """
    with pytest.raises(UsageError) as error:
        load_spec(written(tmp_path, text))
    for place in ("name:", "memroy_mib is not", "memory_mib:", "vcpus:", "firmware:", "formats[0]:", "nics[0].mac:"):
        assert place in error.value.text
    assert "\n" not in error.value.text
    assert "bios, uefi" in error.value.text


@pytest.mark.parametrize("text", ["memory = = 3\n", b"\xff\xfe".decode("latin-1") + "="])
def test_what_is_no_toml(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"erp\.toml is no TOML.*line 1"):
        load_spec(written(tmp_path, text))
    with pytest.raises(UsageError, match="cannot be read"):
        load_spec(tmp_path / "gone.toml")
