"""The guests as they stand on VMware: what their disks hold, that they boot there, and that they do not boot elsewhere."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conversions import EVERY_RUN

from fixtures import boot, recipe
from fixtures.build import BuiltGuest
from v2c.sources.spec import load_spec

Guests = Callable[[str], BuiltGuest]
NAMES = recipe.names()
EARLY = {name for name, _ in EVERY_RUN}  # the others are built for `full` only
ROOTS = {
    "debian12-bios": "/dev/sda1",
    "debian12-uefi-lvm": "/dev/mapper/erp--vg-root",
    "debian12-two-disks": "/dev/mapper/vg0-root",
    "debian12-sdboot": "/dev/sda2",
}


def test_every_guest_has_a_root_and_an_identity_of_its_own() -> None:
    loaded = [recipe.load(name) for name in NAMES]
    assert {guest.name: guest.holding("/etc").device for guest in loaded} == ROOTS
    uuids = [guest.uuid(fs.mount) for guest in loaded for fs in guest.filesystems]
    assert len(set(uuids)) == len(uuids)
    assert all(re.fullmatch("[0-9a-f]{32}", guest.machine_id) for guest in loaded)


def test_an_unknown_guest_names_those_there_are() -> None:
    with pytest.raises(KeyError, match="debian12-bios"):
        recipe.load("windows")


def test_the_digest_follows_names_modes_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    seen = {recipe.digest("s", folders=(tmp_path,)), recipe.digest("t", folders=(tmp_path,))}
    (tmp_path / "a").chmod(0o755)
    seen.add(recipe.digest("s", folders=(tmp_path,)))
    (tmp_path / "a").write_text("y")
    seen.add(recipe.digest("s", folders=(tmp_path,)))
    (tmp_path / "a").rename(tmp_path / "b")
    seen.add(recipe.digest("s", folders=(tmp_path,)))
    assert len(seen) == 5


@pytest.mark.guest
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in EARLY else pytest.mark.full) for n in NAMES])
def test_the_facts_are_recorded(guests: Guests, name: str) -> None:
    guest = guests(name)
    assert all(path.is_file() for path in guest.disks)
    facts = json.loads((guest.folder / "facts.json").read_text(encoding="utf-8"))
    assert facts["hostname"] == recipe.load(name).hostname
    assert {"erp", "root", "sshd"} <= set(facts["users"])
    assert {"open-vm-tools.service", "ssh.service"} <= set(facts["units"])
    assert {"erp.service", "erp.socket"} & set(facts["units"])
    assert "console=tty0" in facts["cmdline"].split() and "ttyS" not in facts["cmdline"]
    assert f"root={ROOTS[name]}" in facts["cmdline"].split()
    assert "open-vm-tools" in facts["packages"] and "linux-image-amd64" in facts["packages"]
    assert (guest.nvram is not None) == (guest.firmware == "uefi")
    assert load_spec(guest.machine).name == name


@pytest.mark.guest
@pytest.mark.full  # every run shows the same boots beside their conversions, in tests/guests
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_on_the_aws_shape_the_root_device_never_comes(guests: Guests, name: str, tmp_path: Path) -> None:
    """The proof that a repair is needed: firmware and GRUB find the disk, the initramfs does not."""
    shown = boot.watch(guests(name), "aws", boot.NO_ROOT, tmp_path, timeout=600)
    found = re.search(boot.NO_ROOT, shown)
    assert found and found[1] == ROOTS[name]


@pytest.mark.full
@pytest.mark.guest
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_on_the_vmware_shape_it_comes_up(guests: Guests, name: str, tmp_path: Path) -> None:
    guest = guests(name)
    wanted = boot.LOGIN.format(hostname=guest.facts["hostname"])
    assert re.search(wanted, boot.watch(guest, "vmware", wanted, tmp_path, timeout=600), re.MULTILINE)
