"""Guests that no fix knows are refused before the first change."""

from dataclasses import replace

import pytest

from v2c.fixes.support import findings
from v2c.model import Facts, Level

DEBIAN = Facts("debian", "debian", "12", "Debian GNU/Linux 12", "x86_64", "/dev/sda1")


@pytest.mark.parametrize("facts", [DEBIAN, replace(DEBIAN, distribution="ubuntu"), replace(DEBIAN, architecture="")])
def test_known_guests_pass(facts: Facts) -> None:
    assert list(findings(facts)) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(DEBIAN, family="unknown", title="Plan 9"), '"Plan 9", of no family that is known here'),
        (replace(DEBIAN, family="redhat", title="Rocky Linux 9"), '"Rocky Linux 9", of Red Hat\'s family'),
        (replace(DEBIAN, family="windows", architecture=""), "runs Windows"),
        (replace(DEBIAN, architecture="i386"), "a 32-bit system (i386)"),
        (replace(DEBIAN, architecture="aarch64"), "a system for aarch64"),
    ],
)
def test_strangers_are_blockers(facts: Facts, words: str) -> None:
    (found,) = findings(facts)
    assert found.level is Level.BLOCKER and words in found.text and found.remedy
