"""Which guests the fixes are made for: what they are not made for is a blocker before the first change."""

from collections.abc import Iterator

from v2c.model import Facts, Finding, Level

FAMILIES = {"redhat": "Red Hat's", "suse": "SUSE's"}  # known by name, not repaired yet


def findings(facts: Facts) -> Iterator[Finding]:
    """Blockers for a guest whose system or architecture no fix knows. Facts without an architecture say nothing of it."""
    title = facts.title or facts.distribution or "a system without a name"
    if facts.family == "windows":
        yield _blocker("guest.family", "the guest runs Windows, and only Linux guests of Debian's family can be repaired")
    elif facts.family != "debian":
        kin = FAMILIES.get(facts.family)
        what = f"of {kin} family" if kin else "of no family that is known here"
        yield _blocker(
            "guest.family", f'the guest runs "{title}", {what}, and only Linux guests of Debian\'s family can be repaired'
        )
    if facts.architecture not in ("", "x86_64"):
        kind = "a 32-bit system (i386)" if facts.architecture == "i386" else f"a system for {facts.architecture}"
        yield _blocker("guest.architecture", f"the guest is {kind}, and only x86_64 guests can be moved")


def _blocker(id: str, text: str) -> Finding:
    return Finding(id, Level.BLOCKER, "guest", text, "leave it where it is, or install it anew at the target")
