"""Guests that no fix knows are refused before the first change."""

from dataclasses import replace

import pytest

from v2c.fixes.support import findings
from v2c.model import Facts, Level

DEBIAN = Facts("debian", "debian", "12", "Debian GNU/Linux 12", "x86_64", "/dev/sda1")

GRUB = replace(DEBIAN, bootloaders=("grub2-efi", "systemd-boot"), unified=("/efi/EFI/Linux/a.efi",))  # it starts plain kernels


@pytest.mark.parametrize("facts", [DEBIAN, replace(DEBIAN, distribution="ubuntu"), replace(DEBIAN, architecture=""), GRUB])
def test_known_guests_pass(facts: Facts) -> None:
    assert list(findings(facts)) == []


def test_a_guest_that_is_of_another_family_than_its_licence() -> None:
    """That is said first; one of the family that is wanted passes as far as this goes."""
    (found,) = findings(DEBIAN, "windows")
    assert (found.id, found.level) == ("guest.licence", Level.BLOCKER) and "licence=included" in found.remedy
    assert found.text == 'the guest runs "Debian GNU/Linux 12", and the licence that is to come with it is for Windows'
    assert [f.id for f in findings(replace(DEBIAN, family="redhat"), "windows")] == ["guest.licence", "guest.family"]
    assert "guest.licence" not in [f.id for f in findings(replace(DEBIAN, family="windows"), "windows")]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(DEBIAN, family="unknown", title="Plan 9"), '"Plan 9", of no family that is known here'),
        (replace(DEBIAN, family="redhat", title="Rocky Linux 9"), '"Rocky Linux 9", of Red Hat\'s family'),
        (replace(DEBIAN, family="windows", architecture=""), "runs Windows"),
        (replace(DEBIAN, architecture="i386"), "a 32-bit system (i386)"),
        (replace(DEBIAN, architecture="aarch64"), "a system for aarch64"),
        (
            replace(DEBIAN, bootloaders=("systemd-boot",), unified=("/efi/EFI/Linux/a.efi",)),
            "boots /efi/EFI/Linux/a.efi, a unified",
        ),
    ],
)
def test_strangers_are_blockers(facts: Facts, words: str) -> None:
    (found,) = findings(facts)
    assert found.level is Level.BLOCKER and words in found.text and found.remedy
