"""Secrets of guests and keys of their disks: used, and found nowhere afterwards, nor in anything that could be seen meanwhile."""

import sys
from pathlib import Path

import pytest
from conversions import Conversions, House, Watch, case
from locked import Locked, locked

PASSPHRASE = "CANARY-luks-passphrase-51c7"


@pytest.mark.guest
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("name_platform", "holds"),
    [
        case("debian12-uefi-lvm", "gcp", "/etc/netplan/01-netcfg.yaml"),
        case("debian12-two-disks", "azure", "/etc/NetworkManager/system-connections/ens192.nmconnection"),
    ],
)
def test_a_password_in_the_network_configuration(name_platform: tuple[str, str], holds: str, conversions: Conversions) -> None:
    """A whole conversion with --debug, whose every file and every program were looked through four times a second."""
    made = conversions(*name_platform)
    assert made.guest.facts["secrets"]
    assert made.code == 0, made.words
    assert made.leaks == set()
    told = [change for change in made.report["changes"] if change["path"] == holds]
    assert told, "the file that holds it was changed, and the report says so"
    seen = " ".join(made.argvs)
    assert all(program in seen for program in ("qemu-nbd", "appliance.py", "qemu-system-x86_64")), "the programs were seen"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Locked:
    return locked(tmp_path_factory.mktemp("locked"), PASSPHRASE)


def _look(machine: Locked, folder: Path, *argv: str, **environment: str) -> tuple[int, str, str]:
    """Runs v2c on the machine; its exit code, stdout and stderr. Nothing that could be seen held the passphrase."""
    house = House(folder / "house")
    watch = Watch(
        house, argv[0], str(machine.disk), *argv[1:], "--progress", "json", "--debug", canaries=[PASSPHRASE], **environment
    )
    code = watch.finish()
    given = f"environment of {sys.executable} -m v2c "  # where we put it ourselves
    assert {leak for leak in watch.leaks if not (environment and leak.startswith(given))} == set()
    assert any("appliance.py" in program for program in watch.argvs), "the appliance was seen"
    assert house.gone() == [] and house.temporary() == []
    assert not list(house.work.rglob("*"))
    return code, watch.out.read_text(), watch.err.read_text()


@pytest.mark.appliance
def test_an_encrypted_root_opens_with_its_key(machine: Locked, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(PASSPHRASE + "\n")
    code, out, err = _look(machine, tmp_path, "inspect", "--key", f"all:file:{key}")
    assert code == 0, err
    assert "host name locked" in out and "/dev/mapper/sda2_crypt" in out


@pytest.mark.appliance
def test_a_repair_of_an_encrypted_root(machine: Locked, tmp_path: Path) -> None:
    """With the key in the environment of v2c alone: what v2c starts does not inherit it."""
    selected = ["--key", f"{machine.uuid}:env:DISK_KEY"]
    code, out, err = _look(machine, tmp_path, "plan", "--to", "local:kvm", "--repair", *selected, DISK_KEY=PASSPHRASE)
    assert code == 0, err
    assert f"+sda2_crypt UUID={machine.uuid} none luks" in out


@pytest.mark.appliance
def test_an_encrypted_root_without_its_key(machine: Locked, tmp_path: Path) -> None:
    code, out, err = _look(machine, tmp_path, "inspect")
    words = [line for line in err.splitlines() if line.startswith("v2c: ")]
    assert code == 1 and not out
    assert len(words) == 1 and "encrypted" in words[0] and "--key" in words[0]
