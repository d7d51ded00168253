"""What consoles say of failed boots: the table is strict, and each row knows its own words."""

from pathlib import Path

import pytest

from v2c import consoles
from v2c.errors import UsageError

SHOWN = {
    "initramfs-root-missing": "ALERT!  /dev/sda1 does not exist.  Dropping to a shell!",
    "initramfs-gave-up": "Gave up waiting for root file system device.  Common problems:",
    "initramfs-shell": "(initramfs) ",
    "kernel-no-root": "VFS: Unable to mount root fs on unknown-block(0,0)",
    "timer-starved": "[    0.044000] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug and send a",
    "kernel-panic": "[    3.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
    "emergency-mode": 'You are in emergency mode. After logging in, type "journalctl -xb" to view',
    "root-locked": "Cannot open access to console, the root account is locked.",
    "dracut-shell": "dracut:/# ",
    "dracut-root-missing": "Warning: /dev/disk/by-uuid/0 does not exist",
    "dracut-timeout": "dracut-initqueue[289]: Warning: dracut-initqueue timeout - starting timeout scripts",
    "device-timeout": "[ TIME ] Timed out waiting for device /dev/sdb1.",
    "grub-no-device": "error: no such device: 6c1e9a5e-0000-4000-8000-000000000000.",
    "grub-rescue": "grub rescue> ",
    "grub-prompt": "grub> ",
    "bios-no-boot": "No bootable device.",
    "uefi-no-boot": "BdsDxe: No bootable option or device was found.",
}


def test_every_row_has_an_example() -> None:
    assert set(SHOWN) == {row.id for row in consoles.table()}


@pytest.mark.parametrize("id", sorted(SHOWN))
def test_a_row_knows_its_words(id: str) -> None:
    found = consoles.recognise(f"SeaBIOS\r\n\x1b[2J\x1b[0m{SHOWN[id]}\r\nmore\r\n")
    assert found is not None and found.id == id
    assert "{" not in found.text


def test_a_final_failure_speaks_before_one_that_may_pass() -> None:
    found = consoles.recognise(SHOWN["initramfs-gave-up"] + "\n" + SHOWN["initramfs-root-missing"])
    assert found is not None and found.final and found.id == "initramfs-root-missing"


@pytest.mark.parametrize(
    "text", ["", "Debian GNU/Linux 12 erp ttyS0\n\nerp login: ", "[    0.000000] Linux version 6.1.0-50-amd64"]
)
def test_a_good_boot_shows_none(text: str) -> None:
    assert consoles.recognise(text) is None


def test_a_guests_words_are_cut_and_cleaned() -> None:
    found = consoles.recognise("ALERT!  /dev/" + "\x07\x1b[31m" + "x" * 5000 + " does not exist.  Dropping to a shell!")
    assert found is not None and len(found.text) < 200 and found.text.isprintable()


@pytest.mark.parametrize(
    ("row", "mistake"),
    [
        ('pattern = "("', "not a regular expression"),
        ('extra = "x"', "Extra inputs"),
        ('text = "short."', "not a sentence"),
        ("final = 1", "valid boolean"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, row: str, mistake: str) -> None:
    good = {"id": '"a"', "pattern": '"a"', "text": '"the boot went wrong"', "final": "true", "source": '"x"'}
    key, _, value = row.partition(" = ")
    text = "[[failure]]\n" + "".join(f"{k} = {v}\n" for k, v in {**good, key: value}.items())
    (tmp_path / "console.toml").write_text(text)
    with pytest.raises(UsageError, match=mistake):
        consoles.read(tmp_path / "console.toml")
