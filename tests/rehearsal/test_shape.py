"""Facts -> arguments: every platform that can be booted here, and nothing that lets a guest out."""

import json
from dataclasses import replace

import pytest

from v2c.errors import TargetError
from v2c.model import Firmware
from v2c.platforms import Platform, platforms
from v2c.rehearsal.shape import MAX_NICS, BootSpec, Wiring, argv, boot_order

BOOTABLE = sorted((p.name, f) for p in platforms().values() if p.boot for f in Firmware if getattr(p.boot, f.value))
FILE = {"driver": "file", "filename": "/dev/fdset/1"}


def spec(platform: str = "kvm", firmware: Firmware = Firmware.BIOS, **more: object) -> BootSpec:
    return replace(BootSpec(platform, firmware, seed="0123"), **more)  # type: ignore[arg-type]


def wiring(count: int = 1, **more: object) -> Wiring:
    disks = tuple((f"disk-{n}", {"driver": "raw", "file": {"driver": "file", "filename": f"/a,b={n}"}}) for n in range(count))
    return replace(Wiring(disks=disks, console="socket,fd=7"), **more)  # type: ignore[arg-type]


def values(words: list[str], option: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == option]


def test_every_cloud_can_be_booted() -> None:
    assert {name for name, _ in BOOTABLE} >= {"aws", "gcp", "azure", "kvm", "vmware"}


@pytest.mark.parametrize(("name", "firmware"), BOOTABLE)
def test_every_shape_fills_its_templates(name: str, firmware: Firmware) -> None:
    flash = {"code": FILE, "variables": FILE} if firmware is Firmware.UEFI else {}
    words = argv(platforms()[name], spec(name, firmware), wiring(2, monitor="socket,fd=8", **flash))
    assert not [word for word in words if not word.startswith("{") and ("{" in word or "}" in word)]
    disks = [word for word in values(words, "-device") if "drive=disk" in word]
    assert [word.split("bootindex=")[1].split(",")[0] for word in disks] == ["1", "2"]
    assert "-nodefaults" in words
    assert all("=deny" in word and word.startswith("on,") for word in values(words, "-sandbox"))
    assert ("pflash0" in values(words, "-machine")[0]) == (firmware is Firmware.UEFI)


@pytest.mark.parametrize(("name", "firmware"), BOOTABLE)
def test_no_network_unless_asked(name: str, firmware: Firmware) -> None:
    words = argv(platforms()[name], spec(name, firmware, nics=3), wiring())
    nets = [json.loads(word) for word in values(words, "-netdev")]
    assert len(nets) == 3
    assert all(net["restrict"] is True and net["ipv6"] is False for net in nets)
    assert not any("hostfwd" in net or "guestfwd" in net for net in nets)
    open_nets = [json.loads(word) for word in values(argv(platforms()[name], spec(nics=1, isolated=False), wiring()), "-netdev")]
    assert [net["restrict"] for net in open_nets] == [False]


def test_programs_may_start_only_for_the_metadata_service() -> None:
    kvm = platforms()["kvm"]
    assert "spawn=deny" in values(argv(kvm, spec(), wiring()), "-sandbox")[0]
    served = argv(kvm, spec(nics=2), wiring(metadata="serve"))
    assert "spawn=allow" in values(served, "-sandbox")[0]
    first, second = (json.loads(word) for word in values(served, "-netdev"))
    assert first["guestfwd"] == [{"str": "tcp:169.254.169.254:80-cmd:serve"}]
    assert "guestfwd" not in second


def test_names_of_files_cannot_become_options() -> None:
    words = argv(platforms()["kvm"], spec(), wiring())
    assert json.loads(values(words, "-blockdev")[0])["file"]["filename"] == "/a,b=0"


def test_serials_fit_what_the_hardware_shows() -> None:
    # an NVMe serial has 20 characters, and EBS uses them all: "vol" and 17 digits
    words = argv(platforms()["aws"], spec("aws"), wiring())
    serial = next(word for word in values(words, "-device") if word.startswith("nvme")).split("serial=")[1].split(",")[0]
    assert len(serial) == 20 and serial.startswith("vol0")


def test_ec2_is_recognised_by_uuid_and_serial() -> None:
    words = argv(platforms()["aws"], spec("aws"), wiring())
    fields = dict(pair.split("=") for pair in values(words, "-smbios")[0].split(","))
    assert fields["uuid"] == fields["serial"] and fields["uuid"].startswith("ec2") and len(fields["uuid"]) == 36


def test_a_boot_is_repeatable_and_machines_differ() -> None:
    kvm = platforms()["kvm"]
    assert argv(kvm, spec(), wiring()) == argv(kvm, spec(), wiring())
    assert spec().mac(0) != spec().mac(1) and spec().mac(0) != replace(spec(), seed="9").mac(0)


def test_more_disks_than_the_controller_holds() -> None:
    with pytest.raises(TargetError, match="holds 6 disks, and the machine has 7"):
        argv(platforms()["azure"], spec("azure"), wiring(7))


def test_more_nics_than_the_bus_holds_are_left_out() -> None:
    assert len(values(argv(platforms()["kvm"], spec(nics=40), wiring()), "-netdev")) == MAX_NICS


def test_a_platform_without_hardware_says_so() -> None:
    bare = Platform(name="nowhere", title="Nowhere", kind="physical")
    with pytest.raises(TargetError, match="Nowhere has no virtual hardware for uefi machines"):
        argv(bare, spec(firmware=Firmware.UEFI), wiring())


@pytest.mark.parametrize(
    ("boot_disk", "expected"),
    [("", {"a": 1, "b": 2, "c": 3}), ("b", {"b": 1, "a": 2, "c": 3}), ("gone", {"a": 1, "b": 2, "c": 3})],
)
def test_boot_order(boot_disk: str, expected: dict[str, int]) -> None:
    assert boot_order(["a", "b", "c"], boot_disk) == expected


def test_a_tpm_and_firmware_that_verifies() -> None:
    """Only where they are asked for."""
    azure, flash = platforms()["azure"], wiring(code=FILE, variables=FILE)
    plain = argv(azure, spec("azure", Firmware.UEFI), flash)
    assert not [word for word in plain if "tpm" in word or "smm" in word or "pflash01,property" in word]
    words = argv(azure, spec("azure", Firmware.UEFI), replace(flash, smm=True, tpm="socket,fd=9"))
    assert values(words, "-machine")[0].endswith(",smm=on") and "emulator,id=tpm0,chardev=tpm" in values(words, "-tpmdev")
    assert "driver=cfi.pflash01,property=secure,value=on" in values(words, "-global")
    assert "socket,fd=9,id=tpm" in values(words, "-chardev") and "tpm-crb,tpmdev=tpm0" in values(words, "-device")
